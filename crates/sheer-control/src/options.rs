//! What the control plane is started with.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use sheer_api::names;
use tokio::signal::unix::{SignalKind, signal};

use crate::{manifests, server::Bound};

/// Below this, clocks that differ by the tolerated 20 s would make certificates useless.
const SHORTEST_LEAF: Duration = Duration::from_secs(30);

/// What the control plane is started with; `sheer control` fills it in.
#[derive(Clone, Debug)]
pub struct ControlOptions {
    /// Manifests that users wrote: files and folders (with everything below them), watched.
    pub manifests: Vec<PathBuf>,
    /// Folder with what runs (`pods/`, `services/`), written by whatever starts workloads, watched.
    pub status: Option<PathBuf>,
    /// Folder with trust anchors, issuer and keys; made where absent.
    pub identity: PathBuf,
    /// Address of the three TCP ports. On loopback they speak plaintext, elsewhere TLS with the control plane's own certificate.
    pub listen: IpAddr,
    /// Ports of the identity, destination and policy services; 0 takes a free one.
    pub ports: Ports,
    /// Unix socket for the command line: every service, plaintext, for the owner only.
    pub socket: Option<PathBuf>,
    /// Namespace of the control plane, a part of every identity.
    pub control_namespace: String,
    /// Last part of every identity.
    pub trust_domain: String,
    /// Domain of service names.
    pub cluster_domain: String,
    /// Networks of the mesh's pods, for the `cluster-*` inbound policies.
    pub cluster_networks: Vec<IpNet>,
    /// Inbound policy of ports for which nothing else is said.
    pub default_inbound_policy: String,
    /// Life of workload certificates.
    pub leaf_lifetime: Duration,
}

/// Ports of the control plane's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Identity service.
    pub identity: u16,
    /// Destination service.
    pub destination: u16,
    /// Policy services, inbound and outbound, and the report.
    pub policy: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            identity: names::IDENTITY_PORT,
            destination: names::DESTINATION_PORT,
            policy: names::POLICY_PORT,
        }
    }
}

impl ControlOptions {
    /// Everything by default but the identity folder and the address.
    pub fn new(identity: PathBuf, listen: IpAddr) -> Self {
        Self {
            manifests: Vec::new(),
            status: None,
            identity,
            listen,
            ports: Ports::default(),
            socket: None,
            control_namespace: names::CONTROL_NAMESPACE.to_owned(),
            trust_domain: names::CLUSTER_DOMAIN.to_owned(),
            cluster_domain: names::CLUSTER_DOMAIN.to_owned(),
            cluster_networks: Vec::new(),
            default_inbound_policy: "all-unauthenticated".to_owned(),
            leaf_lifetime: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl ControlOptions {
    /// Everything that is wrong with the options, at once.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let mut mistakes = Vec::new();
        let names = [
            ("control namespace", &self.control_namespace),
            ("trust domain", &self.trust_domain),
            ("cluster domain", &self.cluster_domain),
        ];
        for (what, name) in names {
            if let Err(why) = manifests::check_name(name) {
                mistakes.push(format!("{what}: {why}"));
            }
        }
        let policy = &self.default_inbound_policy;
        if !manifests::INBOUND_POLICIES.contains(&policy.as_str()) {
            mistakes.push(format!(
                "default inbound policy: {policy:?} is not one of {}",
                manifests::INBOUND_POLICIES.join(", ")
            ));
        } else if policy.starts_with("cluster-") && self.cluster_networks.is_empty() {
            mistakes.push(format!(
                "default inbound policy: {policy} lets nobody in without cluster networks"
            ));
        }
        if self.leaf_lifetime < SHORTEST_LEAF {
            mistakes.push(format!(
                "life of certificates: {:?} is shorter than {SHORTEST_LEAF:?}",
                self.leaf_lifetime
            ));
        }
        anyhow::ensure!(mistakes.is_empty(), "{}", mistakes.join("; "));
        Ok(())
    }
}

/// Runs the control plane until SIGTERM or SIGINT.
pub async fn run(options: ControlOptions) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let bound = Bound::new(options).await?;
    let signal = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    bound.serve(signal).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_named_at_once() {
        let mut options = ControlOptions::new(PathBuf::new(), std::net::Ipv4Addr::LOCALHOST.into());
        options.check().unwrap();
        options.default_inbound_policy = "cluster-authenticated".to_owned();
        options.trust_domain = "Cluster_Local".to_owned();
        options.leaf_lifetime = Duration::from_secs(1);
        insta::assert_snapshot!(options.check().unwrap_err(), @r#"trust domain: "Cluster_Local" is not a name: lower-case letters, digits, '-' and '.', no more than 253 of them; default inbound policy: cluster-authenticated lets nobody in without cluster networks; life of certificates: 1s is shorter than 30s"#);
        options.default_inbound_policy = "allow".to_owned();
        insta::assert_snapshot!(options.check().unwrap_err(), @r#"trust domain: "Cluster_Local" is not a name: lower-case letters, digits, '-' and '.', no more than 253 of them; default inbound policy: "allow" is not one of all-unauthenticated, all-authenticated, cluster-authenticated, cluster-unauthenticated, all-tls-unauthenticated, cluster-tls-unauthenticated, deny, audit; life of certificates: 1s is shorter than 30s"#);
    }
}

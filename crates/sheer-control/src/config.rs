//! The few facts about the mesh that every answer needs.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sheer_api::names;

use crate::{ControlOptions, objects::Pod};

/// Facts about the mesh that do not change while the control plane runs.
#[derive(Clone, Debug)]
pub(crate) struct MeshConfig {
    /// Namespace of the control plane.
    pub(crate) control_namespace: String,
    /// Last part of every identity.
    pub(crate) trust_domain: String,
    /// Domain of service names.
    pub(crate) cluster_domain: String,
    /// Networks of pods.
    pub(crate) cluster_networks: Vec<IpNet>,
    /// Inbound policy where nothing else is said.
    pub(crate) default_inbound_policy: String,
}

impl From<&ControlOptions> for MeshConfig {
    fn from(options: &ControlOptions) -> Self {
        Self {
            control_namespace: options.control_namespace.clone(),
            trust_domain: options.trust_domain.clone(),
            cluster_domain: options.cluster_domain.clone(),
            cluster_networks: options.cluster_networks.clone(),
            default_inbound_policy: options.default_inbound_policy.clone(),
        }
    }
}

impl MeshConfig {
    /// The DNS identity of a service account.
    pub(crate) fn identity(&self, namespace: &str, service_account: &str) -> String {
        names::dns_identity(service_account, namespace, &self.control_namespace, &self.trust_domain)
    }

    /// The DNS identity of a pod.
    pub(crate) fn pod_identity(&self, pod: &Pod) -> String {
        self.identity(&pod.metadata.namespace, pod.service_account())
    }

    /// Every address there is.
    pub(crate) fn everywhere() -> [IpNet; 2] {
        [
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
        ]
    }

    /// The usual facts, for tests.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let options = ControlOptions::new(std::path::PathBuf::new(), Ipv4Addr::LOCALHOST.into());
        Self {
            cluster_networks: vec!["10.77.0.0/16".parse().unwrap()],
            ..Self::from(&options)
        }
    }
}

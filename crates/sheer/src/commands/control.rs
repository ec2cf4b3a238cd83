//! `sheer control`: runs the control plane. `sheer up` starts it for a local mesh.

use std::{net::IpAddr, path::PathBuf};

use sheer_control::ControlOptions;

use crate::outcome::Outcome;

/// Flags of `sheer control`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Sidecars reach it on the ports 8080 (identity), 8086 (destination) and 8090 (policy) of the address: in plaintext on loopback, over TLS elsewhere.

Examples:
  sheer control --manifests manifests/ --identity /tmp/identity --listen 127.0.0.1")]
pub(crate) struct Args {
    /// Manifest or folder of manifests, watched; may be given several times
    #[arg(long, value_name = "DIR|FILE")]
    manifests: Vec<PathBuf>,
    /// Folder with what runs (pods/, services/), watched
    #[arg(long, value_name = "DIR")]
    status: Option<PathBuf>,
    /// Folder of trust anchors, issuer and keys; made where absent
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// Address of the three ports
    #[arg(long, value_name = "ADDRESS")]
    listen: IpAddr,
    /// Unix socket for the command line
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Namespace of the control plane, a part of every identity
    #[arg(long, default_value = sheer_api::names::CONTROL_NAMESPACE)]
    control_namespace: String,
    /// Trust domain, the last part of every identity
    #[arg(long, default_value = sheer_api::names::CLUSTER_DOMAIN)]
    trust_domain: String,
    /// Networks of the mesh, for the inbound policies cluster-*
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    cluster_networks: Vec<ipnet::IpNet>,
}

/// Runs the control plane until SIGTERM or SIGINT.
pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut options = ControlOptions::new(args.identity, args.listen);
    options.manifests = args.manifests;
    options.status = args.status;
    options.socket = args.socket;
    options.control_namespace = args.control_namespace;
    options.trust_domain = args.trust_domain;
    options.cluster_networks = args.cluster_networks;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(sheer_control::run(options))?;
    Ok(Outcome::Healthy)
}

//! A mesh on one Linux machine, without Kubernetes: every pod is a network namespace with its own address, names, redirection rules and a
//! sidecar beside its programs.
//!
//! The command line starts a mesh with [`launch`], talks to it through [`client`], [`exec`], [`logs`] and [`dial`]. Inside, the
//! [`supervisor`] keeps what runs equal to what the manifests say ([`workload`]). Pure parts ([`addresses`], [`rules`], [`workload`], the answers of
//! [`dns`]) know no I/O.

pub mod addresses;
pub mod client;
pub mod dial;
pub mod dns;
pub mod exec;
pub mod launch;
mod link;
pub mod logs;
mod namespaces;
pub mod packets;
pub mod pod;
mod process;
pub mod protocol;
pub mod rules;
mod socket;
pub mod state;
pub mod supervisor;
pub mod tools;
mod userns;
pub mod workload;

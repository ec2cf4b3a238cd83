//! A mesh on one Linux machine, without Kubernetes: network namespaces, links, redirection, DNS, processes.

pub mod addresses;
pub mod dns;
pub mod rules;
pub mod state;

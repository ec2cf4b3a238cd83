//! A mesh on one Linux machine, without Kubernetes: network namespaces, links, redirection, DNS, processes.

pub mod state;

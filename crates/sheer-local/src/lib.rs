//! A mesh on one Linux machine, without Kubernetes.

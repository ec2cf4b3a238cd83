//! Kernel tests of the local mesh: real namespaces, links, rules and processes, driven through the command line only.
//!
//! They need what a local mesh needs (`ip`, `nft`, the right to make namespaces) and `python3` and `curl` for the workloads; where something
//! is missing they fail and say what. As root they also run as an ordinary user.

mod access;
mod dashboard;
mod demo;
mod edits;
mod exec;
mod failures;
mod grpc_routes;
mod harness;
mod jaeger;
mod kept;
mod lifecycle;
mod looking;
mod messages;
mod network;
mod odd;
mod policy;
mod relays;
mod rollout;
mod rootless;
mod routes;
mod secrets;
mod sidecars;
mod skipping;
mod stuck;
mod telemetry;
mod traces;
mod trailers;
mod wire;
mod wishes;

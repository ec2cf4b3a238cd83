//! The HTTP/1 codec: every rule by itself, what an attacker may send, and that writing and reading are each other's inverse.

mod bodies;
mod heads;
mod refusals;
mod roundtrip;
mod support;

//! What tests share: a scripted HTTP/2 peer, and what stands around a proxy in a test.

pub mod control;
pub mod h2peer;
pub mod mesh;

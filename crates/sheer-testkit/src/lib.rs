//! What tests share: a scripted HTTP/2 peer, what stands around a proxy in a test, a browser.

pub mod browser;
pub mod control;
pub mod h2peer;
pub mod mesh;

//! The dashboard: a web page of a mesh, and the JSON and server-sent events behind it. Read-only, for loopback only.
//!
//! A request meets [`guard`] first (who may ask at all), then [`assets`] (the page, which is within this program) or [`api`] (what the page shows: one
//! model a page, of [`pages`], asked of the control plane by [`control`]). `sheer dashboard` and `sheer demo` run it; it knows the control plane's
//! services and nothing of how they are reached: whoever starts it brings a channel, and the checks of `sheer check`. [`wire`] is also what the
//! command line prints.

mod api;
mod assets;
pub mod checks;
mod control;
mod guard;
mod numbers;
mod pages;
mod problem;
mod query;
mod resource;
mod server;
pub mod wire;

pub use server::Dashboard;

//! The supervisor: keeps what runs equal to what shall run. One task owns all state ([`fleet::Fleet`]); everything else sends it messages or
//! reads what it publishes.
//!
//! Runs inside the mesh's namespaces, as the child of its init process (see [`crate::launch`]).

mod api;
mod boot;
mod fleet;
mod forward;
mod plan;
mod scrape;
mod status;
mod usage;
mod view;

pub use boot::main;

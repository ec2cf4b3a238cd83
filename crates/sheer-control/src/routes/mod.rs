//! Routes: which of them a parent has, what their references mean, and what is said of them (`status.parents`).
//!
//! Plain functions of the objects, for whatever compiles policies ([`crate::policy`]), checks manifests, or shows routes. Nothing here knows
//! the wire.

mod filters;
mod index;
mod resolve;
mod status;

pub(crate) use filters::{Fault, fault_of, unsupported};
pub(crate) use index::{ParentKey, ParentKind, Port, Route, RouteIndex, RouteType};
pub(crate) use resolve::{BadRef, Target};
pub(crate) use status::{Condition, ParentStatus, RouteStatus, findings, status};

#[cfg(test)]
mod tests;

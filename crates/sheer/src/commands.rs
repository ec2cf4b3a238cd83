//! One module a command. Each has `Args` (its flags, with examples in `--help`) and `run`, which returns an
//! [`Outcome`](crate::outcome::Outcome) or an error for the operator.

pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod demo;
pub(crate) mod endpoints;
pub(crate) mod identity;
pub(crate) mod version;

//! One module a command. Each has `Args` (its flags, with examples in `--help`) and `run`, which returns an
//! [`Outcome`](crate::outcome::Outcome) or an error for the operator.

pub(crate) mod authz;
pub(crate) mod capture;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod conns;
pub(crate) mod control;
pub(crate) mod dashboard;
pub(crate) mod debug;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod down;
pub(crate) mod edges;
pub(crate) mod endpoints;
pub(crate) mod exec;
pub(crate) mod frames;
pub(crate) mod identity;
pub(crate) mod in_pod;
pub(crate) mod log_level;
pub(crate) mod logs;
pub(crate) mod mesh_process;
pub(crate) mod packets;
pub(crate) mod policy;
pub(crate) mod ps;
mod rates;
pub(crate) mod restart;
pub(crate) mod routes;
pub(crate) mod scale;
pub(crate) mod stat;
pub(crate) mod tap;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod up;
pub(crate) mod version;

//! One module a command. Each has `Args` (its flags, with examples in `--help`) and `run`, which returns an
//! [`Outcome`](crate::outcome::Outcome) or an error for the operator.

pub(crate) mod version;

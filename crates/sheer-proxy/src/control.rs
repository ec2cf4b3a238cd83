//! The control channel: connections to the services of the control plane, and streams that are opened again for ever.
//!
//! Used by identity and discovery, on the control runtime only. It never decides what an answer means.

mod backoff;
mod channel;
mod connect;
mod ledger;
mod stream;

pub(crate) use backoff::Waits;
pub(crate) use channel::{Channel, ChannelOptions};
pub(crate) use ledger::{Ledger, Record, ages};
pub(crate) use stream::{Event, Streams};

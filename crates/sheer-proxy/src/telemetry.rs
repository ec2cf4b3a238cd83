//! What this proxy tells the control plane of its traffic, once a second: rates, results, latencies and bytes by peer and route.
//!
//! ```text
//! data path ─► Series (one a worker and key) ─► Cells ◄─ Collector, once a second ─► Pusher ─► sheer.v1.Telemetry.Push
//! ```
//!
//! The metrics page says the same under Linkerd's names; this says it by peer, in finer buckets of latency, and as differences. A worker resolves a
//! [`Series`] where it resolves its metrics, and then only adds to numbers that no other thread writes. Where the control plane does not take
//! reports, or is away, nothing waits for it: the numbers stand in the cells, of which there is a bounded number.
//!
//! * [`key`]: what a series is about. [`cells`], [`latency`]: its numbers. [`table`]: all series, and the bound.
//! * [`paths`]: rates by path, while somebody looks.
//! * [`collect`]: what changed. [`push`]: the stream.

mod cells;
mod collect;
mod key;
mod latency;
mod paths;
mod push;
mod table;

pub use cells::{Cells, Count, Series};
pub use key::{Key, PeerKey, Scope};
pub(crate) use paths::{PathNote, PathPeer};
pub(crate) use push::{Flush, Pusher, PusherOptions};
pub use table::Recorder;
pub(crate) use table::Table;

#[cfg(test)]
mod tests;

//! The flight recorder: what each connection said last, kept in memory, so that it can be read after something went wrong without having to happen again.
//!
//! ```text
//!   exchange ── headers ──► HTTP library ── bytes ──► [tee] ──► TLS ──► socket
//!       │                                              │
//!       └──────── what was reported and given ──► [opinion] ◄── what the lens read in the bytes
//! ```
//!
//! Under the HTTP library and above TLS each connection passes a [`tee`]. What it sees goes to the lens, which decodes it on its own ([`flow`]); frames go
//! to a bounded [`log`], bodies do not. For every header block the library's list is compared with the lens's: a second [`opinion`]. A request that fails,
//! or a connection that dies, pins what was recorded of it ([`failure`]); nothing is copied for that. Of what is pinned for long, an [`excerpt`] stays.
//!
//! Everything here belongs to one worker and one half of the proxy. Sight gets copies over a channel ([`copy`]) and decodes them elsewhere: reading a
//! recording costs the data path no more than copying it. What leaves the proxy is redacted by sight.

mod ahead;
mod callers;
mod clock;
mod copy;
mod credit;
mod excerpt;
mod exchange;
mod failure;
mod flow;
mod heads;
mod log;
mod open;
mod opinion;
mod recorder;
mod recording;
mod replay;
mod tape;
mod tee;
mod texts;

pub(crate) use callers::Caller;
pub(crate) use clock::Clock;
pub(crate) use copy::{FailureCopy, Query, RecorderCopy, RecordingCopy};
pub(crate) use exchange::{Exchange, Leg, LegId};
pub(crate) use failure::{Difference, FailureKind};
pub(crate) use flow::{GoAway, Standing};
pub(crate) use log::Form;
pub(crate) use opinion::List;
pub use recorder::Recorder;
pub(crate) use recorder::{Wanted, next_request};
pub(crate) use recording::{About, Ending, How, Peer, Speaks, TlsFacts};
#[cfg(test)]
pub(crate) use replay::LeftOut;
pub(crate) use replay::{BlockField, Detail, Head, Shown, ShownBlock};
pub(crate) use tape::RelayTape;
pub use tape::{StreamTape, Tape};
pub use tee::Recorded;

#[cfg(test)]
mod tests;

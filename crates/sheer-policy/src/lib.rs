//! Decisions: what a policy says about a request or a connection.
//!
//! One form of policy for everybody: the proxy decides by it on every request, the control plane by the same code when it explains what
//! would happen, so the two cannot differ. Pure: no I/O, no clock of its own, no async; whatever a control plane sends, it answers.
//!
//! * [`outbound`]: where a request goes, and what is done to it on the way.
//! * [`inbound`]: who may come in.
//! * [`explain`]: the same decisions in words, with what lost and why.
//! * [`limit`]: how much may come in.
//! * [`routes`]: which rule a request matches.
//! * [`change`]: what filters make of a request.
//! * [`log_filter`]: which requests the access log keeps.
//! * [`log_directives`]: what a proxy logs.
//! * [`budget`]: whether a request may be sent once more.
//! * [`wire`]: Linkerd's proxy API and `sheer.v1` to this form. No type of the wire appears elsewhere.

pub mod budget;
pub mod change;
pub mod explain;
pub mod inbound;
pub mod limit;
pub mod log_directives;
pub mod log_filter;
pub mod outbound;
pub mod routes;
pub mod wire;

mod endpoint;
mod object;

pub use endpoint::{Endpoint, Hint, Labels, PeerIdentity};
pub use object::ObjectRef;

use std::time::Duration;

/// Whether and how to detect a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolPlan {
    /// Look at the first bytes; `timeout` is the wait before the server side is opened for a silent client.
    Detect {
        /// The policy's wait; the proxy's own setting is the upper bound.
        timeout: Duration,
    },
    /// HTTP/1 without looking.
    Http1,
    /// HTTP/2 without looking (gRPC too).
    Http2,
    /// Never inspected.
    Opaque,
    /// TLS of the application, passed through; only the server name is read.
    Tls,
}

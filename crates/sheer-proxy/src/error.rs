//! Errors of the data path. Each knows whose fault it is, whether it may be retried, its stable reason code and its status.

use sheer_api::Verdict;

/// Why the proxy itself ends a request or a connection: one variant a reason that users can look up in `docs/errors.md`.
/// Text for the caller is `Display`; it uses operators' words and says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// No endpoint became ready within the fail-fast time.
    #[error("service {service} has {endpoints} endpoints and none is ready: {why}")]
    FailFast {
        /// The service as `name.namespace:port`.
        service: String,
        /// Endpoints that discovery knows.
        endpoints: usize,
        /// Why none of them is ready, as `10.3.0.7:8080: connection refused`.
        why: String,
    },
}

impl ProxyError {
    /// The layer at fault.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::FailFast { .. } => Verdict::Capacity,
        }
    }

    /// Stable code of the reason, as `failfast`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::FailFast { .. } => "failfast",
        }
    }
}

//! Fields that belong to one connection and are not forwarded (RFC 9110 7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue};

/// What [`strip_hop_by_hop`] took away and the path may need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HopByHop {
    /// `Upgrade`, where `Connection` nominated it. To be put back where the upgrade is forwarded.
    pub upgrade: Option<HeaderValue>,
    /// Whether `TE` named `trailers`. Left in the map as `te: trailers`.
    pub te_trailers: bool,
}

/// Whether a field by its name alone belongs to one connection.
pub fn is_hop_by_hop(_name: &HeaderName) -> bool {
    false
}

/// Drops `Connection` and every field that it nominates, `Keep-Alive`, `Proxy-Connection`, `Transfer-Encoding`, `Upgrade`, and `TE`
/// but for `trailers`. A nomination of `Host`, `Content-Length` or another field that the message cannot be understood without is ignored.
pub fn strip_hop_by_hop(_headers: &mut HeaderMap) -> HopByHop {
    HopByHop::default()
}

//! What makes requests belong together, for backends that keep such requests at one endpoint.

use std::hash::{Hash as _, Hasher as _};

use http::header::COOKIE;
use sheer_policy::outbound::{Affinity, Backend};

use crate::exchange::Head;

/// The key of a workload. All that a sidecar sends is of one client, its own workload, so that this is its address to those who keep clients
/// together.
pub(super) fn client(workload: &str) -> u64 {
    hash(workload.as_bytes())
}

/// The key of a request of a client; none where the backend does not ask, or the request does not say.
pub(super) fn key(backend: &Backend, head: &Head, client: u64) -> Option<u64> {
    match backend.balancing.affinity.as_ref()? {
        Affinity::Header(name) => Some(hash(head.headers.get(name)?.as_bytes())),
        Affinity::Cookie(name) => head
            .headers
            .get_all(COOKIE)
            .iter()
            .find_map(|cookies| cookie(cookies.as_bytes(), name.as_bytes()))
            .map(hash),
        Affinity::ClientIp => Some(client),
    }
}

/// The key of a connection whose bytes nobody looks into: by its client alone.
pub(super) fn of_connection(backend: &Backend, client: u64) -> Option<u64> {
    (backend.balancing.affinity == Some(Affinity::ClientIp)).then_some(client)
}

/// The value of a cookie in a `Cookie` field (RFC 6265 4.2).
fn cookie<'a>(cookies: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    cookies.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        (!value.is_empty()).then_some(value)
    })
}

/// The same in every process and on every worker, so that all proxies choose alike.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{client, cookie};

    /// One key for all would send every client to the same endpoint.
    #[test]
    fn clients_have_keys_of_their_own() {
        let pods = (0..100).map(|pod| client(&format!(r#"{{"ns":"shop","pod":"web-{pod}"}}"#)));
        assert_eq!(pods.collect::<std::collections::BTreeSet<_>>().len(), 100);
    }

    #[test]
    fn cookies_are_found_among_others() {
        let cookies = b"a=1; session=xyz;b=2; sessions=no";
        assert_eq!(cookie(cookies, b"session"), Some(&b"xyz"[..]));
        assert_eq!(cookie(cookies, b"b"), Some(&b"2"[..]));
        assert_eq!((cookie(cookies, b"c"), cookie(b"c=", b"c")), (None, None));
    }
}

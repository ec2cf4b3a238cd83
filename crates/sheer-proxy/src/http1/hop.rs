//! Fields that belong to one connection and are not forwarded (RFC 9110 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};

use super::framing::{list, names};

/// `Keep-Alive` (RFC 2068 19.7.1).
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// `Proxy-Connection`, which some clients send by mistake (RFC 9112 C.2.2).
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What [`strip_hop_by_hop`] took away and the path may need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HopByHop {
    /// `Upgrade`, where `Connection` nominated it. To be put back, with `Connection: upgrade`, where the upgrade is forwarded.
    pub upgrade: Option<HeaderValue>,
    /// Whether `TE` named `trailers`. Left in the map as `te: trailers`.
    pub te_trailers: bool,
}

/// Whether a field by its name alone belongs to one connection. `TE` does too but for `trailers`: see [`strip_hop_by_hop`].
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE].contains(name)
}

/// Drops `Connection` and every field that it nominates, `Keep-Alive`, `Proxy-Connection`, `Transfer-Encoding`, `Upgrade`, and `TE`
/// but for `trailers`. A nomination of `Host` or `Content-Length` is ignored: without them the message means something else.
/// `Trailer`, `Proxy-Authenticate` and `Proxy-Authorization` stay: nobody asked this proxy for them.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> HopByHop {
    let mut taken = HopByHop::default();
    if headers.contains_key(CONNECTION) {
        if names(headers, CONNECTION, b"upgrade") {
            taken.upgrade = headers.get(UPGRADE).cloned();
        }
        for nominated in nominated(headers) {
            headers.remove(nominated);
        }
        headers.remove(CONNECTION);
    }
    if headers.contains_key(TE) {
        taken.te_trailers = headers.get_all(TE).iter().any(|value| {
            list(value).any(|coding| {
                let name = coding.split(|byte| *byte == b';').next().unwrap_or_default();
                name.trim_ascii().eq_ignore_ascii_case(b"trailers")
            })
        });
        if taken.te_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    taken
}

/// The fields that `Connection` names and that may go. `TE` is looked at on its own.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let options = headers.get_all(CONNECTION).iter().flat_map(list);
    options
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| ![CONNECTION, CONTENT_LENGTH, HOST, TE].contains(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn only_hop_by_hop_fields_go() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "Keep-Alive, x-secret"),
            ("connection", "host, content-length, te , , bad name"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-secret", "1"),
            ("x-secret", "2"),
            ("te", "gzip, Trailers;q=0.5"),
            ("trailer", "x-sum"),
            ("content-length", "4"),
            ("proxy-authorization", "basic eA=="),
        ]);
        let taken = strip_hop_by_hop(&mut headers);
        assert_eq!(
            taken,
            HopByHop {
                upgrade: None,
                te_trailers: true
            }
        );
        let left = map(&[
            ("host", "a"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("content-length", "4"),
            ("proxy-authorization", "basic eA=="),
        ]);
        assert_eq!(headers, left);
    }

    #[test]
    fn a_nominated_upgrade_is_handed_over() {
        let mut headers = map(&[("connection", "upgrade"), ("upgrade", "websocket"), ("te", "gzip")]);
        let taken = strip_hop_by_hop(&mut headers);
        assert_eq!(taken.upgrade, Some(HeaderValue::from_static("websocket")));
        assert!(headers.is_empty());
    }
}

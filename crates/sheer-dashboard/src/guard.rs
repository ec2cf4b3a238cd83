//! Who may ask, decided before anything else is looked at, and what every answer tells the browser.
//!
//! The dashboard listens on loopback and asks for no password, so a web page of somebody else's that the operator has open must not reach it:
//! * **DNS rebinding**: a name of the attacker's that resolves to 127.0.0.1 comes with that name as `Host`. Only names of loopback are served.
//! * **Cross-site requests**: nothing changes anything (GET and HEAD only), no answer carries CORS headers, and what a browser says comes from another
//!   origin (`Origin`, `Sec-Fetch-Site`) is refused, but for a link to a page that somebody follows.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::problem::{Kind, Problem};

/// Scripts and styles come from this server's files only, never from the text of a page; nobody frames it; forms go nowhere. The one policy of trusted
/// types is for the file of the worker that lays out the map.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types sheer";

/// On every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Refuses what may not ask, and sets the headers of every answer.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(request.method(), request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The answer to what may not be asked.
fn refusal(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let allowed = [(header::ALLOW, "GET, HEAD")];
        return Some((StatusCode::METHOD_NOT_ALLOWED, allowed, "The dashboard only reads.\n").into_response());
    }
    let Some(host) = host(headers).filter(|host| is_loopback(host.host())) else {
        let refused = Problem::new(
            Kind::Forbidden,
            "The dashboard answers under the names of this machine's loopback only.",
            "Open it as http://127.0.0.1:PORT or http://localhost:PORT; from elsewhere, forward the port with `ssh -L`.",
        );
        return Some((StatusCode::MISDIRECTED_REQUEST, refused.json()).into_response());
    };
    if same_origin(headers, &host) {
        return None;
    }
    let what = "Another web page may not ask the dashboard.";
    Some(Problem::new(Kind::Forbidden, what, "Open the dashboard itself.").into_response())
}

/// `Host`, where there is exactly one.
fn host(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?.parse().ok()?;
    hosts.next().is_none().then_some(host)
}

/// Names that no DNS server is asked for. Any port: it may be forwarded.
fn is_loopback(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "[::1]") || host.eq_ignore_ascii_case("localhost")
}

/// Whether the request is the page's own, of no page at all (`curl`), or a link that somebody follows.
fn same_origin(headers: &HeaderMap, host: &Authority) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(origin) = text("origin") {
        let own = origin
            .strip_prefix("http://")
            .is_some_and(|origin| origin == host.as_str());
        if !own {
            return false;
        }
    }
    match text("sec-fetch-site") {
        None | Some("same-origin" | "none") => true,
        _ => text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: Method, fields: &[(&'static str, &str)]) -> u16 {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        refusal(&method, &headers).map_or(200, |refusal| refusal.status().as_u16())
    }

    #[test]
    fn only_names_of_loopback_are_served() {
        for host in ["127.0.0.1:8084", "localhost:9000", "LocalHost", "[::1]:8084"] {
            assert_eq!(verdict(Method::GET, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "rebound.example:8084",
            "127.0.0.1.example",
            "localhost.example",
            "10.0.0.1:8084",
            "a@evil.example",
            "",
        ] {
            assert_eq!(verdict(Method::GET, &[("host", host)]), 421, "{host}");
        }
        assert_eq!(verdict(Method::GET, &[]), 421);
        assert_eq!(
            verdict(Method::GET, &[("host", "localhost"), ("host", "x.example")]),
            421
        );
    }

    #[test]
    fn other_origins_are_refused_and_links_are_followed() {
        let host = ("host", "127.0.0.1:8084");
        let asked = |fields: &[(&'static str, &str)]| verdict(Method::GET, &[&[host], fields].concat());
        assert_eq!(
            asked(&[("origin", "http://127.0.0.1:8084"), ("sec-fetch-site", "same-origin")]),
            200
        );
        assert_eq!(asked(&[("sec-fetch-site", "none")]), 200);
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:3000",
            "https://127.0.0.1:8084",
        ] {
            assert_eq!(asked(&[("origin", origin)]), 403, "{origin}");
        }
        let cross = ("sec-fetch-site", "cross-site");
        assert_eq!(
            asked(&[cross, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")]),
            403
        );
        assert_eq!(
            asked(&[cross, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]),
            403
        );
        assert_eq!(
            asked(&[cross, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]),
            200
        );
        // Another port of this machine is another origin, though the same site.
        assert_eq!(
            asked(&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")]),
            403
        );
    }

    #[test]
    fn nothing_but_reading() {
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
            Method::PATCH,
        ] {
            assert_eq!(verdict(method, &[("host", "localhost")]), 405);
        }
        assert_eq!(verdict(Method::HEAD, &[("host", "localhost")]), 200);
    }
}

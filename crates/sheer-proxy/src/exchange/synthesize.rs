//! Responses that the proxy makes up: `docs/errors.md` is their table, `docs/headers.md` lists their fields.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use sheer_api::names;

use super::reply::{Http1Line, Reply};
use crate::{
    error::{Part, ProxyError},
    http1::HeaderCase,
};

const PROXY_ERROR: HeaderName = HeaderName::from_static(names::PROXY_ERROR);
const VERDICT: HeaderName = HeaderName::from_static(names::VERDICT);
const REASON: HeaderName = HeaderName::from_static(names::REASON);
const UNSERVED: HeaderName = HeaderName::from_static(names::UNSERVED);
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What a made-up response says, and to whom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// The request was gRPC: errors are said in its terms.
    pub(super) grpc: bool,
    /// Without the fields that are Sheer's own.
    pub(super) terse: bool,
    /// For another sidecar, which may send the request elsewhere.
    pub(super) for_sidecar: bool,
}

/// The whole response: for gRPC a trailers-only one (status 200), else the error's status with an empty body.
pub(super) fn reply(error: &ProxyError, style: Style) -> Reply {
    let mut headers = fields(error, style);
    let status = if style.grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        StatusCode::OK
    } else {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        error.http_status()
    };
    made(status, headers)
}

/// A response without a body that is no error.
pub(super) fn answer((status, mut headers): (StatusCode, HeaderMap)) -> Reply {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    made(status, headers)
}

fn made(status: StatusCode, headers: HeaderMap) -> Reply {
    let line = Http1Line {
        version: Version::HTTP_11,
        reason: None,
        case: HeaderCase::title(),
        body: None,
    };
    Reply {
        status,
        headers,
        http1: Some(Box::new(line)),
    }
}

/// The trailers that end a response that has begun, where trailers can say it: always for gRPC; else only where the body
/// was complete, because a client that does not look would take a cut body for a whole one.
pub(super) fn trailers(error: &ProxyError, style: Style) -> Option<HeaderMap> {
    let body_complete =
        matches!(error, ProxyError::HeaderListTooLarge { leg, .. } if leg.part == Part::ResponseTrailers);
    (style.grpc || body_complete).then(|| fields(error, style))
}

fn fields(error: &ProxyError, style: Style) -> HeaderMap {
    let text = error.to_string();
    let (verdict, reason) = (error.verdict().as_str(), error.reason());
    let mut fields = HeaderMap::with_capacity(8);
    if style.grpc {
        fields.insert(GRPC_STATUS, HeaderValue::from(error.grpc_status() as u16));
        fields.insert(
            GRPC_MESSAGE,
            percent_encoded(&format!("{text} (verdict={verdict}, reason={reason})")),
        );
    }
    if let Some(after) = error.retry_after() {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        if style.grpc {
            // gRPC retry design, "pushback": libraries that retry wait this long.
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
            fields.insert(GRPC_PUSHBACK, HeaderValue::from(millis));
        }
    }
    if style.for_sidecar && matches!(error, ProxyError::Connect { .. }) {
        fields.insert(UNSERVED, HeaderValue::from_static(reason));
    }
    if style.terse {
        return fields;
    }
    fields.insert(PROXY_ERROR, visible(&text));
    fields.insert(VERDICT, HeaderValue::from_static(verdict));
    fields.insert(REASON, HeaderValue::from_static(reason));
    fields
}

/// `Retry-After` has no part of a second (RFC 9110 10.2.3): too late rather than too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Text as a field value: what is not visible ASCII becomes `?`.
fn visible(text: &str) -> HeaderValue {
    let visible: String = text
        .chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect();
    HeaderValue::try_from(visible).expect("visible ASCII is a field value")
}

/// Text as gRPC's `grpc-message`: percent-encoded UTF-8 (gRPC over HTTP/2, "Responses").
fn percent_encoded(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => write!(encoded, "%{byte:02X}").expect("writing to a string does not fail"),
            _ => encoded.push(char::from(byte)),
        }
    }
    HeaderValue::try_from(encoded).expect("percent-encoded text is a field value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::GrpcCode;

    const HTTP: Style = Style {
        grpc: false,
        terse: false,
        for_sidecar: false,
    };
    const GRPC: Style = Style { grpc: true, ..HTTP };

    fn denied() -> ProxyError {
        ProxyError::PolicyDenied {
            client: "10.0.0.1:999".parse().unwrap(),
            identity: "zoë 100%".into(),
            port: 8080,
            by: "Server bank/ledger".into(),
            told: true,
        }
    }

    #[test]
    fn http_gets_status_and_reason() {
        let response = reply(&denied(), HTTP);
        assert_eq!(response.status, StatusCode::FORBIDDEN);
        let fields: Vec<_> = response
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        insta::assert_snapshot!(fields.join("\n"), @r"
        l5d-proxy-error: client 10.0.0.1:999 (zo? 100%) is not allowed on port 8080 by Server bank/ledger
        sheer-verdict: policy
        sheer-reason: policy-denied
        content-length: 0
        ");
    }

    #[test]
    fn grpc_gets_trailers_only() {
        let response = reply(&denied(), GRPC);
        assert_eq!(response.status, StatusCode::OK);
        let headers = response.headers;
        assert_eq!(headers["grpc-status"], (GrpcCode::PermissionDenied as u16).to_string());
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(
            headers["grpc-message"],
            "client 10.0.0.1:999 (zo%C3%AB 100%25) is not allowed on port 8080 by Server bank/ledger (verdict=policy, \
             reason=policy-denied)"
        );
    }
    #[test]
    fn terse_responses_have_no_fields_of_ours() {
        let names = |grpc| {
            let response = reply(
                &denied(),
                Style {
                    grpc,
                    terse: true,
                    ..HTTP
                },
            );
            response.headers.keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["content-length"]);
        assert_eq!(names(true), ["grpc-status", "grpc-message", "content-type"]);
    }

    #[test]
    fn a_limit_says_when_to_come_back() {
        let error = |millis| ProxyError::RateLimited {
            per_second: 10,
            scope: sheer_policy::limit::Scope::Identity,
            retry_after: Duration::from_millis(millis),
            by: "HTTPLocalRateLimitPolicy bank/ledger".into(),
            told: false,
        };
        let response = reply(&error(1_001), HTTP);
        assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers["retry-after"], "2", "whole seconds, never too early");
        assert_eq!(
            response.headers["l5d-proxy-error"],
            "more than 10 requests a second, of one client"
        );
        let response = reply(&error(20), GRPC);
        assert_eq!(response.headers["grpc-status"], "8");
        assert_eq!(response.headers["retry-after"], "1");
        assert_eq!(response.headers["grpc-retry-pushback-ms"], "20");
    }
}

//! Why a page has nothing to show, in words: what happened, and what to do. Every answer of the API that is no model is one of these.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The control plane does not answer.
    ControlAway,
    /// It takes too long.
    ControlSlow,
    /// It does not know what is asked.
    ControlOld,
    /// It answered with an error.
    ControlRefused,
    /// What is asked for is not there.
    NotFound,
    /// The question is malformed.
    BadQuestion,
    /// Whoever asks may not.
    Forbidden,
    /// As many pages as there may be are open.
    TooMany,
}

/// An error for whoever looks at the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    /// What happened.
    pub(crate) what: String,
    /// What to do.
    pub(crate) todo: String,
}

impl Problem {
    pub(crate) fn new(kind: Kind, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            todo: todo.into(),
        }
    }

    /// A parameter that cannot be read.
    pub(crate) fn parameter(name: &str, value: &str, wanted: &str) -> Self {
        Self::new(
            Kind::BadQuestion,
            format!("`{name}={value}` is not understood"),
            format!("write {wanted}"),
        )
    }

    /// Taken too long.
    pub(crate) fn slow() -> Self {
        Self::new(
            Kind::ControlSlow,
            "The control plane takes too long to answer.",
            "It is busy or hangs. `sheer logs control` shows what it does; this page tries again by itself.",
        )
    }

    /// An answer that cannot be written down.
    pub(crate) fn unshown(error: &serde_json::Error) -> Self {
        Self::new(
            Kind::ControlRefused,
            format!("an answer cannot be shown: {error}"),
            "This is a fault of the dashboard: please report it.",
        )
    }

    fn status(&self) -> StatusCode {
        match self.kind {
            Kind::ControlAway | Kind::ControlOld => StatusCode::SERVICE_UNAVAILABLE,
            Kind::ControlSlow => StatusCode::GATEWAY_TIMEOUT,
            Kind::ControlRefused => StatusCode::BAD_GATEWAY,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::BadQuestion => StatusCode::BAD_REQUEST,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// As JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::json!({ "problem": self }).to_string()
    }
}

impl From<tonic::Status> for Problem {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        let said = status.message();
        match status.code() {
            Code::Unavailable | Code::Unknown => Self::new(
                Kind::ControlAway,
                "The control plane does not answer.",
                "Traffic goes on with what proxies know. `sheer check` says what is wrong and `sheer logs control` why; where no mesh runs, start one with \
                 `sheer demo` or `sheer up -f DIR`. This page tries again by itself.",
            ),
            Code::DeadlineExceeded | Code::Cancelled => Self::slow(),
            Code::Unimplemented => Self::new(
                Kind::ControlOld,
                "The control plane does not know this question: it is of another version than this dashboard.",
                "`sheer version` shows both. End the mesh with `sheer down` and start it again.",
            ),
            Code::NotFound => Self::new(
                Kind::NotFound,
                said,
                "It may have ended, or be older than what is kept.",
            ),
            Code::PermissionDenied | Code::Unauthenticated => Self::new(
                Kind::Forbidden,
                said,
                "Rights to look at traffic are the mesh's owner's to give: `sheer token --allow tap,frames --on deploy/NAME`. What \
                 `sheer.dev/sight: disabled` hides, nobody sees.",
            ),
            Code::InvalidArgument => Self::new(Kind::BadQuestion, said, "Correct what is named."),
            _ => Self::new(Kind::ControlRefused, said, "`sheer logs control` shows more."),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status();
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_what_happened_and_what_to_do() {
        let away = Problem::from(tonic::Status::unavailable("transport error"));
        assert_eq!((away.kind, away.status().as_u16()), (Kind::ControlAway, 503));
        assert!(away.todo.contains("sheer logs control"), "{}", away.todo);
        let absent = Problem::from(tonic::Status::not_found("there is no trace 4bf9"));
        assert_eq!(
            (absent.status().as_u16(), absent.what.as_str()),
            (404, "there is no trace 4bf9")
        );
        assert!(
            away.json().starts_with(r#"{"problem":{"kind":"control-away","#),
            "{}",
            away.json()
        );
    }
}

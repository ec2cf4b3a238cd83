//! What is counted of a response: one answer to "how did it end" for both directions.

use std::time::Duration;

use super::cell::TraceId;
use crate::exchange::{End, Outcome, Spoken};

/// Status under which a request is counted that ended without one: what a client of HTTP/1 would have got.
const NO_STATUS: u16 = 502;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseOutcome {
    /// HTTP status.
    pub status: u16,
    /// `grpc-status` of the trailers or head, where there was one.
    pub grpc_status: Option<u16>,
    /// Linkerd's classification: no 5xx, and no failed `grpc-status`.
    pub success: bool,
    /// Why the proxy made the response up or cut it, as `failfast`.
    pub error: Option<&'static str>,
    /// From the request's head to the response's, or to the end of a request that got none.
    pub latency: Duration,
    /// What the client speaks.
    pub spoken: Spoken,
    /// The trace that tells about it, where one is kept.
    pub trace: Option<TraceId>,
}

impl ResponseOutcome {
    /// What to count of a request that is over; nothing where the client left before there was an answer.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        let error = match outcome.end {
            End::Proxy { reason, .. } => Some(reason),
            End::ClientReset(_) if outcome.status.is_none() => return None,
            End::Complete | End::ClientReset(_) | End::ServerReset(_) | End::Dropped => None,
        };
        Some(Self {
            status: outcome.status.map_or(NO_STATUS, |status| status.as_u16()),
            grpc_status: outcome.grpc_status,
            success: outcome.is_success(),
            error,
            latency: outcome.first_byte.unwrap_or_else(|| outcome.started.elapsed()),
            spoken: outcome.spoken,
            trace: outcome.trace,
        })
    }

    /// Linkerd's classification: a `grpc-status` decides where there is one (`UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`,
    /// `UNAVAILABLE` and `DATA_LOSS` are failures), the HTTP status otherwise (5xx is a failure).
    pub fn is_success(status: u16, grpc_status: Option<u16>) -> bool {
        match grpc_status {
            Some(code) => !matches!(code, 2 | 4 | 13 | 14 | 15),
            None => status < 500,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::StatusCode;

    use super::*;
    use crate::error::ResetCode;

    /// A request that began a minute ago and whose head, if any, came after 3 ms.
    fn outcome(status: Option<StatusCode>, end: End) -> Outcome {
        Outcome {
            spoken: Spoken::Http2,
            started: Instant::now()
                .checked_sub(Duration::from_secs(60))
                .expect("up for a minute"),
            first_byte: status.map(|_| Duration::from_millis(3)),
            status,
            grpc_status: None,
            retry_after: None,
            request_bytes: 0,
            response_bytes: 0,
            classes: None,
            stalls: [0, 0],
            trace: None,
            deadline: None,
            attempts: 0,
            passed_over: Vec::new(),
            end,
        }
    }

    #[test]
    fn a_long_stream_has_the_latency_of_its_head() {
        let counted = ResponseOutcome::of(&outcome(Some(StatusCode::OK), End::Complete)).expect("counted");
        assert_eq!(counted.latency, Duration::from_millis(3));
        assert!(counted.success);
    }

    #[test]
    fn what_got_no_head_counts_as_failed_after_all_its_time() {
        let reset = End::ServerReset(ResetCode(h2::Reason::INTERNAL_ERROR));
        let counted = ResponseOutcome::of(&outcome(None, reset)).expect("counted");
        assert_eq!((counted.status, counted.success), (502, false));
        assert!(counted.latency >= Duration::from_secs(60));
    }

    #[test]
    fn classes_of_the_route_say_what_is_a_failure() {
        let classes = std::sync::Arc::new(sheer_policy::outbound::ResponseClasses {
            failures: vec![(404, 404)],
            successes: vec![(503, 503)],
        });
        for (status, success) in [
            (StatusCode::NOT_FOUND, false),
            (StatusCode::SERVICE_UNAVAILABLE, true),
            (StatusCode::BAD_GATEWAY, false),
            (StatusCode::OK, true),
        ] {
            let classified = Outcome {
                classes: Some(std::sync::Arc::clone(&classes)),
                ..outcome(Some(status), End::Complete)
            };
            let counted = ResponseOutcome::of(&classified).expect("counted");
            assert_eq!(counted.success, success, "{status}");
        }
    }

    #[test]
    fn a_client_that_left_before_the_answer_is_no_failure() {
        let left = End::ClientReset(ResetCode(h2::Reason::CANCEL));
        assert_eq!(ResponseOutcome::of(&outcome(None, left)), None);
        let counted = ResponseOutcome::of(&outcome(Some(StatusCode::OK), left)).expect("counted");
        assert!(counted.success);
    }
}

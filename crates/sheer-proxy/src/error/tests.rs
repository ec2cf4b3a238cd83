//! `docs/errors.md` is the table of the code, row by row.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table, a line or two a variant")]
fn every_error() -> Vec<ProxyError> {
    let addr: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let connect = |cause| ProxyError::Connect { addr, cause };
    let too_large = |part| ProxyError::HeaderListTooLarge {
        leg: Leg {
            direction: Direction::Inbound,
            part,
        },
        size: ListSize::Bytes(2),
        limit: 1,
    };
    let timeout = |limit| ProxyError::Timeout {
        limit,
        after: Duration::ZERO,
    };
    vec![
        ProxyError::FailFast {
            service: "s".into(),
            endpoints: 0,
            why: "w".into(),
        },
        ProxyError::QueueFull {
            service: "s".into(),
            waiting: 1,
        },
        ProxyError::TooMany {
            what: "requests",
            limit: 1,
        },
        ProxyError::ShuttingDown,
        connect(ConnectCause::Refused),
        connect(ConnectCause::TimedOut(Duration::ZERO)),
        connect(ConnectCause::Reset),
        connect(ConnectCause::Unreachable),
        connect(ConnectCause::Local(std::io::ErrorKind::OutOfMemory)),
        connect(ConnectCause::Other(std::io::ErrorKind::Other)),
        ProxyError::IdentityMismatch {
            addr,
            expected: "a".into(),
            found: "b".into(),
        },
        ProxyError::TlsConnect { addr, why: "w".into() },
        ProxyError::TlsAccept {
            client: addr,
            why: "w".into(),
        },
        ProxyError::IdentityNotReady,
        ProxyError::PolicyDenied {
            client: addr,
            identity: "i".into(),
            port: 1,
            by: "s".into(),
            told: true,
        },
        ProxyError::RateLimited {
            per_second: 1,
            scope: Scope::Total,
            retry_after: Duration::from_secs(1),
            by: "p".into(),
            told: true,
        },
        ProxyError::NoRoute { service: "s".into() },
        ProxyError::Injected {
            route: "r".into(),
            message: "m".into(),
            answer: Injected::Grpc(GrpcCode::Unavailable),
        },
        ProxyError::PolicyUnknown { port: 1 },
        ProxyError::NoBackend {
            service: "s".into(),
            why: "w".into(),
        },
        ProxyError::Loop { addr },
        ProxyError::NoOriginalDst { why: "w".into() },
        too_large(Part::RequestHeaders),
        too_large(Part::ResponseTrailers),
        ProxyError::BadRequest {
            why: "w".into(),
            status: StatusCode::BAD_REQUEST,
        },
        ProxyError::BadResponse { addr, why: "w".into() },
        ProxyError::UpstreamReset {
            addr,
            code: ResetCode(h2::Reason::CANCEL),
        },
        ProxyError::UpstreamClosed {
            addr,
            sidecar: false,
            why: "w".into(),
            unprocessed: false,
        },
        ProxyError::UpstreamClosed {
            addr,
            sidecar: true,
            why: "w".into(),
            unprocessed: false,
        },
        ProxyError::ClientGone { why: "w".into() },
        timeout(TimeLimit::Request),
        timeout(TimeLimit::Response),
        timeout(TimeLimit::Idle),
        timeout(TimeLimit::Attempt),
        ProxyError::Deadline {
            sent: true,
            after: Duration::ZERO,
        },
        ProxyError::Deadline {
            sent: false,
            after: Duration::ZERO,
        },
        ProxyError::NoRoute { service: "s".into() },
        ProxyError::InvalidBackend {
            service: "s".into(),
            route: "r".into(),
            why: "w".into(),
        },
        ProxyError::Forbidden {
            service: "s".into(),
            route: "r".into(),
        },
        ProxyError::TriedAgain {
            addr,
            status: "503".into(),
        },
        ProxyError::TransportHeader {
            client: addr,
            why: "w".into(),
        },
        ProxyError::Internal { what: "w" },
    ]
}

#[test]
fn the_document_says_what_the_code_does() {
    let document = include_str!("../../../../docs/errors.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut documented: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    for error in every_error() {
        let reason = error.reason();
        let row = rows.iter().find(|row| row[0].trim_matches('`') == reason);
        let row = row.unwrap_or_else(|| panic!("{reason} is not in docs/errors.md"));
        assert!(
            row[2].contains(error.verdict().as_str()),
            "{reason}: verdict {}",
            error.verdict()
        );
        assert!(
            row[3].contains(error.http_status().as_str()),
            "{reason}: HTTP {}",
            error.http_status()
        );
        let grpc = format!("{} ", error.grpc_status() as u16);
        assert!(row[4].starts_with(&grpc), "{reason}: gRPC {grpc}");
        assert_eq!(row[5] == "yes", error.retryable(), "{reason}: retried");
        documented.retain(|documented| *documented != reason);
    }
    assert!(documented.is_empty(), "in docs/errors.md only: {documented:?}");
}

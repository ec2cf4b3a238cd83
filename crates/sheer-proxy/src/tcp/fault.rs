//! What is wrong with the end of a relay, and whose fault it is: the tap and the recorder say the same of it.

use std::io::ErrorKind;

use sheer_api::Verdict;

use super::{Direction, End, Ended, Outcome, PassedTls, Side};
use crate::error::{ProxyError, connection_lost};

/// Why a relayed connection failed. Reasons are those of `docs/errors.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) verdict: Verdict,
    pub(crate) reason: &'static str,
    /// Who did it, where it was not the proxy.
    pub(crate) side: Option<Side>,
    /// In words.
    pub(crate) message: String,
}

impl From<&ProxyError> for Fault {
    fn from(error: &ProxyError) -> Self {
        Self {
            verdict: error.verdict(),
            reason: error.reason(),
            side: None,
            message: error.in_full(),
        }
    }
}

impl Fault {
    /// None where it ended as it should. `tls`: what was seen of the applications' own TLS.
    pub(crate) fn of(ended: &Ended, tls: Option<&PassedTls>) -> Option<Self> {
        match ended {
            Ended::Drained => None,
            Ended::Revoked => Some(Self {
                verdict: Verdict::Policy,
                reason: "policy-denied",
                side: None,
                message: "reset, as policy lets the client in no longer".to_owned(),
            }),
            Ended::Relayed(outcome) => tls.and_then(Self::of_alert).or_else(|| Self::of_outcome(outcome)),
        }
    }

    /// One side would not go on with the handshake. What broke after that follows from it.
    fn of_alert(tls: &PassedTls) -> Option<Self> {
        let (side, alert) = tls.alert.as_ref()?;
        let who = match side {
            Side::Client => "client",
            Side::Server => "server",
        };
        let list = |words: &[String]| words.join(", ");
        let offered = match (&*tls.offered_versions, &*tls.offered_alpn) {
            ([], _) => String::new(),
            (versions, []) => format!("; the client offers {}", list(versions)),
            (versions, protocols) => format!("; the client offers {} for {}", list(versions), list(protocols)),
        };
        let chosen = match &*tls.version {
            "" => String::new(),
            version => format!("; the server chose {version}, {}", tls.cipher),
        };
        Some(Self {
            verdict: Verdict::Application,
            reason: "tls-alert",
            side: Some(*side),
            message: format!("the {who} ended the applications' own TLS with the alert {alert}{offered}{chosen}"),
        })
    }

    fn of_outcome(outcome: &Outcome) -> Option<Self> {
        let Outcome {
            to_server,
            to_client,
            first,
        } = outcome;
        let ways = [
            (to_server, Side::Client, Side::Server),
            (to_client, Side::Server, Side::Client),
        ];
        let mut broken = ways.into_iter().filter_map(|(way, sender, receiver)| {
            let Direction { end, .. } = way;
            match end {
                End::Closed | End::Abandoned => None,
                End::SenderReset => Some((sender, ErrorKind::ConnectionReset)),
                End::ReceiverReset => Some((receiver, ErrorKind::ConnectionReset)),
                End::Failed(side, error) => Some((*side, error.kind())),
            }
        });
        // What broke first is the cause of the other.
        let any = broken.next()?;
        let (side, kind) = broken
            .find(|(side, _)| side == first)
            .filter(|_| any.0 != *first)
            .unwrap_or(any);
        let (who, reset) = match side {
            Side::Client => ("client", "client-reset"),
            Side::Server => ("server", "server-reset"),
        };
        let (verdict, reason, what) = match kind {
            ErrorKind::ConnectionReset => (Verdict::Application, reset, "reset the connection".to_owned()),
            // Of rustls: an alert of the peer, a record that is none.
            ErrorKind::InvalidData => (
                Verdict::Identity,
                "tls-broken",
                "broke the rules of TLS, or ended it with an alert".to_owned(),
            ),
            kind => (
                Verdict::Network,
                "connection-lost",
                format!("was lost: {}", connection_lost(&kind.into())),
            ),
        };
        let (up, down) = (to_server.bytes, to_client.bytes);
        Some(Self {
            verdict,
            reason,
            side: Some(side),
            message: format!("the {who} {what}, after {up} bytes to the server and {down} to the client"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relayed(to_server: End, to_client: End, first: Side) -> Option<(Verdict, &'static str, String)> {
        let way = |end, bytes| Direction { bytes, end };
        let ended = Ended::Relayed(Outcome {
            to_server: way(to_server, 3),
            to_client: way(to_client, 7),
            first,
        });
        let fault = Fault::of(&ended, None)?;
        let who = fault.message.split(' ').nth(1).expect("a side").to_owned();
        Some((fault.verdict, fault.reason, who))
    }

    #[test]
    fn each_end_is_judged() {
        use Side::{Client, Server};
        let failed = |side: Side, kind: ErrorKind| End::Failed(side, kind.into());
        let is = |verdict, reason, who: &str| Some((verdict, reason, who.to_owned()));
        for (to_server, to_client, first, expected) in [
            (End::Closed, End::Closed, Client, None),
            (
                End::SenderReset,
                End::Abandoned,
                Client,
                is(Verdict::Application, "client-reset", "client"),
            ),
            (
                End::Abandoned,
                End::SenderReset,
                Server,
                is(Verdict::Application, "server-reset", "server"),
            ),
            (
                End::ReceiverReset,
                End::SenderReset,
                Server,
                is(Verdict::Application, "server-reset", "server"),
            ),
            // A client that had closed its half, and a server that then took no more.
            (
                End::Closed,
                End::ReceiverReset,
                Client,
                is(Verdict::Application, "client-reset", "client"),
            ),
            // The same, and a server that is lost then.
            (
                End::Closed,
                failed(Server, ErrorKind::TimedOut),
                Client,
                is(Verdict::Network, "connection-lost", "server"),
            ),
            (
                End::ReceiverReset,
                End::ReceiverReset,
                Client,
                is(Verdict::Application, "client-reset", "client"),
            ),
            (
                failed(Client, ErrorKind::TimedOut),
                End::Abandoned,
                Client,
                is(Verdict::Network, "connection-lost", "client"),
            ),
            (
                End::Abandoned,
                failed(Server, ErrorKind::InvalidData),
                Server,
                is(Verdict::Identity, "tls-broken", "server"),
            ),
        ] {
            let document = include_str!("../../../../docs/errors.md");
            if let Some((verdict, reason, _)) = &expected {
                let line = document
                    .lines()
                    .find(|line| line.starts_with(&format!("* `{reason}` (")));
                assert!(
                    line.is_some_and(|line| line.contains(verdict.as_str())),
                    "{reason} is not in docs/errors.md"
                );
            }
            assert_eq!(relayed(to_server, to_client, first), expected);
        }
        assert_eq!(Fault::of(&Ended::Drained, None), None);
        assert_eq!(
            Fault::of(&Ended::Revoked, None).map(|fault| (fault.verdict, fault.reason)),
            Some((Verdict::Policy, "policy-denied"))
        );
    }
    /// However orderly the connection ended after it.
    #[test]
    fn an_alert_within_a_handshake_is_a_failure_and_says_what_was_offered() {
        let tls = PassedTls {
            offered_versions: vec!["TLS 1.2".to_owned(), "TLS 1.1".to_owned()],
            offered_alpn: vec!["h2".to_owned()],
            alert: Some((Side::Server, "protocol_version".to_owned())),
            ..PassedTls::default()
        };
        let way = || Direction {
            bytes: 7,
            end: End::Closed,
        };
        let closed = Ended::Relayed(Outcome {
            to_server: way(),
            to_client: way(),
            first: Side::Server,
        });
        let fault = Fault::of(&closed, Some(&tls)).expect("a failure");
        assert_eq!(
            (fault.verdict, fault.reason, fault.side),
            (Verdict::Application, "tls-alert", Some(Side::Server))
        );
        assert_eq!(
            fault.message,
            "the server ended the applications' own TLS with the alert protocol_version; the client offers TLS 1.2, TLS 1.1 for h2"
        );
        assert!(include_str!("../../../../docs/errors.md").contains("* `tls-alert` (application)"));
        let well = PassedTls { alert: None, ..tls };
        assert_eq!(Fault::of(&closed, Some(&well)), None);
    }
}

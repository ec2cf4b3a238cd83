//! What is wrong with the end of a relay, and whose fault it is: the tap and the recorder say the same of it.

use std::io::ErrorKind;

use sheer_api::Verdict;

use super::{Direction, End, Ended, Outcome, Side};
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
    /// None where it ended as it should.
    pub(crate) fn of(ended: &Ended) -> Option<Self> {
        match ended {
            Ended::Drained => None,
            Ended::Revoked => Some(Self {
                verdict: Verdict::Policy,
                reason: "policy-denied",
                side: None,
                message: "reset, as policy lets the client in no longer".to_owned(),
            }),
            Ended::Relayed(outcome) => Self::of_outcome(outcome),
        }
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
        let fault = Fault::of(&Ended::Relayed(Outcome {
            to_server: way(to_server, 3),
            to_client: way(to_client, 7),
            first,
        }))?;
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
        assert_eq!(Fault::of(&Ended::Drained), None);
        assert_eq!(
            Fault::of(&Ended::Revoked).map(|fault| (fault.verdict, fault.reason)),
            Some((Verdict::Policy, "policy-denied"))
        );
    }
}

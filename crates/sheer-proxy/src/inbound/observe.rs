//! Who is told what happens on a port: metrics, resolved once for each port and client identity.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use super::policy::Client;
use crate::{
    discovery::{Authorization, InboundPolicy, ObjectRef},
    error::Direction,
    exchange::{End, Outcome, Sink},
    metrics::{AuthzMetrics, HttpMetrics, LabelSet, ResponseOutcome, Shard, TcpMetrics, inbound_labels},
};

/// Status under which a request is counted that ended without one: what a client of HTTP/1 would have got.
const NO_STATUS: u16 = 502;

/// The metrics of one port and client identity.
pub(super) struct Observers {
    pub(super) http: Rc<HttpSink>,
    pub(super) tcp: TcpMetrics,
    shard: Shard,
    labels: LabelSet,
    policy: Arc<InboundPolicy>,
    /// By the rule that let a client in, or none.
    authz: RefCell<Vec<(Option<ObjectRef>, Rc<AuthzMetrics>)>>,
}

impl Observers {
    pub(super) fn new(shard: &Shard, addr: SocketAddr, policy: Arc<InboundPolicy>, client: &Client) -> Self {
        let labels = inbound_labels(addr, &policy.server, client.tls_label());
        Self {
            http: Rc::new(HttpSink {
                metrics: HttpMetrics::new(shard, &labels),
                shard: shard.clone(),
            }),
            tcp: TcpMetrics::new(shard, &labels),
            shard: shard.clone(),
            labels,
            policy,
            authz: RefCell::default(),
        }
    }

    /// The policy that these are about.
    pub(super) fn policy(&self) -> &Arc<InboundPolicy> {
        &self.policy
    }

    /// Where decisions are counted: under the rule that let the client in, or under the server where none did.
    pub(super) fn authz(&self, rule: Option<&Authorization>) -> Rc<AuthzMetrics> {
        let rule = rule.map(|rule| &rule.policy);
        let mut authz = self.authz.borrow_mut();
        if let Some((_, metrics)) = authz.iter().find(|(known, _)| known.as_ref() == rule) {
            return Rc::clone(metrics);
        }
        let labels = match rule {
            Some(rule) => self.labels.to_builder().object("authz_", rule).build(),
            None => self.labels.clone(),
        };
        let metrics = Rc::new(AuthzMetrics::new(&self.shard, &labels));
        authz.push((rule.cloned(), Rc::clone(&metrics)));
        metrics
    }
}

/// Counts requests.
pub(super) struct HttpSink {
    pub(super) metrics: HttpMetrics,
    shard: Shard,
}

impl Sink for HttpSink {
    fn end(&self, outcome: &Outcome) {
        let error = match outcome.end {
            End::Proxy { verdict, reason } => {
                self.shard.http_error(Direction::Inbound, verdict, reason);
                Some(reason)
            }
            // The client left before there was anything to count.
            End::ClientReset(_) if outcome.status.is_none() => return,
            End::Complete | End::ClientReset(_) | End::ServerReset(_) | End::Dropped => None,
        };
        self.metrics.response(&ResponseOutcome {
            status: outcome.status.map_or(NO_STATUS, |status| status.as_u16()),
            grpc_status: outcome.grpc_status,
            success: outcome.is_success(),
            error,
            latency: outcome.started.elapsed(),
        });
    }
}

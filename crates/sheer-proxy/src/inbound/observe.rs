//! Who is told what happens on a port: metrics, resolved once for each port and client identity.

use std::{
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use super::policy::Client;
use crate::{
    discovery::{Authorization, InboundPolicy, ObjectRef},
    error::Direction,
    exchange::{End, Outcome, Sink},
    metrics::{
        AuthzMetrics, HttpMetrics, LabelSet, ResponseOutcome, Shard, TcpMetrics, application_labels, inbound_labels,
    },
};

/// The metrics of one port and client identity.
pub(super) struct Observers {
    pub(super) http: Rc<HttpSink>,
    pub(super) tcp: TcpMetrics,
    /// Connections to the application, where they are counted one by one: see [`Self::app`].
    app: OnceCell<TcpMetrics>,
    addr: SocketAddr,
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
            app: OnceCell::new(),
            addr,
            shard: shard.clone(),
            labels,
            policy,
            authz: RefCell::default(),
        }
    }

    /// Connections to the application that carry one connection of a client each. Ports of HTTP never have one.
    pub(super) fn app(&self) -> &TcpMetrics {
        self.app
            .get_or_init(|| TcpMetrics::new(&self.shard, &application_labels(self.addr, &self.policy.server)))
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
        if let End::Proxy { verdict, reason } = outcome.end {
            self.shard.http_error(Direction::Inbound, verdict, reason);
        }
        if let Some(response) = ResponseOutcome::of(outcome) {
            self.metrics.response(&response);
        }
    }
}

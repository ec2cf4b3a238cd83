//! What the proxy still misses before it may take traffic.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::identity::Identity;

/// Knows what is missing.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    identity: Identity,
    unreached: watch::Receiver<BTreeSet<&'static str>>,
    unanswered_ports: watch::Receiver<BTreeSet<u16>>,
    listening: watch::Receiver<bool>,
}

impl Readiness {
    pub(crate) fn new(
        identity: Identity,
        unreached: watch::Receiver<BTreeSet<&'static str>>,
        unanswered_ports: watch::Receiver<BTreeSet<u16>>,
        listening: watch::Receiver<bool>,
    ) -> Self {
        Self {
            identity,
            unreached,
            unanswered_ports,
            listening,
        }
    }

    /// What is missing, in the operator's words; nothing once the proxy is ready.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = self.missing_control();
        if missing.is_empty() && !*self.listening.borrow() {
            missing.push("traffic ports: not listening yet".to_owned());
        }
        missing
    }

    /// Returns once the control plane has given all that traffic needs.
    pub(crate) async fn control(&self) {
        // An error says that the process ends.
        let _ = self.identity.watch().wait_for(Option::is_some).await;
        let _ = self.unreached.clone().wait_for(BTreeSet::is_empty).await;
        let _ = self.unanswered_ports.clone().wait_for(BTreeSet::is_empty).await;
    }

    pub(crate) fn missing_control(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.identity.current().is_none() {
            let why = self.identity.problem().unwrap_or_else(|| "not issued yet".to_owned());
            missing.push(format!("identity: no certificate: {why}"));
        } else {
            // Without a certificate nobody is asked.
            let unreached = self.unreached.borrow();
            missing.extend(
                unreached
                    .iter()
                    .map(|service| format!("{service}: no connection to the control plane yet")),
            );
        }
        let ports: Vec<_> = self.unanswered_ports.borrow().iter().map(u16::to_string).collect();
        if !ports.is_empty() {
            missing.push(format!("policy: nothing heard yet of port {}", ports.join(", ")));
        }
        missing
    }
}

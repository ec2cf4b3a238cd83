//! The retry budgets of all destinations: what several workers send to one destination is on one account.
//!
//! Asked when a worker learns of a policy, never for a request.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Instant,
};

use parking_lot::Mutex;
use sheer_policy::{budget::Budget, outbound::OutboundPolicy};

use super::ObjectRef;
use crate::addr::OrigDst;

/// Whose budget it is: a Service's, whichever of its addresses is used; of everything else each address has its own.
type Destination = (ObjectRef, Option<SocketAddr>);

/// Budgets that somebody uses.
#[derive(Debug, Default)]
pub struct Budgets {
    known: Mutex<HashMap<Destination, Weak<Budget>>>,
}

impl Budgets {
    /// The budget of a destination. An edit that leaves it as it is does not fill it again; a changed one begins anew.
    pub fn find(&self, policy: &OutboundPolicy, dst: OrigDst, now: Instant) -> Arc<Budget> {
        let is_service = policy.parent.kind == "Service";
        let destination = (policy.parent.clone(), (!is_service).then_some(dst.0));
        let mut known = self.known.lock();
        if let Some(budget) = known.get(&destination).and_then(Weak::upgrade)
            && *budget.config() == policy.budget
        {
            return budget;
        }
        known.retain(|_, budget| budget.strong_count() > 0);
        let budget = Arc::new(Budget::new(policy.budget, now));
        known.insert(destination, Arc::downgrade(&budget));
        budget
    }
}

#[cfg(test)]
mod tests {
    use sheer_policy::{
        ProtocolPlan,
        outbound::{Backend, BackendTarget, Balancing, RetryBudget},
    };

    use super::*;

    fn policy(kind: &str, ratio: f64) -> OutboundPolicy {
        let parent = ObjectRef {
            kind: kind.to_owned(),
            ..ObjectRef::default_of("web")
        };
        let backend = Backend {
            object: parent.clone(),
            target: BackendTarget::Invalid { why: "none".into() },
            queue_capacity: None,
            failfast_timeout: None,
            balancing: Balancing::default(),
        };
        let mut policy = OutboundPolicy::plain(parent, ProtocolPlan::Opaque, backend);
        policy.budget = RetryBudget {
            ratio,
            ..RetryBudget::default()
        };
        policy
    }

    #[test]
    fn a_service_has_one_budget_and_other_destinations_one_an_address() {
        let (budgets, now) = (Budgets::default(), Instant::now());
        let [one, two] = ["10.0.0.1:80", "[fd00::1]:80"].map(|addr| OrigDst(addr.parse().unwrap()));
        let find = |kind, ratio, dst| budgets.find(&policy(kind, ratio), dst, now);
        let service = find("Service", 0.2, one);
        assert!(
            Arc::ptr_eq(&service, &find("Service", 0.2, two)),
            "by either of its addresses"
        );
        let egress = find("EgressNetwork", 0.2, one);
        assert!(!Arc::ptr_eq(&egress, &find("EgressNetwork", 0.2, two)));
        assert!(!Arc::ptr_eq(&egress, &service));
        let edited = find("Service", 0.5, one);
        assert_eq!(edited.config().ratio, 0.5);
        assert!(Arc::ptr_eq(&edited, &find("Service", 0.5, two)));
        drop((service, egress, edited));
        find("Service", 0.2, one);
        assert_eq!(budgets.known.lock().len(), 1, "what nobody uses is forgotten");
    }
}

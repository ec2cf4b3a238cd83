//! Decides about a request: which rule takes it, what its filters say, where it goes and how long it may take. Nothing is sent here.

use std::{rc::Rc, time::Duration};

use http::{HeaderValue, StatusCode};
use sheer_policy::{
    outbound::{Backend, BackendTarget, Backends, Filter, Retry, Timeouts},
    routes::RequestView,
};
use tokio::time::Instant;

use super::{
    asked,
    plan::{BackendPlan, RulePlan},
    resolution::Resolution,
};
use crate::{
    deadline::Deadline,
    error::ProxyError,
    exchange::Head,
    filters::{self, Answered, TakenBy},
};

/// What is to be done with a request.
pub(super) struct Decision {
    /// The rule that takes it; none where no rule does.
    pub(super) plan: Option<Rc<RulePlan>>,
    /// How long to wait before anything else, where a delay is injected.
    pub(super) delay: Option<Duration>,
    /// What then.
    pub(super) action: Action,
    /// When its caller stops to wait.
    pub(super) deadline: Option<Deadline>,
    pub(super) timeouts: Timeouts,
}

/// What is done with a request.
pub(super) enum Action {
    /// It goes to a backend.
    Send {
        backend: Rc<BackendPlan>,
        retry: Option<Rc<Retry>>,
    },
    /// The client is told to go elsewhere.
    Redirect { status: StatusCode, location: HeaderValue },
    /// It ends here.
    Fail(ProxyError),
}

/// Decides about a request, and changes its head as the filters say.
pub(super) fn decide(resolution: &Resolution, head: &mut Head, arrived: Instant) -> Decision {
    let deadline = Deadline::of(head, arrived);
    let view = RequestView {
        method: &head.method,
        host: head.authority(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    };
    let Some(found) = resolution.http(head.origin).routes.find(&view) else {
        let service = resolution.target.name.to_string();
        return Decision {
            plan: None,
            delay: None,
            action: Action::Fail(ProxyError::NoRoute { service }),
            deadline,
            timeouts: Timeouts::default(),
        };
    };
    let plan = resolution.plan(found.rule);
    let matched = plan.rule.matches.get(found.matched);
    let by = TakenBy {
        route: &plan.rule.route,
        path: matched.and_then(|found| found.path.as_ref()),
    };
    let rule = &plan.rule.action;
    let (mut timeouts, mut retry, mut delay) = (rule.timeouts, plan.retry.clone(), None);
    if rule.allow_request_headers {
        asked::apply(head, &mut timeouts, &mut retry);
    }
    let applied = apply(&rule.filters, head, by, &mut delay);
    let action = match applied {
        Some(action) => action,
        None => match choose(resolution, head, &plan) {
            Ok(backend) => {
                let applied = apply(&backend.filters, head, by, &mut delay);
                applied.unwrap_or(Action::Send { backend, retry })
            }
            Err(error) => Action::Fail(error),
        },
    };
    Decision {
        plan: Some(plan),
        delay,
        action,
        deadline,
        timeouts,
    }
}

/// Applies filters. Some action where one of them answers.
fn apply(filters: &[Filter], head: &mut Head, by: TakenBy<'_>, delay: &mut Option<Duration>) -> Option<Action> {
    filters::apply(filters, head, by, delay).map(|answered| match answered {
        Answered::Redirect { status, location } => Action::Redirect { status, location },
        Answered::Fail(error) => Action::Fail(error),
    })
}

/// The backend of a rule that takes a request.
fn choose(resolution: &Resolution, head: &Head, plan: &Rc<RulePlan>) -> Result<Rc<BackendPlan>, ProxyError> {
    let backends = &plan.rule.action.backends;
    let place = match backends {
        Backends::First(several) if several.len() > 1 => Some(first_available(resolution, head, plan)),
        // One needs no dice.
        Backends::First(_) | Backends::None => backends.choose(0.0),
        Backends::Weighted(_) => backends.choose(rand::random()),
    };
    let chosen = place.and_then(|place| plan.backends.get(place));
    let why = match chosen {
        Some(chosen) => match why_invalid(&chosen.backend) {
            None => return Ok(Rc::clone(chosen)),
            Some(why) => why,
        },
        None => "the route has no backend".into(),
    };
    Err(ProxyError::InvalidBackend {
        service: resolution.target.name.to_string(),
        route: plan.rule.route.to_string(),
        why,
    })
}

/// The first that has an endpoint ready, or else the first.
fn first_available(resolution: &Resolution, head: &Head, plan: &RulePlan) -> usize {
    let is_ready = |backend: &Rc<BackendPlan>| {
        let service = backend.service(head.origin, resolution);
        service.is_ok_and(|service| service.is_ready())
    };
    plan.backends.iter().position(is_ready).unwrap_or(0)
}

fn why_invalid(backend: &Backend) -> Option<std::sync::Arc<str>> {
    match &backend.target {
        BackendTarget::Invalid { why } => Some(why.clone()),
        BackendTarget::Forward(_) | BackendTarget::Balance { .. } => None,
    }
}

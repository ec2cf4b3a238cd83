//! Which requests of one client are let in: the route that takes a request, and who may send it. Decided once for each rule of a route and
//! kept for the connection, until the policy changes.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use http::StatusCode;
use sheer_policy::{
    inbound::InboundRule,
    limit::ClientLimit,
    routes::{RequestView, Rule},
};

use super::{
    observe::{HttpSink, Observers},
    policy::{self, Client, ClientTls},
    port::Port,
};
use crate::{
    discovery::{Authorization, ObjectRef},
    error::ProxyError,
    exchange::{Head, Referee},
    filters::{self, Amend, Answered, TakenBy},
    http1::TargetForm,
    metrics::{HttpAuthzMetrics, InboundRouteMetrics},
};

/// What the policy in force says about the client of one connection.
pub(super) struct Admission {
    pub(super) observers: Rc<Observers>,
    /// Who is told of the requests of this connection.
    pub(super) sink: Rc<HttpSink>,
    /// The server's own rule that lets the client in.
    server: Option<Authorization>,
    /// The decision for every request, where no route can change it.
    whole: Option<Rc<Decision>>,
    /// Decisions so far, by the address of the rule; the policy in `observers` keeps the rules alive.
    by_rule: RefCell<AHashMap<usize, Rc<Decision>>>,
    limit: Option<ClientLimit>,
}

/// Whether the requests that one rule takes are let in from one client.
pub(super) struct Decision {
    /// The rule; none where there are no routes, or none of them matters.
    rule: Option<Arc<Rule<InboundRule>>>,
    allowed: bool,
    /// Let in only because the default policy just looks.
    audit: bool,
    authz: Rc<HttpAuthzMetrics>,
    /// Changes the heads of responses, where the rule has filters for them.
    amend: Option<Rc<dyn Referee>>,
    metrics: Rc<InboundRouteMetrics>,
    /// A line in the log for each connection and rule, however many requests there are.
    told: Cell<bool>,
}

/// A request that is let in, and the rule that took it.
pub(super) struct Admitted {
    decision: Rc<Decision>,
    matched: usize,
}

impl Admission {
    pub(super) fn of(port: &Port, client: &Client) -> Self {
        let observers = port.observers(client);
        let policy = Arc::clone(observers.policy());
        let server = policy::authorize(&policy.authorizations, client).cloned();
        // The default routes let in nobody whom the server does not, but for probes, which no limit is for.
        let only_defaults = server.is_some() && !observers.has_user_routes();
        let no_route_matters = policy.routes.is_empty() || (only_defaults && policy.rate_limit.is_none());
        let limit = policy.rate_limit.as_ref().map(|limit| {
            let is = |name: &str| matches!(&client.tls, ClientTls::Mutual(Some(names)) if names.contains(name));
            limit.client(client.identity(), is, Instant::now())
        });
        let mut admission = Self {
            sink: observers.sink(client),
            observers,
            server,
            whole: None,
            by_rule: RefCell::default(),
            limit,
        };
        if no_route_matters {
            let route = (!policy.routes.is_empty()).then(|| ObjectRef::default_of("default"));
            let decision = admission.decide(admission.server.as_ref(), route.as_ref(), None);
            admission.whole = Some(Rc::new(decision));
        }
        admission
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit(&self, head: &Head, client: &Client, port: u16) -> Result<Admitted, ProxyError> {
        let admitted = self.find(head, client, port)?;
        let decision = &admitted.decision;
        if !decision.allowed {
            decision.authz.deny.inc();
            let error = policy::denied(self.observers.policy(), decision.route(), client, port);
            decision.log_denial(&error);
            return Err(error);
        }
        if decision.audit && !decision.told.replace(true) {
            self.observers.audited(client, decision.route());
        }
        if !decision.is_probe() {
            self.count(client)?;
        }
        decision.authz.allow.inc();
        Ok(admitted)
    }

    /// The rule that takes a request, and what it means for this client.
    fn find(&self, head: &Head, client: &Client, port: u16) -> Result<Admitted, ProxyError> {
        if let Some(whole) = &self.whole {
            return Ok(Admitted {
                decision: Rc::clone(whole),
                matched: 0,
            });
        }
        let policy = self.observers.policy();
        let view = view(head)?;
        let Some(found) = policy.routes.find(&view) else {
            self.observers.route_not_found().inc();
            return Err(ProxyError::NoRoute {
                service: format!("port {port}"),
            });
        };
        let key = Arc::as_ptr(found.rule) as usize;
        let mut by_rule = self.by_rule.borrow_mut();
        let decision = by_rule.entry(key).or_insert_with(|| {
            let by_route = || policy::authorize(&found.rule.action.authorizations, client);
            let by = self.server.as_ref().or_else(by_route);
            Rc::new(self.decide(by, Some(&found.rule.route), Some(found.rule)))
        });
        Ok(Admitted {
            decision: Rc::clone(decision),
            matched: found.matched,
        })
    }

    fn decide(
        &self,
        by: Option<&Authorization>,
        route: Option<&ObjectRef>,
        rule: Option<&Arc<Rule<InboundRule>>>,
    ) -> Decision {
        Decision {
            rule: rule.cloned(),
            allowed: by.is_some(),
            audit: by.is_some_and(|by| policy::is_audit(&by.policy)),
            authz: self.observers.http_authz(route, by),
            amend: rule.and_then(|rule| amend(rule)),
            metrics: self.observers.route(route),
            told: Cell::new(false),
        }
    }

    /// Counts a request towards the limits.
    fn count(&self, client: &Client) -> Result<(), ProxyError> {
        let Some(limit) = &self.limit else { return Ok(()) };
        limit.take(Instant::now()).map_err(|refused| {
            let policy = &limit.limit().policy;
            self.observers.rate_limited(policy, refused.scope).inc();
            ProxyError::RateLimited {
                per_second: refused.per_second,
                scope: refused.scope,
                retry_after: refused.retry_after,
                by: policy.to_string(),
                told: client.identity().is_some(),
            }
        })
    }
}

impl Decision {
    fn route(&self) -> Option<&ObjectRef> {
        self.rule.as_ref().map(|rule| &rule.route)
    }

    /// Whether this is the route of the pod's probes: a probe that is refused for the load of others would take the pod out of service.
    fn is_probe(&self) -> bool {
        self.route()
            .is_some_and(|route| route.is_default() && route.name == "probe")
    }

    fn log_denial(&self, error: &ProxyError) {
        if self.told.replace(true) {
            tracing::debug!("request denied: {}", error.in_full());
        } else {
            tracing::info!(
                "request denied (further ones of this connection: at level debug): {}",
                error.in_full()
            );
        }
    }
}

impl Admitted {
    /// Whether this is a probe of the pod.
    pub(super) fn is_probe(&self) -> bool {
        self.decision.is_probe()
    }

    /// Where requests of its route are counted.
    pub(super) fn metrics(&self) -> &Rc<InboundRouteMetrics> {
        &self.decision.metrics
    }

    /// The rule that took the request.
    pub(super) fn rule(&self) -> Option<&Arc<Rule<InboundRule>>> {
        self.decision.rule.as_ref()
    }

    /// Applies the filters of the rule that took the request. Delays add up in `delay`.
    pub(super) fn apply(&self, head: &mut Head, delay: &mut Option<Duration>) -> Option<Answered> {
        let rule = self.decision.rule.as_ref()?;
        let matched = rule.matches.get(self.matched);
        let by = TakenBy {
            route: &rule.route,
            path: matched.and_then(|matched| matched.path.as_ref()),
        };
        filters::apply(&rule.action.filters, head, by, delay)
    }

    /// Who changes the heads of the responses; nobody mostly.
    pub(super) fn amend(&self) -> Option<&Rc<dyn Referee>> {
        self.decision.amend.as_ref()
    }
}

fn amend(rule: &Rule<InboundRule>) -> Option<Rc<dyn Referee>> {
    let said = filters::of_responses(&rule.action.filters);
    (!said.is_empty()).then(|| Rc::new(Amend(said)) as _)
}

/// What routes look at. A path that cannot be read as text is no path that a route could have meant: it must not get in by another's.
fn view(head: &Head) -> Result<RequestView<'_>, ProxyError> {
    let (path, query) = path(head).ok_or_else(|| ProxyError::BadRequest {
        why: "the path is not valid text, and the routes of this port go by it".to_owned(),
        status: StatusCode::BAD_REQUEST,
    })?;
    Ok(RequestView {
        method: &head.method,
        host: head.authority(),
        path,
        query,
        headers: &head.headers,
    })
}

/// Path and query as the application will see them. A target of HTTP/1 goes by its own bytes: where it is no URI, the head has another one.
fn path(head: &Head) -> Option<(&str, Option<&str>)> {
    let of_uri = || (head.uri.path(), head.uri.query());
    let Some(target) = &head.target else {
        return Some(of_uri());
    };
    match target.form() {
        TargetForm::Origin => {
            let text = std::str::from_utf8(target.as_bytes()).ok()?;
            Some(
                text.split_once('?')
                    .map_or((text, None), |(path, query)| (path, Some(query))),
            )
        }
        TargetForm::Asterisk => Some(("*", None)),
        TargetForm::Absolute => target.uri().map(|_| of_uri()),
        TargetForm::Authority => Some(("", None)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;
    use crate::{
        exchange::Origin,
        http1::{HeaderCase, Target},
    };

    fn http1(target: &[u8]) -> Head {
        let target = Target::parse(Bytes::copy_from_slice(target), &Method::GET).unwrap();
        Head {
            method: Method::GET,
            uri: target.uri().unwrap_or_default(),
            origin: Origin::Http1 {
                http10: false,
                absolute_form: false,
            },
            headers: HeaderMap::new(),
            protocol: None,
            target: Some(target),
            case: HeaderCase::default(),
            upgrade: None,
        }
    }

    /// A route of `/` or `/public` must never take what the application will read as another path.
    #[test]
    fn routes_see_the_path_that_the_application_sees() {
        assert_eq!(path(&http1(b"/a/b?c=d?e")), Some(("/a/b", Some("c=d?e"))));
        assert_eq!(path(&http1(b"*")), Some(("*", None)));
        assert_eq!(path(&http1(b"http://ledger/a?b")), Some(("/a", Some("b"))));
        // No URI, and yet a target that servers take.
        for strange in ["/admin\"", "/admin<x>", "/admin^", "/\u{e9}"] {
            assert_eq!(path(&http1(strange.as_bytes())), Some((strange, None)));
        }
        assert_eq!(path(&http1(b"/admin\xff")), None);
        assert_eq!(
            path(&http1(b"http://ledger/admin\x80\xff<>")).map(|(path, _)| path == "/"),
            None
        );
    }
}

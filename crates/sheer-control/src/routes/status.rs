//! What is said of a route and each of its parents (`status.parents`), as Gateway API has it.
//!
//! Plain data: `sheer routes` shows it, manifests are checked by it, and whatever writes to an API server can send it as it is.

use crate::{
    manifests::{Finding, Manifest},
    objects::{AppProtocol, BackendRef, FilterType, HttpBackendRef, ObjectId, ParentRef, RouteFilter},
};

use super::{
    filters::{fault_of, unsupported},
    index::{ParentKey, ParentKind, Port, Route, RouteIndex, RouteType, names_port, reference_names},
    resolve::BadRef,
};

/// A route and what is said of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteStatus {
    /// The route.
    pub(crate) route: ObjectId,
    /// Its API group.
    pub(crate) group: &'static str,
    /// One for each parent that Sheer knows, in the route's order.
    pub(crate) parents: Vec<ParentStatus>,
}

/// What is said of a route and one parent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParentStatus {
    /// The parent as the route names it.
    pub(crate) parent: ParentRef,
    /// `Accepted` and `ResolvedRefs`, and `PartiallyInvalid` where it holds.
    pub(crate) conditions: Vec<Condition>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// What it is about.
    pub(crate) kind: ConditionType,
    /// Whether it holds.
    pub(crate) holds: bool,
    /// In one word, as Gateway API has it.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
    /// The field that it comes from; may be empty.
    pub(crate) field: String,
}

/// What a [`Condition`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConditionType {
    Accepted,
    ResolvedRefs,
    PartiallyInvalid,
}

impl ConditionType {
    /// As Gateway API spells it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::PartiallyInvalid => "PartiallyInvalid",
        }
    }
}

impl Condition {
    fn new(kind: ConditionType, holds: bool, reason: &'static str) -> Self {
        Self {
            kind,
            holds,
            reason,
            message: String::new(),
            field: String::new(),
        }
    }

    fn saying(mut self, message: impl Into<String>, field: impl Into<String>) -> Self {
        self.message = message.into();
        self.field = field.into();
        self
    }
}

/// What is said of every route, by namespace, kind and name.
pub(crate) fn status(index: &RouteIndex) -> Vec<RouteStatus> {
    let mut all: Vec<_> = index.all().iter().map(|route| of_route(index, route)).collect();
    let rank = |status: &RouteStatus| {
        (
            status.route.namespace.clone(),
            status.route.kind,
            status.route.name.clone(),
        )
    };
    all.sort_by_cached_key(rank);
    all
}

fn of_route(index: &RouteIndex, route: &Route) -> RouteStatus {
    let invalid = invalid_rules(route);
    let refs = resolved_refs(index, route);
    let known = route.parents().iter().enumerate().filter_map(|(at, reference)| {
        let parent = ParentKey::of(reference, &route.metadata().namespace)?;
        let attachment = Attachment {
            index,
            route,
            reference,
            parent: &parent,
        };
        let mut conditions = vec![attachment.accepted(at, &invalid), refs.clone()];
        if conditions[0].holds && !invalid.is_empty() {
            conditions.push(partially_invalid(&invalid));
        }
        Some(ParentStatus {
            parent: reference.clone(),
            conditions,
        })
    });
    RouteStatus {
        route: route.id(),
        group: route.group(),
        parents: known.collect(),
    }
}

/// Rules that cannot be applied: their place, and why.
type InvalidRules = Vec<(usize, String)>;

fn partially_invalid(invalid: &InvalidRules) -> Condition {
    let (rule, why) = &invalid[0];
    Condition::new(ConditionType::PartiallyInvalid, true, "UnsupportedValue").saying(
        format!("Dropped Rule {rule}: {why}; what it would take is answered with 500"),
        format!("spec.rules[{rule}]"),
    )
}

/// A route and one of its parents.
struct Attachment<'a> {
    index: &'a RouteIndex,
    route: &'a Route,
    reference: &'a ParentRef,
    parent: &'a ParentKey,
}

impl Attachment<'_> {
    fn accepted(&self, at: usize, invalid: &InvalidRules) -> Condition {
        let not = |reason, message: String, field: &str| {
            let field = format!("spec.parentRefs[{at}]{field}");
            Condition::new(ConditionType::Accepted, false, reason).saying(message, field)
        };
        if let Err((message, field)) = self.find_parent() {
            return not("NoMatchingParent", message, field);
        }
        if let Some(message) = self.wrong_type() {
            return not("NotAllowedByListeners", message, "");
        }
        if let Some(winner) = self.conflict() {
            return not("RouteReasonConflicted", winner, "");
        }
        if invalid.len() == rule_count(self.route) {
            let (rule, why) = &invalid[0];
            let condition = Condition::new(ConditionType::Accepted, false, "UnsupportedValue");
            return condition.saying(
                format!("no rule can be applied: {why}; what they would take is answered with 500"),
                format!("spec.rules[{rule}]"),
            );
        }
        Condition::new(ConditionType::Accepted, true, "Accepted")
    }

    /// Why a parent cannot be the route's, and the field that says so.
    fn find_parent(&self) -> Result<(), (String, &'static str)> {
        let ParentKey { namespace, name, .. } = self.parent;
        match self.parent.kind {
            ParentKind::Server if self.index.has_server(namespace, name) => Ok(()),
            ParentKind::Server => Err((
                format!("there is no Server {namespace}/{name}: the route has no effect"),
                "",
            )),
            ParentKind::EgressNetwork => {
                let found = self.index.find_egress(namespace, name);
                let missing = || {
                    (
                        format!("there is no EgressNetwork {namespace}/{name}: the route has no effect"),
                        "",
                    )
                };
                found.map(drop).ok_or_else(missing)
            }
            ParentKind::Service => {
                let service = self.index.find_service(namespace, name);
                let missing = || {
                    (
                        format!("there is no Service {namespace}/{name}: the route has no effect"),
                        "",
                    )
                };
                let service = service.ok_or_else(missing)?;
                if service.is_headless() {
                    let message = format!(
                        "Service {namespace}/{name} is headless: callers never use its address, the route has no effect"
                    );
                    return Err((message, ""));
                }
                let ports = service.spec.ports.iter().filter(|port| port.is_tcp());
                let fits = ports.map(Port::of).any(|port| reference_names(self.reference, port));
                let field = if self.reference.port.is_some() {
                    ".port"
                } else {
                    ".sectionName"
                };
                let message = || format!("Service {namespace}/{name} has no such port: the route has no effect");
                fits.then_some(()).ok_or_else(|| (message(), field))
            }
        }
    }

    /// Why no port that the reference names can have routes of this type.
    fn wrong_type(&self) -> Option<String> {
        if self.parent.kind != ParentKind::Service {
            return None;
        }
        let service = self.index.find_service(&self.parent.namespace, &self.parent.name)?;
        let ports = service.spec.ports.iter().filter(|port| port.is_tcp());
        let named = ports.filter(|port| reference_names(self.reference, Port::of(port)));
        let mut spoken = named.map(|port| {
            let name = port.app_protocol.as_deref()?;
            Some((name, AppProtocol::parse(name).unwrap_or(AppProtocol::Opaque)))
        });
        let refuses = |spoken: Option<(&str, AppProtocol)>| {
            !RouteType::of_port(spoken.map(|(_, spoken)| spoken)).contains(&self.route.route_type())
        };
        let first = spoken.next()??;
        (refuses(Some(first)) && spoken.all(refuses)).then(|| {
            format!(
                "Service {}/{} says appProtocol {:?}, which has no routes of this kind: the route has no effect",
                self.parent.namespace, self.parent.name, first.0
            )
        })
    }

    /// What takes precedence on every port that the reference names, in words.
    fn conflict(&self) -> Option<String> {
        let client = &self.route.metadata().namespace;
        // Routes of other namespaces are not beside it: they count for other clients.
        let rivals: Vec<&Route> = self
            .index
            .of_parent(self.parent)
            .iter()
            .filter(|other| other.route_type() < self.route.route_type() && other.metadata().namespace == *client)
            .collect();
        let shadowed = |port: Port<'_>| {
            rivals
                .iter()
                .find(|other| names_port(other, self.parent, port))
                .map(|other| other.id())
        };
        match self.parent.kind {
            ParentKind::Server => None,
            ParentKind::EgressNetwork => {
                shadowed(Port::number(self.reference.port.unwrap_or(0))).map(|winner| by_route(&winner))
            }
            ParentKind::Service => {
                // As Linkerd: a ServiceProfile replaces the routes of its Service.
                let profiles = self.index.profiles_of(&self.parent.namespace, &self.parent.name).iter();
                let mut in_force = profiles.filter(|profile| {
                    let of = &profile.metadata.namespace;
                    (of == client || *of == self.parent.namespace)
                        && !(profile.spec.routes.is_empty() && profile.spec.dst_overrides.is_empty())
                });
                if let Some(profile) = in_force.next() {
                    return Some(format!(
                        "ServiceProfile {}/{} takes precedence: this route has no effect while it exists",
                        profile.metadata.namespace, profile.metadata.name
                    ));
                }
                let service = self.index.find_service(&self.parent.namespace, &self.parent.name)?;
                let ports = service
                    .spec
                    .ports
                    .iter()
                    .map(Port::of)
                    .filter(|port| reference_names(self.reference, *port));
                let winners: Vec<_> = ports.map(shadowed).collect();
                let all = winners.iter().all(Option::is_some);
                winners
                    .into_iter()
                    .flatten()
                    .next()
                    .filter(|_| all)
                    .map(|winner| by_route(&winner))
            }
        }
    }
}

fn by_route(winner: &ObjectId) -> String {
    format!("{winner} is of a more specific type and takes precedence: this route has no effect")
}

fn rule_count(route: &Route) -> usize {
    match route {
        Route::Http(_, route) => route.spec.rules.len(),
        Route::Grpc(route) => route.spec.rules.len(),
        Route::Tls(route) => route.spec.rules.len(),
        Route::Tcp(route) => route.spec.rules.len(),
    }
    .max(1)
}

fn invalid_rules(route: &Route) -> InvalidRules {
    filters_of(route)
        .into_iter()
        .enumerate()
        .filter_map(|(at, (filters, backends))| {
            let of_backends = || backends.iter().find_map(|filters| unsupported(filters, true));
            unsupported(filters, false).or_else(of_backends).map(|why| (at, why))
        })
        .collect()
}

/// The filters of a rule, and those of each of its backends.
type FiltersOfRule<'a> = (&'a [RouteFilter], Vec<&'a [RouteFilter]>);

/// The filters of each rule, and those of its backends.
fn filters_of(route: &Route) -> Vec<FiltersOfRule<'_>> {
    fn of<'a>(filters: &'a [RouteFilter], backends: &'a [HttpBackendRef]) -> FiltersOfRule<'a> {
        (
            filters,
            backends.iter().map(|backend| backend.filters.as_slice()).collect(),
        )
    }
    match route {
        Route::Http(_, route) => {
            let rules = route.spec.rules.iter();
            rules.map(|rule| of(&rule.filters, &rule.backend_refs)).collect()
        }
        Route::Grpc(route) => {
            let rules = route.spec.rules.iter();
            rules.map(|rule| of(&rule.filters, &rule.backend_refs)).collect()
        }
        Route::Tls(_) | Route::Tcp(_) => Vec::new(),
    }
}

/// Backends of each rule.
fn backends_of(route: &Route) -> Vec<Vec<BackendRef>> {
    match route {
        Route::Http(_, route) => {
            let rules = route.spec.rules.iter();
            rules
                .map(|rule| rule.backend_refs.iter().map(|backend| backend.plain()).collect())
                .collect()
        }
        Route::Grpc(route) => {
            let rules = route.spec.rules.iter();
            rules
                .map(|rule| rule.backend_refs.iter().map(|backend| backend.plain()).collect())
                .collect()
        }
        Route::Tls(route) => route.spec.rules.iter().map(|rule| rule.backend_refs.clone()).collect(),
        Route::Tcp(route) => route.spec.rules.iter().map(|rule| rule.backend_refs.clone()).collect(),
    }
}

/// The first reference that leads nowhere, or that all of them are good.
fn resolved_refs(index: &RouteIndex, route: &Route) -> Condition {
    let not = |bad: BadRef, effect: &str, field: String| {
        Condition::new(ConditionType::ResolvedRefs, false, bad.reason)
            .saying(format!("{}: {effect}", bad.message), field)
    };
    for (rule, backends) in backends_of(route).iter().enumerate() {
        for (at, backend) in backends.iter().enumerate() {
            if let Err(bad) = index.resolve(route, backend) {
                let effect = match route {
                    Route::Http(..) | Route::Grpc(_) => "its share is answered with 500",
                    Route::Tls(_) | Route::Tcp(_) => "its share of connections is refused",
                };
                return not(bad, effect, format!("spec.rules[{rule}].backendRefs[{at}]"));
            }
        }
    }
    for (rule, (filters, _)) in filters_of(route).into_iter().enumerate() {
        for (at, filter) in filters.iter().enumerate() {
            let field = format!("spec.rules[{rule}].filters[{at}]");
            match (filter.kind, &filter.request_mirror, &filter.extension_ref) {
                (FilterType::RequestMirror, Some(mirror), _) => {
                    if let Err(bad) = index.resolve(route, &mirror.backend_ref) {
                        return not(bad, "nothing is mirrored", field);
                    }
                }
                (FilterType::ExtensionRef, _, Some(reference)) => {
                    if let Err(bad) = fault_of(index, &route.metadata().namespace, reference) {
                        return not(bad, "the rule answers with 500", field);
                    }
                }
                _ => {}
            }
        }
    }
    Condition::new(ConditionType::ResolvedRefs, true, "ResolvedRefs")
}

/// What the statuses of manifests say that their author should know.
pub(crate) fn findings(manifests: &[Manifest]) -> Vec<Finding> {
    let index = RouteIndex::new(manifests.iter().map(|manifest| &manifest.object));
    let routes = manifests
        .iter()
        .filter_map(|manifest| Some((manifest, Route::of(&manifest.object)?)));
    routes
        .flat_map(|(manifest, route)| {
            let warn = |(field, message): (String, String)| {
                let finding = Finding::warning(&manifest.file, manifest.line, message);
                finding.on(&manifest.object.id()).at(field)
            };
            warnings(&index, &route).into_iter().map(warn)
        })
        .collect()
}

/// Field and message of what does not hold, each once.
fn warnings(index: &RouteIndex, route: &Route) -> Vec<(String, String)> {
    let mut warnings = Vec::new();
    if route.parents().is_empty() {
        warnings.push((
            "spec.parentRefs".to_owned(),
            "empty: the route has no effect".to_owned(),
        ));
    }
    for (at, reference) in route.parents().iter().enumerate() {
        if ParentKey::of(reference, "").is_none() {
            warnings.push((format!("spec.parentRefs[{at}]"), unknown_parent(reference)));
        }
    }
    for condition in of_route(index, route)
        .parents
        .into_iter()
        .flat_map(|parent| parent.conditions)
    {
        if condition.holds == (condition.kind == ConditionType::PartiallyInvalid) {
            let warning = (condition.field, format!("{} ({})", condition.message, condition.reason));
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    warnings
}

fn unknown_parent(reference: &ParentRef) -> String {
    let ParentRef { group, kind, .. } = reference;
    match kind.as_str() {
        "Service" => format!("a Service is of group \"\", not {group:?}: the route has no effect; write group: \"\""),
        "Gateway" => {
            "a Gateway is nothing of this mesh: the route has no effect there; name a Service or an EgressNetwork"
                .to_owned()
        }
        _ => format!(
            "{kind} of group {group:?} cannot be a parent: the route has no effect there; name a Service or an EgressNetwork"
        ),
    }
}

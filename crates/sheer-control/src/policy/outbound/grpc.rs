//! `GRPCRoute`s, and the default where there are none.

use sheer_api::{
    linkerd::{
        grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
        outbound::{GrpcRoute, grpc_route},
    },
    v1,
};

use super::{
    Actions, Compiler, Parent, Place,
    backends::{Share, Words},
    default, egress, extras, filters, http, route_reference, settings,
};
use crate::{
    objects::{self, BackendRef, GrpcMethodMatch, GrpcRouteRule, HttpBackendRef, MatchType, Traffic},
    routes::Route,
};

use grpc_route::{Distribution, RouteBackend, Rule, WeightedRouteBackend, distribution};

/// gRPC's code for what cannot be reached: what Gateway API wants for a backend that is none.
const UNAVAILABLE: u32 = 14;
/// gRPC's code for what is forbidden.
const PERMISSION_DENIED: u32 = 7;

impl Compiler<'_> {
    /// The routes of a parent, and what takes the rest: for a Service without routes everything, for an EgressNetwork what no route takes.
    pub(super) fn grpc_routes(&mut self, routes: &[Route]) -> Vec<GrpcRoute> {
        let own = routes.iter().filter_map(|route| match route {
            Route::Grpc(object) => Some((route, object)),
            _ => None,
        });
        let mut all: Vec<_> = own.map(|(route, object)| self.grpc_route(route, object)).collect();
        if all.is_empty() || matches!(self.parent, Parent::Egress(..)) {
            all.push(self.default_grpc_route());
        }
        all
    }

    fn grpc_route(&mut self, route: &Route, object: &objects::GrpcRoute) -> GrpcRoute {
        let metadata = route_reference(route);
        let annotations = Traffic::read(&object.metadata.annotations);
        let place = |index| Place {
            route,
            metadata: &metadata,
            annotations: &annotations,
            index,
        };
        let rules = object.spec.rules.iter().enumerate();
        GrpcRoute {
            rules: rules.map(|(index, rule)| self.grpc_rule(place(index), rule)).collect(),
            hosts: object.spec.hostnames.iter().map(|name| http::host(name)).collect(),
            metadata: Some(metadata),
        }
    }

    fn grpc_rule(&mut self, place: Place<'_>, rule: &GrpcRouteRule) -> Rule {
        let Place {
            route,
            metadata,
            annotations,
            index,
        } = place;
        let matches = rule.matches.iter().map(grpc_match).collect();
        let mut actions = self.actions(route, &rule.filters, false);
        let references: Vec<BackendRef> = rule.backend_refs.iter().map(HttpBackendRef::plain).collect();
        let shares = self.shares(route, &references);
        self.note_session(rule.session_persistence.as_ref(), &shares);
        let (timeouts, retry) = settings::of_rule(None, None, annotations, &self.settings);
        let mut extra = extras::of_actions(&mut actions);
        extra.rpc_patterns = patterns(rule);
        let (backends, dead) = self.grpc_backends(route, &rule.backend_refs, shares, &mut extra);
        if let Some(why) = actions.dead.take().or(dead) {
            let patterns = v1::RuleExtras {
                rpc_patterns: extra.rpc_patterns,
                ..v1::RuleExtras::default()
            };
            self.note_rule(metadata, index, patterns);
            return Rule {
                matches,
                filters: vec![filters::grpc_failure(UNAVAILABLE, why)],
                backends: Some(empty()),
                ..Rule::default()
            };
        }
        let (filters, more) = actions.grpc();
        extra.filters = more;
        extra.retry = retry.as_ref().map(|retry| retry.extras(true));
        extra.hedge = annotations.hedge.map(settings::hedge);
        self.note_rule(metadata, index, extra);
        Rule {
            matches,
            filters,
            backends: Some(backends),
            timeouts,
            retry: retry.as_ref().map(settings::Retry::grpc),
            ..Rule::default()
        }
    }

    /// Where a rule sends calls; without backends to the parent itself (as Linkerd). The text is why nothing may pass.
    fn grpc_backends(
        &mut self,
        route: &Route,
        references: &[HttpBackendRef],
        shares: Vec<Share>,
        extra: &mut v1::RuleExtras,
    ) -> (Distribution, Option<String>) {
        if references.is_empty() {
            let own = self.own_backend();
            return (first(own), None);
        }
        let words = Words {
            split: Actions::grpc,
            failure: |why| filters::grpc_failure(UNAVAILABLE, why),
            weighted: |weight, backend, filters| WeightedRouteBackend {
                weight,
                backend: Some(RouteBackend {
                    backend: Some(backend),
                    filters,
                    ..RouteBackend::default()
                }),
            },
        };
        let (weighted, dead) = self.weighted((route, references), shares, extra, &words);
        let kind = distribution::Kind::RandomAvailable(distribution::RandomAvailable { backends: weighted });
        (Distribution { kind: Some(kind) }, dead)
    }

    /// Everything, to the parent itself.
    fn default_grpc_route(&mut self) -> GrpcRoute {
        let backend = self.own_backend();
        let (name, filters) = match self.parent {
            Parent::Service(..) => ("grpc", Vec::new()),
            Parent::Egress(network, _) if egress::allows(network) => ("grpc-egress-allow", Vec::new()),
            Parent::Egress(..) => {
                let denied = filters::grpc_failure(PERMISSION_DENIED, egress::DENIED.to_owned());
                ("grpc-egress-deny", vec![denied])
            }
        };
        let metadata = default(name);
        let (timeouts, retry) = settings::of_rule(None, None, &Traffic::default(), &self.settings);
        let extra = v1::RuleExtras {
            retry: retry.as_ref().map(|retry| retry.extras(true)),
            ..v1::RuleExtras::default()
        };
        self.note_rule(&metadata, 0, extra);
        GrpcRoute {
            metadata: Some(metadata),
            hosts: Vec::new(),
            rules: vec![Rule {
                // Both names empty: every method of every service.
                matches: vec![GrpcRouteMatch {
                    rpc: Some(GrpcRpcMatch::default()),
                    headers: Vec::new(),
                }],
                filters,
                backends: Some(first(backend)),
                timeouts,
                retry: retry.as_ref().map(settings::Retry::grpc),
                ..Rule::default()
            }],
        }
    }
}

fn first(backend: sheer_api::linkerd::outbound::Backend) -> Distribution {
    let backends = vec![RouteBackend {
        backend: Some(backend),
        ..RouteBackend::default()
    }];
    Distribution {
        kind: Some(distribution::Kind::FirstAvailable(distribution::FirstAvailable {
            backends,
        })),
    }
}

fn empty() -> Distribution {
    Distribution {
        kind: Some(distribution::Kind::Empty(distribution::Empty {})),
    }
}

/// A match with names; of regular expressions their text, which matches no more than they do: no name of gRPC has such signs.
fn grpc_match(said: &objects::GrpcRouteMatch) -> GrpcRouteMatch {
    let method = said.method.clone().unwrap_or_default();
    GrpcRouteMatch {
        rpc: Some(GrpcRpcMatch {
            service: method.service.unwrap_or_default(),
            method: method.method.unwrap_or_default(),
        }),
        headers: http::headers(&said.headers),
    }
}

/// Regular expressions of a rule, for the whole path.
fn patterns(rule: &GrpcRouteRule) -> Vec<v1::RpcPattern> {
    let regex = |(index, method): (usize, &GrpcMethodMatch)| {
        let part = |name: &Option<String>| name.as_ref().map_or("[^/]+".to_owned(), |name| format!("(?:{name})"));
        v1::RpcPattern {
            r#match: u32::try_from(index).unwrap_or(u32::MAX),
            path_regex: format!("/{}/{}", part(&method.service), part(&method.method)),
        }
    };
    let methods = rule.matches.iter().enumerate();
    let methods = methods.filter_map(|(index, found)| found.method.as_ref().map(|method| (index, method)));
    let patterns = methods.filter(|(_, method)| method.kind == MatchType::RegularExpression);
    patterns.map(regex).collect()
}

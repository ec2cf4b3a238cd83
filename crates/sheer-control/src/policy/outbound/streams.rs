//! `TLSRoute`s, `TCPRoute`s, and the default for connections that are no HTTP.

use sheer_api::linkerd::{
    meta::Metadata,
    opaque_route::{Forbidden, Invalid},
    outbound::{Backend, OpaqueRoute, TlsRoute, opaque_route, proxy_protocol::Opaque, tls_route},
    tls_route::{SniMatch, sni_match},
};

use super::{Compiler, Parent, backends::Share, default, egress, route_reference};
use crate::{objects::StreamRouteRule, routes::Route};

/// What becomes of connections: the same of both kinds of routes, whose generated types differ only by name.
struct Stream {
    metadata: Metadata,
    backends: Vec<Share>,
    refuses: Option<Refuses>,
}

enum Refuses {
    Forbidden,
    Invalid(String),
}

macro_rules! rule {
    ($kind:ident, $stream:expr) => {{
        use $kind::{Distribution, Filter, RouteBackend, Rule, WeightedRouteBackend, distribution, filter};
        let filters = |refuses: Refuses| {
            let kind = match refuses {
                Refuses::Forbidden => filter::Kind::Forbidden(Forbidden {}),
                Refuses::Invalid(message) => filter::Kind::Invalid(Invalid { message }),
            };
            vec![Filter { kind: Some(kind) }]
        };
        let backend = |share: Share| RouteBackend {
            backend: Some(share.backend),
            filters: share.invalid.map(Refuses::Invalid).map(filters).unwrap_or_default(),
        };
        let stream: Stream = $stream;
        let mut backends = stream.backends;
        let kind = match backends.len() {
            0 => distribution::Kind::Empty(distribution::Empty {}),
            1 => distribution::Kind::FirstAvailable(distribution::FirstAvailable {
                backends: vec![backend(backends.remove(0))],
            }),
            _ => distribution::Kind::RandomAvailable(distribution::RandomAvailable {
                backends: backends
                    .into_iter()
                    .map(|share| WeightedRouteBackend {
                        weight: share.weight,
                        backend: Some(backend(share)),
                    })
                    .collect(),
            }),
        };
        let rule = Rule {
            backends: Some(Distribution { kind: Some(kind) }),
            filters: stream.refuses.map(filters).unwrap_or_default(),
        };
        (stream.metadata, rule)
    }};
}

impl Compiler<'_> {
    /// Routes for TLS. What no route takes is refused, but for an EgressNetwork that allows it.
    pub(super) fn tls_routes(&mut self, routes: &[Route]) -> Vec<TlsRoute> {
        let mut all = Vec::new();
        for route in routes {
            let Route::Tls(object) = route else { continue };
            let snis: Vec<_> = object.spec.hostnames.iter().map(|name| server_name(name)).collect();
            let Some(stream) = self.stream(route, &object.spec.rules) else {
                continue;
            };
            let (metadata, rule) = rule!(tls_route, stream);
            all.push(TlsRoute {
                metadata: Some(metadata),
                snis,
                rules: vec![rule],
            });
        }
        if matches!(self.parent, Parent::Egress(..)) {
            let (metadata, rule) = rule!(tls_route, self.default_stream("tls"));
            all.push(TlsRoute {
                metadata: Some(metadata),
                snis: Vec::new(),
                rules: vec![rule],
            });
        }
        all
    }

    /// Routes for connections, or the default.
    pub(super) fn opaque(&mut self, routes: &[Route]) -> Opaque {
        let mut all = Vec::new();
        for route in routes {
            let Route::Tcp(object) = route else { continue };
            let Some(stream) = self.stream(route, &object.spec.rules) else {
                continue;
            };
            let (metadata, rule) = rule!(opaque_route, stream);
            all.push(OpaqueRoute {
                metadata: Some(metadata),
                rules: vec![rule],
            });
        }
        if all.is_empty() || matches!(self.parent, Parent::Egress(..)) {
            let (metadata, rule) = rule!(opaque_route, self.default_stream("opaq"));
            all.push(OpaqueRoute {
                metadata: Some(metadata),
                rules: vec![rule],
            });
        }
        Opaque { routes: all }
    }

    /// The first rule: no other ever gets a connection.
    fn stream(&mut self, route: &Route, rules: &[StreamRouteRule]) -> Option<Stream> {
        let rule = rules.first()?;
        let shares = self.shares(route, &rule.backend_refs);
        let metadata = route_reference(route);
        if shares.is_empty() {
            return Some(Stream {
                metadata,
                backends: vec![whole(self.own_backend())],
                refuses: None,
            });
        }
        let all_invalid = shares.iter().all(|share| share.invalid.is_some());
        let why = shares.iter().find_map(|share| share.invalid.clone());
        Some(Stream {
            metadata,
            backends: if all_invalid { Vec::new() } else { shares },
            refuses: why.filter(|_| all_invalid).map(Refuses::Invalid),
        })
    }

    fn default_stream(&mut self, name: &str) -> Stream {
        let backend = self.own_backend();
        let (name, refuses) = match self.parent {
            Parent::Service(..) => (name.to_owned(), None),
            // As Linkerd names them.
            Parent::Egress(network, _) => {
                let of = if name == "tls" { "tls" } else { "tcp" };
                if egress::allows(network) {
                    (format!("{of}-egress-allow"), None)
                } else {
                    (format!("{of}-egress-deny"), Some(Refuses::Forbidden))
                }
            }
        };
        Stream {
            metadata: default(&name),
            backends: vec![whole(backend)],
            refuses,
        }
    }
}

/// The only backend.
fn whole(backend: Backend) -> Share {
    Share {
        backend,
        weight: 1,
        invalid: None,
    }
}

fn server_name(name: &str) -> SniMatch {
    let found = match name.strip_prefix("*.") {
        Some(domain) => sni_match::Match::Suffix(sni_match::Suffix {
            reverse_labels: domain.split('.').rev().map(str::to_owned).collect(),
        }),
        None => sni_match::Match::Exact(name.to_owned()),
    };
    SniMatch { r#match: Some(found) }
}

//! `InboundServerPolicies` and `sheer.v1.InboundExtras`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ipnet::IpNet;
use sheer_api::{
    linkerd::inbound::{
        self as api, Authn, Authz, Network, ProxyProtocol, Server, authn, authn::permit_mesh_tls, grpc_route,
        http_route, proxy_protocol,
    },
    v1,
};

use super::{
    common, matches,
    outbound::{extra_filter, grpc_abort, http_abort, redirect, reference, request_headers},
};
use crate::{
    ObjectRef, ProtocolPlan,
    inbound::{Authentication, Authorization, InboundPolicy, InboundRule, RateLimit, RateOverride},
    limit::Limiter,
    outbound::Filter,
    routes::{RequestMatch, Routes, Rule},
};

/// A policy as the control plane sent it, with what Linkerd's API cannot say of it. `longest_detect` bounds its wait.
pub fn policy(server: Server, extras: Option<&v1::InboundExtras>, longest_detect: Duration) -> InboundPolicy {
    let (protocol, mut routes, rate_limit) = protocol(server.protocol, longest_detect);
    for extra in extras.iter().flat_map(|extras| &extras.rules) {
        let (route, index) = (reference(extra.route.as_ref()), extra.rule as usize);
        for rule in routes
            .iter_mut()
            .filter(|rule| rule.route == route && rule.index == index)
        {
            rule.action
                .filters
                .extend(extra.filters.iter().filter_map(extra_filter));
        }
    }
    InboundPolicy {
        protocol,
        authorizations: authorizations(server.authorizations),
        server: labelled(server.labels),
        routes: Arc::new(Routes::new(routes)),
        rate_limit: rate_limit.map(|limit| Arc::new(Limiter::new(limit))),
    }
}

type Protocol = (ProtocolPlan, Vec<Rule<InboundRule>>, Option<RateLimit>);

fn protocol(protocol: Option<ProxyProtocol>, longest_detect: Duration) -> Protocol {
    use proxy_protocol::Kind;
    match protocol.and_then(|protocol| protocol.kind) {
        Some(Kind::Detect(detect)) => {
            let timeout = common::duration(detect.timeout)
                .unwrap_or(longest_detect)
                .min(longest_detect);
            (
                ProtocolPlan::Detect { timeout },
                http(detect.http_routes),
                detect.http_local_rate_limit.map(rate_limit),
            )
        }
        Some(Kind::Opaque(_)) => (ProtocolPlan::Opaque, Vec::new(), None),
        Some(Kind::Tls(_)) => (ProtocolPlan::Tls, Vec::new(), None),
        Some(Kind::Http1(said)) => (
            ProtocolPlan::Http1,
            http(said.routes),
            said.local_rate_limit.map(rate_limit),
        ),
        Some(Kind::Http2(said)) => (
            ProtocolPlan::Http2,
            http(said.routes),
            said.local_rate_limit.map(rate_limit),
        ),
        Some(Kind::Grpc(said)) => (ProtocolPlan::Http2, grpc(said.routes), None),
        // Something newer than this proxy: looking is always safe.
        None => (
            ProtocolPlan::Detect {
                timeout: longest_detect,
            },
            Vec::new(),
            None,
        ),
    }
}

fn http(routes: Vec<api::HttpRoute>) -> Vec<Rule<InboundRule>> {
    let rules = routes.into_iter().flat_map(|route| {
        let object = common::object(route.metadata);
        let hosts = matches::hosts(route.hosts);
        let authorizations: Arc<[Authorization]> = authorizations(route.authorizations).into();
        route.rules.into_iter().enumerate().map(move |(index, said)| {
            let filters = said.filters.into_iter().filter_map(http_filter).collect();
            rule(
                (object.clone(), index, false),
                Arc::clone(&hosts),
                said.matches.into_iter().map(matches::http).collect(),
                (&authorizations, filters),
            )
        })
    });
    rules.collect()
}

fn grpc(routes: Vec<api::GrpcRoute>) -> Vec<Rule<InboundRule>> {
    let rules = routes.into_iter().flat_map(|route| {
        let object = common::object(route.metadata);
        let hosts = matches::hosts(route.hosts);
        let authorizations: Arc<[Authorization]> = authorizations(route.authorizations).into();
        route.rules.into_iter().enumerate().map(move |(index, said)| {
            let filters = said.filters.into_iter().filter_map(grpc_filter).collect();
            rule(
                (object.clone(), index, true),
                Arc::clone(&hosts),
                said.matches.into_iter().map(matches::grpc).collect(),
                (&authorizations, filters),
            )
        })
    });
    rules.collect()
}

/// A rule whose match cannot be read takes every request of its hosts and adds nobody to those who may send it: what it would have kept
/// apart must not get through by it.
fn rule(
    (route, index, is_grpc): (ObjectRef, usize, bool),
    hosts: Arc<[crate::routes::HostMatch]>,
    matches: Result<Vec<RequestMatch>, String>,
    (authorizations, filters): (&Arc<[Authorization]>, Vec<Filter>),
) -> Rule<InboundRule> {
    let (matches, authorizations) = match matches {
        Ok(matches) => (matches, Arc::clone(authorizations)),
        Err(_) => (Vec::new(), Arc::default()),
    };
    Rule {
        route,
        index,
        is_grpc,
        hosts,
        matches,
        action: InboundRule {
            authorizations,
            filters,
        },
    }
}

fn http_filter(filter: http_route::Filter) -> Option<Filter> {
    use http_route::filter::Kind;
    Some(match filter.kind? {
        Kind::FailureInjector(injector) => http_abort(injector),
        Kind::RequestHeaderModifier(said) => request_headers(said),
        Kind::Redirect(said) => redirect(said),
    })
}

fn grpc_filter(filter: grpc_route::Filter) -> Option<Filter> {
    use grpc_route::filter::Kind;
    Some(match filter.kind? {
        Kind::FailureInjector(injector) => grpc_abort(injector),
        Kind::RequestHeaderModifier(said) => request_headers(said),
    })
}

fn rate_limit(said: api::HttpLocalRateLimit) -> RateLimit {
    use api::http_local_rate_limit::{Limit, Override};
    let limit = |limit: Option<Limit>| limit.map(|limit| limit.requests_per_second);
    let over = |said: Override| RateOverride {
        requests_per_second: limit(said.limit).unwrap_or(0),
        identities: said
            .clients
            .unwrap_or_default()
            .identities
            .into_iter()
            .map(|identity| identity.name)
            .collect(),
    };
    RateLimit {
        policy: common::object(said.metadata),
        total: limit(said.total),
        identity: limit(said.identity),
        overrides: said.overrides.into_iter().map(over).collect(),
    }
}

fn authorizations(said: Vec<Authz>) -> Vec<Authorization> {
    said.into_iter().filter_map(authorization).collect()
}

/// `None` where the rule cannot be understood: it then lets nobody in.
fn authorization(authz: Authz) -> Option<Authorization> {
    let policy = match authz.metadata {
        Some(metadata) => common::object(Some(metadata)),
        None => labelled(authz.labels),
    };
    let authentication = authentication(authz.authentication?)?;
    let networks = authz.networks.into_iter().filter_map(network).collect::<Vec<_>>();
    (!networks.is_empty()).then_some(Authorization {
        networks,
        authentication,
        policy,
    })
}

fn authentication(authn: Authn) -> Option<Authentication> {
    match authn.permit? {
        authn::Permit::Unauthenticated(_) => Some(Authentication::Unauthenticated),
        authn::Permit::MeshTls(mesh) => match mesh.clients? {
            permit_mesh_tls::Clients::Unauthenticated(_) => Some(Authentication::MeshTlsAny),
            permit_mesh_tls::Clients::Identities(clients) => Some(Authentication::MeshTls {
                identities: clients.identities.into_iter().map(|identity| identity.name).collect(),
                suffixes: clients.suffixes.into_iter().map(|suffix| suffix.parts).collect(),
            }),
        },
    }
}

/// An exception that cannot be read takes the whole network with it: it might have been all of it.
fn network(network: Network) -> Option<(IpNet, Vec<IpNet>)> {
    let net = IpNet::try_from(network.net?).ok()?;
    let except = network
        .except
        .into_iter()
        .map(|except| IpNet::try_from(except).ok())
        .collect::<Option<_>>()?;
    Some((net, except))
}

/// Older control planes name objects in labels.
fn labelled(mut labels: HashMap<String, String>) -> ObjectRef {
    let mut take = |name: &str| labels.remove(name).unwrap_or_default();
    let (group, kind, namespace, name) = (take("group"), take("kind"), take("namespace"), take("name"));
    match name.strip_prefix("default:") {
        Some(default) => common::default_object(default),
        None if kind.is_empty() => common::default_object(&name),
        None => ObjectRef {
            group,
            kind,
            namespace,
            name,
            ..ObjectRef::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use sheer_api::linkerd::{
        inbound::{Identity, IdentitySuffix, authn::PermitMeshTls, authn::PermitUnauthenticated},
        net::IpNetwork,
    };

    use super::*;

    const LONGEST: Duration = Duration::from_secs(10);

    fn net(text: &str) -> IpNetwork {
        text.parse::<IpNet>().expect("a network").into()
    }

    fn unauthenticated() -> Option<Authn> {
        Some(Authn {
            permit: Some(authn::Permit::Unauthenticated(PermitUnauthenticated {})),
        })
    }

    #[test]
    fn whole_policy() {
        let clients = permit_mesh_tls::PermitClientIdentities {
            identities: vec![Identity { name: "a.b".into() }],
            suffixes: vec![IdentitySuffix {
                parts: vec!["bank".into(), "id".into()],
            }],
        };
        let mesh = PermitMeshTls {
            clients: Some(permit_mesh_tls::Clients::Identities(clients)),
        };
        let server = Server {
            protocol: Some(ProxyProtocol {
                kind: Some(proxy_protocol::Kind::Grpc(proxy_protocol::Grpc::default())),
            }),
            authorizations: vec![Authz {
                networks: vec![Network {
                    net: Some(net("10.0.0.0/8")),
                    except: vec![net("10.1.0.0/16")],
                }],
                authentication: Some(Authn {
                    permit: Some(authn::Permit::MeshTls(mesh)),
                }),
                labels: HashMap::from([("name".to_owned(), "default:all-authenticated".to_owned())]),
                metadata: None,
            }],
            labels: [
                ("group", "policy.sheer.dev"),
                ("kind", "server"),
                ("name", "ledger-grpc"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            ..Server::default()
        };
        let policy = policy(server, None, LONGEST);
        assert_eq!(policy.protocol, ProtocolPlan::Http2);
        assert_eq!(
            (policy.server.kind.as_str(), policy.server.name.as_str()),
            ("server", "ledger-grpc")
        );
        let [rule] = policy.authorizations.as_slice() else {
            panic!("{policy:?}")
        };
        assert_eq!(
            (rule.policy.kind.as_str(), rule.policy.name.as_str()),
            ("default", "all-authenticated")
        );
        assert_eq!(rule.networks[0].1.len(), 1);
        let Authentication::MeshTls { identities, suffixes } = &rule.authentication else {
            panic!("{rule:?}")
        };
        assert_eq!((identities[0].as_str(), suffixes[0].len()), ("a.b", 2));
    }

    /// What cannot be understood must not open a door.
    #[test]
    fn hostile_rules_let_nobody_in() {
        let bad_except = Network {
            net: Some(net("0.0.0.0/0")),
            except: vec![IpNetwork::default()],
        };
        let bad_prefix = IpNetwork {
            ip: Some(IpAddr::from([10, 0, 0, 0]).into()),
            prefix_len: 99,
        };
        for authz in [
            Authz::default(),
            Authz {
                networks: vec![],
                authentication: unauthenticated(),
                ..Default::default()
            },
            Authz {
                networks: vec![bad_except],
                authentication: unauthenticated(),
                ..Default::default()
            },
            Authz {
                networks: vec![Network {
                    net: Some(bad_prefix),
                    except: vec![],
                }],
                authentication: unauthenticated(),
                ..Default::default()
            },
            Authz {
                networks: vec![Network {
                    net: Some(net("0.0.0.0/0")),
                    except: vec![],
                }],
                authentication: Some(Authn {
                    permit: Some(authn::Permit::MeshTls(PermitMeshTls { clients: None })),
                }),
                ..Default::default()
            },
        ] {
            let server = Server {
                authorizations: vec![authz.clone()],
                ..Server::default()
            };
            assert!(policy(server, None, LONGEST).authorizations.is_empty(), "{authz:?}");
        }
    }

    #[test]
    fn unknown_protocol_is_detected_within_our_limit() {
        assert_eq!(
            policy(Server::default(), None, LONGEST).protocol,
            ProtocolPlan::Detect { timeout: LONGEST }
        );
        let detect = proxy_protocol::Detect {
            timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        };
        let protocol = ProxyProtocol {
            kind: Some(proxy_protocol::Kind::Detect(detect)),
        };
        let server = Server {
            protocol: Some(protocol),
            ..Server::default()
        };
        assert_eq!(
            policy(server, None, LONGEST).protocol,
            ProtocolPlan::Detect { timeout: LONGEST }
        );
    }
}

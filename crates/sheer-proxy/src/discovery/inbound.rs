//! Converts `InboundServerPolicies`. Pure functions.

use std::{collections::HashMap, time::Duration};

use ipnet::IpNet;
use sheer_api::linkerd::inbound::{
    Authn, Authz, Network, ProxyProtocol, Server, authn, authn::permit_mesh_tls, proxy_protocol,
};

use super::{Authentication, Authorization, InboundPolicy, ObjectRef, ProtocolPlan, convert};
use crate::settings::{DefaultPolicy, Inbound};

/// The policy of a port that the control plane has not spoken of.
pub(super) fn default_policy(settings: &Inbound, port: u16) -> InboundPolicy {
    let (name, authorizations) = match &settings.default_policy {
        DefaultPolicy::Deny => ("deny", Vec::new()),
        DefaultPolicy::Allow {
            name,
            networks,
            authenticated,
        } => {
            let authentication = if *authenticated {
                every_identity()
            } else {
                Authentication::Unauthenticated
            };
            let networks = networks.iter().map(|network| (*network, Vec::new())).collect();
            (
                *name,
                vec![Authorization {
                    networks,
                    authentication,
                    policy: convert::default_object(name),
                }],
            )
        }
    };
    let protocol = if settings.opaque_ports.contains(&port) {
        ProtocolPlan::Opaque
    } else {
        ProtocolPlan::Detect {
            timeout: settings.detect_timeout,
        }
    };
    InboundPolicy {
        protocol,
        authorizations,
        server: convert::default_object(name),
    }
}

/// A policy as the control plane sent it. `longest_detect` bounds its wait.
pub(super) fn policy(server: Server, longest_detect: Duration) -> InboundPolicy {
    InboundPolicy {
        protocol: protocol(server.protocol, longest_detect),
        authorizations: server.authorizations.into_iter().filter_map(authorization).collect(),
        server: labelled(server.labels),
    }
}

fn protocol(protocol: Option<ProxyProtocol>, longest_detect: Duration) -> ProtocolPlan {
    match protocol.and_then(|protocol| protocol.kind) {
        Some(proxy_protocol::Kind::Detect(detect)) => {
            let timeout = convert::duration(detect.timeout)
                .unwrap_or(longest_detect)
                .min(longest_detect);
            ProtocolPlan::Detect { timeout }
        }
        Some(proxy_protocol::Kind::Opaque(_)) => ProtocolPlan::Opaque,
        Some(proxy_protocol::Kind::Tls(_)) => ProtocolPlan::Tls,
        Some(proxy_protocol::Kind::Http1(_)) => ProtocolPlan::Http1,
        Some(proxy_protocol::Kind::Http2(_) | proxy_protocol::Kind::Grpc(_)) => ProtocolPlan::Http2,
        // Something newer than this proxy: looking is always safe.
        None => ProtocolPlan::Detect {
            timeout: longest_detect,
        },
    }
}

/// `None` where the rule cannot be understood: it then lets nobody in.
fn authorization(authz: Authz) -> Option<Authorization> {
    let policy = match authz.metadata {
        Some(metadata) => convert::object(Some(metadata)),
        None => labelled(authz.labels),
    };
    let authentication = authentication(authz.authentication?)?;
    let networks = authz.networks.into_iter().filter_map(network).collect::<Vec<_>>();
    if networks.is_empty() {
        tracing::warn!(
            policy = policy.name,
            "an authorization without a valid network lets nobody in"
        );
        return None;
    }
    Some(Authorization {
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

fn every_identity() -> Authentication {
    Authentication::MeshTls {
        identities: Vec::new(),
        suffixes: vec![Vec::new()],
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
        Some(default) => convert::default_object(default),
        None if kind.is_empty() => convert::default_object(&name),
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
        let policy = policy(server, LONGEST);
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
            assert!(policy(server, LONGEST).authorizations.is_empty(), "{authz:?}");
        }
    }

    #[test]
    fn unknown_protocol_is_detected_within_our_limit() {
        assert_eq!(
            policy(Server::default(), LONGEST).protocol,
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
            policy(server, LONGEST).protocol,
            ProtocolPlan::Detect { timeout: LONGEST }
        );
    }
}

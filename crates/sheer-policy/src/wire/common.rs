//! What several answers share: metadata, durations, endpoints. Pure functions; whatever a control plane sends, they answer.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls_pki_types::ServerName;
use sheer_api::linkerd::{
    destination::{TlsIdentity, WeightedAddr, protocol_hint, tls_identity},
    meta, net,
};

use crate::{Endpoint, Hint, ObjectRef, PeerIdentity};

/// The API's weight of an endpoint that is neither preferred nor spared.
const WHOLE_WEIGHT: f64 = 10_000.0;

/// An object, as metrics name it. Nothing at all is the default of nobody.
pub fn object(metadata: Option<meta::Metadata>) -> ObjectRef {
    match metadata.and_then(|metadata| metadata.kind) {
        Some(meta::metadata::Kind::Resource(resource)) => ObjectRef {
            group: resource.group,
            kind: resource.kind,
            namespace: resource.namespace,
            name: resource.name,
            section: resource.section,
            port: port(resource.port).unwrap_or(0),
        },
        Some(meta::metadata::Kind::Default(name)) => default_object(&name),
        None => default_object(""),
    }
}

/// What the control plane (or this proxy) made up.
pub fn default_object(name: &str) -> ObjectRef {
    ObjectRef::default_of(name)
}

/// A port, where it is one.
pub fn port(port: u32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// An address. (The API crate's conversion cuts ports to 16 bits.)
pub fn address(addr: net::TcpAddress) -> Option<SocketAddr> {
    let ip = IpAddr::try_from(addr.ip?).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port(addr.port)?))
}

/// A duration; negative and absurd ones are none.
pub fn duration(duration: Option<prost_types::Duration>) -> Option<Duration> {
    let duration = Duration::try_from(duration?).ok()?;
    (!duration.is_zero()).then_some(duration)
}

/// An endpoint with the labels of its set. `None` where it has no valid address.
pub fn endpoint(endpoint: WeightedAddr, set_labels: &HashMap<String, String>) -> Option<Endpoint> {
    let addr = address(endpoint.addr?)?;
    let mut labels: BTreeMap<_, _> = set_labels.clone().into_iter().collect();
    labels.extend(endpoint.metric_labels);
    let (hint, transport_port) = match endpoint.protocol_hint {
        None => (Hint::Unknown, None),
        Some(hint) => {
            let transport_port = hint.opaque_transport.and_then(|transport| port(transport.inbound_port));
            let hint = match hint.protocol {
                Some(protocol_hint::Protocol::H2(_)) => Hint::H2,
                Some(protocol_hint::Protocol::Opaque(_)) => Hint::Opaque,
                None => Hint::Unknown,
            };
            (hint, transport_port)
        }
    };
    Some(Endpoint {
        addr,
        weight: weight(endpoint.weight),
        identity: endpoint.tls_identity.and_then(identity),
        hint,
        transport_port,
        authority_override: endpoint
            .authority_override
            .and_then(|over| over.authority_override.parse().ok()),
        labels: Arc::new(labels),
    })
}

/// An address that nobody said anything about.
pub fn bare_endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint {
        addr,
        weight: 1.0,
        identity: None,
        hint: Hint::Unknown,
        transport_port: None,
        authority_override: None,
        labels: Arc::default(),
    }
}

/// The API leaves 0 open; old control planes send it for "unset".
fn weight(weight: u32) -> f64 {
    if weight == 0 {
        1.0
    } else {
        f64::from(weight) / WHOLE_WEIGHT
    }
}

/// An identity that cannot be used in TLS is an error of the control plane: the endpoint is then spoken to as if it had one that no
/// certificate carries, rather than in plaintext.
fn identity(identity: TlsIdentity) -> Option<PeerIdentity> {
    let id = match identity.strategy? {
        tls_identity::Strategy::DnsLikeIdentity(id) => id.name.trim_end_matches('.').to_owned(),
        tls_identity::Strategy::UriLikeIdentity(id) => id.uri,
    };
    let server_name = identity.server_name.map_or_else(|| id.clone(), |name| name.name);
    let server_name = ServerName::try_from(server_name.trim_end_matches('.').to_owned())
        .unwrap_or_else(|_| ServerName::try_from("invalid.invalid").expect("a valid name"));
    Some(PeerIdentity {
        id: id.into(),
        server_name,
    })
}

#[cfg(test)]
mod tests {
    use sheer_api::linkerd::destination::{
        AuthorityOverride, ProtocolHint, protocol_hint::OpaqueTransport, tls_identity::DnsLikeIdentity,
    };

    use super::*;

    fn addr(addr: &str) -> net::TcpAddress {
        addr.parse::<SocketAddr>().expect("an address").into()
    }

    #[test]
    fn whole_endpoint() {
        let name = |name: &str| DnsLikeIdentity { name: name.to_owned() };
        let converted = endpoint(
            WeightedAddr {
                addr: Some(addr("10.77.0.5:8080")),
                weight: 20_000,
                metric_labels: HashMap::from([("pod".to_owned(), "ledger-0".to_owned())]),
                tls_identity: Some(TlsIdentity {
                    strategy: Some(tls_identity::Strategy::DnsLikeIdentity(name("ledger.bank.id"))),
                    server_name: Some(name("ledger.bank.sni")),
                }),
                protocol_hint: Some(ProtocolHint {
                    protocol: Some(protocol_hint::Protocol::H2(protocol_hint::H2 {})),
                    opaque_transport: Some(OpaqueTransport { inbound_port: 4143 }),
                }),
                authority_override: Some(AuthorityOverride {
                    authority_override: "other:80".to_owned(),
                }),
                ..WeightedAddr::default()
            },
            &HashMap::from([
                ("namespace".to_owned(), "bank".to_owned()),
                ("pod".to_owned(), "?".to_owned()),
            ]),
        )
        .expect("an endpoint");
        assert_eq!(converted.weight, 2.0);
        assert_eq!(converted.labels["pod"], "ledger-0");
        assert_eq!(converted.labels["namespace"], "bank");
        let identity = converted.identity.expect("an identity");
        assert_eq!(
            (&*identity.id, identity.server_name.to_str()),
            ("ledger.bank.id", "ledger.bank.sni".into())
        );
        assert_eq!((converted.hint, converted.transport_port), (Hint::H2, Some(4143)));
        assert_eq!(converted.authority_override.expect("an authority").as_str(), "other:80");
    }

    #[test]
    fn what_is_no_address_is_left_out() {
        assert!(endpoint(WeightedAddr::default(), &HashMap::new()).is_none());
        for port in [0, 65_536, 65_616, u32::MAX] {
            let addr = net::TcpAddress {
                port,
                ..addr("10.0.0.1:1")
            };
            assert!(
                endpoint(
                    WeightedAddr {
                        addr: Some(addr),
                        ..Default::default()
                    },
                    &HashMap::new()
                )
                .is_none()
            );
        }
        let no_ip = net::TcpAddress {
            ip: Some(net::IpAddress { ip: None }),
            port: 80,
        };
        assert!(
            endpoint(
                WeightedAddr {
                    addr: Some(no_ip),
                    ..Default::default()
                },
                &HashMap::new()
            )
            .is_none()
        );
    }

    /// Plaintext to an endpoint that was promised to be meshed would be a downgrade.
    #[test]
    fn bad_identities_do_not_become_plaintext() {
        let bad = TlsIdentity {
            strategy: Some(tls_identity::Strategy::DnsLikeIdentity(DnsLikeIdentity {
                name: "not a name".into(),
            })),
            server_name: None,
        };
        assert_eq!(&*identity(bad).expect("an identity").id, "not a name");
        assert_eq!(identity(TlsIdentity::default()), None);
    }

    #[test]
    fn durations_and_ports_out_of_range_are_none() {
        let of = |seconds, nanos| duration(Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(of(1, 500_000_000), Some(Duration::from_millis(1_500)));
        assert_eq!((of(-1, 0), of(0, 0), duration(None)), (None, None, None));
        assert_eq!((port(0), port(65_536), port(65_535)), (None, None, Some(65_535)));
    }
}

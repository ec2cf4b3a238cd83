//! Who may come in. Pure: a policy and a client in, the rule that lets it in out.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    discovery::{Authentication, Authorization, InboundPolicy, ObjectRef},
    error::ProxyError,
    identity::PeerNames,
    metrics::Tls,
};

/// Who opened a connection, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) addr: SocketAddr,
    pub(super) tls: ClientTls,
}

/// What TLS says of a client.
#[derive(Clone, Debug)]
pub(super) enum ClientTls {
    /// Plaintext.
    None,
    /// TLS of the application, passed through.
    Opaque,
    /// TLS that this proxy ends; the names that the client proved.
    Mutual(Option<PeerNames>),
}

impl Client {
    /// The identity that logs, labels and the application are told.
    pub(super) fn identity(&self) -> Option<&Arc<str>> {
        match &self.tls {
            ClientTls::Mutual(Some(names)) => names.primary(),
            ClientTls::Mutual(None) | ClientTls::Opaque | ClientTls::None => None,
        }
    }

    pub(super) fn is_meshed(&self) -> bool {
        matches!(self.tls, ClientTls::Mutual(_))
    }

    /// As metric labels have it.
    pub(super) fn tls_label(&self) -> Tls<'_> {
        match &self.tls {
            ClientTls::Mutual(_) => Tls::Mutual(self.identity().map(|identity| &**identity)),
            ClientTls::Opaque => Tls::Opaque,
            ClientTls::None => Tls::NoClientHello,
        }
    }
}

impl ClientTls {
    /// Tells apart what metric labels tell apart besides the identity.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Opaque => 1,
            Self::Mutual(_) => 2,
        }
    }
}

/// The first rule that lets the client in.
pub(super) fn authorize<'a>(policy: &'a InboundPolicy, client: &Client) -> Option<&'a Authorization> {
    policy.authorizations.iter().find(|rule| allows(rule, client))
}

fn allows(rule: &Authorization, client: &Client) -> bool {
    let ip = client.addr.ip();
    let in_network = rule
        .networks
        .iter()
        .any(|(network, except)| network.contains(&ip) && !except.iter().any(|except| except.contains(&ip)));
    in_network
        && match (&rule.authentication, &client.tls) {
            (Authentication::Unauthenticated, _) => true,
            (Authentication::MeshTlsAny, tls) => matches!(tls, ClientTls::Mutual(_)),
            (Authentication::MeshTls { identities, suffixes }, ClientTls::Mutual(Some(names))) => {
                identities.iter().any(|identity| names.contains(identity))
                    || suffixes.iter().any(|suffix| names.ends_in(suffix))
            }
            (Authentication::MeshTls { .. }, ClientTls::Mutual(None) | ClientTls::Opaque | ClientTls::None) => false,
        }
}

/// Why a client may not come in.
pub(super) fn denied(policy: &InboundPolicy, client: &Client, port: u16) -> ProxyError {
    ProxyError::PolicyDenied {
        client: client.addr,
        identity: client.identity().cloned().unwrap_or_else(|| "no identity".into()),
        port,
        server: display(&policy.server),
    }
}

fn display(server: &ObjectRef) -> String {
    let ObjectRef {
        kind, namespace, name, ..
    } = server;
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::ProtocolPlan;

    fn rule(network: &str, except: &[&str], authentication: Authentication) -> Authorization {
        let except = except.iter().map(|except| except.parse().unwrap()).collect();
        let policy = ObjectRef {
            name: network.to_owned(),
            ..ObjectRef::default()
        };
        Authorization {
            networks: vec![(network.parse().unwrap(), except)],
            authentication,
            policy,
        }
    }

    fn policy(authorizations: Vec<Authorization>) -> InboundPolicy {
        let server = ObjectRef {
            kind: "Server".into(),
            namespace: "bank".into(),
            name: "grpc".into(),
            ..ObjectRef::default()
        };
        InboundPolicy {
            protocol: ProtocolPlan::Opaque,
            authorizations,
            server,
            routes: Default::default(),
            rate_limit: None,
        }
    }

    fn client(addr: &str, tls: ClientTls) -> Client {
        Client {
            addr: addr.parse().unwrap(),
            tls,
        }
    }

    fn meshed(name: &str) -> ClientTls {
        ClientTls::Mutual(Some(PeerNames {
            dns: vec![name.into()],
            uris: vec![format!("spiffe://{name}").into()],
        }))
    }

    fn allowed(policy: &InboundPolicy, client: &Client) -> Option<String> {
        authorize(policy, client).map(|rule| rule.policy.name.clone())
    }

    #[test]
    fn networks_and_their_exceptions() {
        let policy = policy(vec![
            rule("10.0.0.0/8", &["10.1.0.0/16"], Authentication::Unauthenticated),
            rule("fd00::/8", &[], Authentication::Unauthenticated),
        ]);
        let plain = |addr| allowed(&policy, &client(addr, ClientTls::None));
        assert_eq!(plain("10.0.0.1:1").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(plain("10.1.0.1:1"), None);
        assert_eq!(plain("[fd00::1]:1").as_deref(), Some("fd00::/8"));
        assert_eq!(plain("192.0.2.1:1"), None);
    }

    #[test]
    fn identities_and_suffixes() {
        let of = |identities: &[&str], suffixes: &[&[&str]]| Authentication::MeshTls {
            identities: identities.iter().map(ToString::to_string).collect(),
            suffixes: suffixes
                .iter()
                .map(|suffix| suffix.iter().map(ToString::to_string).collect())
                .collect(),
        };
        let named = policy(vec![rule(
            "0.0.0.0/0",
            &[],
            of(&["web.bank", "spiffe://fx.bank"], &[&["ops", "mesh"]]),
        )]);
        let check = |tls| allowed(&named, &client("10.0.0.1:1", tls)).is_some();
        assert!(check(meshed("web.bank")));
        assert!(check(meshed("fx.bank")), "by its URI");
        assert!(check(meshed("a.ops.mesh")));
        assert!(!check(meshed("aops.mesh")), "a suffix is of whole labels");
        assert!(!check(meshed("api.bank")));
        assert!(!check(ClientTls::Mutual(None)));
        assert!(!check(ClientTls::None));
        let any = policy(vec![rule("0.0.0.0/0", &[], Authentication::MeshTlsAny)]);
        assert!(allowed(&any, &client("10.0.0.1:1", ClientTls::Mutual(None))).is_some());
        assert!(allowed(&any, &client("10.0.0.1:1", ClientTls::Opaque)).is_none());
    }

    #[test]
    fn denial_names_client_port_and_policy() {
        let error = denied(&policy(vec![]), &client("10.0.0.1:1", meshed("web.bank")), 8080);
        assert_eq!(
            error.to_string(),
            "client 10.0.0.1:1 (web.bank) is not allowed on port 8080 by Server bank/grpc"
        );
        let error = denied(&policy(vec![]), &client("10.0.0.1:1", ClientTls::None), 8080);
        assert_eq!(
            error.to_string(),
            "client 10.0.0.1:1 (no identity) is not allowed on port 8080 by Server bank/grpc"
        );
    }
}

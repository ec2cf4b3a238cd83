//! Who may come in. Pure: a policy and a client in, the rule that lets it in out.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc};

use sheer_api::v1;

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
    /// As the control plane is told.
    pub(super) fn told(&self) -> v1::Tls {
        match self {
            Self::None => v1::Tls::Plain,
            Self::Opaque => v1::Tls::Opaque,
            Self::Mutual(_) => v1::Tls::Mutual,
        }
    }

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
pub(super) fn authorize<'a>(rules: &'a [Authorization], client: &Client) -> Option<&'a Authorization> {
    rules.iter().find(|rule| allows(rule, client))
}

/// Whether any rule lets the client in, the server's or a route's. What is let in without being authorised (probes) does not count.
pub(super) fn has_business(policy: &InboundPolicy, client: &Client) -> bool {
    let by_route = || {
        let routes = policy.routes.rules().iter().filter(|rule| !rule.route.is_default());
        routes
            .into_iter()
            .any(|rule| authorize(&rule.action.authorizations, client).is_some())
    };
    authorize(&policy.authorizations, client).is_some() || by_route()
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

/// Whether a rule is the default policy that lets everybody in and only looks.
pub(super) fn is_audit(rule: &ObjectRef) -> bool {
    rule.is_default() && rule.name == "audit"
}

/// Why a client may not come in. Who proved an identity of the mesh is told which objects decided; others are not told what there is.
pub(super) fn denied(policy: &InboundPolicy, route: Option<&ObjectRef>, client: &Client, port: u16) -> ProxyError {
    let mut by = String::new();
    // Writing to a String cannot fail.
    if let Some(route) = route.filter(|route| !route.is_default()) {
        let _ = write!(by, "{route} of ");
    }
    let _ = write!(by, "{}", policy.server);
    ProxyError::PolicyDenied {
        client: client.addr,
        identity: client.identity().cloned().unwrap_or_else(|| "no identity".into()),
        port,
        by,
        told: client.identity().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use sheer_policy::{
        inbound::InboundRule,
        routes::{Routes, Rule},
    };

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
        authorize(&policy.authorizations, client).map(|rule| rule.policy.name.clone())
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
    fn a_denial_names_objects_only_to_who_proved_an_identity() {
        let policy = policy(vec![]);
        let route = ObjectRef {
            kind: "HTTPRoute".into(),
            namespace: "bank".into(),
            name: "admin".into(),
            ..ObjectRef::default()
        };
        let meshed = client("10.0.0.1:1", meshed("web.bank"));
        assert_eq!(
            denied(&policy, None, &meshed, 8080).to_string(),
            "client 10.0.0.1:1 (web.bank) is not allowed on port 8080 by Server bank/grpc"
        );
        assert_eq!(
            denied(&policy, Some(&route), &meshed, 8080).to_string(),
            "client 10.0.0.1:1 (web.bank) is not allowed on port 8080 by HTTPRoute bank/admin of Server bank/grpc"
        );
        assert_eq!(
            denied(&policy, Some(&ObjectRef::default_of("default")), &meshed, 8080).to_string(),
            denied(&policy, None, &meshed, 8080).to_string(),
            "a route that nobody wrote is not named"
        );
        for stranger in [ClientTls::None, ClientTls::Mutual(None)] {
            let error = denied(&policy, Some(&route), &client("10.0.0.1:1", stranger), 8080);
            let plain = "client 10.0.0.1:1 (no identity) is not allowed on port 8080";
            assert_eq!(error.to_string(), plain);
            assert_eq!(
                error.in_full(),
                format!("{plain} by HTTPRoute bank/admin of Server bank/grpc"),
                "the log has it all"
            );
        }
    }

    #[test]
    fn who_may_use_one_route_has_business_here_and_probes_do_not_count() {
        let rule = |object: ObjectRef, authorization| route(object, vec![authorization]);
        let web = || {
            let clients = Authentication::MeshTls {
                identities: vec!["web.bank".into()],
                suffixes: vec![],
            };
            self::rule("0.0.0.0/0", &[], clients)
        };
        let anybody = || self::rule("0.0.0.0/0", &[], Authentication::Unauthenticated);
        let named = ObjectRef {
            kind: "HTTPRoute".into(),
            name: "admin".into(),
            ..ObjectRef::default()
        };
        let mut policy = policy(vec![]);
        policy.routes = Arc::new(Routes::new(vec![
            rule(ObjectRef::default_of("probe"), anybody()),
            rule(named, web()),
        ]));
        assert!(has_business(&policy, &client("10.0.0.1:1", meshed("web.bank"))));
        assert!(!has_business(&policy, &client("10.0.0.1:1", meshed("fx.bank"))));
        assert!(!has_business(&policy, &client("10.0.0.1:1", ClientTls::None)));
    }

    fn route(object: ObjectRef, authorizations: Vec<Authorization>) -> Rule<InboundRule> {
        Rule {
            route: object,
            index: 0,
            is_grpc: false,
            hosts: Arc::default(),
            matches: vec![],
            action: InboundRule {
                authorizations: authorizations.into(),
                filters: vec![],
            },
        }
    }
}

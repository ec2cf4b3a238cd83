//! Connections that are not HTTP: routes by server name, weights, and destinations that are forbidden.

use std::sync::Arc;

use sheer_policy::{
    outbound::{Affinity, Backend, BackendTarget, Backends, Balancing, OutboundPolicy, Refusal, StreamRule},
    routes::HostMatch,
};
use sheer_proxy::discovery::{Endpoint, ProtocolPlan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    app::{apply, metric, weighted},
    support::{DETECT, PATH, Proxy, SERVICE, balanced, endpoint, object, run, script},
};

/// Says its name, and closes.
async fn named(name: &'static str) -> Backend {
    let (addr, _) = script(move |mut tcp| async move {
        // All that comes: a socket that is closed with bytes unread resets its peer.
        let mut some = [0; 4096];
        let _ = tcp.read(&mut some).await;
        let _ = tcp.write_all(name.as_bytes()).await;
    })
    .await;
    Backend::forward(endpoint(addr))
}

fn tls_rule(route: &str, names: Vec<HostMatch>, backend: Backend) -> StreamRule {
    StreamRule {
        route: object("TLSRoute", route),
        server_names: names,
        ..StreamRule::plain(route, &Arc::new(backend))
    }
}

/// A ClientHello of TLS 1.3 for a server name.
fn client_hello(name: &str) -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// What comes back for these first bytes; `Err` where the connection is reset.
async fn heard(proxy: &Proxy, say: &[u8]) -> std::io::Result<String> {
    let mut tcp = proxy.connect_to(SERVICE.parse().unwrap()).await;
    tcp.write_all(say).await?;
    let mut heard = String::new();
    tcp.read_to_string(&mut heard).await?;
    Ok(heard)
}

#[test]
fn tls_goes_where_its_server_name_says() {
    run(async {
        let proxy = Proxy::start();
        let mut policy = OutboundPolicy::plain(object("Service", "web"), ProtocolPlan::Tls, named("unused").await);
        policy.tls = Arc::new([
            tls_rule(
                "other",
                vec![HostMatch::Suffix(".example".into())],
                named("suffix").await,
            ),
            tls_rule(
                "exact",
                vec![HostMatch::Exact("a.example".into())],
                named("exact").await,
            ),
        ]);
        apply(&proxy, policy);
        assert_eq!(heard(&proxy, &client_hello("a.example")).await.unwrap(), "exact");
        assert_eq!(heard(&proxy, &client_hello("b.example")).await.unwrap(), "suffix");
        assert!(
            heard(&proxy, &client_hello("elsewhere.org")).await.is_err(),
            "no rule: reset"
        );
        assert_eq!(
            metric(&proxy, "outbound_tls_route_open_total", &["route_name=\"exact\""]),
            1
        );
        assert_eq!(metric(&proxy, "outbound_tls_route_close_total", &["error=\"\""]), 2);
        assert_eq!(
            metric(
                &proxy,
                "sheer_errors_total",
                &["reason=\"no-route\"", "verdict=\"policy\""]
            ),
            1
        );
    });
}

#[test]
fn forbidden_destinations_are_reset_and_counted() {
    run(async {
        let proxy = Proxy::start();
        let mut policy = OutboundPolicy::plain(object("EgressNetwork", "internet"), DETECT, named("unused").await);
        let forbidden = |kind: &str| StreamRule {
            route: object(kind, "deny"),
            refuses: Some(Refusal::Forbidden),
            server_names: vec![],
            backends: Backends::None,
        };
        policy.opaque = Arc::new([forbidden("TCPRoute")]);
        policy.tls = Arc::new([forbidden("TLSRoute")]);
        apply(&proxy, policy.clone());
        assert!(
            heard(
                &proxy,
                b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
            )
            .await
            .is_err()
        );
        assert_eq!(
            metric(&proxy, "outbound_tcp_route_close_total", &["error=\"forbidden\""]),
            1
        );
        policy.protocol = ProtocolPlan::Tls;
        apply(&proxy, policy);
        assert!(heard(&proxy, &client_hello("a.example")).await.is_err());
        assert_eq!(
            metric(&proxy, "outbound_tls_route_close_total", &["error=\"forbidden\""]),
            1
        );
        assert_eq!(
            metric(
                &proxy,
                "sheer_errors_total",
                &["reason=\"forbidden\"", "verdict=\"policy\""]
            ),
            2
        );
        assert_eq!(
            metric(&proxy, "sheer_egress_connections_total", &["hostname=\"a.example\""]),
            1
        );
    });
}

#[test]
fn connections_have_weights_too() {
    run(async {
        let proxy = Proxy::start();
        let mut policy = OutboundPolicy::plain(object("Service", "web"), ProtocolPlan::Opaque, named("unused").await);
        policy.opaque = Arc::new([StreamRule {
            backends: weighted(&[("one", 1), ("none", 0), ("three", 3)]),
            ..policy.opaque[0].clone()
        }]);
        apply(&proxy, policy);
        for name in ["one", "none", "three"] {
            let (addr, _) = script(move |mut tcp| async move {
                let _ = tcp.read_u8().await;
                let _ = tcp.write_all(name.as_bytes()).await;
            })
            .await;
            proxy.discovery.endpoints_of(name, [endpoint(addr)]);
        }
        let mut ones = 0;
        for _ in 0..200 {
            match heard(&proxy, b"x").await.unwrap().as_str() {
                "one" => ones += 1,
                other => assert_eq!(other, "three"),
            }
        }
        // 50 expected.
        assert!((22..=80).contains(&ones), "{ones}");
        assert_eq!(metric(&proxy, "outbound_tcp_route_open_total", &[]), 200);
    });
}

/// `sessionAffinity: ClientIP` for bytes: whatever a workload opens goes to one endpoint, until that is gone.
#[test]
fn connections_of_a_workload_belong_together_where_the_service_asks_for_it() {
    run(async {
        let proxy = Proxy::start();
        let mut names = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            let Backend { target, .. } = named(name).await;
            let BackendTarget::Forward(to) = target else { panic!() };
            names.push((name.to_owned(), (*to).clone()));
        }
        let endpoints = |names: &[(String, Endpoint)]| names.iter().map(|(_, to)| to.clone()).collect::<Vec<_>>();
        proxy.discovery.endpoints(endpoints(&names));
        let backend = |affinity| Backend {
            balancing: Balancing {
                affinity,
                ..Balancing::default()
            },
            ..balanced("web", PATH)
        };
        let spread =
            |affinity| OutboundPolicy::plain(object("Service", "web"), ProtocolPlan::Opaque, backend(affinity));
        let met = async |proxy: &Proxy| {
            let mut met = std::collections::BTreeSet::new();
            for _ in 0..24 {
                met.insert(heard(proxy, b"hello").await.unwrap());
            }
            met
        };
        apply(&proxy, spread(None));
        assert!(met(&proxy).await.len() > 1, "without affinity they are spread");
        apply(&proxy, spread(Some(Affinity::ClientIp)));
        let first = met(&proxy).await;
        assert_eq!(first.len(), 1);
        names.retain(|(name, _)| !first.contains(name));
        proxy.discovery.endpoints(endpoints(&names));
        let second = met(&proxy).await;
        assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
    });
}

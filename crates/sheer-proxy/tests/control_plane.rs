//! The proxy beside its data path, whole and in this process, under a fake control plane.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use sheer_api::{
    linkerd::{
        destination::DestinationProfile,
        inbound::{self, http_route},
    },
    v1::{
        self, FilterExtra, HeaderModifier, InboundExtras, InboundRuleExtras, OutboundExtras, RetryBudget, filter_extra,
    },
};
use sheer_policy::outbound::{Backend, BackendTarget, Filter};
use sheer_proxy::{
    addr::OrigDst,
    discovery::{Authentication, EndpointSet, InboundPolicy, Lookup, OutboundTarget},
    process::Control,
    settings,
};
use sheer_testkit::control::{self, ControlPlane, Issue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

const NAME: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
const PATH: &str = "ledger.test.svc.cluster.local:8080";
/// No test needs a tenth of it on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Proxy {
    control: Control,
    dir: tempfile::TempDir,
}

impl Proxy {
    async fn start(plane: &ControlPlane, changes: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut environment = plane.environment(NAME, dir.path());
        environment.extend(
            changes
                .iter()
                .map(|(name, value)| (format!("SHEER_PROXY_{name}"), (*value).to_owned())),
        );
        let control = Control::start(read(environment), None).await.expect("starts");
        Self { control, dir }
    }

    async fn ready(&self) {
        within(self.control.ready()).await;
    }

    fn outbound(&self, dst: SocketAddr) -> watch::Receiver<Lookup<OutboundTarget>> {
        self.control.parts.discovery.outbound(OrigDst(dst))
    }

    /// What `/ready` answers.
    async fn ready_page(&self) -> String {
        page(self.control.admin, "/ready").await
    }

    /// Waits until `/ready` answers with a text.
    async fn ready_page_says(&self, text: &str) {
        let mut last = String::new();
        let says = async {
            loop {
                last = self.ready_page().await;
                if last.contains(text) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, says).await.is_err() {
            panic!("{text:?} is not in {last:?}");
        }
    }
}

fn read(environment: HashMap<String, String>) -> settings::Settings {
    match settings::read(environment) {
        Ok((settings, _)) => settings,
        Err(mistakes) => panic!("{mistakes:#?}"),
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("in time")
}

async fn page(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("read");
    page
}

async fn known<T>(watch: &mut watch::Receiver<Lookup<T>>, matches: impl Fn(&T) -> bool) -> Arc<T> {
    let found = within(watch.wait_for(|lookup| matches!(lookup, Lookup::Known(known) if matches(known)))).await;
    match &*found.expect("subscribed") {
        Lookup::Known(known) => Arc::clone(known),
        Lookup::Pending | Lookup::Unknown => unreachable!("was waited for"),
    }
}

/// Where requests of HTTP/1 go that are not special.
fn backend(target: &OutboundTarget) -> &Backend {
    let rule = &target.policy.http1.routes.rules()[0];
    &rule.action.backends.all().next().expect("a backend").backend
}

fn ports(set: &EndpointSet) -> Vec<u16> {
    set.endpoints.iter().map(|endpoint| endpoint.addr.port()).collect()
}

fn addr(port: u16) -> SocketAddr {
    ([10, 77, 0, 1], port).into()
}

#[tokio::test]
async fn certificate_is_issued_and_renewed() {
    let plane = ControlPlane::start();
    plane.issue(Issue::Valid(Duration::from_secs(2)));
    let proxy = Proxy::start(&plane, &[("IDENTITY_MIN_REFRESH", "100ms")]).await;
    proxy.ready().await;
    let identity = &proxy.control.parts.identity;
    let first = identity.current().expect("ready means issued");
    assert_eq!(&**first.name(), NAME);
    let mut credentials = identity.watch();
    let other = |now: &Option<Arc<_>>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, &first));
    within(credentials.wait_for(other)).await.expect("renewed");
    let page = page(proxy.control.admin, "/metrics").await;
    assert!(
        page.contains(r#"control_identity_cert_refreshes_total{result="ok"} "#),
        "{page}"
    );
}

#[tokio::test]
async fn wrong_certificates_are_refused_and_said() {
    let plane = ControlPlane::start();
    let name = "other.bank.serviceaccount.identity.sheer.cluster.local";
    plane.issue(Issue::Garbage);
    let proxy = Proxy::start(&plane, &[]).await;
    for (issue, said) in [
        (Issue::Garbage, "cannot be read"),
        (Issue::OtherName(name.to_owned()), "the token is another workload's"),
        (Issue::OtherKey, "for another key"),
        (Issue::Untrusted, "trust anchor"),
        (Issue::Expired, "the certificate ended 3600 s ago: the clock"),
        (Issue::NotYetValid, "the clock of this machine"),
        (Issue::Refused, "is it expired, or another workload's?"),
    ] {
        plane.issue(issue);
        proxy.ready_page_says(said).await;
        assert!(proxy.control.parts.identity.current().is_none());
    }
    plane.issue(Issue::Valid(Duration::from_secs(3_600)));
    proxy.ready().await;
}

/// Kubernetes rotates tokens: the file is read for every attempt.
#[tokio::test]
async fn new_token_is_read_after_a_bad_one() {
    let plane = ControlPlane::start();
    plane.accept_token(b"fresh");
    let proxy = Proxy::start(&plane, &[]).await;
    proxy.ready_page_says("the token has expired").await;
    std::fs::write(proxy.dir.path().join("token"), "fresh\n").expect("written");
    proxy.ready().await;
}

/// The certificate of a running proxy stays in force while the control plane cannot issue.
#[tokio::test]
async fn failed_renewal_keeps_the_certificate() {
    let plane = ControlPlane::start();
    plane.issue(Issue::Valid(Duration::from_secs(2)));
    let proxy = Proxy::start(&plane, &[("IDENTITY_MIN_REFRESH", "100ms")]).await;
    proxy.ready().await;
    plane.issue(Issue::Refused);
    let count = *plane.certified().borrow();
    within(plane.certified().wait_for(|now| *now > count + 1))
        .await
        .expect("tried again");
    assert!(proxy.control.parts.identity.current().is_some());
}

/// A workload may start before the control plane has heard of it: whom it lets in is not known then.
#[tokio::test]
async fn ready_waits_for_the_policies_of_own_ports() {
    let plane = ControlPlane::start();
    plane.set_silent(true);
    let proxy = Proxy::start(&plane, &[("INBOUND_PORTS", "80,81")]).await;
    proxy
        .ready_page_says("identity: no certificate: not issued yet\npolicy: nothing heard yet of port 80, 81")
        .await;
    plane.set_server(80, Some(control::open_server()));
    plane.set_silent(false);
    proxy
        .ready_page_says("not ready\npolicy: nothing heard yet of port 81\n")
        .await;
    plane.set_server(81, Some(control::open_server()));
    proxy.ready().await;
    proxy.ready_page_says("traffic ports: not listening yet").await;
    proxy.control.listening();
    proxy.ready_page_says("200 OK").await;
}

/// Who cannot ask about a destination sends to it bare: no first request does so because the connection to the control plane was still to be made.
#[tokio::test]
async fn ready_waits_for_connections_to_the_control_plane() {
    let plane = ControlPlane::start();
    let gate = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let policy = gate.local_addr().expect("bound");
    drop(gate);
    let proxy = Proxy::start(&plane, &[("POLICY_SVC_ADDR", &policy.to_string())]).await;
    proxy
        .ready_page_says("not ready\npolicy: no connection to the control plane yet\n")
        .await;
    assert!(
        timeout(Duration::from_millis(300), proxy.control.ready())
            .await
            .is_err()
    );
    let gate = TcpListener::bind(policy).await.expect("still free");
    let behind = plane.addr();
    tokio::spawn(async move {
        let (mut proxy, _) = gate.accept().await.expect("a connection");
        let mut plane = TcpStream::connect(behind).await.expect("the control plane");
        tokio::io::copy_bidirectional(&mut proxy, &mut plane).await
    });
    proxy.ready().await;
}

/// A port that is in nobody's list, and that the control plane does not know.
#[tokio::test]
async fn default_policy_holds_where_nothing_is_known() {
    let plane = ControlPlane::start();
    let changes = [
        ("INBOUND_DEFAULT_POLICY", "all-authenticated"),
        ("POLICY_CLUSTER_NETWORKS", "10.0.0.0/8"),
    ];
    let proxy = Proxy::start(&plane, &changes).await;
    let mut policy = proxy.control.parts.discovery.inbound(82);
    let default = known(&mut policy, |_| true).await;
    assert_eq!(
        (default.server.kind.as_str(), default.server.name.as_str()),
        ("default", "all-authenticated")
    );
    assert!(matches!(
        default.authorizations[0].authentication,
        Authentication::MeshTls { .. }
    ));
    plane.set_server(82, Some(control::open_server()));
    known(&mut policy, |policy| policy.server.name == "all-unauthenticated").await;
}

#[tokio::test]
async fn services_are_resolved_and_followed() {
    let plane = ControlPlane::start();
    let dst = addr(8080);
    let profile = DestinationProfile {
        fully_qualified_name: "ledger.test.svc.cluster.local".to_owned(),
        ..DestinationProfile::default()
    };
    plane.set_profile(dst, Some(profile));
    plane.set_policy(dst, Some(control::balance_policy("ledger", PATH)));
    plane.set_endpoints(
        PATH,
        Some(vec![
            control::endpoint(addr(1)),
            control::meshed_endpoint(addr(2), NAME, 4143),
        ]),
    );
    let proxy = Proxy::start(&plane, &[]).await;
    let target = known(&mut proxy.outbound(dst), |_| true).await;
    assert_eq!(&*target.name, PATH);
    assert!(matches!(&backend(&target).target, BackendTarget::Balance { path, .. } if &**path == PATH));
    let mut endpoints = proxy.control.parts.discovery.endpoints(PATH);
    let set = known(&mut endpoints, |set| ports(set) == [1, 2]).await;
    assert_eq!(
        set.endpoints[1].identity.as_ref().map(|identity| &*identity.id),
        Some(NAME)
    );
    plane.set_endpoints(PATH, Some(vec![control::endpoint(addr(2)), control::endpoint(addr(3))]));
    known(&mut endpoints, |set| ports(set) == [2, 3]).await;
    plane.set_endpoints(PATH, None);
    known(&mut endpoints, |set| !set.exists && set.endpoints.is_empty()).await;
}

/// What is known outlives the control plane; when it is back, only what changed meanwhile changes.
#[tokio::test]
async fn lost_streams_are_resumed_without_flapping() {
    let plane = ControlPlane::start();
    let dst = addr(8080);
    plane.set_policy(dst, Some(control::balance_policy("ledger", PATH)));
    plane.set_endpoints(PATH, Some(vec![control::endpoint(addr(1)), control::endpoint(addr(2))]));
    let proxy = Proxy::start(&plane, &[]).await;
    let mut target = proxy.outbound(dst);
    known(&mut target, |target| {
        matches!(backend(target).target, BackendTarget::Balance { .. })
    })
    .await;
    let mut endpoints = proxy.control.parts.discovery.endpoints(PATH);
    let before = known(&mut endpoints, |set| ports(set) == [1, 2]).await;

    plane.go_away();
    let streams = plane.streams("Get");
    within(plane.come_back()).await;
    within(async {
        while plane.streams("Get") == streams || plane.streams("Watch") < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    plane.set_endpoints(PATH, Some(vec![control::endpoint(addr(2)), control::endpoint(addr(3))]));
    within(endpoints.changed()).await.expect("subscribed");
    let Lookup::Known(after) = endpoints.borrow().clone() else {
        panic!("what is known stays known")
    };
    assert!(
        ports(&after).contains(&3),
        "the resumed stream with the same set was no change: {after:?}"
    );
    assert!(
        Arc::ptr_eq(&before.endpoints[1], &after.endpoints[0])
            || Arc::ptr_eq(&before.endpoints[1], &after.endpoints[1])
    );
    assert!(matches!(&*target.borrow(), Lookup::Known(_)));
    known(&mut endpoints, |set| ports(set) == [2, 3]).await;
}

/// Traffic must flow while the control plane is silent; its late answer still counts.
#[tokio::test]
async fn silence_makes_a_destination_unknown_until_the_answer() {
    let plane = ControlPlane::start();
    let dst = addr(8080);
    plane.set_policy(dst, Some(control::balance_policy("ledger", PATH)));
    let proxy = Proxy::start(&plane, &[("DESTINATION_PROFILE_INITIAL_TIMEOUT", "50ms")]).await;
    proxy.ready().await;
    plane.set_silent(true);
    let mut target = proxy.outbound(dst);
    assert!(matches!(&*target.borrow(), Lookup::Pending));
    within(target.wait_for(|lookup| matches!(lookup, Lookup::Unknown)))
        .await
        .expect("subscribed");
    plane.set_silent(false);
    known(&mut target, |target| {
        matches!(backend(target).target, BackendTarget::Balance { .. })
    })
    .await;
}

/// To a destination of the mesh "as it is" is without mTLS: where the control plane is there and only slow, it is waited for.
#[tokio::test]
async fn slow_control_plane_is_waited_for_longer_within_the_mesh() {
    let plane = ControlPlane::start();
    for port in [8080, 8081] {
        plane.set_policy(addr(port), Some(control::balance_policy("ledger", PATH)));
    }
    let proxy = Proxy::start(&plane, &[("POLICY_CLUSTER_NETWORKS", "10.77.0.0/16")]).await;
    proxy.ready().await;
    plane.set_silent(true);
    let mut slow = proxy.outbound(addr(8080));
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(matches!(&*slow.borrow_and_update(), Lookup::Pending));
    plane.set_silent(false);
    within(slow.changed()).await.expect("subscribed");
    assert!(matches!(&*slow.borrow(), Lookup::Known(_)), "first answer: {slow:?}");

    plane.set_silent(true);
    let (mut dead, mut outside) = (
        proxy.outbound(addr(8081)),
        proxy.outbound(([192, 0, 2, 1], 8080).into()),
    );
    within(outside.changed()).await.expect("subscribed");
    assert!(
        matches!(&*dead.borrow_and_update(), Lookup::Pending),
        "longer only within the mesh: {dead:?}"
    );
    within(dead.changed()).await.expect("subscribed");
    assert!(matches!(&*dead.borrow(), Lookup::Unknown), "not for ever: {dead:?}");
}

/// Nor is it away while it is being connected to.
#[tokio::test]
async fn a_control_plane_is_waited_for_while_it_is_connected_to_and_not_when_it_is_away() {
    let plane = ControlPlane::start();
    plane.set_policy(addr(8080), Some(control::balance_policy("ledger", PATH)));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let policy = listener.local_addr().expect("bound").to_string();
    let changes = [
        ("POLICY_CLUSTER_NETWORKS", "10.77.0.0/16"),
        ("POLICY_SVC_ADDR", policy.as_str()),
    ];
    let proxy = Proxy::start(&plane, &changes).await;
    proxy.ready().await;
    let mut slow = proxy.outbound(addr(8080));
    let (mut near, _) = within(listener.accept()).await.expect("connected to");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(matches!(&*slow.borrow_and_update(), Lookup::Pending), "{slow:?}");
    let far = plane.addr();
    let relay = tokio::spawn(async move {
        let mut far = TcpStream::connect(far).await.expect("connects");
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    within(slow.changed()).await.expect("subscribed");
    assert!(matches!(&*slow.borrow(), Lookup::Known(_)), "first answer: {slow:?}");

    drop(listener);
    relay.abort();
    plane.set_silent(true);
    let mut away = proxy.outbound(addr(8081));
    let first = timeout(Duration::from_secs(2), away.changed()).await;
    first.expect("not as long as a slow one").expect("subscribed");
    assert!(matches!(&*away.borrow(), Lookup::Unknown), "{away:?}");
}

/// The profile's stream stays open where the policy's is refused: its change brings the policy at once.
#[tokio::test]
async fn address_that_becomes_a_service_gets_its_policy() {
    let plane = ControlPlane::start();
    let dst = addr(8080);
    plane.set_profile(dst, Some(DestinationProfile::default()));
    let proxy = Proxy::start(&plane, &[]).await;
    let mut target = proxy.outbound(dst);
    known(&mut target, |target| {
        matches!(backend(target).target, BackendTarget::Forward(_))
    })
    .await;
    plane.set_policy(dst, Some(control::balance_policy("ledger", PATH)));
    let profile = DestinationProfile {
        fully_qualified_name: "ledger.test.svc.cluster.local".to_owned(),
        ..Default::default()
    };
    plane.set_profile(dst, Some(profile));
    let found = known(&mut target, |target| target.parent().name == "ledger").await;
    assert_eq!(backend(&found).queue_capacity, Some(100));
}

#[tokio::test]
async fn what_nobody_knows_is_unknown_at_once() {
    let plane = ControlPlane::start();
    let proxy = Proxy::start(&plane, &[("DESTINATION_PROFILE_INITIAL_TIMEOUT", "1h")]).await;
    let mut target = proxy.outbound(addr(9));
    within(target.wait_for(|lookup| matches!(lookup, Lookup::Unknown)))
        .await
        .expect("subscribed");
}

/// What Linkerd's API cannot say comes beside the policy, and changes with it.
#[tokio::test]
async fn extras_are_joined_to_the_policy() {
    let plane = ControlPlane::start();
    let dst = addr(8080);
    let extras = |ratio| OutboundExtras {
        budget: Some(RetryBudget {
            ratio,
            min_per_second: 1,
            ttl: None,
        }),
        ..OutboundExtras::default()
    };
    plane.set_policy(dst, Some(control::balance_policy("ledger", PATH)));
    plane.set_extras(dst, Some(extras(0.5)));
    let proxy = Proxy::start(&plane, &[]).await;
    let mut target = proxy.outbound(dst);
    let first = known(&mut target, |_| true).await;
    assert_eq!(first.policy.budget.ratio, 0.5, "not published before both are known");
    plane.set_extras(dst, Some(extras(0.25)));
    known(&mut target, |target| target.policy.budget.ratio == 0.25).await;
    plane.set_extras(dst, None);
    known(&mut target, |target| target.policy.budget.ratio == 0.2).await;
}

/// Linkerd's control plane has no such service: everything else works, and it is not asked again and again.
#[tokio::test]
async fn control_plane_without_extras_is_enough() {
    let plane = ControlPlane::start_foreign();
    let dst = addr(8080);
    plane.set_policy(dst, Some(control::balance_policy("ledger", PATH)));
    let proxy = Proxy::start(&plane, &[("DESTINATION_PROFILE_INITIAL_TIMEOUT", "1h")]).await;
    let mut target = proxy.outbound(dst);
    known(&mut target, |target| target.policy.budget.ratio == 0.2).await;
    plane.set_policy(dst, Some(control::balance_policy("other", PATH)));
    known(&mut target, |target| target.parent().name == "other").await;
    let page = page(proxy.control.admin, "/metrics").await;
    let asked: u64 = page
        .lines()
        .filter(|line| line.starts_with("control_request_total{") && line.contains("Extras.WatchOutbound"))
        .map(|line| {
            line.rsplit(' ')
                .next()
                .and_then(|count| count.parse::<u64>().ok())
                .expect("a count")
        })
        .sum();
    assert!(
        (1..=3).contains(&asked),
        "{asked}: once, and once for each change of the policy"
    );
}

#[tokio::test]
async fn extras_of_a_port_are_joined_to_its_policy() {
    let plane = ControlPlane::start();
    let route = inbound::HttpRoute {
        rules: vec![http_route::Rule::default()],
        ..inbound::HttpRoute::default()
    };
    let server = inbound::Server {
        protocol: Some(inbound::ProxyProtocol {
            kind: Some(inbound::proxy_protocol::Kind::Http2(inbound::proxy_protocol::Http2 {
                routes: vec![route],
                ..inbound::proxy_protocol::Http2::default()
            })),
        }),
        ..control::open_server()
    };
    plane.set_server(82, Some(server));
    let extras = |name: &str| {
        let modifier = HeaderModifier {
            remove: vec![name.to_owned()],
            ..HeaderModifier::default()
        };
        let filter = FilterExtra {
            kind: Some(filter_extra::Kind::ResponseHeaders(modifier)),
        };
        let rule = InboundRuleExtras {
            route: Some(v1::ObjectRef {
                kind: "default".to_owned(),
                ..v1::ObjectRef::default()
            }),
            rule: 0,
            filters: vec![filter],
        };
        Some(InboundExtras { rules: vec![rule] })
    };
    plane.set_port_extras(82, extras("server"));
    let proxy = Proxy::start(&plane, &[]).await;
    let mut policy = proxy.control.parts.discovery.inbound(82);
    let removes = |policy: &InboundPolicy, name: &str| {
        let filters = policy.routes.rules().iter().flat_map(|rule| &rule.action.filters);
        filters
            .into_iter()
            .any(|filter| matches!(filter, Filter::ResponseHeaders(said) if said.remove.iter().any(|one| one == name)))
    };
    known(&mut policy, |policy| removes(policy, "server")).await;
    plane.set_port_extras(82, extras("x-powered-by"));
    known(&mut policy, |policy| {
        removes(policy, "x-powered-by") && !removes(policy, "server")
    })
    .await;

    // Another's control plane has none: the policy holds without.
    let foreign = ControlPlane::start_foreign();
    foreign.set_server(82, Some(control::open_server()));
    let proxy = Proxy::start(&foreign, &[]).await;
    let mut policy = proxy.control.parts.discovery.inbound(82);
    known(&mut policy, |policy| policy.server.name == "all-unauthenticated").await;
}

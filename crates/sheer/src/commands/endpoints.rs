//! `sheer endpoints`: where the control plane sends traffic for a service, as it tells the proxies, and how the proxies fare there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use sheer_api::linkerd::destination::destination_client::DestinationClient;
use sheer_api::linkerd::destination::update::Update as Kind;
use sheer_api::linkerd::destination::{GetDestination, Update, WeightedAddr, protocol_hint, tls_identity};
use sheer_api::linkerd::net::TcpAddress;
use sheer_api::v1::{ConfigDumpRequest, ProxyDump};
use sheer_control::manifests::{self, Manifest};
use sheer_control::objects::Object;
use tokio::time::timeout;

use super::rates::{Scrapes, per_second};
use crate::cli::Global;
use crate::outcome::{Misuse, Outcome};
use crate::output::{Format, Table, Tone, print_json};
use crate::running::{Mesh, Pod};
use crate::scrape::Sample;

/// The control plane answers at once and then streams changes: what has not come by then is a change.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause after which the first state of a service counts as complete.
const SETTLED: Duration = Duration::from_millis(200);

/// Flags of `sheer endpoints`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
CALLERS says for how many of the proxies that know an endpoint it is ready, EWMA the slowest response time that one of them estimates.
REQUESTS is what all of them send there (connections where they are not looked into), measured while the command runs.

Examples:
  sheer endpoints -n bank ledger:9000
  sheer endpoints ledger.bank.svc.cluster.local:9000 -o wide
  sheer endpoints svc/gateway:8080 -n bank -o json")]
pub(crate) struct Args {
    /// Services with a port, as `ledger:9000`, `svc/ledger:9000` or `ledger.bank.svc.cluster.local:9000`
    #[arg(value_name = "SERVICE:PORT", required = true)]
    services: Vec<String>,
    /// Namespace of services that do not name one; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// How many seconds rates are measured
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    window: u64,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One endpoint of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Endpoint {
    service: String,
    address: SocketAddr,
    pod: String,
    /// None where no such pod runs on this mesh.
    ready: Option<bool>,
    weight: u32,
    /// Who must answer there; none: plaintext.
    identity: Option<String>,
    /// What the peer's proxy takes: `h2`, `opaque` or nothing.
    protocol: &'static str,
    /// How the proxies that send there fare.
    callers: Callers,
}

/// What the proxies of callers have of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Callers {
    /// Proxies that know it.
    proxies: u32,
    /// For how many it is ready.
    ready: u32,
    /// For how many it sits out, or is on probation after it did.
    breaking: u32,
    /// The slowest peak EWMA of all.
    ewma_ms: f64,
    /// Requests under way, of all.
    pending: u32,
    /// Requests a second, of all; connections where they are not looked into.
    requests_per_second: f64,
    /// The share of requests that went well, of those that were answered while the command ran; none where none was.
    success_rate: Option<f64>,
}

/// Prints the endpoints of each service. A service without any is a finding.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        let status = mesh.status().await?;
        let manifests = status.manifests.clone();
        let (pods, services) = (mesh.pods_of(status)?, mesh.services()?);
        let mut client = DestinationClient::new(mesh.control().await?);
        let (mut endpoints, mut empty) = (Vec::new(), Vec::new());
        for service in &args.services {
            let path = authority(service, args.namespace.as_deref(), &services)?;
            let found = fetch(&mut client, &path)
                .await
                .with_context(|| format!("{path}: no answer from the control plane"))?;
            match found {
                Some(found) if !found.is_empty() => {
                    endpoints.extend(found.into_values().map(|at| describe(&path, &at, &pods)))
                }
                found => empty.push(match undefined_port(&path, &manifests::load(&manifests).manifests) {
                    Some(line) => line,
                    None if found.is_some() => format!("{path} has no ready endpoint: `sheer ps` shows its pods"),
                    None => format!("{path}: the control plane knows no such service or port"),
                }),
            }
        }
        // Endpoints are shown also where no proxy can say how it fares.
        let everyone = ConfigDumpRequest::default();
        let proxies = mesh.config_dump(everyone).await.unwrap_or_default();
        let callers = proxies.iter().filter(|proxy| sends_to(proxy, &endpoints)).cloned();
        let callers: Vec<_> = callers.collect();
        let scrapes = if callers.is_empty() {
            Scrapes::default()
        } else {
            Scrapes::take(&mesh, &callers, Duration::from_secs(args.window)).await?
        };
        for endpoint in &mut endpoints {
            endpoint.callers = Callers::of(endpoint, &proxies, &scrapes);
        }
        match args.output {
            Format::Json => print_json(&endpoints)?,
            Format::Table => table(&endpoints).print()?,
            Format::Wide => wide(&endpoints).print()?,
        }
        for line in &empty {
            eprintln!("sheer: {line}");
        }
        Ok(if empty.is_empty() {
            Outcome::Healthy
        } else {
            Outcome::Finding
        })
    })
}

impl Callers {
    fn of(endpoint: &Endpoint, proxies: &[ProxyDump], scrapes: &Scrapes) -> Self {
        let mut callers = Self {
            requests_per_second: per_second(scrapes, |sample| {
                endpoint.counts(sample, &["request_total", "tcp_open_total"])
            }),
            success_rate: endpoint.success_rate(scrapes),
            ..Self::default()
        };
        for proxy in proxies {
            let backends = proxy
                .state
                .iter()
                .flat_map(|state| &state.outbound)
                .flat_map(|destination| &destination.backends);
            let of_service = backends.filter(|backend| backend.path == endpoint.service);
            let mut states = of_service.flat_map(|backend| &backend.endpoints);
            let address = endpoint.address.to_string();
            // One address of the service is as good as another: they lead to the same endpoints.
            let Some(state) = states.find(|state| state.address == address) else {
                continue;
            };
            callers.proxies += 1;
            callers.ready += u32::from(state.ready);
            callers.breaking += u32::from(state.breaker != "closed");
            callers.ewma_ms = callers.ewma_ms.max(state.rtt_ms);
            callers.pending += state.pending;
        }
        callers
    }

    fn rate(&self) -> (String, Tone) {
        match self.proxies {
            0 => ("-".to_owned(), Tone::Dim),
            _ => (format!("{:.1}/s", self.requests_per_second), Tone::Plain),
        }
    }

    fn success(&self) -> (String, Tone) {
        match self.success_rate {
            None => ("-".to_owned(), Tone::Dim),
            Some(rate) => {
                let tone = if rate < 1.0 { Tone::Warn } else { Tone::Good };
                (format!("{:.1}%", rate * 100.0), tone)
            }
        }
    }

    /// As `2/3`: ready for so many of the proxies that know it.
    fn ready(&self) -> (String, Tone) {
        let Self { proxies, ready, .. } = self;
        let tone = match (*proxies, *ready) {
            (0, _) => return ("-".to_owned(), Tone::Dim),
            (all, ready) if ready < all => Tone::Warn,
            _ => Tone::Good,
        };
        (format!("{ready}/{proxies}"), tone)
    }

    fn breaking(&self) -> (String, Tone) {
        match (self.proxies, self.breaking) {
            (0, _) => ("-".to_owned(), Tone::Dim),
            (_, 0) => ("0".to_owned(), Tone::Plain),
            (_, some) => (some.to_string(), Tone::Bad),
        }
    }

    fn ewma(&self) -> (String, Tone) {
        if self.ewma_ms > 0.0 {
            (format!("{:.1}ms", self.ewma_ms), Tone::Plain)
        } else {
            ("-".to_owned(), Tone::Dim)
        }
    }
}

impl Endpoint {
    /// Whether a counter is of what proxies send here for this service.
    fn counts(&self, sample: &Sample<'_>, names: &[&str]) -> bool {
        names.contains(&sample.name)
            && sample.label("direction") == "outbound"
            && sample.label("peer") == "dst"
            && sample.label("target_addr") == self.address.to_string()
            // A connection that carries requests is counted by these.
            && (sample.name != "tcp_open_total" || self.protocol == "opaque")
    }

    fn success_rate(&self, scrapes: &Scrapes) -> Option<f64> {
        let answered = |classification: &str| {
            per_second(scrapes, |sample| {
                self.counts(sample, &["response_total"]) && sample.label("classification") == classification
            })
        };
        let (well, badly) = (answered("success"), answered("failure"));
        (well + badly > 0.0).then(|| well / (well + badly))
    }
}

/// Whether a proxy knows one of these endpoints.
fn sends_to(proxy: &ProxyDump, endpoints: &[Endpoint]) -> bool {
    let destinations = proxy.state.iter().flat_map(|state| &state.outbound);
    let mut known = destinations
        .flat_map(|destination| &destination.backends)
        .flat_map(|backend| &backend.endpoints);
    known.any(|state| {
        endpoints
            .iter()
            .any(|endpoint| endpoint.address.to_string() == state.address)
    })
}

/// `NAME.NAMESPACE.svc.cluster.local:PORT`. A namespace that nobody names is that of the only service of the name.
fn authority(service: &str, namespace: Option<&str>, known: &[(String, String)]) -> Result<String, Misuse> {
    let bare = service
        .strip_prefix("svc/")
        .or_else(|| service.strip_prefix("service/"))
        .unwrap_or(service);
    let wrong = || {
        Misuse(format!(
            "`{service}` is no service with a port: write it as ledger:9000 or svc/ledger:9000"
        ))
    };
    let (name, port) = bare.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    let (name, namespace) = match *name.split('.').collect::<Vec<_>>() {
        [name] if !name.is_empty() => (
            name,
            namespace.map_or_else(|| namespace_of(name, known), |given| Ok(given.to_owned()))?,
        ),
        [name, namespace] | [name, namespace, "svc"] => (name, namespace.to_owned()),
        [_, _, "svc", ..] => return Ok(bare.to_owned()),
        _ => return Err(wrong()),
    };
    Ok(format!("{name}.{namespace}.svc.cluster.local:{port}"))
}

/// Says which ports a service has, where it has not the one that was asked for. None where it has, or where no manifest defines it.
fn undefined_port(path: &str, known: &[Manifest]) -> Option<String> {
    let (host, port) = path.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let (name, rest) = host.split_once('.')?;
    let namespace = rest.split('.').next()?;
    let service = known.iter().find_map(|manifest| match &manifest.object {
        Object::Service(service) if service.metadata.name == name && service.metadata.namespace == namespace => {
            Some(service)
        }
        _ => None,
    })?;
    let ports = &service.spec.ports;
    if ports.iter().any(|known| known.port == port) {
        return None;
    }
    let listed: Vec<String> = ports
        .iter()
        .map(|port| match &port.name {
            Some(name) => format!("{} ({name})", port.port),
            None => port.port.to_string(),
        })
        .collect();
    let has = if listed.is_empty() {
        "no port at all".to_owned()
    } else {
        listed.join(", ")
    };
    Some(format!(
        "service {name} of namespace {namespace} has no port {port}; it has {has}"
    ))
}

fn namespace_of(name: &str, known: &[(String, String)]) -> Result<String, Misuse> {
    let namespaces: Vec<&str> = known
        .iter()
        .filter(|(_, known)| known == name)
        .map(|(namespace, _)| namespace.as_str())
        .collect();
    match namespaces[..] {
        [] => Err(Misuse(format!(
            "there is no service {name}; name its namespace with -n if it is to come"
        ))),
        [namespace] => Ok(namespace.to_owned()),
        _ => Err(Misuse(format!(
            "there is a service {name} in {}: choose with -n",
            namespaces.join(" and in ")
        ))),
    }
}

type Found = BTreeMap<SocketAddr, WeightedAddr>;

/// The first state of a service; None where the control plane knows none of that name.
async fn fetch(client: &mut DestinationClient<tonic::transport::Channel>, path: &str) -> anyhow::Result<Option<Found>> {
    let request = GetDestination {
        scheme: "k8s".to_owned(),
        path: path.to_owned(),
        context_token: String::new(),
    };
    let answered = timeout(PATIENCE, client.get(request))
        .await
        .context("it took too long")?;
    let mut updates = match answered {
        Ok(updates) => updates.into_inner(),
        Err(status) if matches!(status.code(), tonic::Code::NotFound | tonic::Code::InvalidArgument) => {
            return Ok(None);
        }
        Err(status) => return Err(anyhow::anyhow!("{}", status.message())),
    };
    let mut found = Some(Found::new());
    let mut patience = PATIENCE;
    while let Ok(update) = timeout(patience, updates.message()).await {
        match update {
            Ok(Some(update)) => apply(&mut found, update),
            Ok(None) => break,
            Err(status) if status.code() == tonic::Code::InvalidArgument => return Ok(None),
            Err(status) => return Err(anyhow::anyhow!("{}", status.message())),
        }
        patience = SETTLED;
    }
    Ok(found)
}

fn apply(found: &mut Option<Found>, update: Update) {
    match update.update {
        Some(Kind::Add(set)) => {
            let found = found.get_or_insert_default();
            for weighted in set.addrs {
                if let Some(addr) = weighted.addr.and_then(socket_addr) {
                    found.insert(addr, weighted);
                }
            }
        }
        Some(Kind::Remove(set)) => {
            let gone: Vec<SocketAddr> = set.addrs.into_iter().filter_map(socket_addr).collect();
            found.get_or_insert_default().retain(|addr, _| !gone.contains(addr));
        }
        Some(Kind::NoEndpoints(none)) => *found = none.exists.then(Found::new),
        None => {}
    }
}

fn socket_addr(addr: TcpAddress) -> Option<SocketAddr> {
    let ip = IpAddr::try_from(addr.ip?).ok()?;
    Some(SocketAddr::new(ip, u16::try_from(addr.port).ok()?))
}

fn describe(service: &str, weighted: &WeightedAddr, pods: &[Pod]) -> Endpoint {
    let address = weighted
        .addr
        .and_then(socket_addr)
        .expect("it was found by this address");
    let pod = pods.iter().find(|pod| pod.ips.contains(&address.ip()));
    let label = weighted.metric_labels.get("pod").cloned();
    let identity = weighted
        .tls_identity
        .as_ref()
        .and_then(|identity| match identity.strategy.as_ref()? {
            tls_identity::Strategy::DnsLikeIdentity(name) => Some(name.name.clone()),
            tls_identity::Strategy::UriLikeIdentity(uri) => Some(uri.uri.clone()),
        });
    let protocol = match weighted.protocol_hint.as_ref().and_then(|hint| hint.protocol.as_ref()) {
        Some(protocol_hint::Protocol::H2(_)) => "h2",
        Some(protocol_hint::Protocol::Opaque(_)) => "opaque",
        None => "",
    };
    Endpoint {
        service: service.to_owned(),
        address,
        pod: pod
            .map(|pod| pod.name.clone())
            .or(label)
            .unwrap_or_else(|| "-".to_owned()),
        ready: pod.map(|pod| pod.ready),
        weight: weighted.weight,
        identity,
        protocol,
        callers: Callers::default(),
    }
}

fn table(endpoints: &[Endpoint]) -> Table {
    let mut table = Table::new([
        "SERVICE", "ADDRESS", "POD", "READY", "MTLS", "CALLERS", "REQUESTS", "SUCCESS", "EWMA",
    ]);
    for endpoint in endpoints {
        table.toned(cells(endpoint));
    }
    table
}

fn wide(endpoints: &[Endpoint]) -> Table {
    let mut table = Table::new([
        "SERVICE",
        "ADDRESS",
        "POD",
        "READY",
        "MTLS",
        "CALLERS",
        "REQUESTS",
        "SUCCESS",
        "EWMA",
        "BREAKING",
        "UNDER WAY",
        "WEIGHT",
        "PROTOCOL",
        "IDENTITY",
    ]);
    for endpoint in endpoints {
        let protocol = if endpoint.protocol.is_empty() {
            "-"
        } else {
            endpoint.protocol
        };
        let identity = endpoint.identity.as_deref().unwrap_or("-");
        let more = [
            endpoint.callers.pending.to_string(),
            endpoint.weight.to_string(),
            protocol.to_owned(),
            identity.to_owned(),
        ];
        let more = [endpoint.callers.breaking()]
            .into_iter()
            .chain(more.map(|cell| (cell, Tone::Plain)));
        table.toned(cells(endpoint).into_iter().chain(more));
    }
    table
}

fn cells(endpoint: &Endpoint) -> [(String, Tone); 9] {
    let (ready, tone) = match endpoint.ready {
        Some(true) => ("yes", Tone::Good),
        Some(false) => ("no", Tone::Bad),
        None => ("-", Tone::Dim),
    };
    let (mtls, mtls_tone) = if endpoint.identity.is_some() {
        ("yes", Tone::Good)
    } else {
        ("no", Tone::Warn)
    };
    [
        (endpoint.service.clone(), Tone::Plain),
        (endpoint.address.to_string(), Tone::Plain),
        (endpoint.pod.clone(), Tone::Plain),
        (ready.to_owned(), tone),
        (mtls.to_owned(), mtls_tone),
        endpoint.callers.ready(),
        endpoint.callers.rate(),
        endpoint.callers.success(),
        endpoint.callers.ewma(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheer_api::linkerd::destination::{AddrSet, NoEndpoints, ProtocolHint, TlsIdentity, WeightedAddrSet};

    fn weighted(last: u8) -> WeightedAddr {
        let name = "ledger.bank.serviceaccount.identity.sheer.cluster.local".to_owned();
        let strategy = tls_identity::Strategy::DnsLikeIdentity(tls_identity::DnsLikeIdentity { name });
        let hint = protocol_hint::Protocol::H2(protocol_hint::H2 {});
        WeightedAddr {
            addr: Some(TcpAddress {
                ip: Some([10, 77, 0, last].into()),
                port: 9000,
            }),
            weight: 10_000,
            tls_identity: Some(TlsIdentity {
                strategy: Some(strategy),
                server_name: None,
            }),
            protocol_hint: Some(ProtocolHint {
                protocol: Some(hint),
                opaque_transport: None,
            }),
            ..WeightedAddr::default()
        }
    }

    fn update(kind: Kind) -> Update {
        Update { update: Some(kind) }
    }

    #[test]
    fn updates_build_the_state() {
        let mut found = Some(Found::new());
        apply(
            &mut found,
            update(Kind::Add(WeightedAddrSet {
                addrs: vec![weighted(2), weighted(3)],
                ..Default::default()
            })),
        );
        apply(
            &mut found,
            update(Kind::Remove(AddrSet {
                addrs: vec![weighted(2).addr.unwrap()],
            })),
        );
        assert_eq!(
            found.as_ref().unwrap().keys().collect::<Vec<_>>(),
            [&"10.77.0.3:9000".parse().unwrap()]
        );
        apply(&mut found, update(Kind::NoEndpoints(NoEndpoints { exists: true })));
        assert_eq!(found.as_ref().map(BTreeMap::len), Some(0));
        apply(&mut found, update(Kind::NoEndpoints(NoEndpoints { exists: false })));
        assert!(found.is_none());
    }

    #[test]
    fn the_table_reads_well() {
        let path = "ledger.bank.svc.cluster.local:9000";
        let pods = [Pod {
            ips: vec!["10.77.0.2".parse().unwrap()],
            ready: true,
            ..Pod::sample("ledger-0")
        }];
        let mut endpoints = [describe(path, &weighted(2), &pods), describe(path, &weighted(3), &pods)];
        endpoints[0].callers = Callers {
            proxies: 3,
            ready: 2,
            breaking: 1,
            ewma_ms: 2.25,
            pending: 4,
            requests_per_second: 12.5,
            success_rate: Some(0.75),
        };
        insta::assert_snapshot!(table(&endpoints).render(false) + "\n" + &wide(&endpoints).render(false));
    }

    #[test]
    fn rates_are_of_this_endpoint() {
        let endpoint = describe("ledger.bank.svc.cluster.local:9000", &weighted(2), &[]);
        let series = |name: &str, addr: &str, more: &str, value: u32| {
            format!("{name}{{direction=\"outbound\",peer=\"dst\",target_addr=\"{addr}\"{more}}} {value}\n")
        };
        let page = |times: u32| {
            [
                series("request_total", "10.77.0.2:9000", "", 10 * times),
                series("request_total", "10.77.0.3:9000", "", 90 * times),
                series("tcp_open_total", "10.77.0.2:9000", "", 70 * times),
                series(
                    "response_total",
                    "10.77.0.2:9000",
                    ",classification=\"success\"",
                    6 * times,
                ),
                series(
                    "response_total",
                    "10.77.0.2:9000",
                    ",classification=\"failure\"",
                    2 * times,
                ),
            ]
            .concat()
        };
        let (before, after) = (page(1), page(3));
        let scrapes = Scrapes::of(&[(&before, &after)], Duration::from_secs(4));
        let callers = Callers::of(&endpoint, &[], &scrapes);
        assert_eq!(callers.requests_per_second, 5.0);
        assert_eq!(callers.success_rate, Some(0.75));
    }

    #[test]
    fn services_are_named_as_kubectl_and_linkerd_do() {
        let full = "ledger.bank.svc.cluster.local:9000";
        let known = [("bank", "ledger"), ("bank", "fx"), ("shop", "fx")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        for name in [
            "ledger:9000",
            "svc/ledger:9000",
            "ledger.bank:9000",
            "ledger.bank.svc:9000",
            full,
        ] {
            assert_eq!(authority(name, Some("bank"), &[]).unwrap(), full, "{name}");
            assert_eq!(authority(name, None, &known).unwrap(), full, "{name}");
        }
        for wrong in ["ledger", "ledger:http", ":9000", "a.b.c:1", "fx:9000", "web:80"] {
            assert!(authority(wrong, None, &known).is_err(), "{wrong}");
        }
    }
}

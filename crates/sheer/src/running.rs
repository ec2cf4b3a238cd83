//! What reading commands ask a running mesh: its pods, its control plane, and its proxies. The network of a mesh is not the
//! host's: connections into it go through the supervisor.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use sheer_api::names::ADMIN_PORT;
use sheer_api::v1::control_client::ControlClient;
use sheer_api::v1::stats_client::StatsClient;
use sheer_api::v1::traces_client::TracesClient;
use sheer_api::v1::{
    ConfigDumpRequest, EnterRequest, ExplainRequest, ExplainResponse, FrameEvent, IssueTokenRequest,
    IssueTokenResponse, ListTracesRequest, ListTracesResponse, PlaintextEvent, PolicyDiffRequest, PolicyDiffResponse,
    PropagationRequest, ProxyConnections, ProxyDump, ProxyLogLevel, RenewRequest, RenewedProxy, ReportRequest,
    ReportResponse, RevokeTokensRequest, RouteStatus, RoutesRequest, ShowTraceRequest, TapLine, Trace,
    WatchConnectionsRequest, WatchDiffRequest, WatchDiffResponse, WatchFramesRequest, WatchPlaintextRequest,
    WatchSecretsRequest, WatchTapRequest, WorkloadLogLevelRequest, WorkloadPropagation, WorkloadSecret,
};
use sheer_control::objects::{self, ObjectMeta};
use sheer_local::addresses;
use sheer_local::client::Client;
use sheer_local::dial;
use sheer_local::protocol::{MeshStatus, PodSummary};
use sheer_local::state::State;
use sheer_local::workload::{self, Reference, WorkloadKind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use crate::cli::Global;
use crate::outcome::Misuse;

/// Patience with one question to a part of the mesh.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same, where the control plane itself has to ask proxies first.
const PROXIES_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether a control plane that starts is there.
const POLL: Duration = Duration::from_millis(20);
/// What all proxies of a mesh hold can be much.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;
/// No answer of a proxy is longer than this.
const ANSWER_LIMIT: u64 = 16 * 1024 * 1024;

/// Runs a command's future on a runtime of one thread.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// A mesh that runs on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    state: State,
    /// What the caller shows to look at traffic; the mesh's owner needs none.
    token: Option<String>,
}

/// One replica of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// What made it, as `deploy/ledger`.
    pub(crate) workload: String,
    pub(crate) service_account: String,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) ready: bool,
    /// As `sheer ps` shows it, with the reason.
    pub(crate) state: String,
    pub(crate) restarts: u32,
    /// Whether it has a sidecar.
    pub(crate) meshed: bool,
    /// A port that is redirected to its sidecar, as those of its peers' connections are: the first of its containers that is not skipped. None
    /// where it has none.
    pub(crate) redirected: Option<u16>,
}

impl Pod {
    /// What the supervisor says of the pod, and what the object that it wrote for the control plane has beyond that.
    fn of(summary: PodSummary, object: Option<&objects::Pod>) -> Self {
        let PodSummary {
            namespace,
            name,
            workload,
            ready,
            state,
            reason,
            restarts,
            ips,
            meshed,
            ..
        } = summary;
        Self {
            service_account: object.map_or("default", |pod| pod.service_account()).to_owned(),
            redirected: object.and_then(redirected),
            state: if reason.is_empty() {
                state
            } else {
                format!("{state}: {reason}")
            },
            ..Self {
                namespace,
                name,
                workload,
                ips,
                ready,
                restarts,
                meshed,
                ..Self::default()
            }
        }
    }

    /// Name of what made it, as `ledger`.
    pub(crate) fn workload_name(&self) -> &str {
        self.workload.rsplit('/').next().unwrap_or_default()
    }

    /// Whether an operator's reference means this pod.
    pub(crate) fn is_meant_by(&self, reference: &Reference) -> bool {
        let kind = reference.kind.map(WorkloadKind::as_str);
        let of_workload = self
            .workload
            .split_once('/')
            .is_some_and(|(own, name)| kind.is_none_or(|kind| kind == own) && name == reference.name);
        of_workload || (kind.is_none_or(|kind| kind == "pod") && self.name == reference.name)
    }

    /// A port of the pod at its first address.
    pub(crate) fn at(&self, port: u16) -> anyhow::Result<SocketAddr> {
        let ip = self
            .ips
            .first()
            .with_context(|| format!("{} has no address yet", self.name))?;
        Ok(SocketAddr::new(*ip, port))
    }

    /// A pod for tests.
    #[cfg(test)]
    pub(crate) fn sample(name: &str) -> Self {
        Self {
            namespace: "bank".to_owned(),
            name: name.to_owned(),
            meshed: true,
            ..Self::default()
        }
    }
}

/// The first TCP port of the containers that what comes from the supervisor does not reach past the sidecar.
fn redirected(pod: &objects::Pod) -> Option<u16> {
    let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
    let mut tcp = ports.filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
    let asks = IpAddr::from(addresses::bridge().v4);
    tcp.find(|port| workload::redirects(&pod.metadata.annotations, asks, port.container_port))
        .map(|port| port.container_port)
}

impl Mesh {
    /// The mesh of the state directory that the flags name. An error where none runs.
    pub(crate) async fn find(global: &Global) -> anyhow::Result<Self> {
        let mesh = Self {
            state: global.state()?,
            token: global.token.clone(),
        };
        mesh.status().await?;
        Ok(mesh)
    }

    /// The mesh of a state directory that this process started.
    pub(crate) fn of(state: State) -> Self {
        Self { state, token: None }
    }

    /// Where the mesh keeps its files.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// What the supervisor says.
    pub(crate) async fn status(&self) -> anyhow::Result<MeshStatus> {
        let state = self.state.clone();
        let status = tokio::task::spawn_blocking(move || Client::connect(&state)?.status()).await?;
        Ok(status?)
    }

    /// Every replica that runs or starts, by namespace and name.
    pub(crate) async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        self.pods_of(self.status().await?)
    }

    /// The same, from a status that was asked for already.
    pub(crate) fn pods_of(&self, status: MeshStatus) -> anyhow::Result<Vec<Pod>> {
        let objects: Vec<objects::Pod> = self.objects("pods")?;
        let object = |summary: &PodSummary| {
            let same = |metadata: &ObjectMeta| metadata.namespace == summary.namespace && metadata.name == summary.name;
            objects.iter().find(|pod| same(&pod.metadata))
        };
        let mut pods: Vec<Pod> = status
            .pods
            .into_iter()
            .map(|summary| {
                let object = object(&summary);
                Pod::of(summary, object)
            })
            .collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(pods)
    }

    /// The last part of every identity of the mesh. From what the supervisor wrote when it started the control plane, which need not answer
    /// now.
    pub(crate) fn trust_domain(&self) -> anyhow::Result<String> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Description {
            trust_domain: String,
        }
        let path = self.state.description();
        let text = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let description: Description = serde_json::from_slice(&text)
            .with_context(|| format!("{} does not say what the mesh is", path.display()))?;
        Ok(description.trust_domain)
    }

    /// Namespace and name of every service.
    pub(crate) fn services(&self) -> anyhow::Result<Vec<(String, String)>> {
        #[derive(serde::Deserialize)]
        struct Named {
            metadata: ObjectMeta,
        }
        let services: Vec<Named> = self.objects("services")?;
        Ok(services
            .into_iter()
            .map(|Named { metadata }| (metadata.namespace, metadata.name))
            .collect())
    }

    /// The objects that the supervisor wrote for the control plane.
    fn objects<T: DeserializeOwned>(&self, kind: &str) -> anyhow::Result<Vec<T>> {
        let folder = self.state.status().join(kind);
        let mut objects = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let path = entry?.path();
            let hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden || path.extension().is_none_or(|extension| extension != "json") {
                continue; // half written
            }
            let Ok(text) = std::fs::read(&path) else { continue }; // ended meanwhile
            objects.push(serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?);
        }
        Ok(objects)
    }

    /// A channel to every service of the control plane.
    pub(crate) async fn control(&self) -> anyhow::Result<Channel> {
        // A mesh is there a moment before its control plane.
        let (socket, until) = (self.state.control_socket(), Instant::now() + PATIENCE);
        while !socket.exists() && Instant::now() < until {
            sleep(POLL).await;
        }
        let channel = endpoint().connect_with_connector(connector(self.state.clone())).await;
        channel.map_err(|_| {
            anyhow!(
                "the control plane does not answer on {}; see `sheer logs control`",
                socket.display()
            )
        })
    }

    /// A question with the caller's token.
    fn with_token<T>(&self, question: T) -> anyhow::Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(question);
        if let Some(token) = &self.token {
            let value = format!("Bearer {}", token.trim());
            let value = value
                .parse()
                .map_err(|_| Misuse("the token is none that `sheer token` made".to_owned()))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    /// The caller's token, where there is one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// For what a token never allows.
    fn must_own(&self) -> anyhow::Result<()> {
        must_own(self.token.as_deref())
    }

    /// Notes that somebody enters the network of a workload; an error where nobody may.
    pub(crate) async fn enter(&self, request: EnterRequest) -> anyhow::Result<()> {
        let mut client = ControlClient::new(self.control().await?);
        proxies_asked(client.enter(self.with_token(request)?)).await?;
        Ok(())
    }

    /// Makes a token.
    pub(crate) async fn issue_token(&self, request: IssueTokenRequest) -> anyhow::Result<IssueTokenResponse> {
        let mut client = ControlClient::new(self.control().await?);
        proxies_asked(client.issue_token(self.with_token(request)?)).await
    }

    /// Makes every token void.
    pub(crate) async fn revoke_tokens(&self) -> anyhow::Result<()> {
        let mut client = ControlClient::new(self.control().await?);
        proxies_asked(client.revoke_tokens(self.with_token(RevokeTokensRequest {})?)).await?;
        Ok(())
    }

    /// The same, which connects when it is used first, and again whenever it has to: the control plane need not run now.
    pub(crate) fn channel(&self) -> Channel {
        endpoint().connect_with_connector_lazy(connector(self.state.clone()))
    }

    /// What the control plane says of itself and of the manifests.
    pub(crate) async fn report(&self) -> anyhow::Result<ReportResponse> {
        let mut client = ControlClient::new(self.control().await?);
        let answer = timeout(PATIENCE, client.report(ReportRequest {}))
            .await
            .context("the control plane takes too long")?;
        Ok(answer
            .map_err(|status| anyhow!("the control plane refuses: {}", status.message()))?
            .into_inner())
    }

    /// What becomes of a request.
    pub(crate) async fn explain(&self, request: ExplainRequest) -> anyhow::Result<ExplainResponse> {
        let mut client = ControlClient::new(self.control().await?);
        proxies_asked(client.explain(self.with_token(request)?)).await
    }

    /// Every route and what the control plane says of it.
    pub(crate) async fn routes(&self) -> anyhow::Result<Vec<RouteStatus>> {
        let mut client = ControlClient::new(self.control().await?);
        Ok(proxies_asked(client.routes(RoutesRequest::default())).await?.routes)
    }

    /// Traces that the control plane keeps.
    pub(crate) async fn traces(&self, request: ListTracesRequest) -> anyhow::Result<ListTracesResponse> {
        self.must_own()?;
        let mut client = TracesClient::new(self.control().await?).max_decoding_message_size(LARGEST_ANSWER);
        proxies_asked(client.list(request)).await
    }

    /// One of them.
    pub(crate) async fn trace(&self, id: &str) -> anyhow::Result<Trace> {
        self.must_own()?;
        let mut client = TracesClient::new(self.control().await?).max_decoding_message_size(LARGEST_ANSWER);
        let trace_id = id.to_owned();
        proxies_asked(client.show(ShowTraceRequest { trace_id })).await
    }

    /// Which workloads pass on the contexts of traces, and which break them.
    pub(crate) async fn propagation(&self) -> anyhow::Result<Vec<WorkloadPropagation>> {
        self.must_own()?;
        let mut client = TracesClient::new(self.control().await?);
        Ok(proxies_asked(client.propagation(PropagationRequest::default()))
            .await?
            .workloads)
    }

    /// What changed manifests would do to traffic.
    pub(crate) async fn policy_diff(&self, request: PolicyDiffRequest) -> anyhow::Result<PolicyDiffResponse> {
        let client = ControlClient::new(self.control().await?);
        proxies_asked(
            client
                .max_decoding_message_size(LARGEST_ANSWER)
                .policy_diff(self.with_token(request)?),
        )
        .await
    }

    /// What proxies hold.
    pub(crate) async fn config_dump(&self, request: ConfigDumpRequest) -> anyhow::Result<Vec<ProxyDump>> {
        let client = ControlClient::new(self.control().await?);
        let answer = proxies_asked(
            client
                .max_decoding_message_size(LARGEST_ANSWER)
                .config_dump(self.with_token(request)?),
        )
        .await?;
        Ok(answer.proxies)
    }

    /// Connections of proxies.
    pub(crate) async fn connections(&self, request: WatchConnectionsRequest) -> anyhow::Result<Vec<ProxyConnections>> {
        let client = ControlClient::new(self.control().await?);
        let answer = proxies_asked(
            client
                .max_decoding_message_size(LARGEST_ANSWER)
                .connections(self.with_token(request)?),
        )
        .await?;
        Ok(answer.proxies)
    }

    /// Frames of proxies.
    pub(crate) async fn frames(&self, request: WatchFramesRequest) -> anyhow::Result<tonic::Streaming<FrameEvent>> {
        let client = ControlClient::new(self.control().await?);
        proxies_asked(
            client
                .max_decoding_message_size(LARGEST_ANSWER)
                .frames(self.with_token(request)?),
        )
        .await
    }

    /// Requests as they pass.
    pub(crate) async fn tap(&self, request: WatchTapRequest) -> anyhow::Result<tonic::Streaming<TapLine>> {
        let client = ControlClient::new(self.control().await?);
        proxies_asked(
            client
                .max_decoding_message_size(LARGEST_ANSWER)
                .tap(self.with_token(request)?),
        )
        .await
    }

    /// What proxies read and write above TLS from now on.
    pub(crate) async fn plaintext(
        &self,
        request: WatchPlaintextRequest,
    ) -> anyhow::Result<tonic::Streaming<PlaintextEvent>> {
        let client = ControlClient::new(self.control().await?);
        proxies_asked(
            client
                .max_decoding_message_size(LARGEST_ANSWER)
                .plaintext(self.with_token(request)?),
        )
        .await
    }

    /// Requests at the four points.
    pub(crate) async fn diff(&self, request: WatchDiffRequest) -> anyhow::Result<WatchDiffResponse> {
        let client = ControlClient::new(self.control().await?);
        proxies_asked(
            client
                .max_decoding_message_size(LARGEST_ANSWER)
                .diff(self.with_token(request)?),
        )
        .await
    }

    /// The secrets of TLS sessions that the proxies of a workload begin from now on.
    pub(crate) async fn secrets(
        &self,
        request: WatchSecretsRequest,
    ) -> anyhow::Result<tonic::Streaming<WorkloadSecret>> {
        let mut client = ControlClient::new(self.control().await?);
        proxies_asked(client.secrets(self.with_token(request)?)).await
    }

    /// What the proxies of a workload log, and a change of it.
    pub(crate) async fn log_level(&self, request: WorkloadLogLevelRequest) -> anyhow::Result<Vec<ProxyLogLevel>> {
        let mut client = ControlClient::new(self.control().await?);
        Ok(proxies_asked(client.log_level(self.with_token(request)?))
            .await?
            .proxies)
    }

    /// Has the proxies of a workload replace their connections with peers.
    pub(crate) async fn renew_connections(&self, request: RenewRequest) -> anyhow::Result<Vec<RenewedProxy>> {
        let mut client = ControlClient::new(self.control().await?);
        Ok(proxies_asked(client.renew_connections(self.with_token(request)?))
            .await?
            .proxies)
    }

    /// The virtual addresses of services, each with its service as `ledger.bank`.
    pub(crate) fn virtual_addresses(&self) -> anyhow::Result<Vec<(IpAddr, String)>> {
        let services: Vec<objects::Service> = self.objects("services")?;
        let named = services.iter().flat_map(|service| {
            let name = format!("{}.{}", service.metadata.name, service.metadata.namespace);
            let spec = &service.spec;
            let addresses = spec.cluster_ips.iter().chain(&spec.cluster_ip);
            addresses
                .filter_map(|ip| ip.parse().ok())
                .map(move |ip| (ip, name.clone()))
        });
        Ok(named.collect())
    }

    /// Asks the control plane's windows.
    pub(crate) async fn stats(&self) -> anyhow::Result<StatsClient<Channel>> {
        self.must_own()?;
        Ok(StatsClient::new(self.control().await?).max_decoding_message_size(LARGEST_ANSWER))
    }

    /// A connection to an address inside the mesh.
    pub(crate) async fn dial(&self, address: SocketAddr) -> anyhow::Result<UnixStream> {
        dial::address(&self.state, address)
            .await
            .with_context(|| format!("{address} cannot be reached"))
    }

    /// What the proxy of a pod answers to a GET on its admin port: status and body.
    pub(crate) async fn proxy(&self, pod: &Pod, path: &str) -> anyhow::Result<(u16, String)> {
        let ask = async { fetch(self.dial(pod.at(ADMIN_PORT)?).await?, path).await };
        let answer = timeout(PATIENCE, ask)
            .await
            .map_err(|_| anyhow!("it took too long"))
            .and_then(|answer| answer);
        answer.with_context(|| format!("the proxy of {} does not answer", pod.name))
    }
}

/// A name for the sake of HTTP alone: the connection is the socket's.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://control").connect_timeout(PATIENCE)
}

/// Connects to the control plane's socket, whatever the address.
fn connector(
    state: State,
) -> impl tower::Service<http::Uri, Response = TokioIo<UnixStream>, Error = std::io::Error, Future: Send> + Send + 'static
{
    tower::service_fn(move |_| {
        let state = state.clone();
        async move { dial::control(&state).await.map(TokioIo::new) }
    })
}

/// An answer for which the control plane asks proxies. What the operator wrote wrong is misuse, told in the control plane's words.
pub(crate) async fn proxies_asked<T>(
    asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> anyhow::Result<T> {
    use tonic::Code::{InvalidArgument, NotFound};
    match timeout(PROXIES_PATIENCE, asked)
        .await
        .context("the control plane takes too long")?
    {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if matches!(status.code(), InvalidArgument | NotFound) => {
            Err(Misuse(status.message().to_owned()).into())
        }
        Err(status) => Err(anyhow!("{}", status.message())),
    }
}

/// An error for whoever shows a token.
pub(crate) fn must_own(token: Option<&str>) -> anyhow::Result<()> {
    anyhow::ensure!(
        token.is_none(),
        "a token (SHEER_TOKEN, --token) allows to look at traffic and nothing else: this only the mesh's owner may"
    );
    Ok(())
}

/// One GET over a fresh connection. HTTP/1.0, so that the answer ends with the connection.
async fn fetch<S>(mut stream: S, path: &str) -> anyhow::Result<(u16, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nhost: proxy\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.take(ANSWER_LIMIT).read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of headers")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("the answer has no status")?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &'static [u8]) -> anyhow::Result<(u16, String)> {
        let (client, mut server) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let mut request = vec![0; 1024];
            let read = server.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /ready HTTP/1.0\r\n"));
            server.write_all(answer).await.unwrap();
        });
        fetch(client, "/ready").await
    }

    #[tokio::test]
    async fn an_answer_has_a_status_and_a_body() {
        let answer = answered(b"HTTP/1.0 503 Service Unavailable\r\ncontent-length: 11\r\n\r\nno identity").await;
        assert_eq!(answer.unwrap(), (503, "no identity".to_owned()));
        assert!(answered(b"").await.is_err());
        assert!(answered(b"SSH-2.0-OpenSSH\r\n\r\n").await.is_err());
    }

    #[test]
    fn pods_join_what_the_supervisor_says_and_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::locate(Some(folder.path().to_owned())).unwrap();
        state.create().unwrap();
        let json = r#"{"metadata": {"name": "ledger-0", "namespace": "bank",
                "annotations": {"config.linkerd.io/skip-inbound-ports": "8999-9000"}},
            "spec": {"serviceAccountName": "ledger", "containers": [{"name": "ledger", "ports": [
                {"containerPort": 9000}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 9001}]}]}}"#;
        std::fs::write(state.status().join("pods/bank.ledger-0.json"), json).unwrap();
        std::fs::write(state.status().join("pods/.bank.ledger-1.json"), "{").unwrap();
        let summary = PodSummary {
            namespace: "bank".to_owned(),
            name: "ledger-0".to_owned(),
            workload: "deploy/ledger".to_owned(),
            ready: false,
            state: "Running".to_owned(),
            reason: "probe fails".to_owned(),
            restarts: 1,
            age_s: 1,
            ips: vec!["10.77.0.2".parse().unwrap()],
            meshed: true,
            containers: Vec::new(),
            sidecar: None,
        };
        let status = MeshStatus {
            pods: vec![summary],
            ..MeshStatus::default()
        };
        let pods = Mesh::of(state).pods_of(status).unwrap();
        let expected = Pod {
            workload: "deploy/ledger".to_owned(),
            service_account: "ledger".to_owned(),
            ips: vec!["10.77.0.2".parse().unwrap()],
            state: "Running: probe fails".to_owned(),
            restarts: 1,
            redirected: Some(9001),
            ..Pod::sample("ledger-0")
        };
        assert_eq!(pods, [expected]);
    }

    #[test]
    fn references_mean_workloads_or_pods() {
        let pod = Pod {
            workload: "deploy/ledger".to_owned(),
            ..Pod::sample("ledger-6d9f4-0")
        };
        for (text, meant) in [
            ("ledger", true),
            ("deploy/ledger", true),
            ("sts/ledger", false),
            ("pod/ledger-6d9f4-0", true),
            ("ledger-6d9f4-0", true),
            ("fx", false),
        ] {
            assert_eq!(pod.is_meant_by(&text.parse().unwrap()), meant, "{text}");
        }
    }
}

//! What the tests of the outbound path share: a discovery that the test plays, servers with a switch for every fault, clients.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, Request, Response, StatusCode};
use sheer_policy::outbound::Backend;
use sheer_proxy::{
    addr::OrigDst,
    discovery::{
        Budgets, Discovery, Endpoint, EndpointSet, Hint, InboundPolicy, Labels, Lookup, ObjectRef, OutboundPolicy,
        OutboundTarget, ProtocolPlan,
    },
    identity,
    life::LifeControl,
    metrics::Registry,
    outbound::Outbound,
    settings::{self, Settings},
    trace::{Collecting, Spans, Tracer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, LocalSet},
};

/// Runs a test on a worker like the proxy's, and not for ever.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    });
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// The address that clients ask for; nothing listens there.
pub(crate) const SERVICE: &str = "10.9.8.7:80";
pub(crate) const PATH: &str = "web.shop.svc.cluster.local:80";

/// A discovery that the test plays.
#[derive(Default)]
pub(crate) struct Play {
    targets: Mutex<HashMap<OrigDst, watch::Sender<Lookup<OutboundTarget>>>>,
    endpoints: Mutex<HashMap<String, watch::Sender<Lookup<EndpointSet>>>>,
    budgets: Budgets,
}

impl Discovery for Play {
    fn outbound(&self, dst: OrigDst) -> watch::Receiver<Lookup<OutboundTarget>> {
        self.targets
            .lock()
            .unwrap()
            .entry(dst)
            .or_insert_with(|| watch::channel(Lookup::Unknown).0)
            .subscribe()
    }

    fn endpoints(&self, path: &str) -> watch::Receiver<Lookup<EndpointSet>> {
        let mut endpoints = self.endpoints.lock().unwrap();
        endpoints
            .entry(path.to_owned())
            .or_insert_with(|| watch::channel(Lookup::Pending).0)
            .subscribe()
    }

    fn inbound(&self, _port: u16) -> watch::Receiver<Lookup<InboundPolicy>> {
        unreachable!("the outbound path asks for no inbound policy")
    }

    fn budgets(&self) -> &Budgets {
        &self.budgets
    }
}

impl Play {
    /// What is said of an original destination from now on.
    pub(crate) fn target(&self, dst: SocketAddr, lookup: Lookup<OutboundTarget>) {
        let mut targets = self.targets.lock().unwrap();
        targets
            .entry(OrigDst(dst))
            .or_insert_with(|| watch::channel(Lookup::Pending).0)
            .send_replace(lookup);
    }

    /// The endpoints of the service from now on.
    pub(crate) fn endpoints(&self, endpoints: impl IntoIterator<Item = Endpoint>) {
        self.endpoints_of(PATH, endpoints);
    }

    /// The endpoints of a path from now on.
    pub(crate) fn endpoints_of(&self, path: &str, endpoints: impl IntoIterator<Item = Endpoint>) {
        let mut endpoints: Vec<_> = endpoints.into_iter().map(Arc::new).collect();
        endpoints.sort_by_key(|endpoint| endpoint.addr);
        let set = Lookup::Known(Arc::new(EndpointSet {
            endpoints,
            exists: true,
        }));
        let mut all = self.endpoints.lock().unwrap();
        all.entry(path.to_owned())
            .or_insert_with(|| watch::channel(Lookup::Pending).0)
            .send_replace(set);
    }
}

/// A service at [`SERVICE`], balanced over the endpoints that the test says.
pub(crate) fn service() -> OutboundTarget {
    target(balanced("web", PATH))
}

/// A target whose traffic goes to one backend.
pub(crate) fn target(backend: Backend) -> OutboundTarget {
    with_policy(OutboundPolicy::plain(object("Service", "web"), DETECT, backend))
}

/// A target with a policy.
pub(crate) fn with_policy(policy: OutboundPolicy) -> OutboundTarget {
    OutboundTarget {
        name: "web.shop:80".into(),
        policy: Arc::new(policy),
    }
}

/// How services find out what is spoken.
pub(crate) const DETECT: ProtocolPlan = ProtocolPlan::Detect {
    timeout: Duration::from_secs(10),
};

/// The endpoints of a path; nobody waits long for them.
pub(crate) fn balanced(name: &str, path: &str) -> Backend {
    Backend {
        queue_capacity: Some(100),
        failfast_timeout: Some(Duration::from_millis(300)),
        ..Backend::balanced(object("Service", name), path)
    }
}

pub(crate) fn object(kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        group: "core".into(),
        kind: kind.into(),
        namespace: "shop".into(),
        name: name.into(),
        ..ObjectRef::default()
    }
}

/// An endpoint without a mesh.
pub(crate) fn endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint {
        addr,
        weight: 1.0,
        identity: None,
        hint: Hint::Unknown,
        transport_port: None,
        authority_override: None,
        labels: Labels::default(),
    }
}

/// A proxy of one worker.
pub(crate) struct Proxy {
    pub(crate) discovery: Arc<Play>,
    pub(crate) registry: Registry,
    outbound: Rc<Outbound>,
    life: LifeControl,
}

impl Proxy {
    /// A proxy that finds [`service`] at [`SERVICE`].
    pub(crate) fn start() -> Self {
        Self::start_as(identity::channel().1)
    }

    /// As [`Self::start`], with an identity.
    pub(crate) fn start_as(identity: identity::Identity) -> Self {
        Self::start_with(identity, settings())
    }

    /// As [`Self::start`], with settings.
    pub(crate) fn start_with(identity: identity::Identity, settings: Settings) -> Self {
        let discovery = Arc::new(Play::default());
        discovery.target(SERVICE.parse().unwrap(), Lookup::Known(Arc::new(service())));
        let registry = Registry::new(Duration::from_secs(600));
        let life = LifeControl::default();
        let path = Arc::clone(&discovery) as _;
        let outbound = Outbound::new(Arc::new(settings), path, identity, life.life(), registry.shard());
        Self {
            discovery,
            registry,
            outbound,
            life,
        }
    }

    /// Another worker of the same process.
    pub(crate) fn worker(&self) -> Rc<Outbound> {
        let (discovery, identity) = (Arc::clone(&self.discovery) as _, identity::channel().1);
        Outbound::new(
            Arc::new(settings()),
            discovery,
            identity,
            self.life.life(),
            self.registry.shard(),
        )
    }

    /// Has requests recorded, and gives what is.
    pub(crate) fn traced(&self) -> Spans {
        self.traced_with(&settings())
    }

    /// The same, as settings have it.
    pub(crate) fn traced_with(&self, settings: &Settings) -> Spans {
        let (collecting, spans) = Collecting::recorded(settings);
        self.outbound.trace(&Tracer::start(&collecting, &self.registry.shard()));
        spans
    }

    /// The sum of all series of a family whose labels contain `labels`.
    pub(crate) fn counted(&self, family: &str, labels: &str) -> u64 {
        crate::inbound::counted(&self.registry, family, labels)
    }

    /// A connection of an application to `dst`.
    pub(crate) async fn connect_to(&self, dst: SocketAddr) -> TcpStream {
        connect_by(&self.outbound, dst).await
    }

    /// A port on which everything that connects wants to go to [`SERVICE`].
    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let outbound = Rc::clone(&self.outbound);
        tokio::task::spawn_local(async move {
            while let Ok((accepted, _)) = listener.accept().await {
                let dst = OrigDst(SERVICE.parse().unwrap());
                tokio::task::spawn_local(Rc::clone(&outbound).serve_to(accepted, dst));
            }
        });
        addr
    }

    /// An HTTP/2 client of [`SERVICE`].
    pub(crate) async fn h2(&self) -> Client {
        self.h2_to(SERVICE.parse().unwrap()).await
    }

    /// An HTTP/2 client of `dst`.
    pub(crate) async fn h2_to(&self, dst: SocketAddr) -> Client {
        client_over(self.connect_to(dst).await).await
    }

    /// An HTTP/2 client of [`SERVICE`] whose connection a worker accepted.
    pub(crate) async fn h2_by(&self, worker: &Rc<Outbound>) -> Client {
        client_over(connect_by(worker, SERVICE.parse().unwrap()).await).await
    }
}

async fn connect_by(worker: &Rc<Outbound>, dst: SocketAddr) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    tokio::task::spawn_local(Rc::clone(worker).serve_to(accepted, OrigDst(dst)));
    client
}

async fn client_over(tcp: TcpStream) -> Client {
    let (send, connection) = h2::client::handshake(tcp).await.unwrap();
    let ended = Rc::new(Cell::new(false));
    let note = Rc::clone(&ended);
    tokio::task::spawn_local(async move {
        let _ = connection.await;
        note.set(true);
    });
    Client { send, ended }
}

pub(crate) fn settings() -> Settings {
    settings_with(&[])
}

/// The same, with some changed.
pub(crate) fn settings_with(changes: &[(&str, &str)]) -> Settings {
    let anchors = rcgen::generate_simple_self_signed(["anchor".to_owned()]).unwrap();
    let anchors = anchors.cert.pem();
    let environment = [
        ("SHEER_PROXY_DESTINATION_SVC_ADDR", "localhost:8086"),
        ("SHEER_PROXY_POLICY_SVC_ADDR", "localhost:8090"),
        ("SHEER_PROXY_POLICY_WORKLOAD", "{}"),
        ("SHEER_PROXY_IDENTITY_SVC_ADDR", "localhost:8080"),
        (
            "SHEER_PROXY_IDENTITY_LOCAL_NAME",
            "client.shop.serviceaccount.identity.sheer.cluster.local",
        ),
        ("SHEER_PROXY_IDENTITY_DIR", "/nowhere"),
        ("SHEER_PROXY_IDENTITY_TOKEN_FILE", "/nowhere"),
        ("SHEER_PROXY_IDENTITY_TRUST_ANCHORS", anchors.as_str()),
        ("SHEER_PROXY_OUTBOUND_HTTP_FAILFAST_TIMEOUT", "300ms"),
        ("SHEER_PROXY_OUTBOUND_TCP_FAILFAST_TIMEOUT", "300ms"),
    ]
    .into_iter()
    .chain(changes.iter().copied());
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    settings::read(environment)
        .map_err(|mistakes| format!("{mistakes:?}"))
        .unwrap()
        .0
}

/// An HTTP/2 client.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) send: SendRequest<Bytes>,
    ended: Rc<Cell<bool>>,
}

/// A response, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Which server answered.
    pub(crate) fn server(&self) -> &str {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.body, b"question", "the server echoes");
        self.header("server")
    }
}

impl Client {
    /// A POST with a small body, as gRPC sends.
    pub(crate) async fn call(&self) -> Result<Answer, h2::Error> {
        let request = Request::post("http://web.shop/call").body(()).unwrap();
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, false)?;
        stream.send_data(Bytes::from_static(b"question"), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.data().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: bytes,
        })
    }

    /// Whether the proxy ended the connection.
    pub(crate) fn ended(&self) -> bool {
        self.ended.get()
    }
}

/// A server of HTTP/2 over plaintext, with switches.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) switches: Rc<Switches>,
    accept: RefCell<Option<AbortHandle>>,
}

/// What a server does.
pub(crate) struct Switches {
    name: String,
    /// Before it answers.
    pub(crate) delay: Cell<Duration>,
    pub(crate) status: Cell<StatusCode>,
    pub(crate) calls: Cell<usize>,
    pub(crate) connections: Cell<usize>,
    pub(crate) max_streams: Cell<Option<u32>>,
    /// Refuses so many requests before it takes any.
    pub(crate) refuse: Cell<usize>,
    /// Says GOAWAY on each connection after so many requests.
    pub(crate) go_away_after: Cell<Option<usize>>,
    alive: RefCell<Vec<AbortHandle>>,
}

impl Server {
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0".parse().unwrap()).await
    }

    /// A server at an address, as one that comes back.
    pub(crate) async fn start_at(name: &str, addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let switches = Rc::new(Switches {
            name: name.to_owned(),
            delay: Cell::default(),
            status: Cell::new(StatusCode::OK),
            calls: Cell::default(),
            connections: Cell::default(),
            max_streams: Cell::default(),
            refuse: Cell::default(),
            go_away_after: Cell::default(),
            alive: RefCell::default(),
        });
        let shared = Rc::clone(&switches);
        let accept = tokio::task::spawn_local(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                shared.connections.set(shared.connections.get() + 1);
                let connection = tokio::task::spawn_local(serve(tcp, Rc::clone(&shared)));
                shared.alive.borrow_mut().push(connection.abort_handle());
            }
        });
        Self {
            addr,
            switches,
            accept: RefCell::new(Some(accept.abort_handle())),
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        endpoint(self.addr)
    }

    /// Ends as a killed process does: nothing listens, connections are reset.
    pub(crate) fn kill(&self) {
        self.accept.take().into_iter().for_each(|task| task.abort());
        self.switches.alive.take().into_iter().for_each(|task| task.abort());
    }
}

async fn serve(tcp: TcpStream, switches: Rc<Switches>) {
    let mut builder = h2::server::Builder::new();
    if let Some(max) = switches.max_streams.get() {
        builder.max_concurrent_streams(max);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(tcp).await else {
        return;
    };
    let mut served = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        served += 1;
        if switches.go_away_after.get() == Some(served) {
            connection.graceful_shutdown();
        }
        let answer = tokio::task::spawn_local(answer(request, respond, Rc::clone(&switches)));
        switches.alive.borrow_mut().push(answer.abort_handle());
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, switches: Rc<Switches>) {
    switches.calls.set(switches.calls.get() + 1);
    if let Some(left) = switches.refuse.get().checked_sub(1) {
        switches.refuse.set(left);
        return respond.send_reset(h2::Reason::REFUSED_STREAM);
    }
    let mut body = request.into_body();
    let mut question = Vec::new();
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else { return };
        let _ = body.flow_control().release_capacity(chunk.len());
        question.extend_from_slice(&chunk);
    }
    if !switches.delay.get().is_zero() {
        tokio::time::sleep(switches.delay.get()).await;
    }
    let head = Response::builder()
        .status(switches.status.get())
        .header("server", &switches.name)
        .body(())
        .unwrap();
    let Ok(mut stream) = respond.send_response(head, false) else {
        return;
    };
    let _ = stream.send_data(question.into(), true);
}

/// A server that talks bytes: `script` gets each of its connections.
pub(crate) async fn script<F>(script: impl Fn(TcpStream) -> F + 'static) -> (SocketAddr, Rc<Cell<usize>>)
where
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = Rc::new(Cell::new(0));
    let count = Rc::clone(&connections);
    tokio::task::spawn_local(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            count.set(count.get() + 1);
            tokio::task::spawn_local(script(tcp));
        }
    });
    (addr, connections)
}

/// Answers every request of HTTP/1 without a body with `name` and the request's head as it came.
pub(crate) async fn http1_echo(tcp: TcpStream, name: &'static str) {
    http1_echo_after(tcp, name, Duration::ZERO).await;
}

/// The same, each time after a delay.
pub(crate) async fn http1_echo_after(mut tcp: TcpStream, name: &'static str, delay: Duration) {
    loop {
        let head = read_head(&mut tcp).await;
        if head.is_empty() {
            return;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Length: {}\r\n\r\n{head}",
            head.len()
        );
        if tcp.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads to the end of a head; empty where the connection ended before it.
pub(crate) async fn read_head<R: AsyncRead + Unpin>(io: &mut R) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// Sends a head and reads the response of [`http1_echo`], or of the proxy: its head, and its body.
pub(crate) async fn ask(tcp: &mut TcpStream, head: &str) -> (String, String) {
    tcp.write_all(head.as_bytes()).await.unwrap();
    let head = read_head(tcp).await;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    tcp.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

//! A forwarder made of the proxy's own parts, between an HTTP/2 client and an HTTP/2 server of the test.

use std::{cell::RefCell, collections::VecDeque, future::Future, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest, server::SendResponse};
use http::Request as HttpRequest;
use sheer_proxy::{
    error::{Direction, ProxyError},
    exchange::{self, Context, Observation, Outcome, Request, Responder, Sink, Upstream, exchange},
    headers, http2,
    life::LifeControl,
};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    task::{JoinHandle, LocalSet},
};

/// Runs a test on a worker like the proxy's, and not for ever.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test hangs");
    });
}

type Handler = Rc<dyn Fn(HttpRequest<RecvStream>, SendResponse<Bytes>) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A proxy between `client` and the handlers given to [`Forwarder::serve`].
pub(crate) struct Forwarder {
    /// The test's client, connected to the proxy.
    pub(crate) client: SendRequest<Bytes>,
    handlers: Rc<RefCell<VecDeque<Handler>>>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    _life: LifeControl,
}

/// What a test may change.
pub(crate) struct Knobs {
    /// How often a request is tried, each time at the next handler.
    pub(crate) attempts: usize,
}

struct Proxy {
    upstream: SendRequest<Bytes>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    knobs: Knobs,
}

struct Tell(mpsc::UnboundedSender<Outcome>);

impl Sink for Tell {
    fn end(&self, outcome: &Outcome) {
        let _ = self.0.send(outcome.clone());
    }
}

impl http2::Service for Proxy {
    fn refused(&self, _error: &ProxyError) -> Observation {
        Observation::start(Rc::new(Tell(self.outcomes.clone())))
    }

    async fn call(self: Rc<Self>, mut request: Request, mut responder: Responder) {
        let observation = Observation::start(Rc::new(Tell(self.outcomes.clone())));
        let cx = Context {
            direction: Direction::Inbound,
            addr: "10.0.0.9:8080".parse().unwrap(),
            header_limit: 256 * 1024,
            response_timeout: None,
            replay: true,
        };
        if let Err(error) = headers::check_limit(&request.head, &cx) {
            return responder.fail(&error, &observation).await;
        }
        for attempt in 1.. {
            let send = match self.upstream.clone().ready().await {
                Ok(send) => send,
                Err(_) => return responder.fail(&ProxyError::ShuttingDown, &observation).await,
            };
            let failed = match exchange(
                request,
                Upstream::H2 { send, mesh: false },
                responder,
                &cx,
                &observation,
            )
            .await
            {
                Ok(()) => return,
                Err(failed) => *failed,
            };
            let exchange::Failed {
                request: again,
                responder: back,
                error,
            } = failed;
            match again {
                Some(again) if attempt < self.knobs.attempts => (request, responder) = (again, back),
                _ => return back.fail(&error, &observation).await,
            }
        }
    }
}

impl Forwarder {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(tune: impl FnOnce(&mut Knobs)) -> Self {
        let mut knobs = Knobs { attempts: 1 };
        tune(&mut knobs);
        let (to_proxy, from_client) = tokio::io::duplex(64 * 1024);
        let (to_server, from_proxy) = tokio::io::duplex(64 * 1024);
        let handlers: Rc<RefCell<VecDeque<Handler>>> = Rc::default();
        tokio::task::spawn_local(serve(from_proxy, Rc::clone(&handlers)));
        let (upstream, drive) = http2::connect(to_server, http2::Config::default()).await.unwrap();
        tokio::task::spawn_local(drive);
        let (sender, outcomes) = mpsc::unbounded_channel();
        let life = LifeControl::default();
        let proxy = Rc::new(Proxy {
            upstream,
            outcomes: sender,
            knobs,
        });
        let handle = life.life();
        tokio::task::spawn_local(async move {
            let _ = http2::serve(from_client, &http2::Config::default(), proxy, &handle).await;
        });
        let (client, connection) = h2::client::Builder::new()
            .max_header_list_size(16 << 20)
            .handshake::<_, Bytes>(to_proxy)
            .await
            .unwrap();
        tokio::task::spawn_local(connection);
        Self {
            client,
            handlers,
            outcomes,
            _life: life,
        }
    }

    /// The next request is for `handler`; the last one given takes all that follow. Resolves with what the handler returned
    /// for its first request.
    pub(crate) fn serve<F, R>(
        &mut self,
        handler: impl Fn(HttpRequest<RecvStream>, SendResponse<Bytes>) -> F + 'static,
    ) -> JoinHandle<R>
    where
        F: Future<Output = R> + 'static,
        R: 'static,
    {
        let (sender, mut results) = mpsc::unbounded_channel();
        self.handlers.borrow_mut().push_back(Rc::new(move |request, respond| {
            let (sender, handled) = (sender.clone(), handler(request, respond));
            Box::pin(async move { drop(sender.send(handled.await)) })
        }));
        tokio::task::spawn_local(async move { results.recv().await.expect("the handler panicked") })
    }

    /// What the proxy observed next.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        self.outcomes.recv().await.unwrap()
    }
}

async fn serve(io: DuplexStream, handlers: Rc<RefCell<VecDeque<Handler>>>) {
    let mut server = h2::server::Builder::new()
        .max_header_list_size(16 << 20)
        .max_pending_accept_reset_streams(10_000)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(io)
        .await
        .unwrap();
    while let Some(Ok((request, respond))) = server.accept().await {
        let handler = {
            let mut handlers = handlers.borrow_mut();
            if handlers.len() > 1 {
                handlers.pop_front()
            } else {
                handlers.front().cloned()
            }
            .expect("no handler")
        };
        tokio::task::spawn_local(handler(request, respond));
    }
}

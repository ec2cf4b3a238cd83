//! One proxy made of the product's own parts, with both its pipes in the test's hands.

use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use sheer_proxy::{
    error::{Direction, ProxyError},
    exchange::{self, Context, Observation, Outcome, Request, Responder, Sink, Upstream, exchange},
    headers, http2,
    life::LifeControl,
    record::Tape,
};
use tokio::{io::DuplexStream, sync::mpsc};

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
    fn refused(&self, _refused: http2::Refused<'_>) -> Observation {
        Observation::start(Rc::new(Tell(self.outcomes.clone())))
    }

    async fn call(self: Rc<Self>, mut request: Request, mut responder: Responder) {
        let observation = Observation::start(Rc::new(Tell(self.outcomes.clone())));
        let cx = Context {
            direction: Direction::Inbound,
            addr: "10.0.0.9:8080".parse().unwrap(),
            header_limit: 256 * 1024,
            limits: exchange::Limits::default(),
            referee: None,
            replay: true,
            attempt: 0,
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
                Upstream::H2 {
                    send,
                    mesh: false,
                    tape: Tape::default(),
                },
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
                ..
            } = failed;
            match again {
                Some(again) if attempt < self.knobs.attempts => (request, responder) = (again, back),
                _ => return back.fail(&error, &observation).await,
            }
        }
    }
}

/// A proxy and the other ends of its pipes.
pub(crate) struct Wire {
    /// The client's end.
    pub(crate) client: DuplexStream,
    /// The server's end.
    pub(crate) server: DuplexStream,
    /// Ends the proxy.
    pub(crate) life: LifeControl,
}

impl Wire {
    /// One proxy, no peers yet.
    pub(crate) async fn start(knobs: Knobs, outcomes: mpsc::UnboundedSender<Outcome>) -> Self {
        let (client, from_client) = tokio::io::duplex(64 * 1024);
        let (to_server, server) = tokio::io::duplex(64 * 1024);
        let (upstream, drive) = http2::connect(to_server, http2::Config::default(), None).await.unwrap();
        tokio::task::spawn_local(drive);
        let life = LifeControl::default();
        let proxy = Rc::new(Proxy {
            upstream,
            outcomes,
            knobs,
        });
        let handle = life.life();
        tokio::task::spawn_local(async move {
            let _ = http2::serve(
                (from_client, Tape::default()),
                &http2::Config::default(),
                proxy,
                &handle,
            )
            .await;
        });
        Self { client, server, life }
    }
}

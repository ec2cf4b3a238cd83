//! A forwarder made of the proxy's own parts, between an HTTP/2 client and an HTTP/2 server of the test.

mod wire;

use std::{cell::RefCell, collections::VecDeque, future::Future, pin::Pin, rc::Rc};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest, server::SendResponse};
use http::Request as HttpRequest;
use sheer_proxy::{exchange::Outcome, life::LifeControl};
use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle};

use wire::{Knobs, Wire};

type Handler = Rc<dyn Fn(HttpRequest<RecvStream>, SendResponse<Bytes>) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A proxy between `client` and the handlers given to [`Forwarder::serve`].
pub(crate) struct Forwarder {
    /// The test's client, connected to the proxy.
    pub(crate) client: SendRequest<Bytes>,
    handlers: Rc<RefCell<VecDeque<Handler>>>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    _life: LifeControl,
}

impl Forwarder {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(tune: impl FnOnce(&mut Knobs)) -> Self {
        let mut knobs = Knobs { attempts: 1 };
        tune(&mut knobs);
        let (sender, outcomes) = mpsc::unbounded_channel();
        let wire = Wire::start(knobs, sender).await;
        let handlers: Rc<RefCell<VecDeque<Handler>>> = Rc::default();
        tokio::task::spawn_local(serve(wire.server, Rc::clone(&handlers)));
        let (client, connection) = h2::client::Builder::new()
            .max_header_list_size(16 << 20)
            .handshake::<_, Bytes>(wire.client)
            .await
            .unwrap();
        tokio::task::spawn_local(connection);
        Self {
            client,
            handlers,
            outcomes,
            _life: wire.life,
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

//! Tells customers what happened: a stream of steps for each notice.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};

use crate::faults::Switchboard;
use crate::server::{Listen, serve};
use crate::v1::notify_server::{Notify, NotifyServer};
use crate::v1::{Delivery, Notice};

/// What the push service and the mail relay take to accept a message.
const STEP: Duration = Duration::from_millis(1);
const STEPS: [(&str, &str); 4] = [
    ("push", "accepted"),
    ("push", "sent"),
    ("email", "accepted"),
    ("email", "sent"),
];

/// Serves `bank.v1.Notify`.
pub async fn run(listen: Listen) -> anyhow::Result<()> {
    let faults = Switchboard::new(listen.instance.clone());
    serve(&listen, faults, NotifyServer::new(Courier)).await
}

struct Courier;

#[tonic::async_trait]
impl Notify for Courier {
    type DeliverStream = Pin<Box<dyn Stream<Item = Result<Delivery, Status>> + Send>>;

    async fn deliver(&self, request: Request<Notice>) -> Result<Response<Self::DeliverStream>, Status> {
        let Notice { account, text } = request.into_inner();
        if account.is_empty() || text.is_empty() {
            return Err(Status::invalid_argument("a notice needs an account and a text"));
        }
        let deliveries = stream::iter(STEPS).then(|(way, state)| async move {
            tokio::time::sleep(STEP).await;
            Ok(Delivery {
                way: way.to_owned(),
                state: state.to_owned(),
            })
        });
        Ok(Response::new(Box::pin(deliveries)))
    }
}

//! Keeps what happened, in order, under a running hash, and confirms it to those who ask.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tonic::{Request, Response, Status, Streaming};

use crate::faults::Switchboard;
use crate::metadata::Fnv;
use crate::server::{Listen, serve};
use crate::v1::audit_server::{Audit, AuditServer};
use crate::v1::{Confirmation, Event, EventRef, RecordResponse};

/// Events that can still be confirmed; the oldest is forgotten first.
const KEPT: usize = 100_000;

/// Serves `bank.v1.Audit`.
pub async fn run(listen: Listen) -> anyhow::Result<()> {
    let faults = Switchboard::new(listen.instance.clone());
    serve(&listen, faults, AuditServer::new(Archive::default())).await
}

#[derive(Clone, Default)]
struct Archive(Arc<Mutex<Journal>>);

#[tonic::async_trait]
impl Audit for Archive {
    type ConfirmStream = Pin<Box<dyn Stream<Item = Result<Confirmation, Status>> + Send>>;

    async fn record(&self, request: Request<Streaming<Event>>) -> Result<Response<RecordResponse>, Status> {
        let mut events = request.into_inner();
        let mut answer = RecordResponse::default();
        while let Some(event) = events.message().await? {
            answer.chain = self.0.lock().append(event)?;
            answer.recorded += 1;
        }
        Ok(Response::new(answer))
    }

    async fn confirm(&self, request: Request<Streaming<EventRef>>) -> Result<Response<Self::ConfirmStream>, Status> {
        let archive = self.clone();
        let answers = request.into_inner().map(move |question| {
            let event = question?;
            let found = archive.0.lock().kept.contains(&key(&event));
            Ok(Confirmation {
                event: Some(event),
                found,
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[derive(Default)]
struct Journal {
    kept: HashSet<String>,
    order: VecDeque<String>,
    chain: Fnv,
}

impl Journal {
    /// Keeps one event; the hash over everything up to it.
    fn append(&mut self, event: Event) -> Result<u64, Status> {
        let Event {
            event: Some(reference),
            detail,
        } = event
        else {
            return Err(Status::invalid_argument("an event needs a payment and a kind"));
        };
        let key = key(&reference);
        self.chain.write(key.as_bytes());
        self.chain.write(detail.as_bytes());
        if self.order.len() == KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
        if self.kept.insert(key.clone()) {
            self.order.push_back(key);
        }
        Ok(self.chain.0)
    }
}

fn key(event: &EventRef) -> String {
    format!("{}/{}", event.payment_id, event.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, detail: &str) -> Event {
        let event = Some(EventRef {
            payment_id: "P-1".to_owned(),
            kind: kind.to_owned(),
        });
        Event {
            event,
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn the_chain_depends_on_every_event_and_their_order() {
        let chain = |events: &[(&str, &str)]| {
            let mut journal = Journal::default();
            events
                .iter()
                .map(|(kind, detail)| journal.append(event(kind, detail)).unwrap())
                .last()
        };
        let honest = chain(&[("held", "5"), ("settled", "5")]);
        assert_eq!(honest, chain(&[("held", "5"), ("settled", "5")]));
        assert_ne!(honest, chain(&[("held", "6"), ("settled", "5")]));
        assert_ne!(honest, chain(&[("settled", "5"), ("held", "5")]));
    }

    #[test]
    fn an_event_without_reference_is_refused() {
        assert!(Journal::default().append(Event::default()).is_err());
    }
}

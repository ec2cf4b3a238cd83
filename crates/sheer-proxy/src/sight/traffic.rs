//! Heads of requests that went through, a bounded sample: what a changed policy is tried on before it is applied.
//!
//! One [`Sampler`] a worker and half. While its bucket is empty a request costs it one addition and one branch. Secrets do not leave the proxy: values
//! of sensitive fields are replaced by a keyed hash, so that equal ones stay equal and nothing else can be learnt of them.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, StatusCode};
use prost::Message as _;
use sheer_api::v1;

use super::workers::Traffic;
use crate::{
    addr::OrigDst,
    exchange::{Head, Origin},
    redact::Redactor,
};

/// Samples that are kept, the latest, and the bytes that they may take: they stand in every sidecar for a command that is seldom run.
const KEPT: usize = 2_048;
const KEPT_BYTES: usize = 512 * 1024;
/// Samples in each interval: a hundred a second.
const BURST: u32 = 10;
/// How often the bucket is filled, while requests come.
const INTERVAL: Duration = Duration::from_millis(100);
/// Of larger header lists the rest is left out: samples are many, and routes look at small fields.
const HEADER_BYTES: usize = 1_024;
/// How what stands in place of a secret begins.
const HASHED: &[u8] = b"hash:";

/// Takes samples on one worker.
pub(crate) struct Sampler {
    tokens: Cell<u32>,
    refilling: Cell<bool>,
    /// Requests so far.
    seen: Cell<u64>,
    /// How many there were when the last sample was taken.
    sampled: Cell<u64>,
    kept: RefCell<VecDeque<Kept>>,
    /// Bytes of all that is kept.
    bytes: Cell<usize>,
    redactor: Redactor,
}

/// A sample as a message of one piece, when it was taken, and how many requests had come before it.
struct Kept {
    before: u64,
    at_ms: i64,
    sample: Box<[u8]>,
}

impl Kept {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.sample.len()
    }
}

/// Leave to take one sample.
pub(crate) struct Ticket {
    sampler: Rc<Sampler>,
    before: u64,
    weight: u64,
}

/// A sample of a request whose end is not known yet.
pub(crate) struct Sample {
    sampler: Rc<Sampler>,
    before: u64,
    sample: v1::TrafficSample,
}

impl Sampler {
    /// A full bucket.
    pub(crate) fn new(redactor: &Redactor) -> Rc<Self> {
        Rc::new(Self {
            tokens: Cell::new(BURST),
            refilling: Cell::new(false),
            seen: Cell::new(0),
            sampled: Cell::new(0),
            kept: RefCell::default(),
            bytes: Cell::new(0),
            redactor: redactor.clone(),
        })
    }

    /// A request comes: whether a sample of it should be taken.
    pub(crate) fn ticket(self: &Rc<Self>) -> Option<Ticket> {
        let before = self.seen.get();
        self.seen.set(before + 1);
        let tokens = self.tokens.get();
        if tokens == 0 {
            return None;
        }
        self.tokens.set(tokens - 1);
        if !self.refilling.replace(true) {
            tokio::task::spawn_local(refill(Rc::clone(self)));
        }
        let weight = before + 1 - self.sampled.replace(before + 1);
        Some(Ticket {
            sampler: Rc::clone(self),
            before,
            weight,
        })
    }

    /// What is kept, not older than `within`.
    pub(super) fn kept(&self, within: Option<Duration>) -> Traffic {
        let oldest = within.map_or(0, |within| {
            now_ms() - i64::try_from(within.as_millis()).unwrap_or(i64::MAX)
        });
        let kept = self.kept.borrow();
        let recent = kept.iter().filter(|kept| kept.at_ms >= oldest);
        let first = recent.clone().map(|kept| kept.before).min();
        Traffic {
            samples: recent
                .filter_map(|kept| v1::TrafficSample::decode(&*kept.sample).ok())
                .collect(),
            seen: first.map_or(0, |first| self.seen.get() - first),
        }
    }

    fn keep(&self, kept: Kept) {
        let mut all = self.kept.borrow_mut();
        let mut bytes = self.bytes.get() + kept.bytes();
        all.push_back(kept);
        while (all.len() > KEPT || bytes > KEPT_BYTES)
            && let Some(oldest) = all.pop_front()
        {
            bytes -= oldest.bytes();
        }
        self.bytes.set(bytes);
    }
}

/// Fills the bucket until it was full for a whole interval: a proxy without traffic has no timer.
async fn refill(sampler: Rc<Sampler>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if sampler.tokens.replace(BURST) == BURST {
            sampler.refilling.set(false);
            return;
        }
    }
}

impl Ticket {
    /// A request of the workload, on its way to `dst`.
    pub(crate) fn outbound(self, dst: OrigDst, head: &Head) -> Box<Sample> {
        let sample = v1::TrafficSample {
            direction: "outbound".to_owned(),
            address: dst.to_string(),
            ..v1::TrafficSample::default()
        };
        self.sample(sample, head)
    }

    /// A request of a client, for the workload's port `addr`.
    pub(crate) fn inbound(
        self,
        addr: SocketAddr,
        client: SocketAddr,
        identity: Option<&Arc<str>>,
        head: &Head,
    ) -> Box<Sample> {
        let sample = v1::TrafficSample {
            direction: "inbound".to_owned(),
            address: addr.to_string(),
            client_address: client.ip().to_string(),
            client_identity: identity.map_or_else(String::new, |identity| identity.to_string()),
            ..v1::TrafficSample::default()
        };
        self.sample(sample, head)
    }

    fn sample(self, sample: v1::TrafficSample, head: &Head) -> Box<Sample> {
        let redactor = &self.sampler.redactor;
        let request = v1::RequestHead {
            method: head.method.to_string(),
            authority: head.authority().unwrap_or_default().to_owned(),
            path: redactor.path(head.uri.path_and_query().map_or("", |path| path.as_str())),
            headers: fields(&head.headers, redactor),
        };
        let sample = v1::TrafficSample {
            at_ms: now_ms(),
            request: Some(request),
            weight: self.weight,
            protocol: match head.origin {
                Origin::Http1 { .. } => "http/1",
                Origin::Http2 => "http/2",
            }
            .to_owned(),
            ..sample
        };
        Box::new(Sample {
            sampler: self.sampler,
            before: self.before,
            sample,
        })
    }
}

impl Sample {
    /// The request is over.
    pub(crate) fn keep(mut self: Box<Self>, status: Option<StatusCode>) {
        self.sample.status = status.map_or(0, |status| status.as_u16().into());
        let Self {
            sampler,
            before,
            sample,
        } = *self;
        sampler.keep(Kept {
            before,
            at_ms: sample.at_ms,
            sample: sample.encode_to_vec().into(),
        });
    }
}

/// Hides what more whoever asks wants to be hidden.
pub(super) fn hide(sample: &mut v1::TrafficSample, redactor: &Redactor) {
    let Some(request) = &mut sample.request else { return };
    request.path = redactor.path(&request.path);
    for field in &mut request.headers {
        if !field.value.starts_with(HASHED) {
            field.value = redactor.value(field.name.as_bytes(), &field.value).0.into_owned();
        }
    }
}

fn fields(headers: &HeaderMap, redactor: &Redactor) -> Vec<v1::HeaderField> {
    let mut room = HEADER_BYTES;
    let mut fields = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let size = name.as_str().len() + value.len();
        if size > room {
            continue;
        }
        room -= size;
        let (value, _) = redactor.value(name.as_str().as_bytes(), value.as_bytes());
        let value = value.into_owned();
        fields.push(v1::HeaderField {
            name: name.to_string(),
            value,
        });
    }
    fields
}

#[expect(clippy::disallowed_methods, reason = "a sample says when, not how long")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use tokio::task::LocalSet;

    use super::*;

    fn head(path: &str, headers: &[(&'static str, &'static str)]) -> Head {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_static(value));
        }
        Head::of_h2(request.body(()).expect("a request").into_parts().0)
    }

    fn dst() -> OrigDst {
        OrigDst(([10, 0, 0, 1], 80).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_a_second_and_each_stands_for_those_between() {
        let local = async {
            let sampler = Sampler::new(Redactor::own());
            let take = |sampler: &Rc<Sampler>| {
                let sample = sampler.ticket()?.outbound(dst(), &head("http://a/x", &[]));
                sample.keep(Some(StatusCode::OK));
                Some(())
            };
            let taken = (0..1_000).filter_map(|_| take(&sampler)).count();
            assert_eq!(taken, BURST as usize);
            tokio::time::sleep(INTERVAL + Duration::from_millis(1)).await;
            assert!(take(&sampler).is_some());
            let traffic = sampler.kept(None);
            let weights: Vec<_> = traffic.samples.iter().map(|sample| sample.weight).collect();
            assert_eq!(weights.last(), Some(&991));
            assert_eq!((weights.iter().sum::<u64>(), traffic.seen), (1_001, 1_001));
            assert_eq!(
                (traffic.samples[0].status, traffic.samples[0].protocol.as_str()),
                (200, "http/2")
            );
            // A quiet proxy has no timer, and takes samples again.
            tokio::time::sleep(INTERVAL * 3).await;
            assert!(!sampler.refilling.get());
            assert!(take(&sampler).is_some());
        };
        LocalSet::new().run_until(local).await;
    }

    #[tokio::test(start_paused = true)]
    async fn large_heads_are_fewer_and_not_more_memory() {
        let long: &'static str = "v".repeat(800).leak();
        let local = async {
            let sampler = Sampler::new(Redactor::own());
            for _ in 0..KEPT {
                let ticket = loop {
                    match sampler.ticket() {
                        Some(ticket) => break ticket,
                        None => tokio::time::sleep(INTERVAL).await,
                    }
                };
                let head = head(
                    "http://a/x",
                    &[("x-long", long), ("x-left-out", long), ("x-short", "s")],
                );
                ticket.outbound(dst(), &head).keep(Some(StatusCode::OK));
            }
            assert!(sampler.bytes.get() <= KEPT_BYTES && sampler.bytes.get() > KEPT_BYTES * 9 / 10);
            let samples = sampler.kept(None).samples;
            assert!(samples.len() > 400, "{}", samples.len());
            let last = samples
                .last()
                .and_then(|sample| sample.request.as_ref())
                .expect("a head");
            let names: Vec<_> = last.headers.iter().map(|field| field.name.as_str()).collect();
            assert_eq!(names, ["x-long", "x-short"]);
        };
        LocalSet::new().run_until(local).await;
    }

    #[test]
    fn secrets_become_hashes_and_equal_ones_stay_equal() {
        let redactor = Redactor::new(&[], &["x-account".to_owned()]).with_fields(&["iban".to_owned()]);
        let headers = fields(
            &head(
                "http://a/",
                &[
                    ("authorization", "Bearer x"),
                    ("x-api-token", "Bearer x"),
                    ("x-secret", "y"),
                    ("x-account", "y"),
                    ("x-tenant", "acme"),
                ],
            )
            .headers,
            &redactor,
        );
        let value = |name: &str| {
            let field = headers.iter().find(|field| field.name == name);
            String::from_utf8(field.expect("the field").value.clone()).expect("text")
        };
        assert!(value("authorization").starts_with("hash:"));
        assert_eq!(value("authorization"), value("x-api-token"));
        assert_ne!(value("authorization"), value("x-secret"));
        assert_eq!(value("x-account"), value("x-secret"), "as settings have it");
        assert_eq!(value("x-tenant"), "acme");
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_settings_and_of_who_asks_are_hidden() {
        let local = async {
            let sampler = Sampler::new(&Redactor::new(&[], []).with_fields(&["iban".to_owned()]));
            let ticket = sampler.ticket().expect("the first");
            let head = head("http://a/x?iban=planted&page=2", &[("x-account", "planted")]);
            ticket.outbound(dst(), &head).keep(None);
            let mut sample = sampler.kept(None).samples.remove(0);
            hide(&mut sample, &Redactor::new(&[], &["x-account".to_owned()]));
            let request = sample.request.expect("a head");
            assert!(request.path.starts_with("/x?iban=hash:") && request.path.ends_with("&page=2"));
            assert!(request.headers[0].value.starts_with(b"hash:"));
        };
        LocalSet::new().run_until(local).await;
    }
}

//! Copies of requests for somebody whose answers nobody reads. A copy never slows the original: it is taken while the body flows, waits in a
//! bounded queue, and is dropped and counted where there is no room.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use sheer_policy::outbound::{Mirror, Share};
use tokio::{sync::mpsc, time::timeout};

use super::{plan::BackendPlan, resolution::Resolution};
use crate::{
    error::{Direction, ProxyError},
    exchange::{Body, BodyCopy, Context, Head, Limits, Origin, Request, send_copy},
    metrics::{Counter, LabelSet, Shard, family},
    pool::{Pick, Service},
};

/// Copies that wait for a target.
const QUEUE: usize = 128;
/// Copies on their way to a target at once.
const UNDER_WAY: usize = 64;
/// Longest that one may take, until the end of the answer.
const LONGEST: Duration = Duration::from_secs(10);
/// Largest body that is copied: what is kept of every body anyway.
const LARGEST_BODY: usize = 64 * 1024;

/// One mirror of a rule.
pub(super) struct MirrorPlan {
    share: Share,
    backend: BackendPlan,
    queue: mpsc::Sender<Copy>,
    counts: Rc<Counts>,
    header_limit: usize,
}

/// A request that is to be sent.
struct Copy {
    service: Rc<Service>,
    head: Box<Head>,
    body: Body,
    header_limit: usize,
}

/// What became of copies.
struct Counts {
    sent: Counter,
    failed: Counter,
    queue_full: Counter,
    too_large: Counter,
}

impl Counts {
    fn new(shard: &Shard, labels: &LabelSet) -> Self {
        let of = |result| shard.counter(&family::SHEER_MIRRORED_REQUESTS_TOTAL, &labels.with("result", result));
        Self {
            sent: of("sent"),
            failed: of("failed"),
            queue_full: of("dropped-queue-full"),
            too_large: of("dropped-too-large"),
        }
    }
}

impl MirrorPlan {
    /// Begins the task of this mirror, which ends some time after the plan does.
    pub(super) fn new(mirror: &Mirror, resolution: &Resolution) -> Self {
        let labels = LabelSet::builder()
            .object("parent_", resolution.target.parent())
            .object("backend_", &mirror.backend.object)
            .build();
        let shard = &resolution.context.shard;
        let counts = Rc::new(Counts::new(shard, &labels));
        let (queue, copies) = mpsc::channel(QUEUE);
        tokio::task::spawn_local(work(copies, Rc::clone(&counts)));
        Self {
            share: mirror.share,
            backend: BackendPlan::bare(Arc::clone(&mirror.backend), shard, &labels),
            queue,
            counts,
            header_limit: resolution.context.header_limit,
        }
    }

    /// Copies a request that is about to be sent, if it is one of the share.
    pub(super) fn copy(&self, request: &mut Request, resolution: &Resolution) {
        if !self.share.takes(rand::random()) || request.head.wants_tunnel() || request.head.protocol.is_some() {
            return;
        }
        let Ok(service) = self.backend.service(request.head.origin, resolution) else {
            return self.counts.failed.inc();
        };
        // Full already: the body need not be copied to be dropped.
        if self.queue.capacity() == 0 {
            return self.counts.queue_full.inc();
        }
        let head = Cell::new(Some((service, request.head.clone())));
        let (queue, counts, header_limit) = (self.queue.clone(), Rc::clone(&self.counts), self.header_limit);
        let copy = BodyCopy::with(LARGEST_BODY, move |body| {
            let (Some(body), Some((service, head))) = (body, head.take()) else {
                return counts.too_large.inc();
            };
            let copy = Copy {
                service,
                head,
                body,
                header_limit,
            };
            if queue.try_send(copy).is_err() {
                counts.queue_full.inc();
            }
        });
        request.body.copy_to(&Rc::new(copy));
    }
}

/// Sends copies until nobody makes any more.
async fn work(mut copies: mpsc::Receiver<Copy>, counts: Rc<Counts>) {
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        tokio::select! {
            biased; // what ends makes room for what comes
            Some(sent) = under_way.next(), if !under_way.is_empty() => match sent {
                Ok(Ok(())) => counts.sent.inc(),
                Ok(Err(_)) | Err(_) => counts.failed.inc(),
            },
            copy = copies.recv(), if open && under_way.len() < UNDER_WAY => match copy {
                Some(copy) => under_way.push(timeout(LONGEST, send(copy))),
                None => open = false,
            },
        }
    }
}

async fn send(copy: Copy) -> Result<(), ProxyError> {
    let Copy {
        service,
        head,
        body,
        header_limit,
    } = copy;
    debug_assert!(
        head.origin == Origin::Http2 || !head.wants_tunnel(),
        "tunnels are not copied"
    );
    let lease = service.upstream(Pick::default()).await?;
    let cx = Context {
        direction: Direction::Outbound,
        addr: lease.request.node().endpoint.addr,
        header_limit,
        limits: Limits::default(),
        referee: None,
        replay: false,
        attempt: 0,
    };
    // The balancer learns nothing of it: a test deployment may be as slow as it likes.
    send_copy(Request { head, body }, lease.upstream, &cx).await
}

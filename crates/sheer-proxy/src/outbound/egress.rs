//! Traffic that leaves the mesh, counted by where it goes: the host of a request, the server name of TLS.

use std::cell::RefCell;

use ahash::AHashMap;

use super::resolution::Resolution;
use crate::{
    discovery::ObjectRef,
    metrics::{Counter, Family, LabelSet, Shard, family},
};

/// Hosts that are counted apart on one worker; the others together are `other`. Names come from whoever asks: without a bound they would
/// fill the metrics.
const MOST_HOSTS: usize = 200;
const OTHER: &str = "other";
/// For traffic that names no host.
const NONE: &str = "none";

/// Counts of one worker.
pub(super) struct Egress {
    shard: Shard,
    counts: RefCell<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AHashMap<ObjectRef, AHashMap<Box<str>, Counter>>,
    connections: AHashMap<ObjectRef, AHashMap<Box<str>, Counter>>,
    hosts: usize,
}

impl Egress {
    pub(super) fn new(shard: &Shard) -> Self {
        Self {
            shard: shard.clone(),
            counts: RefCell::default(),
        }
    }

    /// Counts a request, where its destination is outside of the mesh by an operator's word.
    pub(super) fn request(&self, resolution: &Resolution, authority: Option<&str>) {
        let parent = resolution.target.parent();
        if is_egress(parent) {
            let counts = &mut *self.counts.borrow_mut();
            let host = authority.map(without_port);
            let by_host = counts.requests.entry(parent.clone()).or_default();
            self.count(
                by_host,
                &mut counts.hosts,
                &family::SHEER_EGRESS_REQUESTS_TOTAL,
                (parent, host),
            );
        }
    }

    /// Counts a connection that is not inspected, likewise.
    pub(super) fn connection(&self, resolution: &Resolution, server_name: Option<&str>) {
        let parent = resolution.target.parent();
        if is_egress(parent) {
            let counts = &mut *self.counts.borrow_mut();
            let by_host = counts.connections.entry(parent.clone()).or_default();
            let family = &family::SHEER_EGRESS_CONNECTIONS_TOTAL;
            self.count(by_host, &mut counts.hosts, family, (parent, server_name));
        }
    }

    fn count(
        &self,
        by_host: &mut AHashMap<Box<str>, Counter>,
        hosts: &mut usize,
        family: &'static Family,
        (parent, host): (&ObjectRef, Option<&str>),
    ) {
        let host = host.filter(|host| !host.is_empty()).unwrap_or(NONE);
        if let Some(counter) = by_host.get(host) {
            return counter.inc();
        }
        let lower = host.to_ascii_lowercase();
        let host = if *hosts < MOST_HOSTS || by_host.contains_key(&*lower) {
            &*lower
        } else {
            OTHER
        };
        let counter = by_host.entry(host.into()).or_insert_with(|| {
            *hosts += 1;
            let labels = LabelSet::builder().object("parent_", parent).label("hostname", host);
            self.shard.counter(family, &labels.build())
        });
        counter.inc();
    }
}

fn is_egress(parent: &ObjectRef) -> bool {
    parent.kind == "EgressNetwork"
}

/// A host without its port; an IPv6 address keeps its brackets.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

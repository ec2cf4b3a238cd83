//! Rates by method and path, kept only while somebody looks at them: paths come from whoever asks, and have no place in a metric.

use std::{net::IpAddr, sync::Arc};

use ahash::AHashMap;
use parking_lot::Mutex;
use sheer_api::v1;

use super::{cells::Statuses, key::PeerKey, latency::Sums};
use crate::{discovery::ObjectRef, error::Direction, metrics::ResponseOutcome};

/// Paths that one worker tells apart between two reports; the others together are [`OTHER`].
pub(super) const MOST_PATHS: usize = 500;
const OTHER: &str = "(other)";
/// Of longer paths the rest is left out.
const LONGEST_PATH: usize = 256;

/// What was counted by path since the last report.
#[derive(Debug, Default)]
pub(super) struct Paths(AHashMap<PathKey, PathCounts>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PathKey {
    peer: PathPeer,
    method: Box<str>,
    path: Box<str>,
}

/// The other side of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PathPeer {
    pub(crate) direction: Direction,
    /// The client (inbound).
    pub(crate) client: Option<(IpAddr, Option<Arc<str>>, v1::Tls)>,
    /// As in [`super::Key`].
    pub(crate) target: Arc<ObjectRef>,
    pub(crate) authority: Arc<str>,
}

#[derive(Debug, Default)]
struct PathCounts {
    statuses: Statuses,
    latency: Sums,
}

/// Notes the end of one request under its path.
#[derive(Debug)]
pub(crate) struct PathNote {
    paths: Arc<Mutex<Paths>>,
    key: PathKey,
}

impl PathNote {
    pub(super) fn new(paths: Arc<Mutex<Paths>>, peer: PathPeer, method: &str, path: &str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut end = path.len().min(LONGEST_PATH);
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            paths,
            key: PathKey {
                peer,
                method: method.into(),
                path: path[..end].into(),
            },
        }
    }

    /// The request is over.
    pub(crate) fn ended(self, outcome: &ResponseOutcome) {
        let Self { paths, mut key } = self;
        let paths = &mut paths.lock().0;
        if paths.len() >= MOST_PATHS && !paths.contains_key(&key) {
            key.path = OTHER.into();
            key.method = "".into();
        }
        let counts = paths.entry(key).or_default();
        counts.statuses.record(outcome);
        counts.latency.record(outcome.latency);
    }
}

impl Paths {
    /// As it goes over the wire.
    pub(super) fn messages(self) -> impl Iterator<Item = v1::PathDelta> {
        self.0.into_iter().map(|(key, counts)| {
            let PathKey { peer, method, path } = key;
            let client = peer.client.map(|(address, identity, tls)| PeerKey {
                address: Some(address),
                identity,
                tls,
                place: None,
            });
            let direction = match peer.direction {
                Direction::Inbound => v1::series_key::Direction::Inbound,
                Direction::Outbound => v1::series_key::Direction::Outbound,
            };
            v1::PathDelta {
                direction: direction.into(),
                peer: client.map(|client| client.message("")),
                target: Some(sheer_policy::wire::explain::object(&peer.target)),
                authority: peer.authority.to_string(),
                method: method.into(),
                path: path.into(),
                statuses: counts.statuses.message(),
                latency: counts.latency.message(),
            }
        })
    }
}

//! How many requests a second may come in: token buckets with a clock that is given.
//!
//! ```text
//! client's own (identity or override) ──► of all clients together ──► let in
//!            └────────── refused, and told how long to wait ◄──┘
//! ```
//!
//! A client's own bucket comes first, so that one client past its share takes nothing from the others. A bucket is one number that is
//! swapped atomically: all workers of a proxy share it and none waits for another (`docs/decisions`). The table of identities is locked only
//! where a connection looks up its bucket.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::inbound::RateLimit;

const SECOND: u64 = 1_000_000_000;
/// Identities with a bucket of their own. Every identity that is there at once has one; past this many, those that come later share one.
const MOST_IDENTITIES: usize = 10_000;

/// Requests a second. As many as a second allows may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    /// Between two requests, in nanoseconds.
    interval: u64,
}

impl Rate {
    /// So many requests a second; none at all for 0.
    pub fn per_second(per_second: u32) -> Self {
        Self {
            per_second,
            interval: (SECOND / u64::from(per_second.max(1))).max(1),
        }
    }
}

/// Tokens that come back at a steady rate, as the time at which the bucket is full again (the generic cell rate algorithm). Times are
/// nanoseconds since any fixed moment.
#[derive(Debug, Default)]
pub struct Bucket {
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes a token, or says how long it takes until there is one.
    pub fn take(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Err(Duration::from_nanos(SECOND));
        }
        let whole = rate.interval * u64::from(rate.per_second);
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let then = full_at.max(now) + rate.interval;
            if let Some(wait) = (then - now).checked_sub(whole).filter(|wait| *wait > 0) {
                return Err(Duration::from_nanos(wait));
            }
            // The number is all that is shared: nothing else has to be seen in an order.
            match self
                .full_at
                .compare_exchange_weak(full_at, then, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(changed) => full_at = changed,
            }
        }
    }

    /// Whether the bucket is as good as new.
    fn is_full(&self, now: u64) -> bool {
        self.full_at.load(Ordering::Relaxed) <= now
    }
}

/// One rate and its bucket, for all who share it.
#[derive(Debug)]
pub struct Throttle {
    rate: Rate,
    bucket: Bucket,
    /// Times are counted from here.
    epoch: Instant,
}

impl Throttle {
    /// So many a second, with a full bucket.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self {
            rate: Rate::per_second(per_second),
            bucket: Bucket::default(),
            epoch: now,
        }
    }

    /// Takes a token, if there is one.
    pub fn takes(&self, now: Instant) -> bool {
        self.bucket.take(self.rate, nanos(now, self.epoch)).is_ok()
    }
}

fn nanos(now: Instant, epoch: Instant) -> u64 {
    let since = now.saturating_duration_since(epoch);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Which of the limits of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Of all clients together.
    Total,
    /// Of each identity.
    Identity,
    /// Of some identities together.
    Override,
}

impl Scope {
    /// As metric labels have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Identity => "identity",
            Self::Override => "override",
        }
    }
}

/// A request past a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which limit.
    pub scope: Scope,
    /// Requests a second that it allows.
    pub per_second: u32,
    /// Until one more would be let in.
    pub retry_after: Duration,
}

/// A [`RateLimit`] and its buckets: shared by everybody who holds the policy.
#[derive(Debug)]
pub struct Limiter {
    limit: RateLimit,
    /// The first moment that it was asked at.
    epoch: OnceLock<Instant>,
    total: Bucket,
    overrides: Vec<Arc<Bucket>>,
    identities: Mutex<HashMap<Option<Arc<str>>, Arc<Bucket>>>,
    /// Of identities that have no bucket of their own.
    rest: Arc<Bucket>,
}

impl Deref for Limiter {
    type Target = RateLimit;

    fn deref(&self) -> &RateLimit {
        &self.limit
    }
}

impl Limiter {
    /// With full buckets.
    pub fn new(limit: RateLimit) -> Self {
        Self {
            overrides: limit.overrides.iter().map(|_| Arc::default()).collect(),
            limit,
            epoch: OnceLock::new(),
            total: Bucket::default(),
            identities: Mutex::default(),
            rest: Arc::default(),
        }
    }

    /// The buckets of a client, by the name that it goes by and a test of all its names. Clients without an identity are one client together.
    pub fn client(
        self: &Arc<Self>,
        identity: Option<&Arc<str>>,
        is: impl Fn(&str) -> bool,
        now: Instant,
    ) -> ClientLimit {
        let overridden = self
            .limit
            .overrides
            .iter()
            .position(|over| over.identities.iter().any(|name| is(name)));
        let own = match (overridden, self.limit.identity) {
            (Some(index), _) => Some(Own {
                rate: Rate::per_second(self.limit.overrides[index].requests_per_second),
                scope: Scope::Override,
                bucket: Arc::clone(&self.overrides[index]),
            }),
            (None, Some(per_second)) => Some(Own {
                rate: Rate::per_second(per_second),
                scope: Scope::Identity,
                bucket: self.identity(identity, self.nanos(now)),
            }),
            (None, None) => None,
        };
        ClientLimit {
            total: self.limit.total.map(Rate::per_second),
            limiter: Arc::clone(self),
            own,
        }
    }

    /// The bucket of an identity. Where there are too many, those that are full and that no connection holds go: they are as good as new.
    fn identity(&self, identity: Option<&Arc<str>>, now: u64) -> Arc<Bucket> {
        let mut identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        let key = identity.cloned();
        if let Some(bucket) = identities.get(&key) {
            return Arc::clone(bucket);
        }
        if identities.len() >= MOST_IDENTITIES {
            identities.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full(now));
            if identities.len() >= MOST_IDENTITIES {
                return Arc::clone(&self.rest);
            }
        }
        Arc::clone(identities.entry(key).or_default())
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now, *self.epoch.get_or_init(|| now))
    }
}

/// What one client may send. Found once a connection, then used for each request without a look-up.
#[derive(Clone, Debug)]
pub struct ClientLimit {
    limiter: Arc<Limiter>,
    total: Option<Rate>,
    own: Option<Own>,
}

#[derive(Clone, Debug)]
struct Own {
    rate: Rate,
    scope: Scope,
    bucket: Arc<Bucket>,
}

impl ClientLimit {
    /// Counts a request, or refuses it.
    pub fn take(&self, now: Instant) -> Result<(), Refused> {
        let now = self.limiter.nanos(now);
        if let Some(Own { rate, scope, bucket }) = &self.own {
            bucket.take(*rate, now).map_err(|wait| refused(*scope, *rate, wait))?;
        }
        match self.total {
            Some(rate) => self
                .limiter
                .total
                .take(rate, now)
                .map_err(|wait| refused(Scope::Total, rate, wait)),
            None => Ok(()),
        }
    }

    /// The policy's words.
    pub fn limit(&self) -> &RateLimit {
        &self.limiter.limit
    }
}

fn refused(scope: Scope, rate: Rate, retry_after: Duration) -> Refused {
    Refused {
        scope,
        per_second: rate.per_second,
        retry_after,
    }
}

#[cfg(test)]
mod tests;

//! The time that an exchange may take: one timer for all limits, and none where there are no limits.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::outcome::Observation;
use crate::error::{ProxyError, TimeLimit};

/// How long an exchange may take. `None`: no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// For the whole of it.
    pub whole: Option<Until>,
    /// For the head of the response.
    pub head: Option<Until>,
    /// From the end of the request to the head of the response.
    pub response: Option<Duration>,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
}

/// A point in time, and what it means to reach it.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// When.
    pub at: Instant,
    /// How long that was at the start.
    pub after: Duration,
    /// Which limit; `None` for the caller's own deadline.
    pub limit: Option<TimeLimit>,
}

impl Until {
    /// The error for when it is reached.
    pub fn reached(&self) -> ProxyError {
        match self.limit {
            Some(limit) => ProxyError::Timeout {
                limit,
                after: self.after,
            },
            None => ProxyError::Deadline {
                sent: true,
                after: self.after,
            },
        }
    }
}

/// Watches the limits of one exchange.
pub(super) struct Clock {
    limits: Limits,
    /// Set for the next limit, or for an earlier one that has moved.
    timer: Option<Pin<Box<Sleep>>>,
    uploaded: Option<Instant>,
    /// Bytes that moved, and when the last did.
    moved: (u64, Instant),
}

impl Clock {
    /// A clock, where there is something to watch.
    pub(super) fn of(limits: &Limits) -> Option<Box<Self>> {
        let Limits {
            whole,
            head,
            response,
            idle,
        } = limits;
        let some = whole.is_some() || head.is_some() || response.is_some() || idle.is_some();
        some.then(|| {
            Box::new(Self {
                limits: *limits,
                timer: None,
                uploaded: None,
                moved: (0, Instant::now()),
            })
        })
    }

    /// Ready once a limit is reached. To be asked whenever something happened.
    pub(super) fn poll(
        &mut self,
        task: &mut Context<'_>,
        uploaded: bool,
        observation: &Observation,
    ) -> Poll<ProxyError> {
        loop {
            let now = Instant::now();
            self.note(now, uploaded, observation);
            let Some(next) = self.next(observation.has_response()) else {
                return Poll::Pending;
            };
            if next.at <= now {
                return Poll::Ready(next.reached());
            }
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next.at)));
            // A limit that has moved away costs a needless wake-up later, not a new timer now.
            if timer.deadline() > next.at || timer.is_elapsed() {
                timer.as_mut().reset(next.at);
            }
            ready!(timer.as_mut().poll(task));
        }
    }

    fn note(&mut self, now: Instant, uploaded: bool, observation: &Observation) {
        let moved = observation.moved();
        if moved != self.moved.0 {
            self.moved = (moved, now);
        }
        if uploaded && self.uploaded.is_none() {
            self.uploaded = Some(now);
        }
    }

    /// The limit that is reached next.
    fn next(&self, has_response: bool) -> Option<Until> {
        let timeout = |from: Instant, after: Option<Duration>, limit| {
            let after = after?;
            Some(Until {
                at: from.checked_add(after)?,
                after,
                limit: Some(limit),
            })
        };
        let idle = timeout(self.moved.1, self.limits.idle, TimeLimit::Idle);
        let (head, response) = if has_response {
            (None, None)
        } else {
            let response = self
                .uploaded
                .and_then(|uploaded| timeout(uploaded, self.limits.response, TimeLimit::Response));
            (self.limits.head, response)
        };
        let all = [self.limits.whole, head, response, idle];
        all.into_iter().flatten().min_by_key(|until| until.at)
    }
}

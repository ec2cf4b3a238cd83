//! Why a request is treated as it is, in an operator's words: every decision in order, and what lost and why.
//!
//! The same matching decides and explains, so an explanation cannot differ from what happens. Called by the proxy about what it holds, and
//! by the control plane about what it would send. Pure, as all of this crate; not made for the path of requests: it allocates.
//!
//! * [`outbound`]: where a request goes.
//! * [`inbound`]: whether it may come in.
//! * [`words`]: rules, filters, limits and authorizations as short texts.

mod authorization;
pub mod inbound;
pub mod outbound;
mod rule;
#[cfg(test)]
mod tests;
pub mod words;

use std::fmt;

use http::StatusCode;
use sheer_api::Verdict;

pub use authorization::Client;

use crate::ObjectRef;

/// Decisions in order, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// In the order in which a request meets them.
    pub decisions: Vec<Decision>,
    /// What becomes of the request.
    pub outcome: Outcome,
    /// What the proxy answers, where it is not forwarded.
    pub answer: Option<Answer>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where on the way.
    pub stage: Stage,
    /// The object that decided; none where no object is involved.
    pub object: Option<ObjectRef>,
    /// Which of its rules, from 0, where one did.
    pub rule: Option<usize>,
    /// What was chosen.
    pub choice: String,
    /// Why.
    pub why: String,
    /// What was not chosen.
    pub losers: Vec<Loser>,
}

/// What was not chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loser {
    /// The object.
    pub object: ObjectRef,
    /// Which of its rules, from 0, where it is one.
    pub rule: Option<usize>,
    /// What it would have been.
    pub choice: String,
    /// Why it lost.
    pub why: String,
}

/// A stage on the way of a request, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What the address belongs to.
    Service,
    /// What is spoken.
    Protocol,
    /// Which route takes it.
    Route,
    /// Which rule of the route.
    Rule,
    /// What is done to it.
    Filter,
    /// How long it may take.
    Timeout,
    /// When it is sent again.
    Retry,
    /// Where it goes.
    Backend,
    /// Which endpoints stand there.
    Endpoint,
    /// How the peer proves itself.
    Tls,
    /// Which policy the workload's port has.
    Server,
    /// Who lets it in.
    Policy,
    /// How much of it may come.
    Limit,
}

impl Stage {
    /// The word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Protocol => "protocol",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Filter => "filter",
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::Backend => "backend",
            Self::Endpoint => "endpoint",
            Self::Tls => "tls",
            Self::Server => "server",
            Self::Policy => "policy",
            Self::Limit => "limit",
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Forwarded,
    /// Nobody lets it in.
    Denied,
    /// There is no way to go.
    Refused,
    /// Answered with a redirect.
    Redirected,
    /// A filter answers.
    Answered,
    /// More than a limit allows: nothing at all may come in.
    Limited,
}

impl Outcome {
    /// The word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Redirected => "redirected",
            Self::Answered => "answered",
            Self::Limited => "limited",
        }
    }
}

/// What the proxy answers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who is at fault.
    pub verdict: Verdict,
    /// Reason code, as in `docs/errors.md`; empty where an operator wants the answer.
    pub reason: &'static str,
    /// To a caller that speaks HTTP; none for a connection that is reset.
    pub status: Option<StatusCode>,
    /// To a caller that speaks gRPC.
    pub grpc_status: Option<u16>,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Explanation {
    /// Goes on, so far.
    fn forwarded(decisions: Vec<Decision>) -> Self {
        Self {
            decisions,
            outcome: Outcome::Forwarded,
            answer: None,
        }
    }

    /// Ends here.
    fn ended(decisions: Vec<Decision>, outcome: Outcome, answer: Answer) -> Self {
        Self {
            decisions,
            outcome,
            answer: Some(answer),
        }
    }
}

impl Decision {
    /// A decision without losers.
    pub fn new(stage: Stage, object: Option<&ObjectRef>, choice: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            stage,
            object: object.cloned(),
            rule: None,
            choice: choice.into(),
            why: why.into(),
            losers: Vec::new(),
        }
    }

    /// By one of the object's rules.
    fn of_rule(self, rule: usize) -> Self {
        Self {
            rule: Some(rule),
            ..self
        }
    }

    fn over(self, losers: Vec<Loser>) -> Self {
        Self { losers, ..self }
    }
}

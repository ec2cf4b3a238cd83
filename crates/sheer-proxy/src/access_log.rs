//! The access log: a line for each request, in both directions, as JSON or as Apache writes it. Off by default.
//!
//! Which requests are logged is decided on the worker, by the filter; lines are made on the control runtime ([`line`]) and written by a thread
//! of their own ([`write`]), so that whoever reads the log slowly holds up nobody. What does not fit is dropped and counted.

mod line;
mod write;

use sheer_api::v1::Attribute;
use sheer_policy::log_filter::{Facts, LogFilter};

pub(crate) use self::write::Writer;
use crate::{
    exchange::{End, Outcome},
    settings,
    trace::{Record, Whom},
};

/// Which requests are logged.
#[derive(Debug)]
pub(crate) struct AccessLog {
    filter: Option<LogFilter>,
}

/// One line, also for OTLP.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) unix_ns: u64,
    /// Without the line's end.
    pub(crate) text: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) failed: bool,
    pub(crate) trace_id: Option<[u8; 16]>,
    pub(crate) span_id: Option<[u8; 8]>,
}

impl AccessLog {
    pub(crate) fn new(settings: &settings::AccessLog) -> Self {
        Self {
            filter: settings.filter.clone(),
        }
    }

    /// Whether a request that is over is logged.
    pub(crate) fn wants(&self, record: &Record, outcome: &Outcome) -> bool {
        let Some(filter) = &self.filter else { return true };
        let mut client = String::new();
        let facts = facts(record, outcome, &mut client);
        filter.keeps(&facts)
    }
}

fn facts<'a>(record: &'a Record, outcome: &Outcome, client: &'a mut String) -> Facts<'a> {
    let (verdict, reason) = match outcome.end {
        End::Proxy { verdict, reason } => (verdict.as_str(), reason),
        End::ServerReset(_) => ("", "server-reset"),
        End::ClientReset(_) => ("", "client-reset"),
        End::Dropped => ("", "dropped"),
        End::Complete => ("", ""),
    };
    if let Whom::Inbound(inbound) = &record.whom {
        *client = match &inbound.identity {
            Some(identity) => identity.to_string(),
            None => inbound.client.to_string(),
        };
    }
    let about = &record.request;
    Facts {
        direction: if record.is_inbound() { "inbound" } else { "outbound" },
        method: about.method.as_str(),
        path: about.uri.path(),
        host: about.authority(),
        status: outcome.status.map(|status| status.as_u16()),
        grpc_status: outcome.grpc_status,
        duration: record.duration(),
        first_byte: outcome.first_byte,
        request_bytes: outcome.request_bytes,
        response_bytes: outcome.response_bytes,
        verdict,
        reason,
        client,
        user_agent: about
            .user_agent
            .as_ref()
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or_default(),
        attempts: record.attempts.len() as u64,
    }
}

//! What would become of one request, by what its proxies hold and by what the control plane holds.

use serde::Serialize;
use sheer_api::v1::{Decision, ExplainRequest, ExplainResponse, HeaderField, ObjectRef, RequestHead};

use super::Sources;
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::resource::object;

/// What becomes of one request. Nothing is sent.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    outcome: String,
    verdict: String,
    reason: String,
    /// 0 where it is forwarded.
    status: u32,
    grpc_status: Option<i32>,
    decisions: Vec<Step>,
    differences: Vec<String>,
    notes: Vec<String>,
    source: String,
    destination: String,
    proxy_state_age_ms: u64,
}

#[derive(Debug, Serialize)]
struct Step {
    stage: String,
    object: String,
    choice: String,
    why: String,
    place: String,
    losers: Vec<Lost>,
}

#[derive(Debug, Serialize)]
struct Lost {
    what: String,
    why: String,
}

pub(super) async fn model(sources: &Sources, query: &Query) -> Result<Explained, Problem> {
    let lacking = ["from", "to"].into_iter().find(|name| query.text(name).is_empty());
    if let Some(name) = lacking {
        let todo = "Say from where and to where, as deploy/web and svc/ledger:8080.";
        return Err(Problem::new(Kind::BadQuestion, format!("`{name}` is missing"), todo));
    }
    let or = |text: &str, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text.to_owned()
        }
    };
    let request = ExplainRequest {
        from: query.text("from").to_owned(),
        to: query.text("to").to_owned(),
        namespace: query.namespace().to_owned(),
        request: Some(RequestHead {
            method: or(query.text("method"), "GET"),
            authority: query.text("authority").to_owned(),
            path: or(query.text("path"), "/"),
            headers: header(query.text("header"))?,
        }),
        protocol: query.text("protocol").to_owned(),
        server_name: query.text("sni").to_owned(),
    };
    Ok(explained(sources.control.explain(request).await?))
}

/// `name: value`, one a line.
fn header(text: &str) -> Result<Vec<HeaderField>, Problem> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| Problem::parameter("header", line, "fields as `name: value`, one a line"))?;
            Ok(HeaderField {
                name: name.trim().to_lowercase(),
                value: value.trim().as_bytes().to_vec(),
            })
        })
        .collect()
}

fn explained(answer: ExplainResponse) -> Explained {
    Explained {
        outcome: answer.outcome,
        verdict: answer.verdict,
        reason: answer.reason,
        status: answer.status,
        grpc_status: Some(answer.grpc_status).filter(|code| *code >= 0),
        decisions: answer.decisions.into_iter().map(step).collect(),
        differences: answer.differences,
        notes: answer.notes,
        source: answer.source,
        destination: answer.destination,
        proxy_state_age_ms: answer.proxy_state_age_ms,
    }
}

fn step(decision: Decision) -> Step {
    let lost = |object_of: Option<&ObjectRef>, choice: &str| match object(object_of) {
        name if name.is_empty() => choice.to_owned(),
        name if choice.is_empty() => name,
        name => format!("{name}: {choice}"),
    };
    let place = match (decision.file.as_str(), decision.line) {
        ("", _) => String::new(),
        (file, 0) => file.to_owned(),
        (file, line) => format!("{file}:{line}"),
    };
    Step {
        stage: decision.stage,
        object: object(decision.object.as_ref()),
        choice: decision.choice,
        why: decision.why,
        place,
        losers: decision
            .losers
            .into_iter()
            .map(|loser| Lost {
                what: lost(loser.object.as_ref(), &loser.choice),
                why: loser.why,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_in_http() {
        let fields = header("X-Tenant: a:b\n\n x-two:2 ").unwrap();
        let told: Vec<_> = fields
            .iter()
            .map(|field| (field.name.as_str(), field.value.as_slice()))
            .collect();
        assert_eq!(told, [("x-tenant", b"a:b".as_slice()), ("x-two", b"2")]);
        assert!(header("tenant").is_err());
    }
}

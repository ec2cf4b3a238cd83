//! Explanations and requests as `sheer.v1` says them.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sheer_api::v1;

use crate::{
    ObjectRef, change,
    explain::{Decision, Explanation, Loser, outbound::Changes, words},
    outbound::{Filter, HttpRule},
    routes::{PathMatch, RequestView, Rule},
};

/// An object, as several messages of `sheer.v1` refer to it.
pub fn object(object: &ObjectRef) -> v1::ObjectRef {
    v1::ObjectRef {
        group: object.group.clone(),
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        section: object.section.clone(),
        port: object.port.into(),
    }
}

/// A decision; file and line are the control plane's to know.
pub fn decision(decision: &Decision) -> v1::Decision {
    v1::Decision {
        stage: decision.stage.as_str().to_owned(),
        object: decision.object.as_ref().map(object),
        rule: rule(decision.rule),
        choice: decision.choice.clone(),
        why: decision.why.clone(),
        losers: decision.losers.iter().map(loser).collect(),
        file: String::new(),
        line: 0,
    }
}

/// From 1; 0 where it is none.
fn rule(index: Option<usize>) -> u32 {
    index.map_or(0, |index| u32::try_from(index + 1).unwrap_or(u32::MAX))
}

fn loser(loser: &Loser) -> v1::Loser {
    v1::Loser {
        object: Some(object(&loser.object)),
        rule: rule(loser.rule),
        choice: loser.choice.clone(),
        why: loser.why.clone(),
        file: String::new(),
        line: 0,
    }
}

/// A whole explanation. Endpoints and the age of the state are for whoever holds them to add.
pub fn explanation(said: &Explanation) -> v1::Explanation {
    let answer = said.answer.as_ref();
    v1::Explanation {
        decisions: said.decisions.iter().map(decision).collect(),
        outcome: said.outcome.as_str().to_owned(),
        verdict: answer.map_or_else(String::new, |answer| answer.verdict.to_string()),
        reason: answer.map_or("", |answer| answer.reason).to_owned(),
        status: answer
            .and_then(|answer| answer.status)
            .map_or(0, |status| status.as_u16().into()),
        grpc_status: answer.and_then(|answer| answer.grpc_status).map_or(-1, i32::from),
        state_age_ms: 0,
        endpoints: Vec::new(),
        request: None,
    }
}

/// A rule of an outbound route. How many requests it took is the proxy's to know.
pub fn outbound_rule(rule: &Rule<HttpRule>) -> v1::RouteState {
    v1::RouteState {
        route: Some(object(&rule.route)),
        rule: u32::try_from(rule.index).unwrap_or(u32::MAX),
        matches: words::conditions(&rule.hosts, &rule.matches),
        actions: words::actions(&rule.action).join("; "),
        backends: words::backends(&rule.action.backends),
        requests: 0,
    }
}

/// A request of `sheer.v1`, ready to be matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    method: Method,
    authority: String,
    path: String,
    headers: HeaderMap,
}

/// A request as far as policies look at it, or what is wrong with it.
pub fn request(said: &v1::RequestHead) -> Result<Head, String> {
    let method = if said.method.is_empty() { "GET" } else { &said.method };
    let mut headers = HeaderMap::new();
    for field in &said.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| format!("{:?} is not the name of a header", field.name))?;
        let value = HeaderValue::from_bytes(&field.value)
            .map_err(|_| format!("the value of header {} has bytes that none may have", field.name))?;
        headers.append(name, value);
    }
    Ok(Head {
        method: method.parse().map_err(|_| format!("{method:?} is not a method"))?,
        authority: said.authority.clone(),
        path: if said.path.is_empty() {
            "/".to_owned()
        } else {
            said.path.clone()
        },
        headers,
    })
}

impl Head {
    /// The request as it is sent, where filters change it.
    pub fn changed(&self, changes: &Changes) -> Option<v1::RequestHead> {
        let mut changed = self.clone();
        for filter in &changes.filters {
            changed.change(filter, changes.path.as_ref());
        }
        (changed != *self).then(|| changed.to_message())
    }

    fn change(&mut self, filter: &Filter, matched: Option<&PathMatch>) {
        match filter {
            Filter::RequestHeaders(modifier) => change::modify(&mut self.headers, modifier, |_| true),
            Filter::Rewrite(rewrite) => {
                if let Some(host) = &rewrite.host {
                    self.authority = host.to_string();
                }
                if let Some(modifier) = &rewrite.path {
                    let (path, query) = match self.path.split_once('?') {
                        Some((path, query)) => (path, Some(query)),
                        None => (self.path.as_str(), None),
                    };
                    let path = change::replaced(path, modifier, matched);
                    self.path = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
                }
            }
            Filter::ResponseHeaders(_) | Filter::Redirect(_) | Filter::Abort(_) | Filter::Delay(_) => {}
        }
    }

    fn to_message(&self) -> v1::RequestHead {
        let field = |(name, value): (&HeaderName, &HeaderValue)| v1::HeaderField {
            name: name.to_string(),
            value: value.as_bytes().to_vec(),
        };
        v1::RequestHead {
            method: self.method.to_string(),
            authority: self.authority.clone(),
            path: self.path.clone(),
            headers: self.headers.iter().map(field).collect(),
        }
    }

    /// What matching looks at.
    pub fn view(&self) -> RequestView<'_> {
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path.as_str(), None),
        };
        RequestView {
            method: &self.method,
            host: (!self.authority.is_empty()).then_some(self.authority.as_str()),
            path,
            query,
            headers: &self.headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::{HeaderModifier, PathModifier, Rewrite};

    #[test]
    fn the_receiver_sees_what_filters_made_of_a_request() {
        let asked = v1::RequestHead {
            method: "GET".to_owned(),
            authority: "ledger.bank".to_owned(),
            path: "/v1/books?page=2".to_owned(),
            headers: Vec::new(),
        };
        let head = request(&asked).expect("a request");
        assert_eq!(head.changed(&Changes::default()), None);
        let set = HeaderMap::from_iter([(HeaderName::from_static("x-team"), HeaderValue::from_static("books"))]);
        let changes = Changes {
            filters: vec![
                Filter::RequestHeaders(HeaderModifier {
                    set,
                    ..HeaderModifier::default()
                }),
                Filter::Rewrite(Rewrite {
                    host: Some("inner".into()),
                    path: Some(PathModifier::Prefix("/api".into())),
                }),
            ],
            path: Some(PathMatch::Prefix("/v1".to_owned())),
        };
        let changed = head.changed(&changes).expect("changed");
        assert_eq!(
            (changed.authority.as_str(), changed.path.as_str()),
            ("inner", "/api/books?page=2")
        );
        assert_eq!(changed.headers[0].value, b"books");
    }
}

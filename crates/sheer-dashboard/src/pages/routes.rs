//! Routes: what the control plane says of each, and what goes over it.

use serde::Serialize;
use sheer_api::v1::selector::Kind;
use sheer_api::v1::{RouteStatus, RoutesRequest, Stat, StatRequest};

use super::{Sources, Span};
use crate::numbers::{self, Ending, Numbers};
use crate::problem::Problem;
use crate::query::Query;
use crate::resource::{Id, object};

#[derive(Debug, Serialize)]
pub(super) struct Routes {
    window: Span,
    /// By namespace, kind and name.
    routes: Vec<Route>,
    notes: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Route {
    id: String,
    namespace: String,
    /// As "HTTPRoute"; "default" for what no route takes.
    kind: String,
    name: String,
    /// Where it was written, as "routes.yaml:12"; may be empty.
    place: String,
    parents: Vec<Parent>,
    /// Empty where nothing went over it yet.
    rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
struct Parent {
    name: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
struct Condition {
    kind: String,
    status: bool,
    reason: String,
    message: String,
    field: String,
}

#[derive(Debug, Serialize)]
struct Rule {
    /// In words.
    name: String,
    numbers: Numbers,
    endings: Vec<Ending>,
}

pub(super) async fn model(sources: &Sources, query: &Query) -> Result<Routes, Problem> {
    let window_ms = query.window_ms()?;
    let stat = sources.control.stat(StatRequest {
        what: query.every(Kind::Route),
        window_ms,
        ..StatRequest::default()
    });
    let routes = sources.control.routes(RoutesRequest {
        namespace: query.namespace().to_owned(),
    });
    let (stat, routes) = tokio::try_join!(stat, routes)?;
    Ok(Routes {
        window: Span::of(stat.window),
        routes: join(&routes.routes, &stat.stats),
        notes: stat.notes,
    })
}

/// Every route that is written, then those that only traffic knows (defaults, routes that are gone).
fn join(written: &[RouteStatus], stats: &[Stat]) -> Vec<Route> {
    let mut routes: Vec<Route> = written.iter().map(route).collect();
    for stat in stats {
        let id = Id::of(stat.resource.as_ref());
        let traffic = stat.traffic.clone().unwrap_or_default();
        let rule = Rule {
            name: stat
                .resource
                .as_ref()
                .map(|resource| resource.part.clone())
                .unwrap_or_default(),
            numbers: Numbers::of(Some(&traffic)),
            endings: numbers::endings(&traffic.statuses),
        };
        match routes.iter_mut().find(|route| route.id == id.to_string()) {
            Some(route) => route.rules.push(rule),
            None => routes.push(Route {
                id: id.to_string(),
                rules: vec![rule],
                namespace: id.namespace,
                kind: id.kind,
                name: id.name,
                ..Route::default()
            }),
        }
    }
    routes
}

fn route(status: &RouteStatus) -> Route {
    let reference = status.route.clone().unwrap_or_default();
    let line = if status.line == 0 {
        String::new()
    } else {
        format!(":{}", status.line)
    };
    Route {
        id: format!(
            "{}/{}/{}",
            reference.namespace,
            reference.kind.to_lowercase(),
            reference.name
        ),
        namespace: reference.namespace,
        kind: reference.kind,
        name: reference.name,
        place: format!("{}{line}", status.file),
        parents: status
            .parents
            .iter()
            .map(|parent| Parent {
                name: object(parent.parent.as_ref()),
                conditions: parent
                    .conditions
                    .iter()
                    .map(|condition| Condition {
                        kind: condition.r#type.clone(),
                        status: condition.status,
                        reason: condition.reason.clone(),
                        message: condition.message.clone(),
                        field: condition.field.clone(),
                    })
                    .collect(),
            })
            .collect(),
        rules: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use sheer_api::v1::{ObjectRef, Resource, Traffic};

    use super::*;

    #[test]
    fn numbers_find_their_route() {
        let written = RouteStatus {
            route: Some(ObjectRef {
                kind: "HTTPRoute".to_owned(),
                namespace: "bank".to_owned(),
                name: "canary".to_owned(),
                ..ObjectRef::default()
            }),
            file: "routes.yaml".to_owned(),
            line: 3,
            ..RouteStatus::default()
        };
        let stat = |kind: &str, name: &str| Stat {
            resource: Some(Resource {
                kind: kind.to_owned(),
                namespace: "bank".to_owned(),
                name: name.to_owned(),
                part: "GET /v1/*".to_owned(),
            }),
            traffic: Some(Traffic::default()),
            ..Stat::default()
        };
        let routes = join(&[written], &[stat("httproute", "canary"), stat("default", "ledger")]);
        let told: Vec<_> = routes
            .iter()
            .map(|route| (route.place.as_str(), route.rules.len()))
            .collect();
        assert_eq!(told, [("routes.yaml:3", 1), ("", 1)]);
        assert_eq!(routes[0].rules[0].name, "GET /v1/*");
    }
}

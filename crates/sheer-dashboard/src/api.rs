//! `/api/PAGE` (the model once) and `/api/PAGE/events` (the model whenever it changed, of the tap what came since, and the line below the page). Each tab of a browser holds one
//! stream.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query as Parameters, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream::{self, Stream, StreamExt as _};
use http::header;
use tokio::sync::OwnedSemaphorePermit;

use crate::pages::{self, Model, Page};
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::server::App;

/// A connection on which nothing comes for this long may be dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn page(name: &str) -> Result<Page, Problem> {
    let unknown = || {
        Problem::new(
            Kind::NotFound,
            format!("There is no page `{name}`."),
            "docs/dashboard.md lists them.",
        )
    };
    Page::parse(name).ok_or_else(unknown)
}

/// The model now.
pub(crate) async fn once(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Result<Response, Problem> {
    let model = pages::model(&app.sources, page(&name)?, &Query::new(parameters)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(model)).into_response())
}

/// The model as server-sent events: `page` with the model, `problem` with why there is none, `status` with the line below the page.
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Result<Response, Problem> {
    let page = page(&name)?;
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| too_many())?;
    let model = pages::watch(Arc::clone(&app.sources), page, Query::new(parameters));
    // Whoever may look at traffic alone is not told of the mesh.
    let status = if app.sources.control.is_narrowed() {
        stream::pending().boxed()
    } else {
        pages::watch(Arc::clone(&app.sources), Page::Status, Query::default())
    };
    let events = stream::select(changes(model, "page"), changes(status, "status"));
    Ok(Sse::new(held(events, permit))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

fn too_many() -> Problem {
    Problem::new(
        Kind::TooMany,
        "As many pages are open as the dashboard serves.",
        "Close tabs that nobody looks at.",
    )
}

/// An event for each model that differs from the one before, and for each that comes after a problem.
fn changes(
    models: impl Stream<Item = Model> + Send,
    name: &'static str,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let fresh = models.scan(None, |last: &mut Option<Model>, model| {
        let changed = last.as_ref() != Some(&model);
        if changed {
            *last = Some(model.clone());
        }
        futures::future::ready(Some(changed.then_some(model)))
    });
    fresh.filter_map(move |model| {
        let event = model.map(|model| match model {
            Ok(model) => Event::default().event(name).data(model),
            Err(problem) => Event::default().event("problem").data(problem.json()),
        });
        futures::future::ready(event.map(Ok))
    })
}

/// The permit goes with the stream.
fn held<T>(stream: impl Stream<Item = T> + Send, permit: OwnedSemaphorePermit) -> impl Stream<Item = T> + Send {
    stream.map(move |item| {
        let _held = &permit;
        item
    })
}

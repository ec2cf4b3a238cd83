//! What each page shows, as one model a page: asked of the control plane, put together, serialised. The same model is given once (JSON) and again and
//! again (server-sent events).

mod explain;
mod frames;
mod health;
mod live;
mod map;
mod policy;
mod request;
mod routes;
mod seen;
mod status;
mod tap;
mod traces;
mod workload;
mod workloads;

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::checks::LastCheck;
use crate::control::Control;
use crate::problem::Problem;
use crate::query::Query;

/// What models are made from.
pub(crate) struct Sources {
    pub(crate) control: Control,
    pub(crate) checks: LastCheck,
    /// What proxies hold is much, and asked of each of them: one answer serves all pages for a while.
    dump: Mutex<Option<(Instant, std::sync::Arc<[sheer_api::v1::ProxyDump]>)>>,
    /// Requests that were shown lately.
    seen: Mutex<seen::Seen>,
}

impl Sources {
    pub(crate) fn new(control: Control, checks: LastCheck) -> Self {
        Self {
            control,
            checks,
            dump: Mutex::new(None),
            seen: Mutex::default(),
        }
    }
}

/// A page's model, or why there is none, as JSON.
pub(crate) type Model = Result<String, Problem>;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Map,
    Workloads,
    Workload,
    /// What the proxies of one workload hold.
    Holds,
    Routes,
    Live,
    /// Requests as they pass, one by one: an event is what came since the last.
    Tap,
    /// One request at the four points.
    Request,
    /// Its frames.
    Frames,
    Traces,
    Trace,
    Policy,
    /// What becomes of one request.
    Explain,
    Health,
    /// The line below every page.
    Status,
}

impl Page {
    /// As the API's paths name it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "map" => Self::Map,
            "workloads" => Self::Workloads,
            "workload" => Self::Workload,
            "holds" => Self::Holds,
            "routes" => Self::Routes,
            "live" => Self::Live,
            "tap" => Self::Tap,
            "request" => Self::Request,
            "frames" => Self::Frames,
            "traces" => Self::Traces,
            "trace" => Self::Trace,
            "policy" => Self::Policy,
            "explain" => Self::Explain,
            "health" => Self::Health,
            "status" => Self::Status,
            _ => return None,
        })
    }

    /// Time between two models of a page that stays open. None for what does not change, or only when asked.
    fn interval(self) -> Option<Duration> {
        let seconds = match self {
            Self::Live | Self::Tap => 1,
            Self::Map | Self::Workloads | Self::Workload | Self::Routes => 2,
            Self::Traces => 3,
            Self::Policy | Self::Status | Self::Health => 5,
            Self::Holds => 10,
            Self::Trace | Self::Explain | Self::Request | Self::Frames => return None,
        };
        Some(Duration::from_secs(seconds))
    }
}

/// The model now.
pub(crate) async fn model(sources: &Sources, page: Page, query: &Query) -> Model {
    match page {
        Page::Map => json(&map::model(sources, query).await?),
        Page::Workloads => json(&workloads::model(sources, query).await?),
        // Boxed: it asks much at once, and the others need not carry its room.
        Page::Workload => json(&Box::pin(workload::model(sources, query)).await?),
        Page::Holds => json(&policy::holds(sources, query).await?),
        Page::Routes => json(&routes::model(sources, query).await?),
        Page::Live => live::first(sources, query).await,
        Page::Tap => tap::first(sources, query).await,
        Page::Request => json(&*Box::pin(request::model(sources, query)).await?),
        Page::Frames => json(&*Box::pin(frames::model(sources, query)).await?),
        Page::Traces => json(&traces::list(sources, query).await?),
        Page::Trace => json(&traces::show(sources, query).await?),
        Page::Policy => json(&policy::model(sources, query).await?),
        Page::Explain => json(&explain::model(sources, query).await?),
        Page::Health => json(&health::model(sources).await?),
        Page::Status => json(&status::model(sources).await?),
    }
}

/// The model now and whenever it may have changed. Never ends but for what does not change.
pub(crate) fn watch(sources: std::sync::Arc<Sources>, page: Page, query: Query) -> BoxStream<'static, Model> {
    if page == Page::Live {
        return live::watch(sources, query).boxed();
    }
    if page == Page::Tap {
        return tap::watch(sources, query).boxed();
    }
    let Some(period) = page.interval() else {
        return futures::stream::once(async move { model(&sources, page, &query).await }).boxed();
    };
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    futures::stream::unfold((sources, query, ticks), move |(sources, query, mut ticks)| async move {
        ticks.tick().await;
        let model = model(&sources, page, &query).await;
        Some((model, (sources, query, ticks)))
    })
    .boxed()
}

fn json(model: &impl Serialize) -> Model {
    serde_json::to_string(model).map_err(|error| Problem::unshown(&error))
}

/// The time that a model is about.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Span {
    /// Milliseconds since the Unix epoch, by the control plane's clock.
    from_ms: i64,
    to_ms: i64,
    step_ms: u64,
    /// From when on something is known, where that is later; else 0.
    known_from_ms: i64,
}

impl Span {
    fn of(window: Option<sheer_api::v1::Window>) -> Self {
        let window = window.unwrap_or_default();
        Self {
            from_ms: window.from_ms,
            to_ms: window.to_ms,
            step_ms: window.step_ms,
            known_from_ms: window.known_from_ms,
        }
    }
}

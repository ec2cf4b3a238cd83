//! One function an endpoint.

use std::{collections::BTreeMap, net::SocketAddr};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};

use super::Admin;
use crate::metrics::Scrape;

/// A filter is a line.
const LARGEST_FILTER: usize = 8 * 1024;
const TEXT: &str = "text/plain; charset=utf-8";

type Answer = Response<Full<Bytes>>;

pub(super) async fn answer(admin: &Admin, client: SocketAddr, request: Request<Incoming>) -> Answer {
    let local = client.ip().to_canonical().is_loopback();
    let method = request.method().clone();
    match (request.uri().path(), &method) {
        ("/live", &Method::GET | &Method::HEAD) => text(StatusCode::OK, "live\n"),
        ("/ready", &Method::GET | &Method::HEAD) => ready(admin),
        ("/metrics", &Method::GET | &Method::HEAD) => metrics(admin, &request),
        ("/proxy-log-level" | "/env.json" | "/shutdown", _) if !local => {
            text(StatusCode::FORBIDDEN, "only for callers in the same pod (loopback)\n")
        }
        ("/proxy-log-level", &Method::GET) => log_level(admin),
        ("/proxy-log-level", &Method::PUT) => set_log_level(admin, request).await,
        ("/env.json", &Method::GET) => environment(request.uri().query()),
        ("/shutdown", &Method::POST) => shutdown(admin),
        ("/live" | "/ready" | "/metrics" | "/env.json", _) => not_allowed("GET"),
        ("/proxy-log-level", _) => not_allowed("GET, PUT"),
        ("/shutdown", _) => not_allowed("POST"),
        _ => text(
            StatusCode::NOT_FOUND,
            "not here; try /live /ready /metrics /proxy-log-level /env.json /shutdown\n",
        ),
    }
}

fn ready(admin: &Admin) -> Answer {
    if admin.life.is_draining() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "draining: the proxy is ending\n");
    }
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready\n{}\n", missing.join("\n")),
    )
}

fn metrics(admin: &Admin, request: &Request<Incoming>) -> Answer {
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let scrape = Scrape::from_accept(accept);
    of_type(StatusCode::OK, scrape.content_type(), admin.registry.scrape(scrape))
}

fn log_level(admin: &Admin) -> Answer {
    match &admin.log_level {
        Some(level) => text(StatusCode::OK, format!("{}\n", level.filter())),
        None => text(StatusCode::NOT_FOUND, "logs are not set up\n"),
    }
}

async fn set_log_level(admin: &Admin, request: Request<Incoming>) -> Answer {
    let Some(level) = &admin.log_level else {
        return text(StatusCode::NOT_FOUND, "logs are not set up\n");
    };
    let Ok(body) = Limited::new(request.into_body(), LARGEST_FILTER).collect().await else {
        return text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a filter has at most {LARGEST_FILTER} bytes\n"),
        );
    };
    let body = body.to_bytes();
    let Ok(filter) = std::str::from_utf8(&body) else {
        return text(StatusCode::BAD_REQUEST, "the filter is not UTF-8\n");
    };
    match level.set(filter.trim()) {
        Ok(()) => {
            tracing::info!(filter = filter.trim(), "log filter changed");
            Response::builder()
                .status(StatusCode::NO_CONTENT)
                .body(Full::default())
                .unwrap_or_else(|_| Response::default())
        }
        Err(problem) => text(StatusCode::BAD_REQUEST, format!("{filter:?} {problem}\n")),
    }
}

/// The proxy's own settings as they are in the environment. None of them is a secret: tokens and keys are in files.
fn environment(query: Option<&str>) -> Answer {
    let wanted: Vec<&str> = query.map(|query| query.split('&').collect()).unwrap_or_default();
    let ours = |name: &str| name.starts_with("SHEER_PROXY_") || name.starts_with("LINKERD2_PROXY_");
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| ours(name) && (wanted.is_empty() || wanted.contains(&name.as_str())))
        .collect();
    let json = serde_json::to_string_pretty(&variables).unwrap_or_default();
    of_type(StatusCode::OK, "application/json", json)
}

fn shutdown(admin: &Admin) -> Answer {
    match &admin.shutdown {
        Some(shutdown) => {
            shutdown.ask("POST /shutdown");
            text(StatusCode::OK, "draining\n")
        }
        None => text(
            StatusCode::NOT_FOUND,
            "not enabled: SHEER_PROXY_SHUTDOWN_ENDPOINT_ENABLED=true\n",
        ),
    }
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("allowed: {allowed}\n"));
    answer
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    of_type(status, TEXT, body)
}

fn of_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    answer
}

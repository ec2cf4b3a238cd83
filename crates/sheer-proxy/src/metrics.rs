//! The proxy's metrics: a small registry made for the data path.
//!
//! A worker owns a [`Shard`]; it resolves handles ([`Counter`], [`Gauge`], [`Histogram`], or a bundle such as [`HttpMetrics`])
//! where it resolves an endpoint or a target, and then only adds to atomics that no other worker touches. A scrape sums the
//! shards. Names and labels are Linkerd's, so that dashboards keep working; what Sheer adds starts with `sheer_`.
//!
//! Nothing here may block a worker: a shard's lock is only taken to resolve a handle and to scrape.

mod cell;
pub mod family;
mod inbound;
mod labels;
mod native;
mod path;
mod process;
mod protobuf;
mod registry;
mod render;
mod response;
mod route;

pub use cell::{Counter, Exemplar, Gauge, Histogram, TraceId};
pub use family::{Bounds, Family, Kind};
pub use inbound::InboundRouteMetrics;
pub use labels::{
    LabelBuilder, LabelSet, Tls, application_labels, inbound_labels, labels_of, outbound_labels, target_labels,
};
pub(crate) use native::bucket;
pub use path::{
    BalancerMetrics, BreakerMetrics, DetectMetrics, DetectResult, HandshakeMetrics, HttpAuthzMetrics, HttpMetrics,
    Peer, QueueMetrics, TcpAuthzMetrics, TcpMetrics, TcpOpen, header_lists,
};
pub(crate) use process::describe_build;
pub use registry::{MOST_SERIES_OF_FAMILY, Reading, Registry, Shard};
pub use render::{Format, Scrape};
pub use response::ResponseOutcome;
pub use route::{RetryMetrics, RouteBackendMetrics, RouteMetrics, RouteStatus};

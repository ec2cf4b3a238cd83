//! Rolling windows of what proxies did, and what is answered from them: `sheer stat`, `edges`, `top`, the dashboard.
//!
//! ```text
//! proxies ─ sheer.v1.Telemetry.Push ─► intake ─► resolve (who is that?) ─► windows ◄─ stat, series, edges, top ◄─ sheer.v1.Stats (socket)
//! ```
//!
//! Windows are of 1 s for the last 10 min and of 10 s for the last 6 h. They live in memory and end with the process: Prometheus is where numbers are
//! kept for longer. Memory is bounded ([`windows::LIMIT`]): where it does not suffice, the oldest windows of 10 s go first, and answers say from when
//! on something is known.
//!
//! * [`intake`]: one stream a proxy. [`resolve`]: from addresses to workloads. [`source`]: all of one pod.
//! * [`log`], [`record`], [`nibbles`], [`histogram`]: how a series is kept in little memory.
//! * [`totals`], [`select`], [`time`]: what answers have in common. [`stat`], [`points`], [`edges`], [`top`]: the answers. [`service`]: who asks.

mod edges;
mod histogram;
mod intake;
mod log;
mod nibbles;
mod points;
mod record;
mod resolve;
mod row;
mod select;
mod service;
mod source;
mod stat;
mod time;
mod top;
mod totals;
mod windows;

pub(crate) use intake::Intake;
pub(crate) use service::StatsService;
pub(crate) use windows::Windows;

#[cfg(test)]
mod tests;

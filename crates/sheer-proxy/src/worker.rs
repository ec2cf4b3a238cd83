//! Tasks of a data-path worker: each ends with the process, and a panic ends only its own connection or stream.

use std::{
    any::Any,
    backtrace::Backtrace,
    future::Future,
    panic::{AssertUnwindSafe, PanicHookInfo},
    sync::atomic::{AtomicU64, Ordering},
};

use futures::FutureExt;

use crate::life::Life;

/// Panics of the data path since the start.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics since the start, for the metric `sheer_panics_total`.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Has every panic of the process counted and logged with its backtrace. `main` calls this once.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::force_capture();
        tracing::error!(%place, %backtrace, "panic: {}", text(panic.payload()));
    }));
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Spawns a task for a connection on this worker. A drain waits for it, the hard stop drops it, a panic ends it alone.
pub fn spawn_connection(life: &Life, task: impl Future<Output = ()> + 'static) {
    let life = life.clone();
    tokio::task::spawn_local(async move {
        // The hook has counted and logged the panic.
        let _ = life.run(AssertUnwindSafe(task).catch_unwind()).await;
    });
}

/// Spawns a task for a stream on this worker. Its connection holds up the drain and carries the hard stop; a panic ends it alone.
pub(crate) fn spawn_stream(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(async move {
        let _ = AssertUnwindSafe(task).catch_unwind().await;
    });
}

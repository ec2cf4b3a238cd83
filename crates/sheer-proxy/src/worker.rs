//! Data-path workers: threads that share nothing, and the tasks on them. Each task ends with the process, and a panic ends only its
//! own connection or stream.

use std::{
    any::Any,
    backtrace::Backtrace,
    future::Future,
    io,
    net::SocketAddr,
    panic::PanicHookInfo,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use tokio::{net::TcpListener, runtime, task::LocalSet};

use crate::{
    accept,
    inbound::Inbound,
    life::Life,
    outbound::Outbound,
    process::Parts,
    sight,
    sys::{self, ListenOptions},
    trace::Tracer,
};

/// Starts the workers. Returns once all of them listen, or with the first mistake of one.
pub fn start(parts: Parts) -> io::Result<()> {
    let (report, started) = mpsc::channel();
    let workers = parts.settings.workers;
    for index in 0..workers {
        let (parts, report) = (parts.clone(), report.clone());
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || run(parts, &report))?;
    }
    for _ in 0..workers {
        started
            .recv()
            .map_err(|_| io::Error::other("a worker ended before it listened"))??;
    }
    Ok(())
}

/// One worker, to the end of the process.
fn run(parts: Parts, report: &mpsc::Sender<io::Result<()>>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(report.send(Err(error))),
    };
    LocalSet::new().block_on(&runtime, async move {
        let life = parts.life.clone();
        let told = listen(parts);
        let up = told.is_ok();
        // Whoever started the workers waits for this word.
        drop(report.send(told));
        if up {
            life.stopped().await;
        }
    });
}

/// Binds the listeners and has them served.
fn listen(parts: Parts) -> io::Result<()> {
    let Parts {
        settings,
        registry,
        identity,
        discovery,
        life,
        sight,
        traces,
    } = parts;
    let shard = registry.shard();
    let tracer = Tracer::start(&traces, &shard);
    let listener = bind("inbound", settings.inbound.listen)?;
    let inbound = Inbound::new(
        Arc::clone(&settings),
        Arc::clone(&discovery),
        identity.clone(),
        life.clone(),
        shard.clone(),
    );
    inbound.trace(&tracer);
    let accepting = Rc::clone(&inbound);
    tokio::task::spawn_local(accept::run(listener, life.clone(), move |tcp, client| {
        Rc::clone(&accepting).serve(tcp, client)
    }));
    let outbound = Outbound::new(Arc::clone(&settings), discovery, identity, life.clone(), shard);
    outbound.trace(&tracer);
    tokio::task::spawn_local(sight::answer(sight.register(), Rc::clone(&outbound), inbound));
    for &addr in &settings.outbound.listen {
        let (listener, outbound) = (bind("outbound", addr)?, Rc::clone(&outbound));
        tokio::task::spawn_local(accept::run(listener, life.clone(), move |tcp, client| {
            Rc::clone(&outbound).serve(tcp, client)
        }));
    }
    Ok(())
}

fn bind(what: &str, addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = sys::listen(addr, ListenOptions::default());
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {addr} ({what}): {error}")))
}

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

/// Spawns a task for a connection on this worker. A drain waits for it, the hard stop drops it. A panic ends it alone: the runtime
/// drops the task, and the hook has counted and logged the panic.
pub fn spawn_connection(life: &Life, task: impl Future<Output = ()> + 'static) {
    let life = life.clone();
    tokio::task::spawn_local(async move {
        let _ = life.run(task).await;
    });
}

/// Spawns a task for a stream on this worker. Its connection holds up the drain and carries the hard stop. A panic ends it alone, as
/// in [`spawn_connection`]. The future is large, and a task is moved several times before it runs: it is made in a [`boxed`] place. `after` follows it,
/// and is small.
pub(crate) fn spawn_stream<F: Future<Output = ()>>(
    task: impl FnOnce() -> F + 'static,
    after: impl Future<Output = ()> + 'static,
) {
    tokio::task::spawn_local(async move {
        boxed(task).await;
        after.await;
    });
}

/// A future that is made where it stays. `Box::pin` would make it on the stack and copy all of it: here there is a place before it is made. The function
/// that makes it must not be inlined, or it is made on the stack all the same.
#[inline]
pub(crate) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::write(Box::new_uninit(), make());
    Box::into_pin(place)
}

//! The benchmark's one binary: the runner (`sheer-bench run`), and the small programs that it starts inside its namespaces.
//!
//! `run` measures pairs of proxies side by side on one machine; the others (`floor`, `tcp-server`, `open-loop`, …) are its tools.
//! Nothing here is part of the product.

mod certs;
mod floor;
mod h2load;
mod marks;
mod measure;
mod open_loop;
mod peer;
mod plot;
mod process;
mod report;
mod runner;
mod site;
mod soak;
mod tap;
mod tcp;
mod telemetry;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares pairs of proxies: CPU a request, throughput, latency, memory.
#[derive(Parser)]
#[command(name = "sheer-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the benchmark and writes its results.
    Run(runner::Run),
    /// Measures what telemetry and traces cost in CPU a request.
    Telemetry(telemetry::Telemetry),
    /// Sends millions of requests through a pair of sidecars and watches their memory.
    Soak(soak::Soak),
    /// Measures what `sheer tap` costs the requests of which it shows one in a hundred.
    Tap(tap::Tap),
    /// The floor: a bare hyper + rustls forwarder, one half of a pair.
    #[command(hide = true)]
    Floor(floor::Floor),
    /// Server of the TCP measurements.
    #[command(hide = true)]
    TcpServer(tcp::Server),
    /// Bulk throughput through an opaque TCP path.
    #[command(hide = true)]
    TcpBulk(tcp::Bulk),
    /// Short connections a second through an opaque TCP path.
    #[command(hide = true)]
    TcpConnect(tcp::Connect),
    /// Opens connections and holds them idle until stdin closes.
    #[command(hide = true)]
    TcpIdle(tcp::Idle),
    /// Open-loop HTTP/2 load: latency from the moment a request was due.
    #[command(hide = true)]
    OpenLoop(open_loop::OpenLoop),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(run) => run.run(),
        Command::Telemetry(telemetry) => telemetry.run(),
        Command::Soak(soak) => soak.run(),
        Command::Tap(tap) => tap.run(),
        Command::Floor(floor) => block_on(floor.run()),
        Command::TcpServer(server) => block_on(server.run()),
        Command::TcpBulk(bulk) => block_on(bulk.run()),
        Command::TcpConnect(connect) => block_on(connect.run()),
        Command::TcpIdle(idle) => block_on(idle.run()),
        Command::OpenLoop(load) => block_on(load.run()),
    }
}

/// One thread, as each worker of a proxy has it.
fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(work))
}

//! `sheer`, the command line: parses, sets up logs and the TLS provider, and runs one command.
//!
//! Each command is one module of [`commands`]; what they share is in [`output`], [`progress`] and [`outcome`].

mod certificate;
mod cli;
mod commands;
mod descriptors;
mod ending;
mod mesh;
mod numbers;
mod outcome;
mod output;
mod page;
mod progress;
mod running;
mod scrape;
mod watching;
mod words;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    name_process(cli.command.process());
    install_logs(cli.command.default_log());
    install_crypto_provider();
    outcome::to_exit_code(cli.run())
}

/// Logs go to stderr: stdout is for data. `SHEER_LOG` overrides what a command logs by default.
fn install_logs(default: &str) {
    let filter = std::env::var("SHEER_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        eprintln!("sheer: SHEER_LOG={filter:?} is not understood ({error}); logging warnings. Try SHEER_LOG=debug.");
        tracing_subscriber::EnvFilter::new("warn")
    });
    let colour = output::stderr_is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        // It would say so by `eprintln!`, which panics where stderr is a terminal that was closed.
        .log_internal_errors(false)
        .init();
}

/// What `ps` and `top` show: a process that re-executed itself would be called `exe`.
fn name_process(name: &str) {
    // An error is none of the operator's business: the name is for reading.
    let _ = std::ffi::CString::new(name).map(|name| nix::sys::prctl::set_name(&name));
}

/// One TLS back end for everything that this process does.
fn install_crypto_provider() {
    // An error means that a provider stands already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

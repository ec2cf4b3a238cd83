//! `sheer-proxy`: the sidecar. Reads its settings from the environment, runs until a signal.

use std::process::ExitCode;

use sheer_proxy::{
    logs,
    process::{self, EXIT_USAGE},
    settings::{self, Note},
    worker,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        return about(&argument);
    }
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let (settings, notes) = match settings::read(environment) {
        Ok(read) => read,
        Err(mistakes) => {
            eprintln!(
                "sheer-proxy: {} wrong in the settings (docs/settings.md):",
                mistakes.len()
            );
            mistakes.iter().for_each(|mistake| eprintln!("  {mistake}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let log_level = match logs::start(&settings.logs) {
        Ok(level) => level,
        Err(error) => {
            eprintln!("sheer-proxy: cannot log: {error}");
            return ExitCode::FAILURE;
        }
    };
    worker::catch_panics();
    tell(&notes);
    // The control runtime: everything but traffic. One thread, this one.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(process::run(settings, Some(log_level), worker::start));
    // A look-up of a name may still be waiting for DNS: it must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn about(argument: &str) -> ExitCode {
    match argument {
        "--version" | "-V" => println!("sheer-proxy {}", env!("CARGO_PKG_VERSION")),
        "--help" | "-h" => print!("{}", settings::markdown()),
        other => {
            eprintln!("sheer-proxy: {other:?} is no argument: settings are environment variables (--help, --version)");
            return ExitCode::from(EXIT_USAGE);
        }
    }
    ExitCode::SUCCESS
}

fn tell(notes: &[Note]) {
    for Note { warn, text } in notes {
        if *warn {
            tracing::warn!("{text}")
        } else {
            tracing::debug!("{text}")
        }
    }
}

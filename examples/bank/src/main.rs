//! One binary, a subcommand a service.

use std::io::IsTerminal;

use bank::services::{accounts, audit, fraud, fx, gateway, ledger, notify, payments};
use bank::{fault_command, load, server::Listen};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A payments platform of gRPC services: the sample of Sheer.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// HTTP/1 and JSON for clients: POST /v1/payments, GET /v1/accounts/ID, GET /healthz.
    Gateway(gateway::Args),
    /// Moves money: asks accounts and fraud, posts to the ledger, records and notifies.
    Payments(payments::Args),
    /// Who holds an account and what it may do.
    Accounts(Listen),
    /// Double-entry books, in memory.
    Ledger(Listen),
    /// Scores a payment; asks fx for the amount in euro.
    Fraud(fraud::Args),
    /// Exchange rates.
    Fx(Listen),
    /// Tells customers what happened (server streaming).
    Notify(Listen),
    /// Keeps what happened (client streaming and bidirectional).
    Audit(Listen),
    /// Sends payments to the gateway at a fixed rate, whatever the answers do.
    Load(load::Args),
    /// Switches faults of a running service on and off.
    Fault(fault_command::Args),
}

// One thread a service is plenty, and leaves the machine to the others.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("BANK_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match Cli::parse().command {
        Command::Gateway(args) => gateway::run(args).await,
        Command::Payments(args) => payments::run(args).await,
        Command::Accounts(listen) => accounts::run(listen).await,
        Command::Ledger(listen) => ledger::run(listen).await,
        Command::Fraud(args) => fraud::run(args).await,
        Command::Fx(listen) => fx::run(listen).await,
        Command::Notify(listen) => notify::run(listen).await,
        Command::Audit(listen) => audit::run(listen).await,
        Command::Load(args) => load::run(args).await,
        Command::Fault(args) => fault_command::run(args).await,
    }
}

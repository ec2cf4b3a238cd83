//! The whole mesh against peers that nobody here wrote: `sheer up` on `mesh.yaml`, then the cases below, one after the other.
//!
//! `cargo test -p sheer-interop -- WORD…` runs the cases whose name has one of the words in it. `SHEER_TEST_BIN` names the folder with the
//! binaries; `make interop` sets it and installs the peers. The same program is the replicas of the balancing and fault cases (`serve`), and
//! the load on them (`load`), started inside pods.

#![expect(clippy::print_stdout, reason = "a test program speaks to a terminal")]

mod balance;
mod faults;
mod garbage;
mod grpc;
mod http;
mod load;
mod metrics;
mod setup;
mod tcp;
mod wire;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use setup::Bench;

/// One case: it gives a line of what was measured, or says what was wrong.
type Case = fn(&mut Bench) -> Result<String>;

/// All of them. Those that break things come last.
const CASES: &[(&str, Case)] = &[
    ("grpc: grpcio to grpcio", grpc::python_to_python),
    ("grpc: grpcio to grpc-js", grpc::python_to_node),
    ("grpc: grpc-js to grpcio", grpc::node_to_python),
    ("grpc: grpc-js to grpc-js", grpc::node_to_node),
    ("grpc: unmeshed client", grpc::from_unmeshed),
    ("grpc: unmeshed server", grpc::to_unmeshed),
    ("http: curl over HTTP/1", http::curl_http1),
    ("http: curl over HTTP/2", http::curl_http2),
    ("http: nghttp", http::nghttp),
    ("http: interim responses and trailers", http::interim_and_trailers),
    ("http: HTTP/1.0 and HEAD", http::http10_and_head),
    ("http: WebSocket", http::web_socket),
    ("http: unmeshed client and server", http::unmeshed),
    ("http: 1 GiB down", http::gigabyte_down),
    ("http: 1 GiB up", http::gigabyte_up),
    ("tcp: Redis", tcp::redis),
    ("tcp: PostgreSQL", tcp::postgres),
    ("tcp: server speaks first", tcp::server_first),
    ("wire: only TLS 1.3 on the link", wire::only_tls13),
    ("metrics: promtool on live pages", metrics::promtool),
    ("garbage on every port", garbage::everywhere),
    ("balance: a slow replica loses its traffic", balance::slow_replica),
    ("fault: kill -9 of an endpoint", faults::endpoint),
    ("fault: kill -9 of an endpoint's proxy", faults::endpoint_proxy),
    ("fault: kill -9 of the client's proxy", faults::client_proxy),
    ("fault: kill -9 of the control plane", faults::control),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("serve") => load::serve(&arguments[1..]).map(|()| true),
        Some("load") => load::generate(&arguments[1..]).map(|()| true),
        _ => run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("interop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases that were asked for; says whether all passed.
fn run(arguments: &[String]) -> Result<bool> {
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let cases: Vec<_> = CASES.iter().filter(|(name, _)| wanted(name)).collect();
    if arguments.iter().any(|word| word == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        return Ok(true);
    }
    if cases.is_empty() {
        return Ok(true);
    }
    let started = Instant::now();
    let mut bench = Bench::new()?;
    println!(
        "mesh of {} pods ready after {:.1} s\n",
        bench.pods()?,
        started.elapsed().as_secs_f64()
    );
    let mut failed = 0;
    for (name, case) in &cases {
        let started = Instant::now();
        match case(&mut bench) {
            Ok(text) => println!("ok      {name:<44} {:>5.1} s  {text}", started.elapsed().as_secs_f64()),
            Err(error) => {
                failed += 1;
                println!("FAILED  {name:<44} {:>5.1} s", started.elapsed().as_secs_f64());
                println!("{}\n", indent(&format!("{error:#}")));
            }
        }
    }
    println!(
        "\n{} of {} cases passed in {:.0} s",
        cases.len() - failed,
        cases.len(),
        started.elapsed().as_secs_f64()
    );
    if failed > 0 {
        println!("logs of the mesh: {}", bench.keep_logs()?.display());
    }
    Ok(failed == 0)
}

fn indent(text: &str) -> String {
    text.lines().take(40).map(|line| format!("        {line}\n")).collect()
}

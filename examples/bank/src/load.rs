//! Sends payments to the gateway at a fixed rate, open loop: each request has its moment, whatever the earlier ones do, and
//! its latency counts from that moment. A slow bank therefore shows as slow, not as less load (no coordinated omission).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use rand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::fault_command::duration;
use crate::histogram::Histogram;
use crate::server;
use crate::services::accounts::{ACCOUNTS, account_name, is_frozen};

/// A request without an answer for this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests in flight beyond this are counted as not sent: memory is finite.
const IN_FLIGHT: usize = 10_000;

/// Sends payments to the gateway at a fixed rate, whatever the answers do.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  bank load --rate 50                               until Ctrl-C, one line every 10 s
  bank load --rate 500 --for 30s -o json            the totals as JSON, exit code 1 if anything failed")]
pub struct Args {
    /// URL of the gateway.
    #[arg(long, env = "BANK_GATEWAY", default_value = "http://gateway:8080")]
    gateway: String,
    /// Requests a second; nine of ten are payments, one asks for an account.
    #[arg(long, env = "BANK_RATE", default_value_t = 20.0)]
    rate: f64,
    /// Ends after this long. Default: at Ctrl-C or SIGTERM.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasting: Option<Duration>,
    /// Time between two lines of progress on stderr.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    every: Duration,
    /// How the totals are printed at the end.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// What became of the requests. All of them are counted: `scheduled` is the sum of the rest once none is in flight.
#[derive(Clone, Default)]
struct Tally {
    scheduled: u64,
    succeeded: u64,
    /// By HTTP status, `timeout`, `no answer` or `not sent`.
    failed: BTreeMap<String, u64>,
    latency: Histogram,
}

/// Runs until the time is over or a signal comes, then prints the totals.
pub async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(args.rate > 0.0 && args.rate.is_finite(), "the rate must be above zero");
    let _: Uri = args
        .gateway
        .parse()
        .with_context(|| format!("`{}` is no URL", args.gateway))?;
    let tally = Arc::new(Mutex::new(Tally::default()));
    let end = args.lasting.map(|lasting| Instant::now() + lasting);
    let mut requests = JoinSet::new();
    let stopped = async {
        tokio::select! {
            () = server::received_any() => {}
            () = async { match end { Some(end) => sleep_until(end).await, None => std::future::pending().await } } => {}
        }
    };
    tokio::select! {
        () = stopped => {}
        () = send_all(&args, &tally, &mut requests) => {}
        () = progress(args.every, &tally) => {}
    }
    while requests.join_next().await.is_some() {}
    let tally = tally.lock().clone();
    match args.output {
        Output::Text => println!("{}", tally.line()),
        Output::Json => println!("{}", tally.json()),
    }
    ensure!(
        args.lasting.is_none() || tally.failed.is_empty(),
        "{} requests failed",
        tally.failures()
    );
    Ok(())
}

/// Starts each request at its moment. Never waits for an answer.
async fn send_all(args: &Args, tally: &Arc<Mutex<Tally>>, requests: &mut JoinSet<()>) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Http = Client::builder(TokioExecutor::new()).build(connector);
    let start = Instant::now();
    for number in 0_u64.. {
        let moment = start + Duration::from_secs_f64(number as f64 / args.rate);
        sleep_until(moment).await;
        while requests.try_join_next().is_some() {}
        tally.lock().scheduled += 1;
        if requests.len() >= IN_FLIGHT {
            tally.lock().fail("not sent");
            continue;
        }
        let (client, tally, request) = (client.clone(), tally.clone(), request(&args.gateway, number));
        requests.spawn(async move {
            let outcome = send(&client, request).await;
            let mut tally = tally.lock();
            match outcome {
                Ok(()) => tally.succeeded += 1,
                Err(reason) => tally.fail(&reason),
            }
            tally.latency.record(moment.elapsed());
        });
    }
}

async fn send(client: &Http, request: Request<Full<Bytes>>) -> Result<(), String> {
    let exchange = async {
        let response = client.request(request).await.map_err(|error| {
            tracing::debug!(%error, "no answer");
            "no answer".to_owned()
        })?;
        let status = response.status();
        response
            .into_body()
            .collect()
            .await
            .map_err(|_| "cut answer".to_owned())?;
        if status.is_success() {
            Ok(())
        } else {
            Err(reason(status))
        }
    };
    timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| Err("timeout".to_owned()))
}

fn reason(status: StatusCode) -> String {
    format!("HTTP {}", status.as_u16())
}

fn request(gateway: &str, number: u64) -> Request<Full<Bytes>> {
    let mut rng = rand::rng();
    let mut account = || loop {
        let number = rng.random_range(1..=ACCOUNTS);
        if !is_frozen(number) {
            break account_name(number);
        }
    };
    let (payer, payee) = (account(), account());
    let request = Request::builder().header("host", gateway.split("://").last().unwrap_or(gateway));
    let request = if number % 10 == 9 {
        request
            .uri(format!("{gateway}/v1/accounts/{payer}"))
            .body(Full::default())
    } else {
        let currency = ["EUR", "USD", "GBP", "CHF", "JPY"][rng.random_range(0..5)];
        // Below what fraud looks at twice.
        let amount_minor = rng.random_range(100..50_000);
        let order = serde_json::json!({"payer": payer, "payee": payee, "amount_minor": amount_minor, "currency": currency, "reference": format!("order {number}")});
        request
            .method("POST")
            .uri(format!("{gateway}/v1/payments"))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("{:032x}", rng.random::<u128>()))
            .body(Full::from(order.to_string()))
    };
    request.expect("the URL was parsed at the start and the rest is ASCII")
}

async fn progress(every: Duration, tally: &Mutex<Tally>) {
    let mut ticks = tokio::time::interval(every);
    ticks.tick().await; // the first is at once
    loop {
        ticks.tick().await;
        eprintln!("{}", tally.lock().line());
    }
}

impl Tally {
    fn fail(&mut self, reason: &str) {
        *self.failed.entry(reason.to_owned()).or_default() += 1;
    }

    fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    fn line(&self) -> String {
        let millis = |latency: Duration| format!("{:.1} ms", latency.as_secs_f64() * 1e3);
        let mut line = format!(
            "{} requests, {} succeeded, {} failed, p50 {}, p99 {}, max {}",
            self.scheduled,
            self.succeeded,
            self.failures(),
            millis(self.latency.quantile(0.5)),
            millis(self.latency.quantile(0.99)),
            millis(self.latency.max()),
        );
        for (reason, count) in &self.failed {
            line.push_str(&format!("; {reason}: {count}"));
        }
        line
    }

    fn json(&self) -> serde_json::Value {
        let millis = |latency: Duration| latency.as_secs_f64() * 1e3;
        serde_json::json!({
            "scheduled": self.scheduled,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "p50_ms": millis(self.latency.quantile(0.5)),
            "p99_ms": millis(self.latency.quantile(0.99)),
            "max_ms": millis(self.latency.max()),
        })
    }
}

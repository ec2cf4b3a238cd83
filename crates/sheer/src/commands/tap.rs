//! `sheer tap`: requests and relayed connections as they pass.

mod lines;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;
use sheer_api::v1::{HeaderMatch, TapFilter, TapLine, TapLoss, TapRequest, WatchTapRequest, tap_line::Line};
use sheer_dashboard::wire::tap as json;

use self::lines::Lines;
use crate::{
    cli::Global,
    descriptors,
    outcome::{Misuse, Outcome},
    output::{Format, Printer, printing},
    running::Mesh,
    watching::Of,
    words::duration,
};

/// Flags of `sheer tap`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A line is a request that is over, as both proxies that it passed saw it: also one that a proxy answered itself (no endpoint, denied, no route, 431), one that was
sent again, and connections that are relayed as bytes. `json` has the head of the request and of the answer too (`kind`), each when it
comes, or with the end where that comes at once or a filter waits for it. What is dropped, because the reader is slow or the rate is reached, is counted and told.
`--failed-only` begins with the failures that proxies have kept.

`--body` shows bodies as they stream: JSON, and messages of gRPC, read by descriptors that applications offer (server reflection) or that `--descriptors` names (as
`protoc --include_imports -o FILE` or `buf build -o FILE` write them); by structure where nobody knows them. Values of secret fields are keyed hashes. What cannot be
read field by field is not shown: nobody could tell what in it is secret.

Filters run in the proxy, and compare with what is shown: --header authorization=hash:0123456789abcdef finds a secret again that was seen, and nobody can guess one.
STATUS and CODE take `!` for all others: --status '!2xx'.

Examples:
  sheer tap -n bank deploy/web
  sheer tap deploy/web --to svc/ledger --status 5xx
  sheer tap deploy/web --failed-only --for 10s
  sheer tap deploy/web --method POST --path /pay --header x-tenant=acme --latency '>200ms'
  sheer tap deploy/web --to svc/ledger --body
  sheer tap deploy/web -o json | jq .timing_us")]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only what goes there: svc/ledger, svc/ledger:8080, deploy/ledger, pod/ledger-0 or an address, also of a pod
    #[arg(long, value_name = "DESTINATION")]
    to: Option<String>,
    /// Only requests with this method
    #[arg(long)]
    method: Option<String>,
    /// Only requests whose path begins with this
    #[arg(long)]
    path: Option<String>,
    /// Only requests for this authority (of TLS that is passed through: the server name)
    #[arg(long)]
    authority: Option<String>,
    /// Only requests that were answered with this: 503, 5xx, !2xx
    #[arg(long)]
    status: Option<String>,
    /// Only gRPC calls that ended with this: 14, unavailable, !0
    #[arg(long, value_name = "CODE")]
    grpc_code: Option<String>,
    /// Only requests with this field, and value where one is given, as it is shown: of a secret its hash; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    header: Vec<String>,
    /// Only requests of this trace (traceparent, B3) or with this x-request-id
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
    /// Only requests that took longer to be answered, as '>200ms'
    #[arg(long, value_name = "TIME", value_parser = latency)]
    latency: Option<Duration>,
    /// Only requests that failed, those that proxies have kept first
    #[arg(long)]
    failed_only: bool,
    /// Bodies too
    #[arg(long)]
    body: bool,
    /// How much of each body, at most, as 64KiB or 1MiB
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "64KiB", requires = "body")]
    max: u32,
    /// Descriptors of messages, instead of what applications offer: a FileDescriptorSet
    #[arg(long, value_name = "FILE", requires = "body")]
    descriptors: Option<PathBuf>,
    /// Requests a second that are shown, at most: of those that the filters take, of all pods together
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How long to watch; until it is interrupted where absent
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How it is printed; `wide` has headers and trailers, JSON is one object a line
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

fn latency(text: &str) -> Result<Duration, String> {
    duration(text.trim().trim_start_matches('>').trim())
}

/// Reads `512`, `64KiB` or `1MiB`; a proxy keeps 1 MiB of a body at most.
pub(super) fn bytes(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is no size up to 1MiB: write it as 64KiB");
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u32 = text[..unit].parse().map_err(|_| wrong())?;
    let unit = match text[unit..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1_024,
        "m" | "mb" | "mib" => 1_024 * 1_024,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(unit)
        .filter(|size| (1..=1_024 * 1_024).contains(size))
        .ok_or_else(wrong)
}

impl Args {
    fn request(&self) -> anyhow::Result<WatchTapRequest> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let header = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            if name.is_empty() {
                return Err(Misuse(format!(
                    "--header {text:?} has no name: write it as x-tenant=acme"
                )));
            }
            Ok(HeaderMatch {
                name: name.trim().to_owned(),
                value: value.to_owned(),
            })
        };
        let filter = TapFilter {
            method: text(&self.method),
            path: text(&self.path),
            authority: text(&self.authority),
            status: text(&self.status),
            grpc_code: text(&self.grpc_code),
            headers: self.header.iter().map(header).collect::<Result<_, _>>()?,
            trace: text(&self.trace),
            latency_over_us: self
                .latency
                .map_or(0, |over| u64::try_from(over.as_micros()).unwrap_or(u64::MAX)),
            failed_only: self.failed_only,
            ..TapFilter::default()
        };
        Ok(WatchTapRequest {
            of: Some(self.of.selection()),
            to: text(&self.to),
            asked: Some(TapRequest {
                rights: None,
                filter: Some(filter),
                rate: self.rate,
                kept: self.failed_only,
                bodies: if self.body { self.max } else { 0 },
                descriptors: self.descriptors()?,
                wire: false,
                // Lines for people are of those; a body belongs to a head.
                ends: self.output != Format::Json && !self.body,
                folds: true,
            }),
        })
    }
}

impl Args {
    fn descriptors(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        self.descriptors.iter().map(|path| descriptors::read(path)).collect()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = args.request()?;
    crate::running::block_on(async {
        let mut lines = Mesh::find(global).await?.tap(request).await?;
        let mut shown = Shown {
            format: args.output,
            lines: Lines::new(args.output == Format::Wide, io::stdout().is_terminal()),
            losses: Losses::new(),
            anything: false,
        };
        printing(async |printer| {
            let time_is_up = async {
                match args.duration {
                    Some(duration) => tokio::time::sleep(duration).await,
                    None => std::future::pending().await,
                }
            };
            let (is_interrupted, ended) = tokio::select! {
                biased; // the operator first
                Ok(()) = tokio::signal::ctrl_c() => (true, Ok(())),
                () = time_is_up => (false, Ok(())),
                ended = shown.watch(&mut lines, printer) => (false, ended),
            };
            if is_interrupted && shown.anything {
                printer.give_up();
                return Ok(Outcome::Healthy);
            }
            shown.losses(printer).await?;
            ended?;
            if let Some(nothing) = shown.nothing() {
                printer.tell(nothing).await?;
            }
            Ok(Outcome::Healthy)
        })
        .await
    })
}

struct Shown {
    format: Format,
    lines: Lines,
    losses: Losses,
    /// Whether anything came that is shown or told.
    anything: bool,
}

/// What was lost is told this often.
const LOSSES: Duration = Duration::from_secs(1);

/// What was not shown: every proxy tells its own, and once a second is enough. The rest is told at the end.
struct Losses {
    untold: TapLoss,
    told: Instant,
}

impl Losses {
    fn new() -> Self {
        Self {
            untold: TapLoss::default(),
            told: Instant::now(),
        }
    }

    fn add(&mut self, TapLoss { slow, rate }: TapLoss) {
        self.untold.slow += slow;
        self.untold.rate += rate;
    }

    /// When it has to be told; none where there is nothing to tell.
    fn due(&self) -> Option<Instant> {
        (self.untold != TapLoss::default()).then(|| self.told + LOSSES)
    }

    /// Until something has to be told.
    async fn wait(&self) {
        match self.due() {
            Some(due) => tokio::time::sleep_until(due.into()).await,
            None => std::future::pending().await,
        }
    }

    fn take(&mut self) -> Vec<String> {
        self.told = Instant::now();
        let TapLoss { slow, rate } = std::mem::take(&mut self.untold);
        let rate = (rate > 0).then(|| match rate {
            1 => "1 request beyond the rate is not shown (--rate)".to_owned(),
            rate => format!("{rate} requests beyond the rate are not shown (--rate)"),
        });
        let slow = (slow > 0).then(|| match slow {
            1 => "1 event is lost: it came faster than it was read".to_owned(),
            slow => format!("{slow} events are lost: they come faster than they are read"),
        });
        rate.into_iter().chain(slow).collect()
    }
}

impl Shown {
    /// Shows what comes until nothing more does.
    async fn watch(&mut self, lines: &mut tonic::Streaming<TapLine>, printer: &mut Printer) -> anyhow::Result<()> {
        loop {
            let line = tokio::select! {
                biased; // What passed comes before what was lost.
                line = lines.message() => line.map_err(|status| anyhow::anyhow!("{}", status.message()))?,
                () = self.losses.wait() => {
                    self.losses(printer).await?;
                    continue;
                }
            };
            let Some(line) = line else { return Ok(()) };
            self.line(line, printer).await?;
        }
    }

    /// What is said in the end where nothing came. Programs see that by themselves.
    fn nothing(&self) -> Option<&'static str> {
        let is_for_people = matches!(self.format, Format::Table | Format::Wide);
        (is_for_people && !self.anything).then_some("no request matched; `sheer stat` shows what passes")
    }

    async fn losses(&mut self, printer: &mut Printer) -> io::Result<()> {
        for line in self.losses.take() {
            printer.tell(line).await?;
        }
        Ok(())
    }

    async fn line(&mut self, line: TapLine, printer: &mut Printer) -> io::Result<()> {
        self.anything |= line.line.is_some();
        let text = match line.line {
            None => return Ok(()),
            Some(Line::Note(note)) => return printer.tell(note).await,
            Some(Line::Loss(loss)) => {
                self.losses.add(loss);
                return match self.losses.due() {
                    Some(due) if due <= Instant::now() => self.losses(printer).await,
                    _ => Ok(()),
                };
            }
            Some(Line::Request(request)) => match self.format {
                Format::Json => json::stages(&request).map(object).collect::<Result<_, _>>()?,
                Format::Table | Format::Wide => self.lines.request(&request),
            },
            Some(Line::Body(body)) => match self.format {
                Format::Json => json::body(&body).map_or_else(|| Ok(String::new()), object)?,
                Format::Table | Format::Wide => self.lines.body(&body),
            },
            Some(Line::Connection(connection)) => match self.format {
                Format::Json => json::connection(&connection).map_or_else(|| Ok(String::new()), object)?,
                Format::Table | Format::Wide => self.lines.connection(&connection),
            },
        };
        printer.show(text).await
    }
}

/// One line.
fn object(value: impl Serialize) -> io::Result<String> {
    let mut line = serde_json::to_string(&value)?;
    line.push('\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn losses_are_told_once_a_second_and_none_is_left() {
        let mut losses = Losses::new();
        assert_eq!(losses.due(), None);
        losses.add(TapLoss { slow: 0, rate: 3 });
        losses.add(TapLoss { slow: 1, rate: 4 });
        assert_eq!(losses.due(), Some(losses.told + LOSSES));
        // Though nothing comes any more.
        losses.wait().await;
        let told = losses.take();
        assert!(told.len() == 2 && told[0].contains("7 requests"), "{told:?}");
        assert_eq!(losses.due(), None);
        assert!(losses.take().is_empty());
    }

    #[tokio::test]
    async fn it_is_said_where_nothing_came() {
        let shown = |format| Shown {
            format,
            lines: Lines::new(false, false),
            losses: Losses::new(),
            anything: false,
        };
        assert!(
            shown(Format::Table)
                .nothing()
                .is_some_and(|said| said.starts_with("no request matched"))
        );
        assert!(shown(Format::Wide).nothing().is_some());
        assert_eq!(shown(Format::Json).nothing(), None);
        let after = async |line| {
            let mut shown = shown(Format::Table);
            let line = TapLine { line };
            printing(async |printer| Ok(shown.line(line, printer).await?))
                .await
                .expect("printed");
            shown.nothing()
        };
        assert!(after(None).await.is_some());
        let beyond = TapLoss { slow: 0, rate: 1 };
        assert_eq!(
            after(Some(Line::Loss(beyond))).await,
            None,
            "what is beyond the rate matched"
        );
        assert_eq!(after(Some(Line::Request(Box::default()))).await, None);
    }

    #[test]
    fn times() {
        assert_eq!(latency(">200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(latency("> 1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "200", "ms", "1.2.3s", "5d", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            (bytes("64KiB"), bytes("512"), bytes("1MiB")),
            (Ok(65_536), Ok(512), Ok(1_048_576))
        );
        for wrong in ["", "0", "2MiB", "KiB", "1GiB", "99999999999"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}

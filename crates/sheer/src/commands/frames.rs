//! `sheer frames`: what the connections of a workload's proxies said, frame by frame.

mod lines;

use std::io::{self, IsTerminal as _};

use sheer_api::v1::{FramesRequest, WatchFramesRequest, frame_event::Event};
use sheer_dashboard::wire::frames as json;

use self::lines::Lines;
use crate::{
    cli::Global,
    outcome::Outcome,
    output::{Format, Printer, printing},
    running::Mesh,
    watching::{Of, PeerKind},
};

/// Flags of `sheer frames`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Proxies record the last frames of every connection, so what came before a failure is there without having to make it happen again. `→` is what the proxy
wrote, `←` what it read. Each field says how HPACK carried it; `wide` adds where it stood, how long it was, and the size of the table before and after.
Values of sensitive fields are keyed hashes: equal ones stay equal, whichever proxy shows them.

Examples:
  sheer frames -n bank deploy/web
  sheer frames deploy/web --peer mesh -f
  sheer frames pod/web-0 --conn 7 --stream 31 -o wide
  sheer frames deploy/web --last-failures
  sheer frames deploy/web -o json | jq 'select(.type == \"GOAWAY\")'")]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only connections with this at the other end
    #[arg(long, value_enum)]
    peer: Option<PeerKind>,
    /// Only this connection, by its number (see `sheer conns`)
    #[arg(long, value_name = "ID", default_value_t, hide_default_value = true)]
    conn: u64,
    /// Only this stream, and frames of the connection as a whole
    #[arg(long, value_name = "N")]
    stream: Option<u32>,
    /// What was kept of requests and connections that failed
    #[arg(long)]
    last_failures: bool,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// The latest of each connection; 0: all that is kept
    #[arg(long, value_name = "FRAMES", default_value_t)]
    limit: u32,
    /// How it is printed; JSON is one frame a line
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = WatchFramesRequest {
        of: Some(args.of.selection()),
        asked: Some(FramesRequest {
            rights: None,
            peer: PeerKind::name(args.peer),
            connection: args.conn,
            stream: args.stream,
            last_failures: args.last_failures,
            follow: args.follow,
            limit: args.limit,
            only_new: false,
        }),
    };
    crate::running::block_on(async {
        let mut events = Mesh::find(global).await?.frames(request).await?;
        let mut shown = Shown {
            format: args.output,
            lines: Lines::new(args.output == Format::Wide, io::stdout().is_terminal()),
            json: json::Lines::default(),
            anything: false,
        };
        printing(async |printer| {
            while let Some(event) = events
                .message()
                .await
                .map_err(|status| anyhow::anyhow!("{}", status.message()))?
            {
                shown.event(&event.pod, event.event, printer).await?;
            }
            if !shown.anything {
                printer
                    .tell("nothing is recorded that fits; `sheer conns` shows what is open")
                    .await?;
            }
            Ok(Outcome::Healthy)
        })
        .await
    })
}

struct Shown {
    format: Format,
    lines: Lines,
    json: json::Lines,
    anything: bool,
}

impl Shown {
    async fn event(&mut self, pod: &str, event: Option<Event>, printer: &mut Printer) -> io::Result<()> {
        let Some(event) = event else { return Ok(()) };
        match &event {
            Event::Note(note) => {
                self.anything = true;
                return printer.tell(format_args!("{pod}: {note}")).await;
            }
            Event::Dropped(frames) => {
                return printer
                    .tell(format_args!("{pod}: {frames} frames passed too fast to be shown"))
                    .await;
            }
            Event::Failure(_) | Event::Connection(_) | Event::Frame(_) => self.anything = true,
        }
        let text = match self.format {
            Format::Json => line(self.json.event(pod, &event)),
            Format::Table | Format::Wide => self.lines.event(pod, &event),
        };
        printer.show(text).await
    }
}

fn line(value: Option<serde_json::Value>) -> String {
    value.map_or_else(String::new, |value| format!("{value}\n"))
}

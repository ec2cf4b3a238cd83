//! `sheer diff`: a request at the four points, and where they differ.

mod compared;
#[cfg(test)]
mod tests;

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

use sheer_api::v1::{Difference, PointView, RequestDiff, ShownField, WatchDiffRequest};
use sheer_dashboard::wire::diff::{self, PARTS, Part, points};

use crate::{
    cli::Global,
    outcome::Outcome,
    output::{Format, Tone, paint, tell},
    running::Mesh,
    watching::{Of, text},
};

/// What the points are called.
const POINTS: [&str; 4] = [
    "1  from the application to its proxy",
    "2  from the proxy to the other",
    "3  at the other proxy",
    "4  from the other proxy to its application",
];

/// Flags of `sheer diff`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
  app A ──1──► [outbound] ──2── mTLS ──3──► [inbound] ──4──► app B

2 and 3 are the same stream of the same connection, so the four views are of one request without a header of ours. What Sheer documents that it changes
(docs/headers.md) is told apart from what nobody can explain. Values of sensitive fields are keyed hashes, compared as such.

Exit code 1 if there is a difference that nobody can explain, and where nothing could be compared, as fewer than two points are known.

Examples:
  sheer diff -n bank deploy/web                     the last request
  sheer diff deploy/web --failed                    the last that failed
  sheer diff deploy/web --request web-5d7c9-0/41    one that `sheer tap` showed
  sheer diff deploy/web --trace 4bf92f3577b34da6a3ce929d0e0e4736 -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// A request by its id, as `sheer tap` prints it
    #[arg(long, value_name = "ID", conflicts_with_all = ["trace", "failed"])]
    request: Option<String>,
    /// The last request of a trace (traceparent, B3), or with this x-request-id
    #[arg(long, value_name = "ID", conflicts_with = "failed")]
    trace: Option<String>,
    /// The last request that failed
    #[arg(long)]
    failed: bool,
    /// How it is printed; `wide` shows every field at every point
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = WatchDiffRequest {
        of: Some(args.of.selection()),
        request_id: args.request.clone().unwrap_or_default(),
        trace: args.trace.clone().unwrap_or_default(),
        failed: args.failed,
        wire: None,
    };
    let answer = crate::running::block_on(async { Mesh::find(global).await?.diff(request).await })?;
    for note in &answer.notes {
        tell(note);
    }
    let mut stdout = io::stdout();
    let colour = stdout.is_terminal();
    for request in &answer.requests {
        let shown = match args.output {
            Format::Json => {
                if compared::points_compared(request).is_empty() {
                    tell(compared::nothing(request, args));
                }
                format!("{}\n", json(request))
            }
            Format::Table | Format::Wide => page(request, args, colour),
        };
        stdout.write_all(shown.as_bytes())?;
    }
    Ok(outcome(&answer.requests))
}

fn outcome(requests: &[RequestDiff]) -> Outcome {
    let is_well = |request: &RequestDiff| {
        !compared::points_compared(request).is_empty() && request.differences.iter().all(|one| one.documented)
    };
    if !requests.is_empty() && requests.iter().all(is_well) {
        Outcome::Healthy
    } else {
        Outcome::Finding
    }
}

fn json(request: &RequestDiff) -> serde_json::Value {
    let mut shown = diff::request(request);
    shown["compared"] = compared::points_compared(request).into();
    shown
}

fn page(request: &RequestDiff, args: &Args, colour: bool) -> String {
    let mut out = String::new();
    let title = format!(
        "request {}  {} → {}",
        request.request_id, request.source, request.destination
    );
    let _ = writeln!(out, "{}", paint(&title, Tone::Good, colour));
    for (name, point) in POINTS.into_iter().zip(points(request)) {
        let said = match point {
            None if request.missing.is_empty() => "no proxy of the mesh, or its recorder has forgotten it".to_owned(),
            None => request.missing.clone(),
            Some(point) if !point.missing.is_empty() => point.missing.clone(),
            Some(point) => summary(point),
        };
        let _ = writeln!(out, "  {name:<44} {}", paint(&said, Tone::Dim, colour));
    }
    for (part, fields) in PARTS {
        let differences: Vec<&Difference> = request.differences.iter().filter(|one| one.part == part).collect();
        if args.output == Format::Wide {
            whole(request, (part, fields), &differences, colour, &mut out);
        } else if !differences.is_empty() {
            let _ = writeln!(out, "{}", paint(part, Tone::Good, colour));
        }
        for difference in differences {
            self::difference(difference, colour, &mut out);
        }
    }
    for line in compared::verdict(request, args) {
        let _ = writeln!(out, "{line}");
    }
    out
}

fn summary(point: &PointView) -> String {
    let value = |fields: &[ShownField], name: &str| {
        let field = fields.iter().find(|field| field.name == name);
        field.map_or_else(String::new, |field| text(&field.value))
    };
    let trailers = point.response_trailers.len();
    let status = value(&point.response, ":status");
    format!(
        "{}  {} {}, {} fields → {} fields{}",
        point.protocol,
        value(&point.request, ":method"),
        value(&point.request, ":path"),
        point.request.len(),
        if status.is_empty() {
            "no answer, 0".to_owned()
        } else {
            format!("{status}, {}", point.response.len())
        },
        if trailers > 0 {
            format!(", {trailers} trailers")
        } else {
            String::new()
        }
    )
}

/// Every field at every point.
fn whole(request: &RequestDiff, (part, fields): Part, differences: &[&Difference], colour: bool, out: &mut String) {
    let points = points(request);
    if points.iter().flatten().all(|point| fields(point).is_empty()) {
        return;
    }
    let _ = writeln!(out, "{}", paint(part, Tone::Good, colour));
    for (nth, point) in (1..).zip(points) {
        for field in point.map_or(&[][..], fields) {
            let of = differences
                .iter()
                .find(|one| one.field.eq_ignore_ascii_case(&field.name));
            let tone = match of {
                None => Tone::Plain,
                Some(one) if one.documented => Tone::Warn,
                Some(_) => Tone::Bad,
            };
            let _ = writeln!(
                out,
                "  {nth}  {}",
                paint(&format!("{}: {}", field.name, text(&field.value)), tone, colour)
            );
        }
    }
}

fn difference(difference: &Difference, colour: bool, out: &mut String) {
    let (mark, tone) = if difference.documented {
        ("documented", Tone::Warn)
    } else {
        ("UNEXPLAINED", Tone::Bad)
    };
    let values = |values: &[Vec<u8>]| match values {
        [] => "(absent)".to_owned(),
        values => values.iter().map(|value| text(value)).collect::<Vec<_>>().join(" | "),
    };
    let _ = writeln!(
        out,
        "  {}  {} at point {}: {} → {}",
        paint(mark, tone, colour),
        difference.field,
        difference.first_seen_at,
        values(&difference.before),
        values(&difference.after)
    );
    let _ = writeln!(out, "    {}", paint(&difference.why, Tone::Dim, colour));
}

//! One trace, drawn: a row a hop, its bar where and as long as the hop was, in the colours of those whose time it was. Pure.

use std::fmt::Write as _;

use sheer_api::v1::{SpanKind, TimeShares, Trace, TraceSpan, TraceSummary, attribute::Value};

use super::{list::failed_at, words};
use crate::output::{Tone, paint};

/// Columns of the bars.
const WIDTH: usize = 48;

/// Whose time it is, and how that is drawn: so that it can be told apart without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    CallerProxy,
    Network,
    CalleeProxy,
    Application,
}

impl Part {
    const ALL: [(Self, char, &'static str, Tone); 4] = [
        (Self::CallerProxy, '░', "caller's proxy", Tone::Warn),
        (Self::Network, '─', "network", Tone::Dim),
        (Self::CalleeProxy, '▒', "callee's proxy", Tone::Warn),
        (Self::Application, '█', "application", Tone::Good),
    ];

    fn drawn(self) -> (char, Tone) {
        let (_, drawn, _, tone) = Self::ALL[self as usize];
        (drawn, tone)
    }
}

/// A row of the picture.
struct Row<'a> {
    span: &'a TraceSpan,
    /// The callee's span, where it is in the same row.
    callee: Option<&'a TraceSpan>,
    /// Lines of the tree in front.
    tree: String,
    guilty: bool,
}

/// Draws a trace.
pub(super) fn draw(trace: &Trace, wide: bool, colour: bool) -> String {
    let summary = trace.summary.clone().unwrap_or_default();
    let mut text = headline(&summary, colour);
    text.push('\n');
    let rows = rows(trace, !wide);
    let labels: Vec<String> = rows.iter().map(label).collect();
    let widest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    scale(&mut text, widest, summary.duration_us, wide, colour);
    for (row, label) in rows.iter().zip(&labels) {
        let padding = " ".repeat(widest - label.chars().count());
        let bar = bar(row.span, summary.duration_us, colour);
        let time = words::micros(row.span.duration_us);
        let (result, tone) = result(row);
        let tone = if row.guilty { Tone::Bad } else { tone };
        let mark = if row.guilty { "  ◀ failed here" } else { "" };
        let _ = write!(text, "{label}{padding}  {bar}  {time:>8}  ");
        if wide {
            let _ = write!(text, "{}  ", times(row.span.shares.unwrap_or_default()));
        }
        let _ = writeln!(
            text,
            "{}{}",
            paint(&result, tone, colour),
            paint(mark, Tone::Bad, colour)
        );
        if let Some(message) = row.guilty.then(|| message(row)).flatten() {
            let indent = row.tree.chars().count() + 2;
            let _ = writeln!(text, "{:indent$}{}", "", paint(message, Tone::Bad, colour));
        }
    }
    text.push('\n');
    let legend = Part::ALL.map(|(_, drawn, name, tone)| format!("{} {name}", paint(&drawn.to_string(), tone, colour)));
    let _ = writeln!(text, "{}", legend.join("   "));
    for note in &trace.notes {
        let _ = writeln!(text, "{}", paint(&format!("note: {note}"), Tone::Dim, colour));
    }
    text
}

fn headline(summary: &TraceSummary, colour: bool) -> String {
    let status = words::status(summary.http_status, summary.grpc_status);
    let mut text = format!(
        "trace {}  {}  {} → {}\n{}, {} spans, {} workloads, began {} UTC",
        summary.trace_id,
        summary.name,
        summary.source,
        summary.target,
        words::micros(summary.duration_us),
        summary.spans,
        summary.workloads.len(),
        words::clock(summary.start_unix_ns),
    );
    if !status.is_empty() {
        let _ = write!(text, ", {status}");
    }
    text.push('\n');
    if summary.failed {
        let _ = writeln!(
            text,
            "{}",
            paint(&format!("failed at {}", failed_at(summary)), Tone::Bad, colour)
        );
    }
    text
}

/// The line above the bars: start and end.
fn scale(text: &mut String, widest: usize, whole_us: u64, wide: bool, colour: bool) {
    let end = words::micros(whole_us);
    let middle = words::micros(whole_us / 2);
    let half = WIDTH / 2;
    let scale = format!("{:<half$}{:<rest$}", "0", middle, rest = half - end.chars().count());
    let mut line = format!("{:<widest$}  {scale}{end}  {:>8}  ", "HOP", "TIME");
    if wide {
        let _ = write!(
            line,
            "{:>9} {:>9} {:>9} {:>9}  ",
            "CALLER PX", "NETWORK", "CALLEE PX", "APP"
        );
    }
    line.push_str("RESULT");
    let _ = writeln!(text, "{}", paint(&line, Tone::Dim, colour));
}

/// The rows: of every span, or with the callee's span in the row of its caller's where it is its only child.
fn rows(trace: &Trace, merge: bool) -> Vec<Row<'_>> {
    let spans = &trace.spans;
    let children = |of: i32| {
        spans
            .iter()
            .enumerate()
            .filter(move |(_, span)| span.parent == of)
            .map(|(at, _)| at)
    };
    let callee = |at: usize| {
        let mut children = children(at as i32);
        let only = children.next().filter(|_| children.next().is_none())?;
        let is_server = spans[only].span.as_ref()?.kind() == SpanKind::Server;
        let is_client = spans[at].span.as_ref()?.kind() == SpanKind::Client;
        (merge && is_server && is_client).then_some(only)
    };
    let mut rows = Vec::with_capacity(spans.len());
    // Last in, first out: children are put in backwards. With each the tree in front of it, for itself and for what is below.
    let mut waiting: Vec<(usize, String, String)> = children(-1).map(|at| (at, String::new(), String::new())).collect();
    waiting.reverse();
    while let Some((at, tree, below)) = waiting.pop() {
        let callee = callee(at);
        let inner: Vec<usize> = children(callee.unwrap_or(at) as i32).collect();
        let guilty = trace.culprit >= 0 && [Some(at), callee].contains(&usize::try_from(trace.culprit).ok());
        rows.push(Row {
            span: &spans[at],
            callee: callee.map(|callee| &spans[callee]),
            tree,
            guilty,
        });
        for (nth, child) in inner.iter().enumerate().rev() {
            let (branch, trunk) = if nth + 1 == inner.len() {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            waiting.push((*child, format!("{below}{branch}"), format!("{below}{trunk}")));
        }
    }
    rows
}

/// Who asked whom for what.
fn label(row: &Row<'_>) -> String {
    let span = row.span.span.clone().unwrap_or_default();
    let own = words::short(&row.span.workload);
    let what = match (attribute(&span, "rpc.service"), attribute(&span, "url.path")) {
        (None, Some(path)) => format!("{} {path}", span.name),
        _ => span.name.clone(),
    };
    let tree = &row.tree;
    match (span.kind(), row.callee) {
        (SpanKind::Server, _) => format!("{tree}{own}  {what}"),
        (SpanKind::Internal | SpanKind::Unspecified, _) => {
            let attempts = number(&span, "sheer.attempts").unwrap_or(0);
            format!("{tree}{own} → {}  {what} ({attempts} attempts)", peer(&span))
        }
        (SpanKind::Client, callee) => {
            let to = callee.map_or_else(|| peer(&span), |callee| words::short(&callee.workload).to_owned());
            match number(&span, "http.request.resend_count") {
                Some(again) => format!("{tree}{own} → {to}  retry {again}"),
                None => format!("{tree}{own} → {to}  {what}"),
            }
        }
    }
}

/// Who was asked, where its own span is not here: `fx` of `fx.bank.svc.cluster.local:9000`.
fn peer(span: &sheer_api::v1::Span) -> String {
    let name = attribute(span, "peer.service")
        .or_else(|| attribute(span, "server.address"))
        .unwrap_or("?");
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host.to_owned();
    }
    host.split('.').next().unwrap_or(host).to_owned()
}

fn attribute<'a>(span: &'a sheer_api::v1::Span, key: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()? {
        Value::Text(text) => Some(text),
        Value::Number(_) | Value::Decimal(_) | Value::Flag(_) => None,
    }
}

fn number(span: &sheer_api::v1::Span, key: &str) -> Option<i64> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()? {
        Value::Number(number) => Some(*number),
        Value::Text(_) | Value::Decimal(_) | Value::Flag(_) => None,
    }
}

/// How it ended, in a word or two.
fn result(row: &Row<'_>) -> (String, Tone) {
    let span = row.span.span.clone().unwrap_or_default();
    let http = number(&span, "http.response.status_code")
        .and_then(|code| code.try_into().ok())
        .unwrap_or(0);
    let grpc = number(&span, "rpc.grpc.status_code")
        .and_then(|code| code.try_into().ok())
        .unwrap_or(-1);
    let status = words::status(http, grpc);
    let tone = if span.failed { Tone::Bad } else { Tone::Good };
    let result = match (span.verdict.as_str(), span.reason.as_str()) {
        ("", "") => status,
        ("", reason) => format!("{status} {reason}"),
        (verdict, reason) => format!("{status} {verdict} ({reason})"),
    };
    let joined = row.span.joined_by_wire || row.callee.is_some_and(|callee| callee.joined_by_wire);
    let result = if joined { format!("{result} ~") } else { result };
    (result.trim().to_owned(), tone)
}

/// What went wrong, in the words of the proxy that ended it.
fn message<'a>(row: &Row<'a>) -> Option<&'a str> {
    let of = |span: &'a TraceSpan| Some(span.span.as_ref()?.status_message.as_str()).filter(|text| !text.is_empty());
    row.callee.and_then(of).or_else(|| of(row.span))
}

/// The four times, for the wide form.
fn times(shares: TimeShares) -> String {
    let time = |micros: u64| {
        if micros == 0 {
            "-".to_owned()
        } else {
            words::micros(micros)
        }
    };
    format!(
        "{:>9} {:>9} {:>9} {:>9}",
        time(shares.caller_proxy_us),
        time(shares.network_us),
        time(shares.callee_proxy_us),
        time(shares.application_us)
    )
}

/// The bar of a span: one column at least, in parts where its shares are known.
fn bar(span: &TraceSpan, whole_us: u64, colour: bool) -> String {
    let column = |micros: f64| ((micros * WIDTH as f64 / whole_us.max(1) as f64).round() as usize).min(WIDTH);
    let offset = span.offset_us.max(0) as f64;
    let first = column(offset).min(WIDTH - 1);
    let end = column(offset + span.duration_us as f64).clamp(first + 1, WIDTH);
    let parts = parts(span);
    let mut bar = " ".repeat(first);
    for at in first..end {
        // The part in whose time the middle of the column lies.
        let within = (at - first) as f64 + 0.5;
        let when = within * span.duration_us as f64 / (end - first) as f64;
        let part = parts.iter().find(|(_, until)| when < *until).or(parts.last());
        let (drawn, tone) = part.map_or(('▬', Tone::Plain), |(part, _)| part.drawn());
        bar.push_str(&paint(&drawn.to_string(), tone, colour));
    }
    bar.push_str(&" ".repeat(WIDTH - end));
    bar
}

/// The parts of a span in the order in which time went there, each with its end.
fn parts(span: &TraceSpan) -> Vec<(Part, f64)> {
    let TimeShares {
        caller_proxy_us,
        network_us,
        callee_proxy_us,
        application_us,
    } = span.shares.unwrap_or_default();
    // There and back.
    let way = network_us as f64 / 2.0;
    let in_order = [
        (Part::CallerProxy, caller_proxy_us as f64),
        (Part::Network, way),
        (Part::CalleeProxy, callee_proxy_us as f64),
        (Part::Application, application_us as f64),
        (Part::Network, way),
    ];
    let mut until = 0.0;
    let mut parts = Vec::with_capacity(in_order.len());
    for (part, long) in in_order {
        if long > 0.0 {
            until += long;
            parts.push((part, until));
        }
    }
    parts
}

pub(super) fn hex(id: &[u8]) -> String {
    id.iter().fold(String::with_capacity(id.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

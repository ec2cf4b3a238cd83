//! Requests for people: one line each, when it is over.

use std::fmt::Write as _;

use sheer_api::v1::{HeaderField, JoinedBody, JoinedConnection, JoinedRequest, TappedRequest};
use sheer_dashboard::wire::tap::{blamed, closed_by, is_kept, is_kept_connection};

use crate::{
    output::{Tone, paint, size},
    watching::{clock, micros, text},
    words,
};

/// JSON that is not broken into lines.
const SHORT: usize = 110;

/// Puts requests into lines.
pub(super) struct Lines {
    wide: bool,
    colour: bool,
    began: bool,
    /// Of the id, and of who talks to whom: they grow with what comes.
    widths: (usize, usize),
}

impl Lines {
    pub(super) fn new(wide: bool, colour: bool) -> Self {
        Self {
            wide,
            colour,
            began: false,
            widths: (18, 32),
        }
    }

    fn tone(&self, text: &str, tone: Tone) -> String {
        paint(text, tone, self.colour)
    }

    /// Widths of the columns, which hold these from now on.
    fn room(&mut self, id: &str, route: &str) -> (usize, usize) {
        let (most_id, most_route) = &mut self.widths;
        *most_id = (*most_id).max(id.chars().count());
        *most_route = (*most_route).max(route.chars().count());
        self.widths
    }

    /// The header line comes with the first.
    fn header(&mut self, out: &mut String) {
        if !std::mem::replace(&mut self.began, true) {
            let (id, route) = self.widths;
            let title = format!(
                "{:<15}  {:<id$}  {:<route$}  {:<11}  {:>8}  {:>7}/{:<7}  REQUEST",
                "TIME", "ID", "FROM → TO", "STATUS", "TOOK", "UP", "DOWN"
            );
            let _ = writeln!(out, "{}", self.tone(&title, Tone::Dim));
        }
    }

    pub(super) fn request(&mut self, joined: &JoinedRequest) -> String {
        let Some(main) = joined
            .outbound
            .as_ref()
            .or(joined.inbound.as_ref())
            .filter(|main| main.kind == "end")
        else {
            return String::new();
        };
        let mut out = String::new();
        let between = route(&joined.source, &joined.destination);
        let (id, route) = self.room(&joined.id, &between);
        self.header(&mut out);
        let head = main.request.clone().unwrap_or_default();
        let timing = main.timing.unwrap_or_default();
        let (status, tone) = status(main);
        let _ = write!(
            out,
            "{}  {:<id$}  {:<route$}  {}  {:>8}  {:>7}/{:<7}  {} {}{}",
            clock(main.at_us),
            joined.id,
            between,
            self.tone(&format!("{status:<11}"), tone),
            micros(timing.end_us),
            size(main.request_bytes),
            size(main.response_bytes),
            head.method,
            head.authority,
            head.path,
        );
        let said = remarks(joined, main);
        if !said.is_empty() {
            let _ = write!(out, "  {}", self.tone(&said.join(", "), tone));
        }
        out.push('\n');
        if self.wide {
            self.details(joined, main, &mut out);
        }
        out
    }

    fn details(&self, joined: &JoinedRequest, main: &TappedRequest, out: &mut String) {
        let mut list = |title: &str, fields: &[HeaderField]| {
            for HeaderField { name, value } in fields {
                let _ = writeln!(out, "    {} {name}: {}", self.tone(title, Tone::Dim), text(value));
            }
        };
        let head = main.request.clone().unwrap_or_default();
        list("request ", &head.headers);
        list("request trailer ", &main.request_trailers);
        list("response", &main.response_headers);
        list("trailer ", &main.response_trailers);
        for (side, view) in [("outbound", &joined.outbound), ("inbound", &joined.inbound)] {
            let Some(view) = view else { continue };
            let _ = writeln!(out, "    {}", self.tone(&self::view(side, view), Tone::Dim));
        }
    }

    /// A message, as it comes: the line of its request follows when that is over.
    pub(super) fn body(&mut self, joined: &JoinedBody) -> String {
        let body = joined.body.clone().unwrap_or_default();
        let mut out = String::new();
        let (id, _) = self.room(&joined.id, "");
        self.header(&mut out);
        let arrow = if body.response { "←" } else { "→" };
        let what = match (body.type_name.as_str(), body.format.as_str()) {
            ("", format) => format,
            (name, _) => name,
        };
        let title = format!(
            "{arrow} {} {}  {what}, {}",
            if body.response { "response" } else { "request" },
            body.number + 1,
            size(body.bytes)
        );
        let _ = write!(
            out,
            "{}  {:<id$}  {}",
            self.tone(&clock(body.at_us), Tone::Dim),
            joined.id,
            self.tone(&title, Tone::Dim)
        );
        if !body.note.is_empty() {
            let _ = write!(out, "  {}", self.tone(&body.note, Tone::Warn));
        }
        out.push('\n');
        let shown = serde_json::from_str::<serde_json::Value>(&body.text).ok();
        if let Some(shown) = shown {
            // Short ones on one line.
            let compact = shown.to_string();
            let pretty = if compact.len() <= SHORT {
                compact
            } else {
                serde_json::to_string_pretty(&shown).unwrap_or(compact)
            };
            for line in pretty.lines() {
                let _ = writeln!(out, "    {line}");
            }
        }
        out
    }

    pub(super) fn connection(&mut self, joined: &JoinedConnection) -> String {
        let Some(main) = joined
            .outbound
            .as_ref()
            .or(joined.inbound.as_ref())
            .filter(|main| main.kind == "end")
        else {
            return String::new();
        };
        let mut out = String::new();
        let between = route(&joined.source, &joined.destination);
        let (id, route) = self.room(&joined.id, &between);
        self.header(&mut out);
        let (status, tone) = if main.failed {
            ("failed", Tone::Bad)
        } else {
            ("closed", Tone::Good)
        };
        let name = if main.server_name.is_empty() {
            &main.destination
        } else {
            &main.server_name
        };
        let by = match closed_by(joined) {
            "" => String::new(),
            by => format!(" by the {by}"),
        };
        let reason = blamed(joined).map_or_else(String::new, |blamed| {
            // What the alert was is the whole story.
            let message = match &*blamed.reason {
                "tls-alert" => format!(": {}", blamed.message),
                _ => String::new(),
            };
            format!(", {} (verdict {}){message}", blamed.reason, blamed.verdict)
        });
        let is_kept = is_kept_connection(joined);
        let kept = if is_kept { ", kept" } else { "" };
        let _ = writeln!(
            out,
            "{}  {:<id$}  {:<route$}  {}  {:>8}  {:>7}/{:<7}  {} {}  {}",
            clock(main.at_us),
            joined.id,
            between,
            self.tone(&format!("{status:<11}"), tone),
            micros(main.duration_us),
            size(main.bytes_to_server),
            size(main.bytes_to_client),
            main.protocol.to_uppercase(),
            name.replace(".svc.cluster.local", ""),
            self.tone(
                &format!("{}{by}{reason}{kept}", if is_kept { "failed" } else { &main.how }),
                if main.failed { Tone::Bad } else { Tone::Dim }
            ),
        );
        out
    }
}

/// Who talks to whom: within one namespace without its name.
fn route(source: &str, destination: &str) -> String {
    match (source.split_once('/'), destination.split_once('/')) {
        (Some((one, source)), Some((other, destination))) if one == other => format!("{source} → {destination}"),
        _ => format!("{source} → {destination}"),
    }
}

/// HTTP status and, of gRPC, its own.
fn status(view: &TappedRequest) -> (String, Tone) {
    let tone = if view.failed { Tone::Bad } else { Tone::Good };
    let text = match (view.status, view.grpc_status) {
        (0, _) => words::or_dash(&view.reset_code),
        (status, -1) => status.to_string(),
        (status, grpc) => format!("{status} grpc {grpc}"),
    };
    (text, tone)
}

/// What is worth a word at the end of the line.
fn remarks(joined: &JoinedRequest, main: &TappedRequest) -> Vec<String> {
    let mut said = Vec::new();
    if is_kept(joined) {
        said.push("kept".to_owned());
    }
    match main.end.as_str() {
        "client-reset" => said.push(format!("the client reset it: {}", main.reset_code)),
        "server-reset" => said.push(format!("the server reset it: {}", main.reset_code)),
        "dropped" => said.push("dropped with the proxy".to_owned()),
        _ => {}
    }
    let blamed = [&joined.outbound, &joined.inbound]
        .into_iter()
        .flatten()
        .find(|view| !view.reason.is_empty());
    if let Some(blamed) = blamed {
        said.push(format!("{} (verdict {})", blamed.reason, blamed.verdict));
        said.extend((!blamed.message.is_empty()).then(|| blamed.message.clone()));
    } else if !main.grpc_message.is_empty() {
        said.push(format!("{:?}", main.grpc_message));
    }
    if main.attempts > 1 || !main.passed_over.is_empty() {
        let before: Vec<String> = main
            .passed_over
            .iter()
            .map(|one| match (one.status, one.grpc_status) {
                (_, grpc) if grpc >= 0 => format!("grpc {grpc}"),
                (0, _) => one.reason.clone(),
                (status, _) => status.to_string(),
            })
            .collect();
        let before = if before.is_empty() {
            String::new()
        } else {
            format!(" after {}", before.join(", "))
        };
        // One that reached nobody was not sent.
        let number = main.attempts.max(main.passed_over.len() as u32 + 1);
        said.push(format!("attempt {number}{before}"));
    }
    said
}

fn view(side: &str, view: &TappedRequest) -> String {
    let timing = view.timing.unwrap_or_default();
    let mut text = format!("{side}:");
    let mut time = |what: &str, us: u64| {
        if us > 0 {
            let _ = write!(text, " {what} after {},", micros(us));
        }
    };
    time("sent", timing.sent_us);
    time("sent whole", timing.request_end_us);
    time("answered", timing.first_byte_us);
    time("over", timing.end_us);
    if !view.endpoint.is_empty() {
        let _ = write!(text, " at {},", view.endpoint);
    }
    if !view.client_identity.is_empty() {
        let _ = write!(text, " from {},", words::identity(&view.client_identity));
    }
    text.trim_end_matches(',').to_owned()
}

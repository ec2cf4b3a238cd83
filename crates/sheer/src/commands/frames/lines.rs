//! Frames as a timeline for people.

use std::fmt::Write as _;

use sheer_api::v1::{
    Connection, Disagreement, Failure, Frame, HeaderBlock, HeaderField, ShownField, TcpState, frame_event::Event,
};

use crate::{
    output::{Tone, paint, size},
    watching::{clock, micros, text},
    words,
};

/// Column at which fields begin, below their frame.
const INDENT: &str = "                             ";

/// Puts events into lines.
pub(super) struct Lines {
    wide: bool,
    colour: bool,
    began: bool,
    /// Connection that the last frame was of.
    connection: u64,
}

impl Lines {
    pub(super) fn new(wide: bool, colour: bool) -> Self {
        Self {
            wide,
            colour,
            began: false,
            connection: 0,
        }
    }

    pub(super) fn event(&mut self, pod: &str, event: &Event) -> String {
        let mut out = String::new();
        match event {
            Event::Connection(connection) => {
                self.gap(&mut out);
                self.connection = connection.id;
                self.head(pod, connection, &mut out);
            }
            Event::Failure(failure) => {
                self.gap(&mut out);
                self.failure(pod, failure, &mut out);
                self.began = false;
            }
            Event::Frame(frame) => {
                if frame.connection != self.connection {
                    self.connection = frame.connection;
                    let _ = writeln!(
                        out,
                        "{}",
                        self.tone(&format!("{pod}  connection {}", frame.connection), Tone::Dim)
                    );
                }
                self.frame(frame, &mut out);
            }
            Event::Dropped(_) | Event::Note(_) => {}
        }
        out
    }

    /// An empty line between connections.
    fn gap(&mut self, out: &mut String) {
        if std::mem::replace(&mut self.began, true) {
            out.push('\n');
        }
    }

    fn tone(&self, text: &str, tone: Tone) -> String {
        paint(text, tone, self.colour)
    }

    fn head(&self, pod: &str, connection: &Connection, out: &mut String) {
        let arrow = if connection.accepted { "←" } else { "→" };
        let other = match connection.remote_pod.as_str() {
            _ if connection.peer == "app" => "the application".to_owned(),
            "" => String::new(),
            pod => pod.to_owned(),
        };
        let title = format!(
            "{pod}  connection {}  {} {arrow} {}",
            connection.id, connection.direction, connection.peer
        );
        let _ = write!(
            out,
            "{}  {} {arrow} {}",
            self.tone(&title, Tone::Good),
            connection.local,
            connection.remote
        );
        if !other.is_empty() {
            let _ = write!(out, " ({other})");
        }
        let mut facts = vec![connection.protocol.clone()];
        if let Some(tls) = &connection.tls {
            facts.push(format!("{} {} {}", tls.version, tls.cipher, tls.group));
        }
        if let Some(tls) = &connection.passed_tls {
            facts.push(words::passed_tls(tls));
        }
        if !connection.identity.is_empty() {
            facts.push(words::identity(&connection.identity));
        }
        if !connection.name.is_empty() || !connection.original.is_empty() {
            let name = if connection.name.is_empty() {
                &connection.original
            } else {
                &connection.name
            };
            facts.push(format!("for {}", name.replace(".svc.cluster.local", "")));
        }
        facts.push(format!("opened {}", clock(connection.opened_us)));
        if connection.excerpt {
            facts.push("excerpt: frames of other streams are no longer kept".to_owned());
        } else if connection.forgotten > 0 {
            facts.push(format!("{} frames before these are forgotten", connection.forgotten));
        }
        let _ = writeln!(out, "\n  {}", self.tone(&facts.join(" · "), Tone::Dim));
        if let Some(tcp) = &connection.tcp {
            let _ = writeln!(out, "  {}", self.tone(&transport(connection, tcp), Tone::Dim));
        }
    }

    fn failure(&self, pod: &str, failure: &Failure, out: &mut String) {
        let side = failure
            .exchange
            .as_ref()
            .map_or("", |exchange| exchange.direction.as_str());
        let mut title = format!(
            "{pod}  failure {}{}{side} at {}  {}",
            failure.number,
            if side.is_empty() { "" } else { " " },
            clock(failure.at_us),
            failure.reason
        );
        if !failure.verdict.is_empty() {
            title += &format!("  verdict {}", failure.verdict);
        }
        let _ = writeln!(out, "{}", self.tone(&title, Tone::Bad));
        if !failure.message.is_empty() {
            let _ = writeln!(out, "  {}", text(failure.message.as_bytes()));
        }
        if let Some(exchange) = failure.exchange.as_ref().filter(|_| failure.disagreement.is_none()) {
            let what = if failure.kind == "request" {
                format!("request {}: ", exchange.id)
            } else {
                String::new()
            };
            let leg = |leg: &Option<sheer_api::v1::Leg>| match leg {
                Some(leg) if leg.stream == 0 => format!("connection {}", leg.connection),
                Some(leg) => format!("connection {} stream {}", leg.connection, leg.stream),
                None => "nowhere".to_owned(),
            };
            let _ = writeln!(
                out,
                "  {what}came in on {}, went out on {}, {} in all",
                leg(&exchange.client),
                leg(&exchange.upstream),
                micros(exchange.duration_us)
            );
        }
        if let Some(disagreement) = &failure.disagreement {
            self.disagreement(disagreement, out);
        }
    }

    fn disagreement(&self, disagreement: &Disagreement, out: &mut String) {
        let Disagreement {
            side,
            kind,
            wire,
            library,
            differs,
        } = disagreement;
        let given = if side == "written" {
            "the library was given"
        } else {
            "the library reported"
        };
        let _ = writeln!(
            out,
            "  {kind} {side}; they differ in {}",
            words::or_dash(&differs.join(", "))
        );
        for (title, list) in [("the bytes say", wire), (given, library)] {
            let _ = writeln!(out, "  {title}:");
            if list.is_empty() {
                let _ = writeln!(out, "    (cannot be decoded, or is no longer kept)");
            }
            for HeaderField { name, value } in list {
                let tone = if differs.contains(name) { Tone::Bad } else { Tone::Plain };
                let _ = writeln!(out, "    {}", self.tone(&format!("{name}: {}", text(value)), tone));
            }
        }
    }

    fn frame(&self, frame: &Frame, out: &mut String) {
        let arrow = if frame.written { "→" } else { "←" };
        let stream = if frame.stream == 0 {
            "-".to_owned()
        } else {
            frame.stream.to_string()
        };
        let tone = match frame.r#type.as_str() {
            _ if !frame.violations.is_empty() => Tone::Bad,
            "RST_STREAM" | "GOAWAY" => Tone::Warn,
            "CLOSE" if frame.ending.as_ref().is_some_and(|ending| !ending.clean) => Tone::Bad,
            _ => Tone::Plain,
        };
        let kind = self.tone(&frame.r#type, tone);
        let _ = writeln!(
            out,
            "  {} {arrow} {stream:>6}  {kind}{}",
            clock(frame.at_us),
            detail(frame)
        );
        if let Some(block) = &frame.block {
            self.block(block, out);
        }
        if let Some(head) = &frame.http1 {
            let _ = writeln!(out, "{INDENT}{}", text(head.line.as_bytes()));
            for field in &head.fields {
                let _ = writeln!(out, "{INDENT}{}: {}", field.name, text(&field.value));
            }
        }
        for violation in &frame.violations {
            let _ = writeln!(out, "{INDENT}{}", self.tone(&format!("! {violation}"), Tone::Bad));
        }
    }

    fn block(&self, block: &HeaderBlock, out: &mut String) {
        for size in &block.size_updates {
            let _ = writeln!(
                out,
                "{INDENT}{}",
                self.tone(&format!("table size set to {size}"), Tone::Dim)
            );
        }
        let width = |field: &ShownField| field.name.chars().count() + text(&field.value).chars().count() + 2;
        let widest = block
            .fields
            .iter()
            .map(width)
            .filter(|width| *width <= 60)
            .max()
            .unwrap_or(0);
        for field in &block.fields {
            let shown = format!("{}: {}", field.name, text(&field.value));
            let padding = " ".repeat(widest.saturating_sub(shown.chars().count()) + 2);
            let _ = writeln!(
                out,
                "{INDENT}{shown}{padding}{}",
                self.tone(&self.representation(field), Tone::Dim)
            );
        }
    }

    /// How a field was encoded.
    fn representation(&self, field: &ShownField) -> String {
        let place = |index: u32| {
            let table = if index > 61 { "table" } else { "static" };
            format!("{table} {index}")
        };
        let mut text = field.representation.clone();
        match (field.representation.as_str(), field.index) {
            ("indexed", index) => text += &format!(" ({})", place(index)),
            (_, 0) => {}
            (_, index) => text += &format!(" (name: {})", place(index)),
        }
        if field.evicted > 0 {
            let entries = if field.evicted == 1 { "entry" } else { "entries" };
            text += &format!(", evicts {} {entries}", field.evicted);
        }
        if self.wide {
            let huffman = match (field.huffman_name, field.huffman_value) {
                (false, false) => "",
                (true, true) => ", Huffman",
                (true, false) => ", name in Huffman",
                (false, true) => ", value in Huffman",
            };
            let end = field.offset + field.bytes;
            text += &format!(
                "{huffman}, bytes {}–{end}, table {} → {}",
                field.offset, field.table_before, field.table_after
            );
        }
        text
    }
}

/// What the kernel said of a connection last, and what went through it.
fn transport(connection: &Connection, tcp: &TcpState) -> String {
    let mut facts = vec![format!("TCP {}", tcp.state)];
    if connection.connect_us > 0 {
        facts.push(format!("connected in {}", micros(connection.connect_us)));
    }
    facts.push(format!("RTT {}", micros(tcp.rtt_us)));
    facts.push(match tcp.total_retransmits {
        0 => "nothing sent again".to_owned(),
        1 => "1 segment sent again".to_owned(),
        count => format!("{count} segments sent again"),
    });
    facts.push(format!(
        "{} read, {} written",
        size(connection.bytes_read),
        size(connection.bytes_written)
    ));
    facts.join(" · ")
}

/// What stands behind the type of a frame.
fn detail(frame: &Frame) -> String {
    let mut parts = Vec::new();
    parts.extend((!frame.flag_names.is_empty()).then(|| frame.flag_names.join("|")));
    match frame.r#type.as_str() {
        "SETTINGS" => parts.extend(frame.settings.iter().map(|setting| {
            let name = if setting.name.is_empty() {
                format!("{:#x}", setting.id)
            } else {
                setting.name.clone()
            };
            format!("{name}={}", setting.value)
        })),
        "RST_STREAM" => parts.push(frame.error_code.clone()),
        "WINDOW_UPDATE" => parts.push(format!("+{}", frame.increment)),
        "PING" => parts.push(frame.payload.iter().map(|byte| format!("{byte:02x}")).collect()),
        "CLOSE" | "REQUEST" | "RESPONSE" => {}
        _ => parts.push(format!("{} bytes", frame.length)),
    }
    if let Some(goaway) = &frame.goaway {
        parts = vec![format!("last stream {}, {}", goaway.last_stream, goaway.error_code)];
        parts.extend((!goaway.debug.is_empty()).then(|| format!("{:?}", text(&goaway.debug))));
    }
    if let Some(block) = &frame.block {
        parts.push(block_summary(block));
    }
    let windows = match (frame.stream_window, frame.connection_window) {
        (Some(stream), Some(connection)) => Some(format!("windows: stream {stream}, connection {connection}")),
        (None, Some(connection)) => Some(format!("window: connection {connection}")),
        _ => None,
    };
    parts.extend(windows);
    if let Some(ending) = &frame.ending {
        parts.push(format!("{} by the {}", ending.how, ending.by));
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!("  {}", parts.join("  "))
    }
}

fn block_summary(block: &HeaderBlock) -> String {
    let table =
        |table: &Option<sheer_api::v1::TableState>| table.as_ref().map_or((0, 0), |table| (table.size, table.entries));
    let (before, after) = (table(&block.before), table(&block.after));
    let frames = if block.frames > 1 {
        format!(" in {} frames", block.frames)
    } else {
        String::new()
    };
    let table = if before == after {
        format!("table {} ({} entries)", after.0, after.1)
    } else {
        format!("table {} → {} ({} → {} entries)", before.0, after.0, before.1, after.1)
    };
    format!("{}: {} fields{frames}, {table}", block.kind, block.fields.len())
}

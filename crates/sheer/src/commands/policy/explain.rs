//! `sheer policy explain`: what becomes of a request from one workload to another.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use sheer_api::v1::{Decision, ExplainRequest, ExplainResponse, HeaderField, Loser, RequestHead};

use crate::cli::Global;
use crate::outcome::{Misuse, Outcome};
use crate::output::{Format, Table, Tone, paint, print_json};
use crate::running::Mesh;
use crate::words;

/// Losers of one decision that the table names; `-o wide` names all.
const LOSERS: usize = 4;

/// Flags of `sheer policy explain`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Both proxies are asked what they would do with the request; nothing is sent. Where they hold something else than the control plane
does, it is said, with the age of each.

Exit code 1 if the request would not arrive, or if a proxy differs from the control plane.

Examples:
  sheer policy explain -n bank --from deploy/web --to svc/ledger:8080
  sheer policy explain -n bank --from deploy/web --to svc/ledger:8080 --method POST --path /bank.Ledger/Post
  sheer policy explain --from pod/web-0 --to ledger.bank:8080 --path /api -H 'x-tenant: acme' -o json
  sheer policy explain --from deploy/web --to 93.184.215.14:443 --sni www.example.com")]
pub(crate) struct Args {
    /// Who sends it, as deploy/web, sts/db or pod/web-0
    #[arg(long, value_name = "WORKLOAD")]
    from: String,
    /// Where it is sent, as svc/ledger:8080, ledger.bank:8080, pod/ledger-0:8080 or an address with a port
    #[arg(long, value_name = "SERVICE:PORT")]
    to: String,
    /// Namespace of names that have none
    #[arg(short, long)]
    namespace: Option<String>,
    /// Method of the request
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,
    /// Path of the request, with its query
    #[arg(long, default_value = "/")]
    path: String,
    /// A header of the request, as 'x-tenant: acme'; can be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// What is spoken
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
    /// Server name of TLS that is the application's own; implies --protocol tls
    #[arg(long, value_name = "NAME", conflicts_with_all = ["method", "path", "headers"])]
    sni: Option<String>,
    /// How it is printed; `wide` names every loser
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// HTTP/2, gRPC among them
    #[default]
    Http2,
    /// HTTP/1
    Http1,
    /// TLS of the application: a connection, see --sni
    Tls,
    /// Bytes: a connection, not a request
    Opaque,
}

impl Args {
    fn protocol(&self) -> Protocol {
        if self.sni.is_some() {
            Protocol::Tls
        } else {
            self.protocol
        }
    }

    /// Whether it is about a request, and not about a connection.
    fn is_request(&self) -> bool {
        matches!(self.protocol(), Protocol::Http1 | Protocol::Http2)
    }
}

/// What programs read.
#[derive(Serialize)]
struct Shown<'a> {
    outcome: &'a str,
    verdict: &'a str,
    reason: &'a str,
    status: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<i32>,
    source: &'a str,
    destination: &'a str,
    decisions: Vec<ShownDecision<'a>>,
    proxy_state_age_ms: u64,
    control_state_age_ms: u64,
    differences: &'a [String],
    notes: &'a [String],
}

#[derive(Serialize)]
struct ShownDecision<'a> {
    stage: &'a str,
    object: String,
    file: &'a str,
    line: u32,
    choice: &'a str,
    why: &'a str,
    losers: Vec<ShownLoser<'a>>,
}

#[derive(Serialize)]
struct ShownLoser<'a> {
    object: String,
    file: &'a str,
    line: u32,
    choice: &'a str,
    why: &'a str,
}

/// Explains. A request that does not arrive is a finding, and so is a proxy that is behind.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = request(args)?;
    let answer = crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        mesh.explain(request).await
    })?;
    match args.output {
        Format::Json => print_json(&shown(&answer))?,
        format => {
            let mut stdout = std::io::stdout();
            let text = page(args, &answer, format == Format::Wide, stdout.is_terminal());
            stdout.write_all(text.as_bytes())?;
        }
    }
    let arrives = matches!(answer.outcome.as_str(), "forwarded" | "redirected" | "answered");
    Ok(if arrives && answer.differences.is_empty() {
        Outcome::Healthy
    } else {
        Outcome::Finding
    })
}

fn request(args: &Args) -> Result<ExplainRequest, Misuse> {
    let (mut headers, mut authority) = (Vec::new(), String::new());
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| Misuse(format!("`{header}` is no header: write it as 'x-tenant: acme'")))?;
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("host") {
            value.clone_into(&mut authority);
            continue;
        }
        headers.push(HeaderField {
            name: name.to_owned(),
            value: value.as_bytes().to_vec(),
        });
    }
    if !args.path.starts_with('/') {
        return Err(Misuse(format!("`{}` is no path: it begins with /", args.path)));
    }
    let request = RequestHead {
        method: args.method.to_ascii_uppercase(),
        authority,
        path: args.path.clone(),
        headers,
    };
    Ok(ExplainRequest {
        from: args.from.clone(),
        to: args.to.clone(),
        namespace: args.namespace.clone().unwrap_or_default(),
        request: args.is_request().then_some(request),
        server_name: args.sni.clone().unwrap_or_default(),
        protocol: match args.protocol() {
            Protocol::Http1 => "http/1",
            Protocol::Http2 => "http/2",
            Protocol::Tls => "tls",
            Protocol::Opaque => "opaque",
        }
        .to_owned(),
    })
}

fn shown(answer: &ExplainResponse) -> Shown<'_> {
    fn loser(loser: &Loser) -> ShownLoser<'_> {
        ShownLoser {
            object: words::object(loser.object.as_ref()),
            file: &loser.file,
            line: loser.line,
            choice: &loser.choice,
            why: &loser.why,
        }
    }
    fn decision(decision: &Decision) -> ShownDecision<'_> {
        ShownDecision {
            stage: &decision.stage,
            object: words::object(decision.object.as_ref()),
            file: &decision.file,
            line: decision.line,
            choice: &decision.choice,
            why: &decision.why,
            losers: decision.losers.iter().map(loser).collect(),
        }
    }
    Shown {
        outcome: &answer.outcome,
        verdict: &answer.verdict,
        reason: &answer.reason,
        status: answer.status,
        grpc_status: (answer.grpc_status >= 0).then_some(answer.grpc_status),
        source: &answer.source,
        destination: &answer.destination,
        decisions: answer.decisions.iter().map(decision).collect(),
        proxy_state_age_ms: answer.proxy_state_age_ms,
        control_state_age_ms: answer.control_state_age_ms,
        differences: &answer.differences,
        notes: &answer.notes,
    }
}

fn page(args: &Args, answer: &ExplainResponse, wide: bool, colour: bool) -> String {
    let mut text = format!("{} → {}", answer.source, args.to);
    if !answer.destination.is_empty() {
        let _ = write!(text, " → {}", answer.destination);
    }
    match &args.sni {
        Some(name) => text.push_str(&format!(": TLS for {name}")),
        None if args.is_request() => {
            let _ = write!(text, ": {} {}", args.method.to_ascii_uppercase(), args.path);
        }
        None => {}
    }
    text += "\n\n";
    text += &table(answer, wide).render(colour);
    let (word, tone) = outcome(answer);
    let _ = write!(text, "\nOutcome: {}\n", paint(&word, tone, colour));
    for difference in &answer.differences {
        let _ = writeln!(text, "{} {difference}", paint("Differs:", Tone::Bad, colour));
    }
    for note in &answer.notes {
        let _ = writeln!(text, "{} {note}", paint("Note:", Tone::Warn, colour));
    }
    let control = words::age_ms(answer.control_state_age_ms);
    let _ = match answer.proxy_state_age_ms {
        0 => writeln!(text, "The control plane's objects last changed {control} ago."),
        age => writeln!(
            text,
            "The proxies' policies are {} old; the control plane's objects last changed {control} ago.",
            words::age_ms(age)
        ),
    };
    text
}

fn table(answer: &ExplainResponse, wide: bool) -> Table {
    let mut table = Table::new(["STAGE", "CHOICE", "WRITTEN IN", "WHY"]);
    for decision in &answer.decisions {
        table.row([
            decision.stage.clone(),
            decision.choice.clone(),
            words::place(&decision.file, decision.line),
            decision.why.clone(),
        ]);
        let shown = if wide { usize::MAX } else { LOSERS };
        for loser in decision.losers.iter().take(shown) {
            let cells = [
                String::new(),
                format!("× {}", loser_name(decision, loser)),
                words::place(&loser.file, loser.line),
                loser.why.clone(),
            ];
            table.toned(cells.map(|cell| (cell, Tone::Dim)));
        }
        if let Some(more) = decision.losers.len().checked_sub(shown).filter(|more| *more > 0) {
            let cells = [
                String::new(),
                format!("× {more} more"),
                String::new(),
                "see -o wide".to_owned(),
            ];
            table.toned(cells.map(|cell| (cell, Tone::Dim)));
        }
    }
    table
}

/// The object and what of it, without saying the same twice.
fn loser_name(decision: &Decision, loser: &Loser) -> String {
    let object = words::object(loser.object.as_ref());
    let same = loser.object == decision.object && !loser.choice.is_empty();
    if same || object.is_empty() || loser.choice.contains(&object) {
        loser.choice.clone()
    } else if loser.choice.is_empty() {
        object
    } else {
        format!("{object}, {}", loser.choice)
    }
}

fn outcome(answer: &ExplainResponse) -> (String, Tone) {
    let ExplainResponse {
        outcome,
        verdict,
        reason,
        status,
        grpc_status,
        ..
    } = answer;
    let mut text = outcome.clone();
    if *status != 0 {
        let _ = write!(text, ", answered with {status}");
        if *grpc_status >= 0 {
            let _ = write!(text, " (gRPC {grpc_status})");
        }
    }
    if !reason.is_empty() {
        let _ = write!(text, "; reason {reason}, verdict {verdict}");
    }
    let tone = match outcome.as_str() {
        "forwarded" => Tone::Good,
        "redirected" | "answered" => Tone::Warn,
        _ => Tone::Bad,
    };
    (text, tone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use sheer_api::v1::ObjectRef;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(more: &[&str]) -> Args {
        let line = ["explain", "--from", "deploy/web", "--to", "svc/ledger:8080"];
        Line::try_parse_from(line.iter().chain(more))
            .unwrap_or_else(|error| panic!("{error}"))
            .args
    }

    fn object(kind: &str, name: &str) -> Option<ObjectRef> {
        Some(ObjectRef {
            kind: kind.to_owned(),
            namespace: "bank".to_owned(),
            name: name.to_owned(),
            ..ObjectRef::default()
        })
    }

    fn answer() -> ExplainResponse {
        let loser = Loser {
            object: object("HTTPRoute", "old"),
            choice: "rule 1: POST /*".to_owned(),
            why: "it takes POST, the request is a GET".to_owned(),
            file: "/m/old.yaml".to_owned(),
            line: 3,
            rule: 1,
        };
        let route = Decision {
            stage: "route".to_owned(),
            object: object("HTTPRoute", "canary"),
            choice: "HTTPRoute bank/canary".to_owned(),
            why: "one of its rules matches best".to_owned(),
            losers: vec![loser.clone(), loser.clone(), loser.clone(), loser.clone(), loser],
            file: "/m/routes.yaml".to_owned(),
            line: 12,
            rule: 0,
        };
        let policy = Decision {
            stage: "policy".to_owned(),
            object: object("server", "ledger"),
            choice: "denied".to_owned(),
            why: "Server bank/ledger lets nobody in".to_owned(),
            ..Decision::default()
        };
        ExplainResponse {
            decisions: vec![route, policy],
            outcome: "denied".to_owned(),
            verdict: "policy".to_owned(),
            reason: "policy-denied".to_owned(),
            status: 403,
            grpc_status: 7,
            proxy_state_age_ms: 12_000,
            control_state_age_ms: 820,
            differences: vec!["the proxy of bank/web-0 has route none".to_owned()],
            notes: vec!["deploy/x has no sidecar".to_owned()],
            source: "bank/web-0".to_owned(),
            destination: "bank/ledger-0".to_owned(),
        }
    }

    #[test]
    fn the_page_reads_well() {
        insta::assert_snapshot!(page(&args(&["--path", "/api"]), &answer(), false, false));
    }

    #[test]
    fn programs_get_every_decision() {
        insta::assert_json_snapshot!(shown(&answer()));
    }

    #[test]
    fn requests_are_read_from_flags() {
        let args = args(&["-X", "post", "--path", "/a?b=c", "-H", "x-a: 1", "-H", "Host: b.c"]);
        let request = request(&args).unwrap().request.unwrap();
        assert_eq!((request.method.as_str(), request.authority.as_str()), ("POST", "b.c"));
        assert_eq!(request.headers.len(), 1);
        for wrong in [["-H", "nothing"], ["--path", "api"]] {
            assert!(super::request(&self::args(&wrong)).is_err(), "{wrong:?}");
        }
        for (flags, protocol, name) in [
            (&["--protocol", "opaque"][..], "opaque", ""),
            (&["--sni", "a.example"], "tls", "a.example"),
            (&["--protocol", "tls"], "tls", ""),
        ] {
            let asked = super::request(&self::args(flags)).unwrap();
            assert_eq!((asked.protocol.as_str(), asked.server_name.as_str()), (protocol, name));
            assert!(asked.request.is_none());
        }
    }
}

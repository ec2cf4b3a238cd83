//! `sheer policy diff`: what changed manifests would do to the traffic of the last minutes.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use sheer_api::v1::{
    Finding, ManifestText, ObjectRef, PolicyChange, PolicyDiffRequest, PolicyDiffResponse, finding::Severity,
};

use crate::cli::Global;
use crate::outcome::{Misuse, Outcome};
use crate::output::{Format, Table, Tone, print_json};
use crate::running::Mesh;
use crate::words;

/// Flags of `sheer policy diff`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Every proxy keeps a sample of the requests that passed it. Each of them is decided twice: by the objects in force, and by these laid over
them. What is treated alike is grouped and counted; nothing is applied, nothing is sent.

Exit code 1 if something would be treated otherwise.

Examples:
  sheer policy diff -f new.yaml
  sheer policy diff --delete authorizationpolicy/callers.bank
  sheer policy diff -f policies/ --within 60
  sheer policy diff -f new.yaml -o json")]
pub(crate) struct Args {
    /// Manifests: files, or folders with everything below them
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "PATH",
        required_unless_present = "delete"
    )]
    paths: Vec<PathBuf>,
    /// An object that is thought away, as httproute/canary.bank; can be repeated. The group where several have the kind:
    /// httproute.policy.sheer.dev/canary.bank
    #[arg(long, value_name = "KIND/NAME")]
    delete: Vec<String>,
    /// Namespace of deleted objects that name none; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// How many seconds back traffic is looked at
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    within: u64,
    /// How it is printed; `wide` has examples
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Shown<'a> {
    changes: &'a [PolicyChange],
    requests: u64,
    samples: u64,
    proxies: u32,
    objects: &'a [String],
    notes: &'a [String],
}

/// Compares. Requests that would be treated otherwise are a finding.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let deleted = args.delete.iter().map(|text| object(text, args.namespace.as_deref()));
    let request = PolicyDiffRequest {
        deleted: deleted.collect::<Result<_, _>>()?,
        manifests: read(&args.paths)?,
        within_ms: args.within.saturating_mul(1_000),
    };
    let answer = crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        mesh.policy_diff(request).await
    })?;
    refuse_errors(&answer.findings)?;
    match args.output {
        Format::Json => print_json(&Shown {
            changes: &answer.changes,
            requests: answer.requests,
            samples: answer.samples,
            proxies: answer.proxies,
            objects: &answer.objects,
            notes: &answer.notes,
        })?,
        format => {
            let mut stdout = std::io::stdout();
            let text = page(&answer, args.within, format == Format::Wide, stdout.is_terminal());
            stdout.write_all(text.as_bytes())?;
        }
    }
    for note in &answer.notes {
        eprintln!("sheer: {note}");
    }
    Ok(if answer.changes.is_empty() {
        Outcome::Healthy
    } else {
        Outcome::Finding
    })
}

/// `KIND[.GROUP]/NAME[.NAMESPACE]`.
fn object(text: &str, namespace: Option<&str>) -> Result<ObjectRef, Misuse> {
    let wrong = || {
        Misuse(format!(
            "`{text}` is no object: write it as httproute/canary or httproute/canary.bank"
        ))
    };
    let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
    let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
    // The names of ServiceProfiles have dots of their own, and are of their Service's namespace or the client's.
    let (name, own) = match name.split_once('.') {
        Some((name, own)) if !kind.eq_ignore_ascii_case("serviceprofile") => (name, Some(own)),
        _ => (name, None),
    };
    if kind.is_empty() || name.is_empty() {
        return Err(wrong());
    }
    Ok(ObjectRef {
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: own.or(namespace).unwrap_or_default().to_owned(),
        name: name.to_owned(),
        ..ObjectRef::default()
    })
}

fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<ManifestText>> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    anyhow::ensure!(
        !files.is_empty() || paths.is_empty(),
        "there is no manifest in these paths"
    );
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        Ok(ManifestText {
            file: file.display().to_string(),
            text,
        })
    };
    files.iter().map(read).collect()
}

/// A file that is named is read whatever it is called; in folders the extension decides.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let is_manifest = path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        if path.is_dir() || is_manifest {
            collect(&path, files)?;
        }
    }
    Ok(())
}

fn refuse_errors(findings: &[Finding]) -> anyhow::Result<()> {
    let errors: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity() == Severity::Error)
        .map(|finding| format!("{}: {}", words::place(&finding.file, finding.line), finding.message))
        .collect();
    anyhow::ensure!(
        errors.is_empty(),
        "the manifests have errors, so nothing was compared:\n{}",
        errors.join("\n")
    );
    Ok(())
}

fn page(answer: &PolicyDiffResponse, within: u64, wide: bool, colour: bool) -> String {
    let mut text = String::new();
    let objects = match &answer.objects[..] {
        [] => "Nothing in these manifests is other than what is in force.".to_owned(),
        objects => format!("Changed: {}.", objects.join(", ")),
    };
    let _ = writeln!(text, "{objects}");
    let seen = format!(
        "{} requests of the last {within} s ({} samples of {} proxies)",
        answer.requests, answer.samples, answer.proxies
    );
    if answer.changes.is_empty() {
        let _ = match answer.samples {
            0 => writeln!(
                text,
                "No proxy saw a request in the last {within} s: nothing to try the change on."
            ),
            _ => writeln!(text, "Of {seen} none would be treated otherwise."),
        };
        return text;
    }
    let other: u64 = answer.changes.iter().map(|change| change.requests).sum();
    let _ = writeln!(text, "Of {seen} {other} would be treated otherwise:\n");
    text += &table(&answer.changes, wide).render(colour);
    text
}

fn table(changes: &[PolicyChange], wide: bool) -> Table {
    let mut table = Table::new(["CHANGE", "REQUESTS", "AT", "FOR", "FROM", "NOW", "THEN"]);
    for change in changes {
        let tone = match change.kind.as_str() {
            "allowed" => Tone::Good,
            "routed" | "changed" | "redirected" => Tone::Warn,
            _ => Tone::Bad,
        };
        let cells = [
            kind(&change.kind),
            change.requests.to_string(),
            change.workload.clone(),
            change.target.clone(),
            words::or_dash(&change.client),
            change.before.clone(),
            change.after.clone(),
        ];
        let mut cells = cells.map(|cell| (cell, Tone::Plain));
        cells[0].1 = tone;
        table.toned(cells);
        if wide {
            for example in &change.examples {
                table.toned([
                    (String::new(), Tone::Dim),
                    (String::new(), Tone::Dim),
                    (example.clone(), Tone::Dim),
                ]);
            }
        }
    }
    table
}

/// What happens to the requests, in words.
fn kind(kind: &str) -> String {
    match kind {
        "routed" => "routed elsewhere".to_owned(),
        "changed" => "treated otherwise".to_owned(),
        kind => format!("newly {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> PolicyDiffResponse {
        let denied = PolicyChange {
            kind: "denied".to_owned(),
            direction: "inbound".to_owned(),
            workload: "bank/deploy/ledger".to_owned(),
            target: ":9000".to_owned(),
            client: "web.bank…".to_owned(),
            before: "let in by default all-unauthenticated".to_owned(),
            after: "denied: Server bank/ledger lets nobody in".to_owned(),
            requests: 1_204,
            examples: vec!["POST /bank.Ledger/Post".to_owned()],
        };
        let routed = PolicyChange {
            kind: "routed".to_owned(),
            direction: "outbound".to_owned(),
            workload: "bank/deploy/web".to_owned(),
            target: "ledger.bank:9000".to_owned(),
            client: String::new(),
            before: "Service bank/ledger:9000 by default http".to_owned(),
            after: "Service bank/ledger-v2:9000 by HTTPRoute bank/canary".to_owned(),
            requests: 90,
            examples: vec!["GET /x".to_owned()],
        };
        PolicyDiffResponse {
            changes: vec![denied, routed],
            requests: 8_000,
            samples: 900,
            proxies: 9,
            objects: vec!["Server bank/ledger".to_owned()],
            ..PolicyDiffResponse::default()
        }
    }

    #[test]
    fn the_page_reads_well() {
        insta::assert_snapshot!(page(&answer(), 300, true, false));
        let nothing = PolicyDiffResponse {
            changes: Vec::new(),
            ..answer()
        };
        let quiet = PolicyDiffResponse::default();
        insta::assert_snapshot!(page(&nothing, 300, false, false) + &page(&quiet, 300, false, false));
    }

    #[test]
    fn deleted_objects_are_named_as_kubectl_does() {
        let read = |text: &str| {
            let object = object(text, Some("shop")).unwrap();
            [object.group, object.kind, object.namespace, object.name].join(" ")
        };
        assert_eq!(read("httproute/canary"), " httproute shop canary");
        assert_eq!(
            read("HTTPRoute.policy.sheer.dev/canary.bank"),
            "policy.sheer.dev HTTPRoute bank canary"
        );
        assert_eq!(
            read("serviceprofile/a.bank.svc.cluster.local"),
            " serviceprofile shop a.bank.svc.cluster.local"
        );
        for wrong in ["canary", "/canary", "httproute/"] {
            assert!(object(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_and_folders_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["b.yaml", "a.yml", "sub/c.json", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let names = |paths: &[PathBuf]| -> Vec<String> {
            let read = read(paths).unwrap();
            read.iter()
                .map(|one| {
                    Path::new(&one.file)
                        .strip_prefix(folder.path())
                        .unwrap()
                        .display()
                        .to_string()
                })
                .collect()
        };
        assert_eq!(names(&[folder.path().to_owned()]), ["a.yml", "b.yaml", "sub/c.json"]);
        assert_eq!(names(&[folder.path().join("notes.txt")]), ["notes.txt"]);
        assert!(read(&[folder.path().join("absent.yaml")]).is_err());
    }
}

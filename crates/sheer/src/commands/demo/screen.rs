//! What the demo shows: on a terminal one table that is redrawn in place, elsewhere one every few seconds.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use crate::output::{Format, Table, Tone, paint, tell};

/// What to try while the demo runs, and what for.
const TRY: &[(&str, &str)] = &[
    ("ps", "what runs, with its resources"),
    ("check", "whether all is well"),
    (
        "identity -n bank deploy/ledger",
        "the certificates that the sidecars serve",
    ),
    (
        "endpoints -n bank ledger:9000 -o wide",
        "where a call to the ledger may go",
    ),
    ("logs -f -n bank deploy/payments", "what a service says"),
    (
        "exec -n bank deploy/ledger -- bank fault local --latency 100ms",
        "slow one of three replicas: it loses its traffic",
    ),
    (
        "exec -n bank deploy/ledger -- bank fault local --clear",
        "and make it well again",
    ),
    (
        "scale -n bank deploy/ledger --replicas 5",
        "more replicas, without a lost request",
    ),
];

const PAY: &str = "curl -d '{\"payer\":\"ACC-0001\",\"payee\":\"ACC-0002\",\"amount_minor\":1250,\"currency\":\"EUR\"}' http://127.0.0.1:18080/v1/payments";

/// Where tables go.
pub(super) struct Screen {
    /// Whether tables are redrawn in place.
    live: bool,
    /// Whether tables are shown at all before the last.
    quiet: bool,
    /// Lines of the table that stands.
    standing: usize,
}

impl Screen {
    /// A screen on stdout.
    pub(super) fn new(output: Format) -> Self {
        let quiet = output == Format::Json;
        Self {
            live: !quiet && io::stdout().is_terminal(),
            quiet,
            standing: 0,
        }
    }

    /// Whether tables are redrawn in place.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Says what there is to look at. On stderr: stdout is for tables.
    /// `state` is the directory where the mesh's state lies, unless that is where commands look by themselves.
    pub(super) fn header(&self, folder: &Path, dashboard: &str, state: Option<&Path>) {
        if !self.quiet {
            let text = header(&call(&program(), state), folder, dashboard, io::stderr().is_terminal());
            // The terminal may be gone: that is told by a signal.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Says something between tables.
    pub(super) fn note(&mut self, text: &str) {
        self.wipe();
        tell(text);
    }

    /// Shows a table in place of the one before.
    pub(super) fn draw(&mut self, table: &Table) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        self.wipe();
        let text = table.render(self.live);
        self.standing = text.lines().count();
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !self.live {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    }

    /// Shows the last table, of everything.
    pub(super) fn last(&mut self, table: &Table, seconds: f64) -> io::Result<()> {
        self.wipe();
        let mut stdout = io::stdout().lock();
        write!(stdout, "All of {seconds:.0} s:\n{}", table.render(self.live))
    }

    fn wipe(&mut self) {
        if self.live && self.standing > 0 {
            let _ = write!(io::stdout(), "\x1b[{}A\x1b[J", self.standing);
            self.standing = 0;
        }
    }
}

/// What the operator has to type for this program: its name where that is in `PATH`, else where it lies.
fn program() -> String {
    let own = std::env::current_exe().unwrap_or_else(|_| "sheer".into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path)
        .map(|folder| folder.join("sheer"))
        .find(|candidate| candidate.is_file());
    let same = first
        .and_then(|first| first.canonicalize().ok())
        .is_some_and(|first| first == own);
    if same {
        "sheer".to_owned()
    } else {
        own.display().to_string()
    }
}

/// What stands for `sheer` in the commands to try: copied into another terminal they must find this very mesh.
fn call(program: &str, state: Option<&Path>) -> String {
    let quoted = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
        if text.chars().all(plain) {
            text.to_owned()
        } else {
            // As shells want it within double quotes, which stand in the single quotes of the alias.
            let escaped: String = text
                .chars()
                .flat_map(|c| "\"$`\\".contains(c).then_some('\\').into_iter().chain([c]))
                .collect();
            format!("\"{}\"", escaped.replace('\'', r"'\''"))
        }
    };
    match state {
        Some(state) => format!("'{} --state {}'", quoted(program), quoted(&state.display().to_string())),
        None if program == quoted(program) => program.to_owned(),
        None => format!("'{}'", quoted(program)),
    }
}

fn header(call: &str, folder: &Path, dashboard: &str, colour: bool) -> String {
    let mut text = format!(
        "The bank runs: eight services and their load, a sidecar beside each.\n\n  look: {dashboard}\n  pay:  {PAY}\n\n"
    );
    let width = TRY.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    text.push_str("Try in another terminal:\n");
    if call != "sheer" {
        text.push_str(&format!("  alias sheer={call}\n"));
    }
    for (command, purpose) in TRY {
        text.push_str(&format!(
            "  sheer {command:width$}  {}\n",
            paint(&format!("# {purpose}"), Tone::Dim, colour)
        ));
    }
    text.push_str(&format!(
        "\nIts manifests are in {}: an edit takes effect at once. Ctrl-C ends everything.\n",
        folder.display()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_to_try_find_the_mesh_that_runs() {
        let state = Path::new("/tmp/second");
        assert_eq!(call("sheer", None), "sheer");
        assert_eq!(call("/opt/sheer", None), "/opt/sheer");
        assert_eq!(call("sheer", Some(state)), "'sheer --state /tmp/second'");
        let odd = Path::new("/tmp/it's $mine");
        assert_eq!(
            call("/opt/sheer", Some(odd)),
            r#"'/opt/sheer --state "/tmp/it'\''s \$mine"'"#
        );
    }

    #[test]
    fn the_header_reads_well() {
        insta::assert_snapshot!(header(
            "/opt/sheer",
            Path::new("/home/ada/.local/state/sheer/demo"),
            "http://127.0.0.1:8084/",
            false
        ));
    }
}

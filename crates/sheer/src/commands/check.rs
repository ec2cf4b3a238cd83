//! `sheer check`: looks at the mesh point by point, as `linkerd check` does.

mod dns;
mod evidence;
mod gather;
mod points;
mod report;

use std::io::{IsTerminal as _, Write as _};

use crate::cli::Global;
use crate::outcome::Outcome;
use crate::output::print_json;
use crate::progress::Progress;
use report::Mark;

/// Flags of `sheer check`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit code 1 if a point is not well (×). A warning (‼) is none.

Examples:
  sheer check
  sheer check -o short          only what is not well
  sheer check -o json")]
pub(crate) struct Args {
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
enum Form {
    /// Every point.
    #[default]
    Table,
    /// Only what is not well.
    Short,
    /// For programs, in the shape of `linkerd check -o json`.
    Json,
}

/// Looks, judges, prints.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let evidence = crate::running::block_on(async { Ok(gather::gather(global, &mut Progress::new()).await) })?;
    let report = points::judge(&evidence);
    match args.output {
        Form::Json => print_json(&report.json())?,
        form => {
            let mut stdout = std::io::stdout();
            let text = report.text(form == Form::Short, stdout.is_terminal());
            stdout.write_all(text.as_bytes())?;
        }
    }
    Ok(if report.mark() == Mark::Fail {
        Outcome::Finding
    } else {
        Outcome::Healthy
    })
}

/// The same for the dashboard: looks and judges.
pub(crate) async fn look(global: &Global) -> sheer_dashboard::checks::Checked {
    points::judge(&gather::gather(global, &mut Progress::silent()).await).checked()
}

#[cfg(test)]
mod tests;

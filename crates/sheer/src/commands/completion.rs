//! `sheer completion`: scripts that complete commands and flags in a shell.

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::outcome::Outcome;

/// Flags of `sheer completion`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  source <(sheer completion bash)                                   this shell, now
  sheer completion bash > ~/.local/share/bash-completion/completions/sheer
  sheer completion zsh > \"${fpath[1]}/_sheer\"
  sheer completion fish > ~/.config/fish/completions/sheer.fish")]
pub(crate) struct Args {
    /// Shell to complete for.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sheer", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(Outcome::Healthy)
}

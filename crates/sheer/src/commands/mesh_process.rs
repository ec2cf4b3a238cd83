//! The re-executions that a local mesh consists of (hidden: `sheer up` starts them).

use sheer_local::{launch, supervisor};

use crate::outcome::Outcome;

/// Which of them.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Role
    #[arg(value_enum)]
    role: Role,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Role {
    Stage,
    Init,
    Supervisor,
}

impl Args {
    /// Name of the process.
    pub(crate) const fn process(&self) -> &'static str {
        match self.role {
            Role::Stage => "sheer-stage",
            Role::Init => "sheer-init",
            // "sheer-supervisor" as far as the kernel takes it.
            Role::Supervisor => "sheer-superviso",
        }
    }
}

/// Runs one of them.
pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let code = match args.role {
        Role::Stage => launch::stage(),
        Role::Init => launch::init(),
        Role::Supervisor => supervisor::main(),
    };
    code.map(Outcome::Code)
}

//! `sheer token`: a right to see less than the mesh's owner, for a while.

use std::time::Duration;

use sheer_api::v1::{IssueTokenRequest, Selection};

use crate::{cli::Global, outcome::Outcome, running::Mesh, words::duration};

/// Flags of `sheer token`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Whoever can use the state directory may see everything. A token is for everything else that runs as the mesh's owner, a script or an agent: it is shown in
SHEER_TOKEN (or --token), and from then on the commands may do what it allows and nothing else. Other users of the machine cannot reach the mesh's sockets, with
a token or without: for a colleague, start `sheer dashboard` with one. It allows:

  tap      tap, conns, diff: heads, trailers, timing, connections
  bodies   tap --body
  frames   frames
  capture  capture: packets, and the secrets that open them
  probe    requests of a proxy's own

Secrets are redacted whoever looks. `sheer.dev/sight: disabled` on a workload or namespace wins over every right. Who made a token, and every use, is in the audit
record: the control plane's log, `sheer logs control`.

Examples:
  sheer token --allow tap --on deploy/web -n bank --for 1h
  SHEER_TOKEN=$(sheer token --allow tap,bodies --on deploy/web --for 10m) sheer tap deploy/web --body
  SHEER_TOKEN=$(sheer token --allow tap --on ns/bank --for 8h) sheer dashboard
  sheer token --revoke-all")]
pub(crate) struct Args {
    /// What it allows: tap, bodies, frames, capture, probe
    #[arg(
        long,
        value_name = "RIGHT",
        value_delimiter = ',',
        required_unless_present = "revoke_all"
    )]
    allow: Vec<String>,
    /// Of which workload, as deploy/web or pod/web-0, or ns/bank for all of a namespace; may be repeated
    #[arg(long, value_name = "WORKLOAD", required_unless_present = "revoke_all")]
    on: Vec<String>,
    /// Namespace of names that have none
    #[arg(short, long)]
    namespace: Option<String>,
    /// For how long
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "1h")]
    duration: Duration,
    /// Makes every token void that was ever made
    #[arg(long, conflicts_with_all = ["allow", "on"])]
    revoke_all: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        if args.revoke_all {
            mesh.revoke_tokens().await?;
            eprintln!(
                "sheer: every token is void from now on; what is being watched with one goes on until its time is over"
            );
            return Ok(Outcome::Healthy);
        }
        let on = args.on.iter().map(|workload| Selection {
            workload: workload.clone(),
            namespace: args.namespace.clone().unwrap_or_default(),
        });
        let issued = mesh
            .issue_token(IssueTokenRequest {
                allow: args.allow.clone(),
                on: on.collect(),
                for_seconds: args.duration.as_secs(),
            })
            .await?;
        eprintln!(
            "sheer: token {} allows {} on {} for {}",
            issued.id,
            args.allow.join(", "),
            args.on.join(", "),
            words(args.duration)
        );
        for missing in &issued.missing {
            eprintln!("sheer: {missing}; the token shows nothing of it before it does");
        }
        println!("{}", issued.token);
        Ok(Outcome::Healthy)
    })
}

fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        let said = [60, 600, 7_200, 604_800].map(|seconds| words(Duration::from_secs(seconds)));
        assert_eq!(said, ["60 s", "10 min", "2 h", "7 days"]);
    }
}

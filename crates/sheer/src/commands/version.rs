//! `sheer version`: of this command, of the control plane, of the proxies.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde::Serialize;

use crate::cli::Global;
use crate::outcome::Outcome;
use crate::output::{Format, print_json};
use crate::running::{Mesh, Pod};
use crate::scrape;

/// Flags of `sheer version`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  sheer version
  sheer version --client
  sheer version -o json")]
pub(crate) struct Args {
    /// Only this command's version; asks nobody
    #[arg(long)]
    client: bool,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Versions {
    client: &'static str,
    /// None where no mesh runs, or its control plane does not answer.
    control_plane: Option<String>,
    /// How many proxies have each version.
    proxies: BTreeMap<String, usize>,
}

/// Prints the versions. That no mesh runs is no failure.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let mut versions = Versions {
        client: env!("CARGO_PKG_VERSION"),
        ..Versions::default()
    };
    if !args.client {
        crate::running::block_on(async {
            if let Ok(mesh) = Mesh::find(global).await {
                versions.control_plane = mesh.report().await.ok().map(|report| report.version);
                versions.proxies = proxies(&mesh).await;
            }
            Ok(())
        })?;
    }
    match args.output {
        Format::Json => print_json(&versions)?,
        Format::Table | Format::Wide => std::io::stdout().write_all(text(&versions, args.client).as_bytes())?,
    }
    Ok(Outcome::Healthy)
}

async fn proxies(mesh: &Mesh) -> BTreeMap<String, usize> {
    let pods = mesh.pods().await.unwrap_or_default();
    let meshed: Vec<&Pod> = pods.iter().filter(|pod| pod.meshed).collect();
    let answers = futures::future::join_all(meshed.iter().map(|pod| mesh.proxy(pod, "/metrics"))).await;
    let mut proxies = BTreeMap::new();
    for answer in answers {
        let version = answer.ok().and_then(|(_, metrics)| proxy_version(&metrics));
        *proxies
            .entry(version.unwrap_or_else(|| "unknown".to_owned()))
            .or_default() += 1;
    }
    proxies
}

/// The version that a proxy's metrics name.
pub(crate) fn proxy_version(metrics: &str) -> Option<String> {
    let samples = scrape::parse(metrics).ok()?;
    let info = samples.iter().find(|sample| sample.name == "proxy_build_info")?;
    Some(info.label("version").to_owned()).filter(|version| !version.is_empty())
}

fn text(versions: &Versions, only_client: bool) -> String {
    let mut text = format!("Client version: {}\n", versions.client);
    if !only_client {
        let control = versions.control_plane.as_deref().unwrap_or("unavailable");
        text.push_str(&format!("Control plane version: {control}\n"));
        let count = |(version, count): (&String, &usize)| {
            format!("{version} ({count} {})", if *count == 1 { "proxy" } else { "proxies" })
        };
        let proxies: Vec<String> = versions.proxies.iter().map(count).collect();
        let proxies = if proxies.is_empty() {
            "none run".to_owned()
        } else {
            proxies.join(", ")
        };
        text.push_str(&format!("Proxy versions: {proxies}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_words() {
        let proxies = BTreeMap::from([("0.1.0".to_owned(), 11), ("unknown".to_owned(), 1)]);
        let versions = Versions {
            client: "0.1.0",
            control_plane: Some("0.1.0".to_owned()),
            proxies,
        };
        let nothing = Versions {
            client: "0.1.0",
            ..Versions::default()
        };
        insta::assert_snapshot!([text(&versions, false), text(&nothing, false), text(&nothing, true)].join("\n"));
    }

    #[test]
    fn a_proxys_version_is_in_its_metrics() {
        assert_eq!(
            proxy_version("proxy_build_info{version=\"0.1.0\",profile=\"release\"} 1\n"),
            Some("0.1.0".to_owned())
        );
        assert_eq!(proxy_version("up 1\n"), None);
        assert_eq!(proxy_version("<html>"), None);
    }
}

//! `sheer identity`: the certificates that proxies really serve, seen over TLS.

use std::time::Duration;

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use sheer_api::names::{CONTROL_NAMESPACE, INBOUND_PORT, dns_identity};
use sheer_local::workload::Reference;
use tokio::time::timeout;

use crate::certificate::{Certificate, Handshake, Served, from_pem, moment};
use crate::cli::Global;
use crate::outcome::{Misuse, Outcome};
use crate::output::{Format, Table, Tone, age, print_json};
use crate::running::{Mesh, Pod};

/// Patience with one handshake.
const PATIENCE: Duration = Duration::from_secs(3);

/// Flags of `sheer identity`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  sheer identity -n bank deploy/ledger         one certificate a replica
  sheer identity -n bank                       all of the namespace
  sheer identity -n bank deploy/ledger -o json")]
pub(crate) struct Args {
    /// Workloads or pods, as deploy/ledger or pod/ledger-6d9f4-0 [default: all]
    #[arg(value_name = "RESOURCE")]
    resources: Vec<String>,
    /// Namespace [default: all of them]
    #[arg(short, long)]
    namespace: Option<String>,
    /// How it is printed; `wide` has validity, SPIFFE name and the whole fingerprint
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What one proxy serves.
#[derive(Clone, Debug, Serialize)]
struct Shown {
    namespace: String,
    pod: String,
    /// What the proxy should prove.
    identity: String,
    certificate: Option<Certificate>,
    /// Why it does not prove it; nothing where it does.
    problem: Option<String>,
}

/// Shows what each proxy serves. One that does not prove its identity is a finding.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let references = args
        .resources
        .iter()
        .map(|text| text.parse().map_err(Misuse))
        .collect::<Result<Vec<Reference>, _>>()?;
    crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        let pods = pick(mesh.pods().await?, &references, args.namespace.as_deref())?;
        let anchors = trust_anchors(&mesh)?;
        let trust_domain = mesh.trust_domain()?;
        let mut shown = Vec::new();
        for pod in &pods {
            // One after the other: a handshake that waits for others' would look like a silent client.
            shown.push(show(&mesh, pod, &anchors, &trust_domain).await);
        }
        match args.output {
            Format::Json => print_json(&shown)?,
            Format::Table => table(&shown, now()).print()?,
            Format::Wide => wide(&shown).print()?,
        }
        let mut outcome = Outcome::Healthy;
        for Shown {
            namespace,
            pod,
            problem,
            ..
        } in &shown
        {
            if let Some(problem) = problem {
                eprintln!("sheer: {namespace}/{pod}: {problem}");
                outcome = Outcome::Finding;
            }
        }
        Ok(outcome)
    })
}

/// Pods with a sidecar that are meant; every reference must mean one.
fn pick(pods: Vec<Pod>, references: &[Reference], namespace: Option<&str>) -> Result<Vec<Pod>, Misuse> {
    let of_namespace = |pod: &Pod| namespace.is_none_or(|namespace| pod.namespace == namespace);
    let pods: Vec<Pod> = pods.into_iter().filter(|pod| pod.meshed && of_namespace(pod)).collect();
    for reference in references {
        if !pods.iter().any(|pod| pod.is_meant_by(reference)) {
            let place = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
            return Err(Misuse(format!(
                "no pod with a sidecar is meant by {reference}{place}; `sheer ps` shows what runs"
            )));
        }
    }
    Ok(pods
        .into_iter()
        .filter(|pod| references.is_empty() || references.iter().any(|r| pod.is_meant_by(r)))
        .collect())
}

/// The mesh's trust anchors.
pub(crate) fn trust_anchors(mesh: &Mesh) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let path = mesh.state().identity().join("anchors.pem");
    let pem = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    from_pem(&pem).with_context(|| path.display().to_string())
}

/// The name that the proxy of a pod has to prove.
pub(crate) fn name_of(pod: &Pod, trust_domain: &str) -> String {
    dns_identity(&pod.service_account, &pod.namespace, CONTROL_NAMESPACE, trust_domain)
}

async fn show(mesh: &Mesh, pod: &Pod, anchors: &[CertificateDer<'static>], trust_domain: &str) -> Shown {
    let identity = name_of(pod, trust_domain);
    // Redirected to the proxy, as its peers' connections are. A pod without such a port is asked directly.
    let port = pod.redirected.unwrap_or(INBOUND_PORT);
    let (certificate, problem) = match ask(mesh, pod, port, &identity, anchors).await {
        Ok(served) => (Some(served.leaf), served.verified.err()),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Shown {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        identity,
        certificate,
        problem,
    }
}

/// What is served on a port of a pod, under a name.
pub(crate) async fn ask(
    mesh: &Mesh,
    pod: &Pod,
    port: u16,
    name: &str,
    anchors: &[CertificateDer<'static>],
) -> anyhow::Result<Served> {
    let handshake = Handshake::new(name, anchors)?;
    let stream = mesh.dial(pod.at(port)?).await?;
    timeout(PATIENCE, handshake.with(stream))
        .await
        .context("the TLS handshake takes too long")?
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    x509_parser::time::ASN1Time::now().timestamp()
}

fn table(shown: &[Shown], now: i64) -> Table {
    let mut table = Table::new(["NAMESPACE", "POD", "IDENTITY", "ENDS-IN", "ISSUER", "SHA256"]);
    for Shown {
        namespace,
        pod,
        identity,
        certificate,
        problem,
    } in shown
    {
        let tone = if problem.is_some() { Tone::Bad } else { Tone::Good };
        let (ends, issuer, print) = certificate.as_ref().map_or_else(
            || ("-".to_owned(), "-".to_owned(), "-".to_owned()),
            |leaf| {
                let left = u64::try_from(leaf.not_after - now).map_or_else(|_| "expired".to_owned(), age);
                (left, leaf.issuer.clone(), leaf.sha256.chars().take(16).collect())
            },
        );
        let plain = |text: String| (text, Tone::Plain);
        table.toned([
            plain(namespace.clone()),
            plain(pod.clone()),
            (identity.clone(), tone),
            plain(ends),
            plain(issuer),
            plain(print),
        ]);
    }
    table
}

fn wide(shown: &[Shown]) -> Table {
    let mut table = Table::new([
        "NAMESPACE",
        "POD",
        "DNS-NAMES",
        "URIS",
        "VALID-FROM",
        "VALID-TO",
        "ISSUER",
        "SHA256",
        "PROBLEM",
    ]);
    for Shown {
        namespace,
        pod,
        certificate,
        problem,
        ..
    } in shown
    {
        let mut cells = vec![namespace.clone(), pod.clone()];
        match certificate {
            Some(leaf) => cells.extend([
                leaf.dns_names.join(","),
                leaf.uris.join(","),
                moment(leaf.not_before),
                moment(leaf.not_after),
                leaf.issuer.clone(),
                leaf.sha256.clone(),
            ]),
            None => cells.extend(["-"; 6].map(str::to_owned)),
        }
        cells.push(problem.clone().unwrap_or_else(|| "-".to_owned()));
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pod: &str, problem: Option<&str>) -> Shown {
        let identity = name_of(
            &Pod {
                service_account: "ledger".to_owned(),
                ..Pod::sample(pod)
            },
            "cluster.local",
        );
        let certificate = Certificate {
            subject: String::new(),
            dns_names: vec![identity.clone()],
            uris: vec!["spiffe://cluster.local/ns/bank/sa/ledger".to_owned()],
            issuer: "CN=identity.sheer.cluster.local".to_owned(),
            not_before: 1_795_375_800,
            not_after: 1_795_375_800 + 86_400,
            sha256: "0123456789abcdef".repeat(4),
        };
        let certificate = problem
            .is_none_or(|problem| problem.starts_with("it"))
            .then_some(certificate);
        Shown {
            namespace: "bank".to_owned(),
            pod: pod.to_owned(),
            identity,
            certificate,
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn the_tables_read_well() {
        let shown = [
            shown("ledger-0", None),
            shown("ledger-1", Some("it is for another identity")),
            shown("ledger-2", Some("no TLS handshake")),
        ];
        let text = table(&shown, 1_795_375_800 + 3_600).render(false) + "\n" + &wide(&shown).render(false);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_reference_that_means_nothing_is_misuse() {
        let pods = || {
            vec![
                Pod::sample("ledger-0"),
                Pod {
                    meshed: false,
                    ..Pod::sample("plain-0")
                },
            ]
        };
        assert_eq!(pick(pods(), &[], None).unwrap().len(), 1);
        assert!(pick(pods(), &["pod/plain-0".parse().unwrap()], None).is_err());
        assert_eq!(
            pick(pods(), &["pod/ledger-0".parse().unwrap()], Some("bank"))
                .unwrap()
                .len(),
            1
        );
        assert!(pick(pods(), &["ledger-0".parse().unwrap()], Some("other")).is_err());
    }
}

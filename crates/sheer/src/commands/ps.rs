//! `sheer ps`: what runs in a local mesh.

use std::io::Write as _;

use sheer_local::{
    client::Client,
    protocol::{MeshStatus, PodSummary, ProgramStatus, Published},
};

use crate::{
    cli::Global,
    outcome::Outcome,
    output::{self, Format, Table, Tone, age, size},
};

/// Flags of `sheer ps`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit code 1 where a workload is not ready.

Examples:
  sheer ps
  sheer ps -n bank -o wide       with sidecars, IPv6 addresses and reasons
  sheer ps -o json | jq '.pods[] | select(.ready | not)'")]
pub(crate) struct Args {
    /// Namespace; all where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Prints what runs.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let mut status = Client::connect(&global.state()?)?.status()?;
    if let Some(namespace) = &args.namespace {
        status.pods.retain(|pod| pod.namespace == *namespace);
        status.workloads.retain(|workload| workload.id.namespace == *namespace);
    }
    match args.output {
        Format::Json => output::print_json(&status)?,
        Format::Table => table(&status, false).print()?,
        Format::Wide => table(&status, true).print()?,
    }
    if args.output != Format::Json {
        for published in &status.published {
            writeln!(std::io::stdout(), "{}", published_line(published))?;
        }
        if let Some(line) = control_trouble(&status.control) {
            eprintln!("sheer: {line}");
        }
    }
    let healthy = status
        .workloads
        .iter()
        .all(|workload| workload.ready >= workload.replicas);
    Ok(if healthy { Outcome::Healthy } else { Outcome::Finding })
}

fn published_line(Published { port, target, problem }: &Published) -> String {
    match problem {
        None => format!("http://127.0.0.1:{port} → {target}"),
        Some(problem) => format!("127.0.0.1:{port} is not open ({problem}); it would lead to {target}"),
    }
}

/// What is wrong with the control plane, for those who do not ask for the wide table.
fn control_trouble(control: &ProgramStatus) -> Option<String> {
    let exit = control.last_exit.as_ref().filter(|_| control.pid.is_none())?;
    let words = control
        .last_words
        .as_ref()
        .map_or_else(String::new, |words| format!(": {words}"));
    Some(format!(
        "the control plane does not run ({exit}){words}. It is tried again; `sheer logs control` has the rest."
    ))
}

fn table(status: &MeshStatus, wide: bool) -> Table {
    let mut table = if wide {
        Table::new([
            "NAMESPACE",
            "POD",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "CPU",
            "MEMORY",
            "PROXY-CPU",
            "PROXY-MEMORY",
            "IPS",
            "REASON",
        ])
    } else {
        Table::new([
            "NAMESPACE",
            "POD",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "IP",
            "CPU",
            "MEMORY",
            "PROXY-CPU",
            "PROXY-MEMORY",
        ])
    };
    for pod in &status.pods {
        table.toned(row(pod, wide));
    }
    if wide {
        table.toned(control_row(&status.control));
    }
    table
}

fn row(pod: &PodSummary, wide: bool) -> Vec<(String, Tone)> {
    let programs = || pod.containers.iter().chain(&pod.sidecar);
    let ready = format!(
        "{}/{}",
        programs().filter(|program| program.ready).count(),
        programs().count()
    );
    let tone = match (pod.ready, pod.state.as_str()) {
        (true, _) => Tone::Good,
        (false, "Pending" | "Terminating") => Tone::Dim,
        (false, "Running") => Tone::Warn,
        (false, _) => Tone::Bad,
    };
    let plain = |text: String| (text, Tone::Plain);
    let [cpu, memory] = usage(&pod.containers);
    let [proxy_cpu, proxy_memory] = if pod.meshed {
        usage(pod.sidecar.as_slice())
    } else {
        ["-".to_owned(), "-".to_owned()]
    };
    let ips: Vec<String> = pod.ips.iter().map(ToString::to_string).collect();
    let mut cells = vec![
        plain(pod.namespace.clone()),
        plain(pod.name.clone()),
        (ready, tone),
        (pod.state.clone(), tone),
    ];
    cells.extend([plain(pod.restarts.to_string()), plain(age(pod.age_s))]);
    let used = [cpu, memory, proxy_cpu, proxy_memory].map(plain);
    if wide {
        cells.extend(used);
        cells.extend([plain(ips.join(",")), (pod.reason.clone(), Tone::Dim)]);
    } else {
        cells.push(plain(ips.first().cloned().unwrap_or_default()));
        cells.extend(used);
    }
    cells
}

fn control_row(control: &ProgramStatus) -> Vec<(String, Tone)> {
    let (state, tone) = if control.pid.is_some() {
        ("Running", Tone::Good)
    } else {
        ("Restarting", Tone::Bad)
    };
    let [cpu, memory] = usage(std::slice::from_ref(control));
    let ready = format!("{}/1", u8::from(control.ready));
    let cells = ["sheer", "control"].map(|text| (text.to_owned(), Tone::Plain));
    let rest = [
        control.restarts.to_string(),
        "-".into(),
        cpu,
        memory,
        "-".into(),
        "-".into(),
        "-".into(),
    ]
    .map(|text| (text, Tone::Plain));
    let reason = [(control.last_exit.clone().unwrap_or_default(), Tone::Dim)];
    cells
        .into_iter()
        .chain([(ready, tone), (state.to_owned(), tone)])
        .chain(rest)
        .chain(reason)
        .collect()
}

fn usage(programs: &[ProgramStatus]) -> [String; 2] {
    let cpu: u64 = programs.iter().map(|program| program.cpu_millicores).sum();
    let memory: u64 = programs.iter().map(|program| program.rss_bytes).sum();
    [format!("{cpu}m"), size(memory)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, ready: bool) -> ProgramStatus {
        ProgramStatus {
            name: name.into(),
            ready,
            pid: Some(7),
            cpu_millicores: 12,
            rss_bytes: 5 << 20,
            ..ProgramStatus::default()
        }
    }

    #[test]
    fn what_does_not_work_is_said_below_the_table() {
        let published = |problem: Option<&str>| Published {
            port: 18080,
            target: "bank deploy/gateway:8080".into(),
            problem: problem.map(str::to_owned),
        };
        let control = ProgramStatus {
            pid: None,
            last_exit: Some("exit code 1".into()),
            last_words: Some("sheer: anchor.key may be read by others".into()),
            ..program("control", false)
        };
        let lines = [
            published_line(&published(None)),
            published_line(&published(Some("Address already in use"))),
            control_trouble(&control).unwrap_or_default(),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        http://127.0.0.1:18080 → bank deploy/gateway:8080
        127.0.0.1:18080 is not open (Address already in use); it would lead to bank deploy/gateway:8080
        the control plane does not run (exit code 1): sheer: anchor.key may be read by others. It is tried again; `sheer logs control` has the rest.
        ");
        let back = ProgramStatus {
            pid: Some(7),
            ..control
        };
        assert_eq!(control_trouble(&back), None);
    }

    #[test]
    fn pods_read_as_with_kubectl() {
        let pod = |name: &str, ready: bool, state: &str, sidecar: bool| PodSummary {
            namespace: "bank".into(),
            name: name.into(),
            workload: "deploy/ledger".into(),
            ready,
            state: state.into(),
            reason: if ready {
                String::new()
            } else {
                "app: exit code 1".into()
            },
            restarts: u32::from(!ready),
            age_s: 200,
            ips: vec!["10.77.0.2".parse().expect("ip"), "fd77::2".parse().expect("ip")],
            meshed: sidecar,
            containers: vec![program("app", ready)],
            sidecar: sidecar.then(|| program("sheer-proxy", true)),
        };
        let pods = vec![
            pod("ledger-6d9f4-0", true, "Running", true),
            pod("legacy-x4z2b-0", false, "CrashLoopBackOff", false),
        ];
        let status = MeshStatus {
            pods,
            control: program("control", true),
            ..MeshStatus::default()
        };
        insta::assert_snapshot!(table(&status, false).render(false), @r"
        NAMESPACE  POD             READY  STATUS            RESTARTS  AGE  IP         CPU  MEMORY  PROXY-CPU  PROXY-MEMORY
        bank       ledger-6d9f4-0  2/2    Running           0         3m   10.77.0.2  12m  5.0MiB  12m        5.0MiB
        bank       legacy-x4z2b-0  0/1    CrashLoopBackOff  1         3m   10.77.0.2  12m  5.0MiB  -          -
        ");
        insta::assert_snapshot!(table(&status, true).render(false), @r"
        NAMESPACE  POD             READY  STATUS            RESTARTS  AGE  CPU  MEMORY  PROXY-CPU  PROXY-MEMORY  IPS                REASON
        bank       ledger-6d9f4-0  2/2    Running           0         3m   12m  5.0MiB  12m        5.0MiB        10.77.0.2,fd77::2  
        bank       legacy-x4z2b-0  0/1    CrashLoopBackOff  1         3m   12m  5.0MiB  -          -             10.77.0.2,fd77::2  app: exit code 1
        sheer      control         1/1    Running           0         -    12m  5.0MiB  -          -             -                  
        ");
    }
}

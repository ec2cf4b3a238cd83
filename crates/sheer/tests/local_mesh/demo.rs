//! The demo from end to end, and what commands say of a mesh that is well and of one that is broken.

use std::{
    fs::{self, File},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{Mesh, User, meshed_client, meshed_web};

/// The workloads of the sample.
const BANK: [&str; 9] = [
    "accounts", "audit", "fraud", "fx", "gateway", "ledger", "load", "notify", "payments",
];

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

/// A command of `sheer` that runs beside the test; its output goes to files of its name.
fn spawn(mesh: &Mesh, name: &str, arguments: &[&str]) -> Child {
    let file = |suffix: &str| File::create(mesh.folder().join(format!("{name}.{suffix}"))).expect("a file");
    let mut command: Command = mesh.command(arguments);
    command.stdout(file("out")).stderr(file("err")).stdin(Stdio::null());
    command.spawn().expect("it starts")
}

fn said(mesh: &Mesh, file: &str) -> String {
    fs::read_to_string(mesh.folder().join(file)).unwrap_or_default()
}

/// Waits for the end of a command, without for ever.
fn end(mesh: &Mesh, child: &mut Child) -> ExitStatus {
    mesh.wait("the command ends", || child.try_wait().expect("waits"))
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("signalled");
}

/// Waits until all that the demo runs is ready.
fn wait_ready(mesh: &Mesh) {
    mesh.wait("the bank is ready", || {
        let ps = mesh.run(&["ps", "-o", "json"]);
        (ps.status.success()
            && json(&ps.stdout)["workloads"]
                .as_array()
                .is_some_and(|all| all.len() == BANK.len()))
        .then_some(())
    });
}

fn commands_say_that_all_is_well(mesh: &Mesh) {
    let check = json(mesh.sheer(&["check", "-o", "json"]).as_bytes());
    assert_eq!(check["success"], true, "{check:#}");
    let identities = json(mesh.sheer(&["identity", "-n", "bank", "-o", "json"]).as_bytes());
    let identities = identities.as_array().expect("a list");
    assert_eq!(identities.len(), 11);
    for shown in identities {
        assert!(
            shown["problem"].is_null() && shown["certificate"]["sha256"].is_string(),
            "{shown}"
        );
    }
    let endpoints = json(
        mesh.sheer(&["endpoints", "-n", "bank", "ledger:9000", "-o", "json"])
            .as_bytes(),
    );
    let ready = |at: &&Value| at["ready"] == true && at["identity"].is_string();
    assert_eq!(
        endpoints.as_array().expect("a list").iter().filter(ready).count(),
        3,
        "{endpoints}"
    );
    let version = json(mesh.sheer(&["version", "-o", "json"]).as_bytes());
    let own = &version["client"];
    assert_eq!(&version["control_plane"], own);
    assert_eq!(version["proxies"][own.as_str().expect("a version")], 11, "{version}");
}

fn logs_are_followed(mesh: &Mesh) {
    let mut logs = spawn(mesh, "logs", &["logs", "-f", "-n", "bank", "deploy/payments"]);
    mesh.wait("a line of the log", || {
        said(mesh, "logs.out").contains('\n').then_some(())
    });
    interrupt(&logs);
    end(mesh, &mut logs);
}

#[test]
fn an_unattended_demo_is_judged_and_the_commands_agree() {
    let mesh = Mesh::new(User::Current);
    assert!(
        mesh.folder().join("bank").exists() && mesh.folder().join("sheer-proxy").exists(),
        "build the sample and the sidecar: cargo build -p bank -p sheer-proxy"
    );
    let mut demo = spawn(&mesh, "demo", &["demo", "--for", "10s", "-o", "json"]);
    wait_ready(&mesh);
    commands_say_that_all_is_well(&mesh);
    logs_are_followed(&mesh);
    let status = end(&mesh, &mut demo);
    let (out, err) = (said(&mesh, "demo.out"), said(&mesh, "demo.err"));
    assert!(status.success(), "{status}: {err}\n{out}");
    let table = json(out.as_bytes());
    assert!(table["duration_s"].as_f64().expect("a time") >= 10.0, "{table}");
    let rows = table["workloads"].as_array().expect("a list");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, BANK);
    for row in rows {
        let replicas = if row["name"] == "ledger" { 3 } else { 1 };
        assert_eq!([&row["replicas"], &row["ready"]], [replicas, replicas], "{row}");
        assert!(row["success_rate"].as_f64().expect("a share") > 0.99, "{row}");
        assert_eq!(row["mtls_share"], 1.0, "{row}");
        for number in ["rps", "p50_ms", "p99_ms"] {
            assert!(row[number].as_f64().expect("a number") > 0.0, "{row}");
        }
    }
    mesh.assert_gone();
}

#[test]
fn ctrl_c_ends_a_demo_and_a_second_one_touches_nothing() {
    let mesh = Mesh::new(User::Current);
    let mut demo = spawn(&mesh, "demo", &["demo"]);
    mesh.wait("the table is shown", || {
        said(&mesh, "demo.out").contains("ledger").then_some(())
    });
    let manifest = mesh.state().join("demo/fx.yaml");
    let edited = fs::read_to_string(&manifest).expect("there") + "# edited\n";
    fs::write(&manifest, &edited).expect("written");
    let second = mesh.run(&["demo"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("a mesh runs already"),
        "{second:?}"
    );
    assert_eq!(fs::read_to_string(&manifest).expect("there"), edited, "edits are kept");
    interrupt(&demo);
    let status = end(&mesh, &mut demo);
    assert!(status.success(), "{status}: {}", said(&mesh, "demo.err"));
    mesh.assert_gone();
}

/// The descriptions of the points of a check that failed.
fn failed_points(mesh: &Mesh) -> Vec<String> {
    let check = mesh.run(&["check", "-o", "json"]);
    let report = json(&check.stdout);
    let categories = report["categories"].as_array().expect("a list");
    let points = categories
        .iter()
        .flat_map(|category| category["checks"].as_array().expect("a list"));
    let failed: Vec<String> = points
        .filter(|point| point["result"] == "error")
        .map(|point| point["description"].as_str().expect("words").to_owned())
        .collect();
    assert_eq!(check.status.code(), Some(i32::from(!failed.is_empty())), "{failed:?}");
    failed
}

#[test]
fn a_check_of_a_broken_mesh_names_the_point() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", &meshed_client())
        .up();
    assert_eq!(failed_points(&mesh), Vec::<String>::new());
    let control = mesh.ps()["control"]["pid"].clone();
    mesh.shell("client", &format!("kill -STOP {control}"));
    // Sidecars are as well as before, and are seen to be.
    assert_eq!(failed_points(&mesh), ["the control plane answers"]);
    mesh.sheer(&["identity", "deploy/web"]);
    mesh.shell("client", &format!("kill -CONT {control}"));
    mesh.wait("it answers again", || failed_points(&mesh).is_empty().then_some(()));
    mesh.shell("deploy/web", "nft flush table inet sheer");
    assert_eq!(
        failed_points(&mesh),
        ["traffic to the workloads goes through their proxies"]
    );
}

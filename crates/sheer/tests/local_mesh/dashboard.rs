//! The dashboard of a real mesh: the bank under its own load, in headless Chromium. The mesh is an ordinary user's, so that the page is also seen to be
//! reachable from the host where the mesh is in a user namespace.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sheer_testkit::browser;

use crate::harness::{Mesh, User};

/// A command of `sheer` that runs beside the test; ended with the value.
pub(crate) struct Beside<'a> {
    mesh: &'a Mesh,
    name: &'a str,
    child: Child,
}

impl<'a> Beside<'a> {
    pub(crate) fn start(mesh: &'a Mesh, name: &'a str, arguments: &[&str]) -> Self {
        let file = |suffix: &str| File::create(mesh.folder().join(format!("{name}.{suffix}"))).expect("a file");
        let mut command: Command = mesh.command(arguments);
        command.stdout(file("out")).stderr(file("err")).stdin(Stdio::null());
        let child = command.spawn().expect("it starts");
        Self { mesh, name, child }
    }

    fn said(&self, suffix: &str) -> String {
        fs::read_to_string(self.mesh.folder().join(format!("{}.{suffix}", self.name))).unwrap_or_default()
    }

    /// The first address of loopback that it names.
    pub(crate) fn url(&self, suffix: &str) -> String {
        self.mesh.wait("the dashboard's address", || {
            let said = self.said(suffix);
            let mut words = said.split_whitespace();
            words
                .find(|word| word.starts_with("http://127.0.0.1:") && word.ends_with('/'))
                .map(str::to_owned)
        })
    }

    fn interrupt(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("signalled");
        let status = self.mesh.wait("it ends", || self.child.try_wait().expect("waits"));
        assert!(status.success(), "{status}: {}", self.said("err"));
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// What the API answers; null where it does not.
pub(crate) fn ask(url: &str, path: &str) -> Value {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", &format!("{url}api/{path}")])
        .output();
    serde_json::from_slice(&output.expect("curl").stdout).unwrap_or_default()
}

/// Requests a second from one workload to another.
fn rate(map: &Value, from: &str, to: &str) -> Option<f64> {
    let named = |value: &Value, name: &str| value.as_str() == Some(&format!("bank/deploy/{name}"));
    let edges = map["edges"].as_array()?;
    let edge = edges
        .iter()
        .find(|edge| named(&edge["source"], from) && named(&edge["destination"], to))?;
    edge["numbers"]["rps"].as_f64()
}

/// Every call of the sample is an arrow, all of them over mutual TLS, at the rates that the load makes.
fn map_is_true(mesh: &Mesh, url: &str) {
    let calls = [
        ("load", "gateway"),
        ("gateway", "payments"),
        ("payments", "accounts"),
        ("payments", "fraud"),
        ("payments", "ledger"),
        ("payments", "audit"),
        ("payments", "notify"),
        ("fraud", "fx"),
    ];
    let map = mesh.wait("every call is on the map", || {
        let map = ask(url, "map?window=10s&ns=bank");
        // The load is open: 20 requests a second, whatever becomes of them. A window of ten seconds says so once all of it counts, and what the
        // load sent late while everything started has left it.
        let whole = rate(&map, "load", "gateway").is_some_and(|loaded| (14.0..=26.0).contains(&loaded));
        let all = calls.iter().all(|(from, to)| rate(&map, from, to) > Some(5.0));
        (whole && all).then_some(map)
    });
    for edge in map["edges"].as_array().expect("a list") {
        let within = ["source", "destination"]
            .iter()
            .all(|end| edge[*end].as_str().is_some_and(|id| id.starts_with("bank/")));
        if within {
            assert_eq!(edge["tls"], "mutual", "{edge}");
        }
    }
    let posts = rate(&map, "payments", "ledger").expect("an edge") / rate(&map, "payments", "fraud").expect("an edge");
    assert!((1.6..=2.4).contains(&posts), "two entries a payment, not {posts}");
}

fn pages(url: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sheer-dashboard/tests/browser/pages.mjs");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("dashboard-bank")
        .display()
        .to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let seen = runtime
        .block_on(async { browser::finish(browser::start(&script, &[url, &folder, "bank/deploy/ledger"])?).await });
    if let Err(error) = seen {
        panic!("{error:#}");
    }
}

#[test]
fn every_page_shows_the_banks_own_traffic() {
    let mesh = Mesh::new(User::Ordinary);
    let demo = Beside::start(&mesh, "demo", &["demo", "--port", "0"]);
    let url = demo.url("err");
    map_is_true(&mesh, &url);
    let checked = mesh.wait("all is well", || {
        let health = ask(&url, "health");
        (health["checked"]["success"] == true).then_some(health)
    });
    assert_eq!(checked["proxies"].as_array().map(Vec::len), Some(11), "{checked}");
    mesh.wait("a trace through the ledger", || {
        let traces = ask(&url, "traces?service=ledger");
        traces["traces"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
            .then_some(())
    });
    pages(&url);
    // A second one beside it, of the same mesh.
    let page = Beside::start(&mesh, "page", &["dashboard", "--port", "0"]);
    let own = page.url("out");
    assert_ne!(own, url);
    assert!(rate(&ask(&own, "map?window=10s"), "load", "gateway").is_some());
    page.interrupt();
    demo.interrupt();
    mesh.assert_gone();
}

#[test]
fn without_a_mesh_there_is_no_page() {
    let mesh = Mesh::new(User::Current);
    let output = mesh.run(&["dashboard"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

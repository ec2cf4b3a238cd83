//! Workloads with sidecars: traffic goes through them, and neither their restart nor the control plane's loses it for long.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    harness::{Mesh, User, client, meshed_client, meshed_web, web},
    rollout::under_requests,
};

const GET: &str = "curl -sS --max-time 10 http://web/";

/// What the sidecars of a workload counted, as Prometheus text.
fn metrics(mesh: &Mesh, workload: &str) -> String {
    let pods = mesh.ready_pods(workload);
    pods.iter()
        .map(|pod| mesh.shell(pod, "curl -sS --max-time 5 http://127.0.0.1:4191/metrics"))
        .collect()
}

fn pod(ps: &Value, workload: &str) -> Value {
    ps["pods"]
        .as_array()
        .expect("pods")
        .iter()
        .find(|pod| pod["workload"] == workload)
        .cloned()
        .expect("a pod")
}

/// Kills a process of the mesh, by its pid inside.
fn kill_inside(mesh: &Mesh, client: &str, pid: &Value) {
    mesh.shell(client, &format!("kill -9 {pid}"));
}

fn mtls_between_sidecars(user: User) {
    let mesh = Mesh::new(user);
    mesh.write("web.yaml", &meshed_web(2))
        .write("client.yaml", &meshed_client())
        .up();
    for family in ["-4", "-6"] {
        let answer = mesh.shell("client", &format!("curl {family} -sS --max-time 10 http://web/"));
        assert!(answer.starts_with("web-"), "{family}: {answer}");
    }
    let metrics = metrics(&mesh, "deploy/web");
    let inbound = |line: &&str| line.starts_with("request_total{") && line.contains("direction=\"inbound\"");
    let counted: Vec<&str> = metrics.lines().filter(inbound).collect();
    assert!(counted.iter().any(|line| line.contains("tls=\"true\"")), "{counted:?}");
    mesh.sheer(&["down"]);
    mesh.assert_gone();
}

#[test]
fn between_meshed_workloads_is_mtls() {
    mtls_between_sidecars(User::Current);
}

#[test]
fn an_ordinary_user_has_mtls_too() {
    mtls_between_sidecars(User::Ordinary);
}

/// Each pod of a StatefulSet is somebody, behind a headless Service: its name leads to it and to no other, over mTLS.
#[test]
fn pods_of_a_stateful_set_are_reached_by_their_names() {
    let mesh = Mesh::new(User::Current);
    let set = meshed_web(2)
        .replace("kind: Deployment", "kind: StatefulSet")
        .replace(
            "spec: { selector: { app: web }, ports",
            "spec: { clusterIP: None, selector: { app: web }, ports",
        )
        .replace(
            "labels: { app: web },",
            "labels: { app: web, topology.kubernetes.io/zone: eu-1a },",
        );
    mesh.write("web.yaml", &set).write("client.yaml", &meshed_client()).up();
    for pod in ["web-0", "web-1"] {
        for name in ["web", "web.shop", "web.shop.svc.cluster.local"] {
            let get = format!("curl -sS --max-time 10 http://{pod}.{name}:8080/");
            let answer = mesh.shell("client", &get);
            assert!(answer.starts_with(pod), "{get}: {answer}");
        }
        let page = mesh.shell("client", "curl -sS --max-time 5 http://127.0.0.1:4191/metrics");
        let labels = [
            "direction=\"outbound\"",
            &format!("dst_pod=\"{pod}\""),
            "dst_statefulset=\"web\"",
            "dst_zone=\"eu-1a\"",
            "tls=\"true\"",
        ];
        let mut counted = page.lines().filter(|line| line.starts_with("request_total{"));
        let found = counted.find(|line| labels.iter().all(|label| line.contains(label)));
        assert!(
            found.is_some_and(|line| line.ends_with(" 3")),
            "{pod}: {found:?} of {page}"
        );
    }
}

#[test]
fn unmeshed_workloads_talk_with_meshed_ones_both_ways() {
    let mesh = Mesh::new(User::Current);
    let unmeshed = web(1, "plain ", "")
        .replace("name: web", "name: legacy")
        .replace("app: web", "app: legacy");
    let outside = client().replace("name: client", "name: outside");
    mesh.write("web.yaml", &meshed_web(1)).write("legacy.yaml", &unmeshed);
    mesh.write("client.yaml", &meshed_client())
        .write("outside.yaml", &outside)
        .up();
    assert!(mesh.shell("outside", GET).starts_with("web-"), "into the mesh");
    let out = mesh.shell("client", "curl -sS --max-time 10 http://legacy/");
    assert!(out.starts_with("plain legacy-"), "out of the mesh: {out}");
    let ports = mesh.shell("outside", "nft list ruleset");
    assert!(
        !ports.contains("redirect"),
        "a workload without a sidecar is not redirected: {ports}"
    );
}

#[test]
fn a_restart_of_meshed_pods_loses_no_request() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(2))
        .write("client.yaml", &meshed_client())
        .up();
    let before = mesh.ready_pods("deploy/web");
    let (asked, failed) = under_requests(&mesh, || {
        mesh.sheer(&["restart", "deploy/web"]);
        mesh.wait("new pods only", || {
            let pods = mesh.ready_pods("deploy/web");
            (pods.len() == 2 && pods.iter().all(|pod| !before.contains(pod))).then_some(())
        });
    });
    assert_eq!(failed, "0", "of {asked}");
}

#[test]
fn a_killed_control_plane_disturbs_nothing_and_comes_back() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", &meshed_client())
        .up();
    let (asked, failed) = under_requests(&mesh, || {
        kill_inside(&mesh, "client", &mesh.ps()["control"]["pid"]);
        mesh.wait("the control plane runs again", || {
            (mesh.ps()["control"]["restarts"] == 1 && mesh.ps()["control"]["pid"].is_number()).then_some(())
        });
    });
    assert_eq!(failed, "0", "of {asked}");
    // It knows everything again: a new pod gets its certificate and its traffic.
    mesh.sheer(&["scale", "deploy/web", "--replicas", "2"]);
    mesh.wait("a second pod", || {
        (mesh.ready_pods("deploy/web").len() == 2).then_some(())
    });
}

#[test]
fn a_killed_sidecar_takes_its_pod_out_until_it_is_back() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", &meshed_client())
        .up();
    kill_inside(&mesh, "client", &pod(&mesh.ps(), "deploy/web")["sidecar"]["pid"]);
    let back = mesh.wait("the sidecar runs again", || {
        let pod = pod(&mesh.ps(), "deploy/web");
        (pod["ready"] == true && pod["sidecar"]["restarts"] == 1).then_some(pod)
    });
    assert_eq!(back["sidecar"]["last_exit"], "killed by SIGKILL");
    assert_eq!(back["containers"][0]["restarts"], 0, "the application runs on");
    mesh.wait("traffic flows again", || {
        mesh.shell("client", GET).starts_with("web-").then_some(())
    });
}

#[test]
fn another_program_can_stand_in_the_sidecars_place() {
    let mesh = Mesh::new(User::Current);
    let swapped = meshed_web(1).replace(
        "annotations: {  }",
        "annotations: { config.sheer.dev/proxy-binary: ./other-proxy }",
    );
    assert!(swapped.contains("proxy-binary"), "the manifest has the annotation");
    let folder = mesh.folder().to_owned();
    std::fs::hard_link(folder.join("sheer-proxy"), folder.join("other-proxy")).expect("linked");
    mesh.write("web.yaml", &swapped)
        .write("client.yaml", &meshed_client())
        .up();
    assert!(mesh.shell("client", GET).starts_with("web-"));
    let pid = pod(&mesh.ps(), "deploy/web")["sidecar"]["pid"].clone();
    let program = mesh.shell(
        "client",
        &format!("cat /proc/{pid}/comm; grep ^Uid: /proc/{pid}/status"),
    );
    assert!(program.starts_with("other-proxy\n"), "{program}");
    assert!(program.contains("2102"), "it runs as the sidecar's user: {program}");
}

#[test]
fn a_sidecar_that_ends_with_the_mesh_leaves_nothing() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(2)).up();
    kill(Pid::from_raw(mesh.role("supervisor")), Signal::SIGKILL).expect("killed");
    mesh.wait_outer();
    mesh.assert_gone();
}

/// Names a linkerd2-proxy for the test below. No package registry has the binary, so nothing fetches one.
const LINKERD2_PROXY: &str = "SHEER_TEST_LINKERD2_PROXY";

/// Opt-in: a linkerd2-proxy as client and as server, with ours at the other end.
#[test]
fn a_linkerd2_proxy_stands_in_the_sidecars_place() {
    let Some(proxy) = std::env::var_os(LINKERD2_PROXY) else {
        eprintln!("not run: {LINKERD2_PROXY} names no linkerd2-proxy");
        return;
    };
    let mesh = Mesh::new(User::Current);
    let copied = std::process::Command::new("cp")
        .arg(proxy)
        .arg(mesh.folder().join("linkerd2-proxy"))
        .status();
    assert!(copied.expect("cp runs").success(), "the proxy is copied");
    let annotation = "config.sheer.dev/proxy-binary: ./linkerd2-proxy";
    let theirs = meshed_web(1)
        .replace("annotations: {  }", &format!("annotations: {{ {annotation} }}"))
        .replace("name: web", "name: theirs")
        .replace("app: web", "app: theirs");
    let caller = meshed_client()
        .replace("sheer.dev/inject: enabled", annotation)
        .replace("name: client", "name: caller");
    assert!(theirs.contains(annotation) && caller.contains(annotation));
    mesh.write("web.yaml", &meshed_web(1)).write("theirs.yaml", &theirs);
    mesh.write("client.yaml", &meshed_client())
        .write("caller.yaml", &caller)
        .up();
    for (from, to) in [("client", "theirs"), ("caller", "web"), ("caller", "theirs")] {
        let answer = mesh.shell(from, &format!("curl -sS --max-time 10 http://{to}/"));
        assert!(answer.starts_with(&format!("{to}-")), "{from} to {to}: {answer}");
    }
    for workload in ["deploy/web", "deploy/theirs"] {
        let metrics = metrics(&mesh, workload);
        let mutual = |line: &str| {
            line.starts_with("request_total{")
                && line.contains("direction=\"inbound\"")
                && line.contains("tls=\"true\"")
        };
        assert!(metrics.lines().any(mutual), "{workload} was called over mutual TLS");
    }
}

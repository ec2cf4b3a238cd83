//! Changes while it runs: edits, restarts, scaling, without losing a request.

use crate::harness::{Mesh, User, client, web};

/// Asks without pause, each time over a new connection, at least fifty times and until a file appears in the mesh's folder; then says how often it asked, how many
/// answers were not 200, and what was wrong.
const ASK: &str = r#"exec /usr/bin/python3 -c '
import http.client, os
asked, failed, why = 0, 0, ""
while asked < 50 or not os.path.exists("stop"):
    asked += 1
    try:
        connection = http.client.HTTPConnection("web", 80, timeout=5)
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        if response.status != 200: raise Exception(f"status {response.status}")
        connection.close()
    except Exception as error:
        failed, why = failed + 1, f"{type(error).__name__}: {error}"
    open("asking", "w").close()
os.remove("stop"); os.remove("asking")
print(asked, failed, why)
'"#;

/// Runs `change` under requests; how many there were, and how many failed, with the last reason.
pub(crate) fn under_requests(mesh: &Mesh, change: impl FnOnce()) -> (u32, String) {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| mesh.shell("client", ASK));
        mesh.wait("requests are on their way", || {
            mesh.folder().join("asking").exists().then_some(())
        });
        change();
        mesh.shell("client", "touch stop");
        let said = asking.join().expect("asked");
        let (asked, failed) = said.trim_end().split_once(' ').unwrap_or_else(|| panic!("{said}"));
        (asked.parse().expect("a number"), failed.trim_end().to_owned())
    })
}

#[test]
fn a_restart_replaces_every_pod_without_losing_a_request() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(2, "", ""))
        .write("client.yaml", client())
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

/// A server that takes a second until it listens, without a probe that would say so.
fn slow_without_a_probe() -> String {
    let slow = web(2, "", "").replace("server = Server(", "import time; time.sleep(1); server = Server(");
    let probe = "          readinessProbe: { httpGet: { path: /, port: http }, periodSeconds: 1 }\n";
    assert!(slow.contains("sleep(1)") && slow.contains(probe));
    slow.replace(probe, "")
}

#[test]
fn without_a_probe_a_pod_takes_traffic_once_it_listens() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &slow_without_a_probe())
        .write("client.yaml", client())
        .up();
    let before = mesh.ready_pods("deploy/web");
    let (asked, failed) = under_requests(&mesh, || {
        mesh.sheer(&["restart", "deploy/web"]);
        mesh.wait("new pods only", || {
            let pods = mesh.ready_pods("deploy/web");
            (pods.len() == 2 && pods.iter().all(|pod| !before.contains(pod))).then_some(())
        });
        mesh.sheer(&["scale", "deploy/web", "--replicas", "3"]);
        mesh.wait("one more", || (mesh.ready_pods("deploy/web").len() == 3).then_some(()));
    });
    assert_eq!(failed, "0", "of {asked}");
}

#[test]
fn a_port_on_which_nobody_listens_is_named_and_holds_nothing_up_for_long() {
    let mesh = Mesh::new(User::Current);
    let wrong = slow_without_a_probe().replace("containerPort: 8080", "containerPort: 9999");
    mesh.write("web.yaml", &wrong).up();
    let warning = "shop deploy/web: container app counts as ready, but nothing in it listens on port 9999";
    assert_eq!(mesh.up_log().matches(warning).count(), 1, "{}", mesh.up_log());
    let warned = || mesh.ps()["warnings"].to_string().contains(warning);
    assert!(warned());
    mesh.write("web.yaml", &slow_without_a_probe());
    mesh.wait("the correction takes the warning back", || (!warned()).then_some(()));
}

#[test]
fn an_edit_rolls_out_and_a_broken_one_does_not() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(1, "one ", ""))
        .write("client.yaml", client())
        .up();
    mesh.write("web.yaml", &web(1, "two ", ""));
    let ask = || mesh.shell("client", "curl -sS --max-time 5 http://web/");
    mesh.wait("the edit takes effect", || ask().starts_with("two web-").then_some(()));
    mesh.write(
        "web.yaml",
        &web(1, "three ", "").replace("replicas: 1", "replicas: many"),
    );
    mesh.wait("the mistake is reported", || {
        mesh.up_log()
            .contains("what it said before stays in force")
            .then_some(())
    });
    assert!(ask().starts_with("two web-"));
    mesh.write("web.yaml", &web(1, "four ", ""));
    mesh.wait("the correction takes effect", || {
        ask().starts_with("four web-").then_some(())
    });
    mesh.remove("web.yaml");
    mesh.wait("it is said what ends", || {
        mesh.up_log()
            .contains("web.yaml is gone: 1 workload ends (shop deploy/web)")
            .then_some(())
    });
    mesh.wait("its pods are gone", || {
        mesh.ps()["pods"]
            .as_array()
            .is_some_and(|pods| pods.len() == 1)
            .then_some(())
    });
}

#[test]
fn scaling_takes_effect_until_the_manifest_changes() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(1, "", "")).up();
    let ready = |count: usize| {
        mesh.wait(&format!("{count} pods"), || {
            (mesh.ready_pods("deploy/web").len() == count).then_some(())
        })
    };
    mesh.sheer(&["scale", "deploy/web", "--replicas", "3"]);
    ready(3);
    mesh.sheer(&["scale", "deploy/web", "--replicas", "0"]);
    ready(0);
    mesh.write("web.yaml", &web(2, "", ""));
    ready(2);
}

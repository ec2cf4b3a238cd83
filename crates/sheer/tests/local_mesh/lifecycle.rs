//! Starts, ends, crashes: nothing is ever left behind.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Mesh, User, client, host_network, web};

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("signalled");
}

#[test]
fn down_leaves_nothing_and_may_be_repeated() {
    let before = host_network();
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(2, "", "")).up();
    assert!(!mesh.processes().is_empty());
    mesh.sheer(&["down"]);
    mesh.assert_gone();
    assert!(mesh.wait_outer().success(), "up ends well when it was told to end");
    let again = mesh.run(&["down"]);
    assert!(
        again.status.success() && String::from_utf8_lossy(&again.stderr).contains("no mesh was running"),
        "{again:?}"
    );
    assert_eq!(host_network(), before);
}

#[test]
fn ctrl_c_and_its_like_end_it_in_order() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", client());
    for told in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        mesh.up();
        signal(mesh.outer(), told);
        assert!(mesh.wait_outer().success(), "{told}");
        mesh.assert_gone();
    }
}

/// Runs its arguments on a terminal of their own, closes it once they said that they are ready, and prints how they ended.
const CLOSE: &str = r#"
import os, pty, signal, sys
signal.alarm(60)
pid, terminal = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
said = b""
while b" ready after " not in said: said += os.read(terminal, 1024)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn the_end_of_its_terminal_ends_it_in_order() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", client());
    let up = mesh.command(&["up", "-f", &mesh.manifests().to_string_lossy()]);
    let output = std::process::Command::new("/usr/bin/python3")
        .args(["-c", CLOSE])
        .arg(up.get_program())
        .args(up.get_args())
        .current_dir(mesh.folder())
        .output()
        .expect("python3");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");
    mesh.assert_gone();
}

#[test]
fn whichever_process_is_killed_everything_ends_and_starts_again() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(1, "", ""));
    for role in ["outer", "stage", "init", "supervisor"] {
        mesh.up();
        let pid = if role == "outer" { mesh.outer() } else { mesh.role(role) };
        signal(pid, Signal::SIGKILL);
        mesh.wait_outer();
        mesh.wait(&format!("nothing runs after {role} was killed"), || {
            mesh.processes().is_empty().then_some(())
        });
    }
    // The outer process is who removes sockets; where it was killed, `down` does.
    mesh.up();
    signal(mesh.outer(), Signal::SIGKILL);
    mesh.wait_outer();
    let down = mesh.run(&["down"]);
    assert!(
        String::from_utf8_lossy(&down.stderr).contains("what the last one left was removed"),
        "{down:?}"
    );
    mesh.assert_gone();
}

#[test]
fn a_second_mesh_in_the_same_place_is_refused_and_one_beside_it_is_not() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", client()).up();
    let manifests = mesh.state().with_file_name("manifests");
    let second = mesh.run(&["up", "-f", &manifests.to_string_lossy()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("a mesh runs already"),
        "{second:?}"
    );
    let beside = Mesh::new(User::Current);
    beside.write("client.yaml", client()).up();
    beside.sheer(&["down"]);
    assert_eq!(mesh.ready_pods("pod/client"), ["client"], "the first one is untouched");
}

#[test]
fn a_crashed_application_is_started_again_and_ps_says_why() {
    let mesh = Mesh::new(User::Current);
    let crasher = client()
        .replace("name: client", "name: crasher")
        .replace("[sleep, infinity]", "[sh, -c, \"echo about to fail; exit 4\"]");
    mesh.write("web.yaml", &web(1, "", ""))
        .write("client.yaml", client())
        .up();
    mesh.shell("client", "curl -s http://web/die");
    let pod = mesh.wait("the application runs again", || {
        let ps = mesh.ps();
        ps["pods"]
            .as_array()
            .expect("pods")
            .iter()
            .find(|pod| pod["workload"] == "deploy/web" && pod["restarts"] == 1 && pod["ready"] == true)
            .cloned()
    });
    assert_eq!(pod["containers"][0]["last_exit"], "exit code 3");
    mesh.write("crasher.yaml", &crasher);
    let pod = mesh.wait("the crasher is backed off", || {
        let ps = mesh.ps();
        ps["pods"]
            .as_array()
            .expect("pods")
            .iter()
            .find(|pod| pod["name"] == "crasher" && pod["state"] == "CrashLoopBackOff")
            .cloned()
    });
    assert_eq!(pod["reason"], "app: exit code 4");
    assert_eq!(
        mesh.run(&["ps"]).status.code(),
        Some(1),
        "ps finds that not all is well"
    );
    assert!(
        mesh.sheer(&["logs", "crasher"])
            .contains("about to fail\nsheer: app: exit code 4; started again at once")
    );
}

#[test]
fn detached_it_comes_back_when_ready_and_runs_on() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(1, "", ""));
    let manifests = mesh.state().with_file_name("manifests");
    let up = mesh.run(&["up", "-f", &manifests.to_string_lossy(), "--detach"]);
    assert!(
        up.status.success() && String::from_utf8_lossy(&up.stderr).contains("1 pod is ready"),
        "{up:?}"
    );
    assert_eq!(mesh.ready_pods("deploy/web").len(), 1);
    assert!(mesh.sheer(&["logs", "deploy/web"]).starts_with("listening\n"));
    mesh.sheer(&["down"]);
    mesh.assert_gone();
    assert!(
        mesh.sheer(&["logs", "deploy/web"]).starts_with("listening\n"),
        "logs outlive the mesh"
    );
}

#[test]
fn a_manifest_with_an_error_starts_nothing_and_is_named() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(1, "", "").replace("replicas: 1", "replicas: many"));
    let manifests = mesh.state().with_file_name("manifests");
    let up = mesh.run(&["up", "-f", &manifests.to_string_lossy()]);
    assert_eq!(up.status.code(), Some(1));
    let said = String::from_utf8_lossy(&up.stderr);
    assert!(said.contains("web.yaml:") && said.contains("replicas"), "{said}");
    mesh.assert_gone();
}

//! Commands in pods as somebody at a terminal meets them.

use std::process::{Command, Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Mesh, User, client};

/// Runs its arguments on a terminal of their own, presses Ctrl-C once they said `begun`, and prints how they ended.
const PRESS: &str = r#"
import os, pty, signal, sys
signal.alarm(60)
pid, terminal = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
said = b""
while b"begun" not in said: said += os.read(terminal, 1024)
os.write(terminal, b"\x03")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn ctrl_c_is_for_the_command() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", client()).up();
    let press = |script: &str| {
        let sheer = mesh.command(&["exec", "client", "--", "sh", "-c", script]);
        let output = Command::new("/usr/bin/python3")
            .args(["-c", PRESS])
            .arg(sheer.get_program())
            .args(sheer.get_args())
            .output()
            .expect("python3");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert_eq!(press("echo begun; exec sleep 1000"), "130\n", "it ends it");
    let handled = "trap 'exit 7' INT; echo begun; while :; do sleep 0.1; done";
    assert_eq!(press(handled), "7\n", "or does what the command makes of it");
}

#[test]
fn a_command_ends_with_the_exec_that_was_told_to_end() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", client()).up();
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut exec = mesh
            .command(&["exec", "client", "--", "sh", "-c", "touch begun; exec sleep 4711"])
            .stdout(Stdio::null())
            .spawn()
            .expect("sheer exec");
        let begun = mesh.folder().join("begun");
        mesh.wait("the command runs", || begun.exists().then_some(()));
        std::fs::remove_file(&begun).expect("removed");
        kill(Pid::from_raw(exec.id() as i32), signal).expect("signalled");
        assert_eq!(exec.wait().expect("it ends").code(), Some(code));
        let left = mesh.shell(
            "client",
            "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 471[1]'",
        );
        assert_eq!(left, "0\n", "nothing of it is left after {signal}");
    }
}

#[test]
fn a_command_ends_with_the_exec_that_was_killed() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", client()).up();
    let before = mesh.processes().len();
    for command in ["exec", "debug"] {
        let mut exec = mesh
            .command(&[command, "client", "--", "sh", "-c", "touch begun; exec sleep 4713"])
            .stdout(Stdio::null())
            .spawn()
            .expect("sheer starts");
        let begun = mesh.folder().join("begun");
        mesh.wait("the command runs", || begun.exists().then_some(()));
        std::fs::remove_file(&begun).expect("removed");
        exec.kill().expect("killed");
        exec.wait().expect("it ends");
        mesh.wait(&format!("nothing of {command} is left"), || {
            (mesh.processes().len() == before).then_some(())
        });
    }
}

#[test]
fn a_command_that_cannot_be_run_has_a_shells_exit_code() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", client()).up();
    for (program, code) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        let output = mesh.run(&["exec", "client", "--", program]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            said.starts_with(&format!("sheer: {program} cannot be run in pod client: ")),
            "{said}"
        );
    }
}

#[test]
fn what_the_mesh_does_not_have_is_misuse_for_every_command() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", client()).up();
    for command in [
        &["exec", "nope", "--", "true"][..],
        &["debug", "nope", "--", "true"],
        &["scale", "deploy/nope", "--replicas", "2"],
        &["restart", "deploy/nope"],
        &["scale", "pod/client", "--replicas", "2"],
        &["endpoints", "nope:1"],
    ] {
        let output = mesh.run(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {output:?}");
    }
}

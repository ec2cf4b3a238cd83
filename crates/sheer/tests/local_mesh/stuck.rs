//! Whoever looks and does not read what is shown slows nobody: traffic goes on, and what could not be handed over is counted.

use std::{
    io::{BufRead as _, Read as _},
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::{Mesh, User, meshed_client},
    odd::{QUICK, odd},
};

/// More than all buffers between a sidecar and a reader hold.
const REQUESTS: u32 = 20_000;

fn start(mesh: &Mesh, arguments: &[&str]) -> Child {
    mesh.command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sheer runs")
}

/// Ends a reader after it has read on, until its stderr says something; what that was.
fn reads_on(mut reader: Child, until: &str) -> String {
    let mut out = reader.stdout.take().expect("a pipe");
    std::thread::spawn(move || drop(std::io::copy(&mut out, &mut std::io::sink())));
    let (mut err, mut said) = (reader.stderr.take().expect("a pipe"), Vec::new());
    let mut some = [0; 4096];
    while !String::from_utf8_lossy(&said).contains(until) {
        match err.read(&mut some) {
            Ok(0) | Err(_) => break,
            Ok(read) => said.extend_from_slice(&some[..read]),
        }
    }
    let _ = reader.kill();
    let _ = reader.wait();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn readers_that_do_not_read_slow_nobody() {
    let mesh = Mesh::new(User::Current);
    mesh.write("odd.yaml", &odd())
        .write("client.yaml", &meshed_client())
        .up();
    let load = format!(
        "curl -sS --max-time 300 -o /dev/null -w '%{{http_code}}\\n' 'http://odd:{QUICK}/stuck?[1-{REQUESTS}]' | sort | uniq -c"
    );
    let all_answered = || {
        let said = mesh.shell("client", &load);
        assert_eq!(
            said.split_whitespace().collect::<Vec<_>>(),
            [REQUESTS.to_string().as_str(), "200"],
            "{said}"
        );
    };
    let tap = start(
        &mesh,
        &["tap", "-n", "shop", "pod/client", "-o", "json", "--rate", "1000000"],
    );
    let mut capture = start(
        &mesh,
        &[
            "capture",
            "-n",
            "shop",
            "deploy/odd",
            "-o",
            "stuck.pcapng",
            "--for",
            "5m",
        ],
    );
    let pid = Pid::from_raw(i32::try_from(capture.id()).expect("a pid"));
    let capture_hears = |signal| kill(pid, signal).expect("it runs");
    let frames = start(&mesh, &["frames", "-n", "shop", "pod/client", "-o", "json"]);
    let bodies = start(
        &mesh,
        &["tap", "-n", "shop", "deploy/odd", "--body", "--rate", "1000000"],
    );
    let mut capturing = std::io::BufReader::new(capture.stderr.take().expect("a pipe"));
    let mut first = String::new();
    capturing.read_line(&mut first).expect("it says that it captures");
    assert!(first.contains("capturing"), "{first}");
    capture_hears(Signal::SIGSTOP);
    all_answered();
    // Nobody has read a byte; who reads on is told what was lost.
    let said = reads_on(tap, "are lost");
    assert!(
        said.contains("events are lost: they come faster than they are read"),
        "{said}"
    );
    let said = reads_on(bodies, "are lost");
    assert!(said.contains("events are lost"), "{said}");
    let output = frames.wait_with_output().expect("it ends");
    assert!(
        output.status.success() && !output.stdout.is_empty(),
        "the frames are there when they are read at last"
    );
    capture_hears(Signal::SIGINT);
    capture_hears(Signal::SIGCONT);
    let mut said = String::new();
    capturing.read_to_string(&mut said).expect("text");
    assert!(capture.wait().expect("it ends").success(), "{said}");
    assert!(
        said.contains(" packets, ") && said.contains("packets were lost"),
        "{said}"
    );
    // And the sidecars are as they were.
    all_answered();
}

//! Whoever looks and does not read what is shown slows nobody: traffic goes on.

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

/// Some megabytes of lines: more than a pipe holds.
const REQUESTS: u32 = 2_000;

fn start(mesh: &Mesh, arguments: &[&str]) -> Child {
    mesh.command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sheer runs")
}

/// Ends a reader that has not read.
fn end(mut reader: Child) {
    assert!(
        reader.try_wait().expect("a child").is_none(),
        "it was there all the time"
    );
    let _ = reader.kill();
    let _ = reader.wait();
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
    mesh.shell(
        "client",
        &format!("curl -sS --max-time 10 -o /dev/null http://odd:{QUICK}/first"),
    );
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
    let mut begun = String::new();
    while !begun.contains("capturing") {
        let read = capturing.read_line(&mut begun).expect("it says that it captures");
        assert!(read > 0, "{begun}");
    }
    capture_hears(Signal::SIGSTOP);
    all_answered();
    // Nobody has read a byte.
    end(tap);
    end(bodies);
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
    assert!(said.contains(" packets, "), "{said}");
    // And the sidecars are as they were.
    all_answered();
}

//! Whoever looks and does not read what is shown slows nobody: traffic goes on. Whoever reads again goes on too, and is told what was missed.

use std::{
    io::{BufRead as _, Read},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
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

/// Longer than the control plane waits for a sign of life: it asks after 30 s without any, and has patience for 20 s.
const NOT_READ: Duration = Duration::from_secs(60);

/// What comes from a pipe, as it comes.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let heard = Self::default();
        let hears = heard.clone();
        std::thread::spawn(move || {
            let mut some = vec![0; 65_536];
            while let Ok(read @ 1..) = pipe.read(&mut some) {
                hears.0.lock().expect("no panic").extend_from_slice(&some[..read]);
            }
        });
        heard
    }

    fn has(&self, text: &str) -> bool {
        let heard = self.0.lock().expect("no panic");
        heard.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }
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
        "the frames are there when they are read at last: {}, {} bytes, {}",
        output.status,
        output.stdout.len(),
        String::from_utf8_lossy(&output.stderr)
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

/// A pager, or a terminal that was stopped: the control plane does not take who waits for it for dead.
#[test]
fn a_tap_that_is_read_again_goes_on() {
    let mesh = Mesh::new(User::Current);
    mesh.write("odd.yaml", &odd())
        .write("client.yaml", &meshed_client())
        .up();
    let request = |path: &str, times: u32| {
        let load = format!("curl -sS --max-time 300 -o /dev/null 'http://odd:{QUICK}/{path}?[1-{times}]'");
        mesh.shell("client", &load);
    };
    let mut tap = start(
        &mesh,
        &["tap", "-n", "shop", "pod/client", "-o", "json", "--rate", "1000000"],
    );
    let mut frames = start(&mesh, &["frames", "-n", "shop", "pod/client", "-f", "-o", "json"]);
    let begun = Instant::now();
    while begun.elapsed() < NOT_READ {
        request("stuck", REQUESTS);
    }
    let out = Heard::of(tap.stdout.take().expect("a pipe"));
    let err = Heard::of(tap.stderr.take().expect("a pipe"));
    let frames_out = Heard::of(frames.stdout.take().expect("a pipe"));
    mesh.wait("what passes now, and what was missed", || {
        request("fresh", 1);
        let is_all = out.has("/fresh") && frames_out.has("/fresh") && err.has("events are lost");
        is_all.then_some(())
    });
    end(tap);
    end(frames);
}

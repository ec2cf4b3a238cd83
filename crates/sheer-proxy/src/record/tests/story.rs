//! The story: peers on a library that once made a payments company search for weeks, before a healthy proxy. Both of its faults are seen on the wire.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use super::*;
use crate::record::{FailureCopy, FailureKind, replay::Shown};

/// The peers, built from `tests/story`: a workspace of its own, as nothing that ships may depend on their library.
fn story() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/story");
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| here.join("target"), |dir| PathBuf::from(dir).join("story"));
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--quiet", "--manifest-path"])
            .arg(here.join("Cargo.toml"))
            .env("CARGO_TARGET_DIR", &target)
            .status();
        assert!(built.expect("cargo runs").success(), "tests/story is built");
        target.join("debug/story")
    })
}

/// A client of the story, what a server behind a recorded proxy answers it, and what the proxy kept.
async fn tell(what: &str) -> (Recorder, String, Vec<FailureCopy>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let client = Command::new(story())
        .args(["client", &address, what])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client runs");
    let recorder = Recorder::for_tests();
    let (tcp, _) = listener.accept().await.expect("the client");
    let (server, _life) = proxy_for(&recorder, Lies::default(), tcp).await;
    tokio::task::spawn_local(async move {
        let mut connection = h2::server::handshake(server).await.expect("a handshake");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let _ = respond.send_response(http::Response::new(()), true);
        }
    });
    let said = ended(client).await;
    let dead = || {
        let failures = everything(&recorder).failures;
        let is_connection = |failure: &FailureCopy| matches!(failure.facts.kind, FailureKind::Connection);
        failures.iter().any(is_connection).then_some(failures)
    };
    let failures = loop {
        match dead() {
            Some(failures) => break failures,
            None if matches!(what, "plain" | "renamed") => break everything(&recorder).failures,
            None => tokio::task::yield_now().await,
        }
    };
    (recorder, said, failures)
}

/// What a process said until its end; others run meanwhile.
async fn ended(mut child: Child) -> String {
    while child.try_wait().expect("it can be waited for").is_none() {
        tokio::task::yield_now().await;
    }
    let output = child.wait_with_output().expect("its output");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn frames_of_connection(failures: &[FailureCopy]) -> (&FailureCopy, Vec<Shown>) {
    let failure = failures
        .iter()
        .find(|failure| matches!(failure.facts.kind, FailureKind::Connection))
        .expect("a connection that died");
    (failure, failure.recordings[0].shown())
}

#[test]
fn a_healthy_request_of_that_library_passes() {
    run(async {
        let (recorder, said, _) = tell("plain").await;
        assert_eq!(said, "200\n");
        assert_eq!(recorder.inner().disagreements(), [0, 0]);
    });
}

/// Fault 2: a repeated name has the index of an entry that the first of its values has evicted.
#[test]
fn the_index_of_an_evicted_entry_is_seen_on_the_wire() {
    run(async {
        let (recorder, said, failures) = tell("evicted").await;
        assert!(
            said.starts_with("200\n") && said.lines().count() > 1,
            "the first passes, the second does not: {said}"
        );
        let (_, shown) = frames_of_connection(&failures);
        let broken: Vec<&Shown> = shown.iter().filter(|shown| !shown.violations.is_empty()).collect();
        let [frame] = &broken[..] else { panic!("{broken:?}") };
        assert!(!frame.record.written && frame.record.stream == 3, "{frame:?}");
        assert!(
            frame.violations[0].contains("beyond the 62 entries"),
            "{:?}",
            frame.violations
        );
        // What the first value did is there: it took the name of an entry, and drove that out.
        let block = frame.block.as_ref().expect("the block as far as it goes");
        let last = block.fields.last().expect("a field");
        assert_eq!(
            (&last.name[..], last.representation),
            (&b"x-baggage"[..], "literal, indexed")
        );
        assert!(last.index > 61 && last.evicted > 1, "{last:?}");
        // The proxy's own library saw the same.
        assert_eq!(recorder.inner().disagreements(), [0, 0]);
    });
}

/// The same fault where another entry has moved to that index: the value arrives under another name, and no library complains. The frames prove it.
#[test]
fn a_value_under_the_name_of_another_entry_is_seen_on_the_wire() {
    run(async {
        let (recorder, said, failures) = tell("renamed").await;
        assert_eq!(said, "200\n200\n", "nobody notices");
        assert!(
            !failures
                .iter()
                .any(|failure| matches!(failure.facts.kind, FailureKind::Disagreement(_))),
            "the healthy proxy's library reads what the bytes say"
        );
        let all = everything(&recorder);
        let shown = all.recordings.iter().filter(|recording| recording.about.accepted);
        let block = shown
            .flat_map(|recording| recording.stream(3))
            .find_map(|shown| shown.block.filter(|_| !shown.record.written))
            .expect("the second request");
        let at = |value: &[u8]| {
            let found = block.fields.iter().position(|field| field.value == value);
            found.unwrap_or_else(|| panic!("{:?}", block.fields))
        };
        let (renamed, first) = (&block.fields[at(b"and another")], &block.fields[at(&[b'b'; 2_900])]);
        assert_eq!(
            (&first.name[..], &renamed.name[..]),
            (&b"x-baggage"[..], &b"x-request-id"[..])
        );
        // The proof: one index for two names, before and after an entry entered and others left.
        assert_eq!((first.index, first.representation), (63, "literal, indexed"));
        assert_eq!((renamed.index, renamed.representation), (63, "literal"));
        assert!(first.evicted > 0);
    });
}

/// Fault 1: a CONTINUATION that resumes in the middle of repeated names. The library panics, and what it had begun is never finished.
#[test]
fn a_header_block_that_is_never_finished_is_seen_on_the_wire() {
    run(async {
        let (_, said, failures) = tell("continued").await;
        assert!(said.contains("panicked"), "{said}");
        let (failure, shown) = frames_of_connection(&failures);
        let last = shown.iter().rfind(|shown| shown.record.kind == 0x1).expect("HEADERS");
        assert_eq!(
            (last.record.flags & 0x4, last.record.stream),
            (0, 1),
            "END_HEADERS is not set"
        );
        assert!(
            shown.iter().all(|shown| shown.record.kind != 0x9),
            "no CONTINUATION came"
        );
        let ending = failure.recordings[0].ending.expect("it has ended");
        assert_eq!((ending.clean, ending.within), (false, [Some(1), None]));
    });
}

/// The same with that library in a hop, as a proxy on it would be: the application's request is well, and the hop's is not.
#[test]
fn a_hop_on_that_library_is_seen_from_behind_it() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = listener.local_addr().expect("its address").to_string();
        let mut hop = Command::new(story())
            .args(["hop", "127.0.0.1:0", &upstream])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the hop runs");
        let mut line = String::new();
        let stdout = hop.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("its address");
        let app = tokio::task::spawn_local(async move {
            let tcp = TcpStream::connect(line.trim()).await.expect("the hop");
            let (mut send, connection) = client::handshake(tcp).await.expect("a handshake");
            tokio::task::spawn_local(connection);
            let mut answers = Vec::new();
            for (length, more) in [(1_500, false), (2_900, true)] {
                let session = if more { 8 } else { 1_200 };
                let mut request = http::Request::post("http://ledger.bank/x").body(()).expect("a request");
                let fields = request.headers_mut();
                fields.append("x-baggage", "b".repeat(length).parse().expect("a value"));
                if more {
                    fields.append("x-baggage", "and another".parse().expect("a value"));
                }
                fields.append("x-session", "s".repeat(session).parse().expect("a value"));
                send = send.ready().await.expect("open");
                let (response, _) = send.send_request(request, true).expect("sent");
                answers.push(response.await.is_ok());
            }
            answers
        });
        let recorder = Recorder::for_tests();
        let (tcp, _) = listener.accept().await.expect("the hop");
        let (server, _life) = proxy_for(&recorder, Lies::default(), tcp).await;
        tokio::task::spawn_local(async move {
            let mut connection = h2::server::handshake(server).await.expect("a handshake");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let _ = respond.send_response(http::Response::new(()), true);
            }
        });
        assert_eq!(
            app.await.expect("it ends"),
            [true, false],
            "the second request fails, and nobody in the application knows why"
        );
        let failures = loop {
            let failures = everything(&recorder).failures;
            if !failures.is_empty() {
                break failures;
            }
            tokio::task::yield_now().await;
        };
        let (_, shown) = frames_of_connection(&failures);
        let broken: Vec<&str> = shown
            .iter()
            .flat_map(|shown| shown.violations.iter().map(String::as_str))
            .collect();
        assert!(
            broken.iter().any(|rule| rule.contains("beyond the 62 entries")),
            "{broken:?}"
        );
        let _ = hop.kill();
        let _ = hop.wait();
    });
}

//! Request targets arrive octet by octet as they were sent, whatever HTTP/2 between the sidecars can say of them.

use super::{EACH, pair::Pair, run::run, say, until};

#[test]
fn targets_arrive_as_they_were_sent() {
    let long = format!("/{}", "x".repeat(60_000));
    let targets = [
        "/a?b=c",
        "/a#frag?x",
        "/a?q=#b",
        "http://a/a#b",
        "http://a",
        "HTTP://A/x",
        "/a\"b<c>`d{e}|f\\g^h",
        "/caf\u{e9}?q=\u{e9}",
        "//a//b/../c",
        long.as_str(),
    ];
    run(async {
        for meshed in EACH {
            for target in targets {
                let pair = Pair::start(meshed).await;
                let mut client = pair.connect().await;
                say(&mut client, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
                let mut app = pair.accept().await;
                let request = until(&mut app, "\r\n\r\n").await;
                // `until` reads bytes as characters.
                let octets: String = target.bytes().map(char::from).collect();
                assert!(
                    request.starts_with(&format!("GET {octets} HTTP/1.1\r\n")),
                    "meshed: {meshed}: {target}: {request}"
                );
                assert!(!request.contains("sheer-h1-target"), "{request}");
            }
        }
    });
}

#[test]
fn what_is_too_long_between_two_sidecars_is_told_so() {
    let long = format!("/{}", "x".repeat(70_000));
    run(async {
        let pair = Pair::start(true).await;
        let mut client = pair.connect().await;
        say(&mut client, &format!("GET {long} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let said = until(&mut client, "\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 414 "), "{said}");
        assert!(
            said.contains("the request target has 70001 bytes, and 65534 can be carried"),
            "{said}"
        );
        assert!(said.contains("Sheer-Verdict: client-config\r\n"), "{said}");
    });
}

//! Malformed requests: refused with a status, a reason and a count, and never passed on as whole.

use super::{EACH, eventually, pair::Pair, rest, run::run, say, until};

const CHUNKED: &str = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

fn assert_refused(meshed: bool, said: &str, why: &str) {
    assert!(said.starts_with("HTTP/1.1 400"), "meshed: {meshed}: {said:?}");
    assert!(said.contains("Sheer-Verdict: client-config\r\n"), "{said}");
    assert!(said.contains("Sheer-Reason: bad-request\r\n"), "{said}");
    assert!(said.contains("Connection: close\r\n"), "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_bad_chunk_after_the_head_went_on_is_answered_and_counted() {
    run(async {
        for meshed in EACH {
            for (bad, why) in [
                ("zz\r\n", "a chunk size is invalid"),
                ("5\r\nhelloX\r\n", "a chunk does not end in CRLF"),
                ("0\r\nA: x\r\n folded\r\n\r\n", "a header is folded over several lines"),
            ] {
                let pair = Pair::start(meshed).await;
                let mut client = pair.connect().await;
                say(&mut client, CHUNKED).await;
                let mut app = pair.accept().await;
                let request = until(&mut app, "hello\r\n").await;
                assert!(request.starts_with("POST /a HTTP/1.1\r\n"), "{request}");
                say(&mut client, bad).await;
                let (said, orderly) = rest(&mut client).await;
                assert!(orderly, "{said}");
                assert_refused(meshed, &said, why);
                let (more, _) = rest(&mut app).await;
                assert!(
                    !more.ends_with("0\r\n\r\n"),
                    "the request must not look whole: {more:?}"
                );
                eventually("it is counted once", || pair.errors("bad-request") == 1).await;
            }
        }
    });
}

#[test]
fn heads_that_two_readers_could_take_apart_are_refused() {
    run(async {
        for meshed in EACH {
            for (fields, why) in [
                ("A: x\r\n folded\r\n", "a header is folded over several lines"),
                (
                    "Content-Length: 5\r\nContent-Length: 6\r\n",
                    "there are several Content-Length values that differ",
                ),
                (
                    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                    "Content-Length and Transfer-Encoding are both present",
                ),
            ] {
                let pair = Pair::start(meshed).await;
                let mut client = pair.connect().await;
                say(&mut client, &format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nhello")).await;
                let (said, _) = rest(&mut client).await;
                assert_refused(meshed, &said, why);
                eventually("it is counted once", || pair.errors("bad-request") == 1).await;
            }
        }
    });
}

#[test]
fn a_bad_chunk_within_the_response_breaks_it_off() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = pair.connect().await;
            say(&mut client, CHUNKED).await;
            let mut app = pair.accept().await;
            until(&mut app, "hello\r\n").await;
            say(
                &mut app,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
            )
            .await;
            until(&mut client, "ok\r\n").await;
            say(&mut client, "zz\r\n").await;
            let (more, orderly) = rest(&mut client).await;
            assert!(
                !orderly && !more.contains("0\r\n\r\n"),
                "it must not look whole: {more:?}"
            );
            eventually("it is counted once", || pair.errors("bad-request") == 1).await;
        }
    });
}

#[test]
fn a_bad_chunk_after_the_response_costs_the_connection_and_not_the_response() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = pair.connect().await;
            say(&mut client, CHUNKED).await;
            let mut app = pair.accept().await;
            until(&mut app, "hello\r\n").await;
            say(&mut app, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            until(&mut client, "\r\n\r\nok").await;
            say(&mut client, "zz\r\n").await;
            let (more, orderly) = rest(&mut client).await;
            assert!(orderly && more.is_empty(), "{more:?}");
            eventually("it is counted once", || pair.errors("bad-request") == 1).await;
        }
    });
}

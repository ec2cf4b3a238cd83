//! Lists of fields past the limit, on legs of HTTP/1: the answer names the leg and the size.

use super::{EACH, eventually, pair::Pair, rest, run::run, say, until};

const LIMIT: usize = 4096;
/// How far beyond the limit the codec reads, to be able to say how large a list is.
const SLACK: usize = 64 * 1024;

async fn start(meshed: bool) -> Pair {
    Pair::with(meshed, &[("SHEER_PROXY_HEADER_LIST_LIMIT", &LIMIT.to_string())]).await
}

/// Fields that are past the limit, and what is said of a list that has them and nothing else.
fn too_much() -> Vec<(String, String)> {
    let field = |bytes: usize| format!("X-Big: {}\r\n", "b".repeat(bytes));
    let exact = "X-Big".len() + 8000 + 32;
    let limit = format!("and the limit is {LIMIT} (SHEER_PROXY_HEADER_LIST_LIMIT)");
    vec![
        (field(8000), format!("are {exact} bytes {limit}")),
        (
            field(LIMIT + SLACK),
            format!("are more than {} bytes {limit}", LIMIT + SLACK),
        ),
        (
            "a:\r\n".repeat(4097),
            "have more than 4096 fields, the most that an HTTP/1 message may have".to_owned(),
        ),
    ]
}

fn assert_says(said: &str, leg: &str, how_much: &str) {
    assert!(
        said.contains(leg) && said.contains(how_much),
        "{leg} {how_much}: {said}"
    );
    assert!(said.contains("Sheer-Reason: header-list-too-large\r\n"), "{said}");
}

#[test]
fn request_headers() {
    run(async {
        for meshed in EACH {
            for (fields, how_much) in too_much() {
                // Host counts as well.
                let how_much = how_much.replace("8037", &(8037 + "Hosta".len() + 32).to_string());
                let pair = start(meshed).await;
                let mut client = pair.connect().await;
                say(&mut client, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
                let said = until(&mut client, "\r\n\r\n").await;
                assert!(said.starts_with("HTTP/1.1 431"), "{said}");
                assert_says(&said, "request headers from the application (outbound)", &how_much);
                eventually("it is counted once", || pair.errors("header-list-too-large") == 1).await;
            }
        }
    });
}

#[test]
fn request_trailers() {
    run(async {
        for meshed in EACH {
            for (fields, how_much) in too_much() {
                let pair = start(meshed).await;
                let mut client = pair.connect().await;
                say(
                    &mut client,
                    &format!(
                        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{fields}\r\n"
                    ),
                )
                .await;
                let said = until(&mut client, "\r\n\r\n").await;
                assert!(said.starts_with("HTTP/1.1 431"), "{said}");
                assert_says(&said, "request trailers from the application (outbound)", &how_much);
                eventually("it is counted once", || pair.errors("header-list-too-large") == 1).await;
            }
        }
    });
}

fn server_leg(part: &str, meshed: bool) -> String {
    if meshed {
        format!("response {part} from the application (inbound)")
    } else {
        format!("response {part} from the server (outbound)")
    }
}

#[test]
fn response_headers() {
    run(async {
        for meshed in EACH {
            for (fields, how_much) in too_much() {
                let pair = start(meshed).await;
                let mut client = pair.connect().await;
                say(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                let mut app = pair.accept().await;
                until(&mut app, "\r\n\r\n").await;
                say(&mut app, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).await;
                let said = until(&mut client, "\r\n\r\n").await;
                assert!(said.starts_with("HTTP/1.1 431"), "{said}");
                assert_says(&said, &server_leg("headers", meshed), &how_much);
                eventually("it is counted once", || pair.errors("header-list-too-large") == 1).await;
            }
        }
    });
}

#[test]
fn response_trailers_are_replaced() {
    run(async {
        for meshed in EACH {
            for (fields, how_much) in too_much() {
                let pair = start(meshed).await;
                let mut client = pair.connect().await;
                say(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                let mut app = pair.accept().await;
                until(&mut app, "\r\n\r\n").await;
                say(
                    &mut app,
                    &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{fields}\r\n"),
                )
                .await;
                let head = until(&mut client, "\r\n\r\n").await;
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
                let body = until(&mut client, "\r\n\r\n").await;
                assert!(body.starts_with("2\r\nok\r\n0\r\n"), "{body}");
                assert_says(&body, &server_leg("trailers", meshed), &how_much);
                eventually("it is counted once", || pair.errors("header-list-too-large") == 1).await;
                // The response was whole, and so the connection goes on.
                say(&mut client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                let mut app = pair.accept().await;
                until(&mut app, "\r\n\r\n").await;
                say(&mut app, "HTTP/1.1 204 No Content\r\n\r\n").await;
                assert!(rest(&mut client).await.0.starts_with("HTTP/1.1 204"));
            }
        }
    });
}

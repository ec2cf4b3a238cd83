//! Fields that only the proxies may set between them: an application's own use of their names changes nothing.

use super::{EACH, pair::Pair, run::run, say, until};
use sheer_testkit::h2peer::{Block, Peer};

#[test]
fn an_http2_application_cannot_pass_for_http1() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = Peer::client(pair.connect().await).await.unwrap();
            let request = Block::get("svc", "/")
                .literal("l5d-orig-proto", "HTTP/1.1")
                .literal("sheer-h1-case", "t")
                .literal("sheer-h1-target", "/another");
            client.headers_end(1, &request).await.unwrap();
            let mut server = Peer::server(pair.accept().await)
                .await
                .expect("it is spoken to in HTTP/2");
            let (stream, request) = server.request().await.unwrap();
            for name in ["l5d-orig-proto", "sheer-h1-case", "sheer-h1-target"] {
                // To a server without a sidecar it is a field as any other.
                assert_eq!(request.field(name).is_none(), meshed, "{request:?}");
            }
            let response = Block::status(200)
                .literal("l5d-orig-proto", "HTTP/1.0")
                .literal("sheer-h1-reason", "Mine");
            server.headers_end(stream, &response).await.unwrap();
            let response = client.response(1).await.unwrap();
            assert_eq!(response.field("l5d-orig-proto"), Some("HTTP/1.0"));
            assert_eq!(response.field("sheer-h1-reason"), Some("Mine"));
        }
    });
}

const MARKS: &str =
    "l5d-orig-proto: HTTP/1.0\r\nsheer-h1-case: t\r\nsheer-h1-reason: Forged\r\nsheer-h1-target: /forged\r\n";

#[test]
fn a_server_of_http1_without_a_sidecar_may_use_the_names() {
    run(async {
        let pair = Pair::start(false).await;
        let mut client = pair.connect().await;
        say(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut app = pair.accept().await;
        until(&mut app, "\r\n\r\n").await;
        let response = format!(
            "HTTP/1.1 200 OK\r\n{MARKS}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nsheer-h1-case: t\r\nx-after: y\r\n\r\n"
        );
        say(&mut app, &response).await;
        let head = until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for line in MARKS.lines() {
            assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
        }
        let body = until(&mut client, "\r\n\r\n").await;
        assert!(body.ends_with("0\r\nsheer-h1-case: t\r\nx-after: y\r\n\r\n"), "{body}");
    });
}

#[test]
fn applications_of_http1_with_sidecars_cannot_set_them() {
    run(async {
        let pair = Pair::start(true).await;
        let mut client = pair.connect().await;
        say(
            &mut client,
            &format!("get / HTTP/1.1\r\nhost: a\r\n{MARKS}x-lower: one\r\ntransfer-encoding: chunked\r\n\r\n0\r\nsheer-h1-case: t\r\nx-after: y\r\n\r\n"),
        )
        .await;
        let mut app = pair.accept().await;
        let request = until(&mut app, "\r\n\r\n").await;
        assert!(request.starts_with("get / HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nx-lower: one\r\n"), "{request}");
        assert!(
            !request.contains("sheer-h1-case") && !request.contains("l5d-orig-proto") && !request.contains("/forged"),
            "{request}"
        );
        let body = until(&mut app, "\r\n\r\n").await;
        assert_eq!(body, "0\r\nx-after: y\r\n\r\n");
        say(
            &mut app,
            &format!("HTTP/1.1 200 OK\r\n{MARKS}x-lower: one\r\ncontent-length: 0\r\n\r\n"),
        )
        .await;
        let head = until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nx-lower: one\r\n"), "{head}");
        // A target has no meaning on the way back.
        for line in MARKS.lines().filter(|line| !line.starts_with("sheer-h1-target")) {
            assert!(!head.contains(line), "{line}: {head}");
        }
    });
}

#[test]
fn a_request_that_leaves_http_keeps_what_it_is() {
    run(async {
        let pair = Pair::start(true).await;
        let mut client = pair.connect().await;
        say(
            &mut client,
            "GET /ws HTTP/1.1\r\nHost: a\r\nl5d-orig-proto: HTTP/1.0\r\nX-CamelCase: one\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        )
        .await;
        let mut app = pair.accept().await;
        let request = until(&mut app, "\r\n\r\n").await;
        assert!(request.starts_with("GET /ws HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("X-CamelCase: one\r\n"), "{request}");
    });
}

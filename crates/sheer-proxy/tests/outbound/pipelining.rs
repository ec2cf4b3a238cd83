//! Requests that a client of HTTP/1 sends without waiting for answers, through both sidecars: the answers come in the order of the
//! requests, whatever the server makes of them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    mesh::both,
    support::{SERVICE, http1_echo, read_head, run, script},
};

/// Reads a response of [`http1_echo`]: its body, which is the request's head.
async fn answer(client: &mut tokio::net::TcpStream) -> String {
    let head = read_head(client).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    client.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    run(async {
        let (app, _) = script(|tcp| http1_echo(tcp, "app")).await;
        let (proxy, _peer) = both(app).await;
        let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
        let requests: Vec<_> = (0..20)
            .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: web.shop\r\nX-Number: {n}\r\n\r\n"))
            .collect();
        client.write_all(requests.concat().as_bytes()).await.unwrap();
        for n in 0..20 {
            let seen = answer(&mut client).await;
            assert!(seen.starts_with(&format!("GET /{n} HTTP/1.1\r\n")), "{n}: {seen}");
            assert!(seen.contains(&format!("X-Number: {n}\r\n")), "{n}: {seen}");
        }
    });
}

/// The next request begins where the body of the one before ends, also where both came in one packet.
#[test]
fn bodies_between_the_requests_are_kept_apart() {
    run(async {
        let (app, _) = script(|mut tcp| async move {
            // Answers with the request's method, path and body.
            loop {
                let head = read_head(&mut tcp).await;
                if head.is_empty() {
                    return;
                }
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                tcp.read_exact(&mut body).await.unwrap();
                let line = head.lines().next().unwrap_or_default();
                let said = format!("{line}|{}", String::from_utf8(body).unwrap());
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
                tcp.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let (proxy, _peer) = both(app).await;
        let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
        let requests = "POST /a HTTP/1.1\r\nHost: web.shop\r\nContent-Length: 5\r\n\r\nfirst\
                        GET /b HTTP/1.1\r\nHost: web.shop\r\n\r\n\
                        POST /c HTTP/1.1\r\nHost: web.shop\r\nContent-Length: 4\r\n\r\nlast";
        client.write_all(requests.as_bytes()).await.unwrap();
        for expected in ["POST /a HTTP/1.1|first", "GET /b HTTP/1.1|", "POST /c HTTP/1.1|last"] {
            assert_eq!(answer(&mut client).await, expected);
        }
    });
}

/// What comes behind a request that says `Connection: close` is not served.
#[test]
fn the_last_request_is_the_last() {
    run(async {
        let (app, _) = script(|tcp| http1_echo(tcp, "app")).await;
        let (proxy, _peer) = both(app).await;
        let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
        let requests = "GET /1 HTTP/1.1\r\nHost: web.shop\r\n\r\n\
                        GET /2 HTTP/1.1\r\nHost: web.shop\r\nConnection: close\r\n\r\n\
                        GET /3 HTTP/1.1\r\nHost: web.shop\r\n\r\n";
        client.write_all(requests.as_bytes()).await.unwrap();
        for n in 1..3 {
            assert!(answer(&mut client).await.starts_with(&format!("GET /{n} ")));
        }
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    });
}

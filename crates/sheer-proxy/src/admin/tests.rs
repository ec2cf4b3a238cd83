use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::client::conn::http1 as client;
use tokio::net::TcpStream;

use super::*;
use crate::{identity, life::LifeControl};

struct Server {
    addr: SocketAddr,
    control: LifeControl,
    shutdown: Shutdown,
    unanswered: tokio::sync::watch::Sender<std::collections::BTreeSet<u16>>,
}

async fn server(shutdown_enabled: bool) -> Server {
    let control = LifeControl::default();
    let shutdown = Shutdown::default();
    let unanswered = tokio::sync::watch::Sender::new([80, 443].into());
    let (_, identity) = identity::channel();
    let readiness = Readiness::new(
        identity,
        tokio::sync::watch::channel([].into()).1,
        unanswered.subscribe(),
        tokio::sync::watch::channel(true).1,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let admin = Admin {
        registry: Registry::new(Duration::from_secs(600)),
        readiness,
        log_level: None,
        life: control.life(),
        shutdown: shutdown_enabled.then(|| shutdown.clone()),
    };
    tokio::spawn(serve(listener, Arc::new(admin)));
    Server {
        addr,
        control,
        shutdown,
        unanswered,
    }
}

async fn ask(addr: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(addr).await.expect("connects");
    let (mut send, connection) = client::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "admin")
        .body(String::new());
    let response = send.send_request(request.expect("a request")).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn ready_says_what_is_missing() {
    let server = server(false).await;
    assert_eq!(ask(server.addr, "GET", "/live").await, (200, "live\n".into()));
    let (status, text) = ask(server.addr, "GET", "/ready").await;
    assert_eq!(status, 503);
    assert!(
        text.contains("no certificate") && text.contains("port 80, 443"),
        "{text}"
    );
    server.unanswered.send_replace([].into());
    assert!(!ask(server.addr, "GET", "/ready").await.1.contains("policy"));
}

#[tokio::test]
async fn methods_and_paths_that_are_not_there() {
    let server = server(false).await;
    assert_eq!(ask(server.addr, "GET", "/").await.0, 404);
    assert_eq!(ask(server.addr, "POST", "/metrics").await.0, 405);
    assert_eq!(ask(server.addr, "GET", "/shutdown").await.0, 405);
    assert_eq!(ask(server.addr, "POST", "/shutdown").await.0, 404);
}

#[tokio::test]
async fn shutdown_is_passed_on_and_probes_still_answer_while_draining() {
    let server = server(true).await;
    assert_eq!(ask(server.addr, "POST", "/shutdown").await.0, 200);
    assert_eq!(server.shutdown.asked().await, "POST /shutdown");
    let _request = server.control.life().track();
    let addr = server.addr;
    let drain = tokio::spawn(async move { server.control.drain(Duration::from_secs(60)).await });
    tokio::task::yield_now().await;
    let (status, text) = ask(addr, "GET", "/ready").await;
    assert_eq!((status, text.as_str()), (503, "draining: the proxy is ending\n"));
    drain.abort();
}

#[tokio::test]
async fn metrics_come_in_the_format_that_was_asked_for() {
    let server = server(false).await;
    let (status, page) = ask(server.addr, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(page.contains("process_resident_memory_bytes "), "{page}");
}

//! What the recorder costs.

use h2::server;
use http::{HeaderMap, HeaderValue, Request, Response};

use super::*;

/// What the recorder costs: `RECORDER=off` or `on`, under `perf stat -e instructions:u` or callgrind, with and without; docs/debugging.md has the figures.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_request() {
    let requests: u64 = std::env::var("REQUESTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_000);
    let recorder = match std::env::var("RECORDER").as_deref() {
        Ok("off") => Recorder::default(),
        _ => Recorder::for_tests(),
    };
    run(async {
        let (client, server, _life) = proxy(&recorder, Lies::default()).await;
        tokio::task::spawn_local(async move {
            let mut connection = server::handshake(server).await.expect("a handshake");
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::task::spawn_local(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(data)) = body.data().await {
                        let _ = body.flow_control().release_capacity(data.len());
                    }
                    let mut response = Response::new(());
                    let fields = response.headers_mut();
                    fields.insert("content-type", HeaderValue::from_static("application/grpc"));
                    fields.insert("date", HeaderValue::from_static("Thu, 26 Nov 2026 12:00:00 GMT"));
                    let mut stream = respond.send_response(response, false).expect("sent");
                    stream.send_data(Bytes::from_static(&[0; 64]), false).expect("sent");
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    stream.send_trailers(trailers).expect("sent");
                });
            }
        });
        let (send, connection) = client::handshake(client).await.expect("a handshake");
        tokio::task::spawn_local(connection);
        let began = std::time::Instant::now();
        for batch in 0..requests / 20 {
            let asked = (0..20).map(|nth| {
                let mut send = send.clone();
                async move {
                    let mut request = Request::post("http://ledger.bank:8080/bank.Ledger/Transfer")
                        .body(())
                        .expect("a request");
                    let fields = request.headers_mut();
                    fields.insert("content-type", HeaderValue::from_static("application/grpc"));
                    fields.insert("te", HeaderValue::from_static("trailers"));
                    fields.insert("user-agent", HeaderValue::from_static("grpc-rust/1.0"));
                    fields.insert("x-request-id", (batch * 20 + nth).into());
                    fields.insert("grpc-timeout", HeaderValue::from_static("1S"));
                    let (response, mut stream) = send.send_request(request, false).expect("sent");
                    stream.send_data(Bytes::from_static(&[0; 64]), true).expect("sent");
                    let mut body = response.await.expect("a response").into_body();
                    while let Some(Ok(data)) = body.data().await {
                        let _ = body.flow_control().release_capacity(data.len());
                    }
                    body.trailers().await.expect("trailers");
                }
            });
            futures::future::join_all(asked).await;
        }
        let all = recorder.copy(&Query::default(), false).map_or(0, |all| all.compared);
        eprintln!("{requests} requests in {:?}, {all} blocks compared", began.elapsed());
    });
}

//! One proxy between an HTTP/2 client and an HTTP/2 server, on in-memory pipes: everything of a request and a response arrives as
//! it was sent, and ends where it ended.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[path = "support/run.rs"]
mod run;
mod support;

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use run::run;
use sheer_proxy::exchange::End;
use support::Forwarder;

fn post(path: &str) -> Request<()> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://bank.example{path}"))
        .body(())
        .unwrap()
}

/// Everything of a body: its data, how many frames it came in, its trailers.
async fn read(body: &mut h2::RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

async fn send(stream: &mut h2::SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx))
            .await
            .unwrap()
            .unwrap();
        let part = data.split_to(room.min(data.len()));
        stream.send_data(part, end && data.is_empty()).unwrap();
    }
}

#[test]
fn unary_call_with_trailers() {
    run(async {
        let mut mesh = Forwarder::start().await;
        let server = mesh.serve(|request, mut respond| async move {
            assert_eq!(request.uri(), "http://bank.example/ledger.Ledger/Post");
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.headers()["x-token-bin"], &b"\xff"[..]);
            let scopes: Vec<_> = request.headers().get_all("x-scope").iter().collect();
            assert_eq!(scopes, ["a", "", "b"]);
            let (data, trailers) = read(&mut request.into_body()).await.unwrap();
            assert_eq!((data.as_slice(), trailers), (&b"hello"[..], None));
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"world"), false).unwrap();
            body.send_trailers(
                [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]
                    .into_iter()
                    .collect(),
            )
            .unwrap();
        });
        let mut request = post("/ledger.Ledger/Post");
        let headers = request.headers_mut();
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("x-token-bin", HeaderValue::from_bytes(b"\xff").unwrap());
        for scope in ["a", "", "b"] {
            headers.append("x-scope", HeaderValue::from_static(scope));
        }
        let (response, mut body) = mesh.client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().len(), 0, "nothing is added");
        let (data, trailers) = read(&mut response.into_body()).await.unwrap();
        assert_eq!(data, b"world");
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
        server.await.unwrap();
        let outcome = mesh.outcome().await;
        assert_eq!(outcome.end, End::Complete);
        assert_eq!(
            (outcome.request_bytes, outcome.response_bytes, outcome.grpc_status),
            (5, 5, Some(0))
        );
        assert!(outcome.is_success());
    });
}

#[test]
fn trailers_only_response_stays_one_frame() {
    run(async {
        let mut mesh = Forwarder::start().await;
        let _server = mesh.serve(|_, mut respond| async move {
            let response = Response::builder().header("grpc-status", "5").body(()).unwrap();
            respond.send_response(response, true).unwrap();
        });
        let (response, _) = mesh.client.send_request(post("/"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "5");
        assert!(response.body().is_end_stream());
        let outcome = mesh.outcome().await;
        assert_eq!((outcome.end, outcome.grpc_status), (End::Complete, Some(5)));
    });
}

#[test]
fn bidirectional_stream_answers_while_it_asks() {
    run(async {
        let mut mesh = Forwarder::start().await;
        let _server = mesh.serve(|request, mut respond| async move {
            let mut out = respond.send_response(Response::new(()), false).unwrap();
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                out.send_data(data, false).unwrap();
            }
            out.send_trailers(body.trailers().await.unwrap().unwrap()).unwrap();
        });
        let (response, mut out) = mesh.client.send_request(post("/"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for round in 0u8..100 {
            out.send_data(Bytes::from(vec![round]), false).unwrap();
            let echo = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(echo.len()).unwrap();
            assert_eq!(echo.as_ref(), [round]);
        }
        out.send_trailers(
            [(HeaderName::from_static("x-end"), HeaderValue::from_static("yes"))]
                .into_iter()
                .collect(),
        )
        .unwrap();
        let (rest, trailers) = read(&mut body).await.unwrap();
        assert!(rest.is_empty());
        assert_eq!(trailers.unwrap()["x-end"], "yes");
    });
}

#[test]
fn interim_responses_pass() {
    run(async {
        let mut mesh = Forwarder::start().await;
        let _server = mesh.serve(|request, mut respond| async move {
            let hints = Response::builder()
                .status(103)
                .header("link", "</a.css>")
                .body(())
                .unwrap();
            respond.send_informational(hints).unwrap();
            let go_on = Response::builder().status(100).body(()).unwrap();
            respond.send_informational(go_on).unwrap();
            let (data, _) = read(&mut request.into_body()).await.unwrap();
            assert_eq!(data, b"late");
            respond.send_response(Response::new(()), true).unwrap();
        });
        let (mut response, mut body) = mesh.client.send_request(post("/"), false).unwrap();
        let first = std::future::poll_fn(|cx| response.poll_informational(cx))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (first.status().as_u16(), first.headers()["link"].as_bytes()),
            (103, &b"</a.css>"[..])
        );
        let second = std::future::poll_fn(|cx| response.poll_informational(cx))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(second.status().as_u16(), 100);
        body.send_data(Bytes::from_static(b"late"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn cancel_reaches_the_server_with_its_code() {
    run(async {
        for code in [Reason::CANCEL, Reason::ENHANCE_YOUR_CALM] {
            let mut mesh = Forwarder::start().await;
            let server = mesh.serve(|request, mut respond| async move {
                let _body = request.into_body();
                std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap()
            });
            let (_response, mut body) = mesh.client.send_request(post("/"), false).unwrap();
            body.send_data(Bytes::from_static(b"x"), false).unwrap();
            tokio::task::yield_now().await;
            body.send_reset(code);
            assert_eq!(server.await.unwrap(), code);
            assert!(matches!(mesh.outcome().await.end, End::ClientReset(reset) if reset.0 == code));
        }
    });
}

#[test]
fn cancel_of_a_response_that_streams_reaches_the_server() {
    run(async {
        let mut mesh = Forwarder::start().await;
        let server = mesh.serve(|_, mut respond| async move {
            let mut out = respond.send_response(Response::new(()), false).unwrap();
            out.send_data(Bytes::from_static(b"first"), false).unwrap();
            std::future::poll_fn(|cx| out.poll_reset(cx)).await.unwrap()
        });
        let (response, mut out) = mesh.client.send_request(post("/"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap().as_ref(), b"first");
        out.send_reset(Reason::CANCEL);
        assert_eq!(server.await.unwrap(), Reason::CANCEL);
    });
}

#[test]
fn reset_reaches_the_client_with_its_code() {
    run(async {
        for (code, head) in [
            (Reason::INTERNAL_ERROR, false),
            (Reason::INTERNAL_ERROR, true),
            (Reason::CANCEL, true),
        ] {
            let mut mesh = Forwarder::start().await;
            let _server = mesh.serve(move |_, mut respond| async move {
                if head {
                    let mut out = respond.send_response(Response::new(()), false).unwrap();
                    out.send_data(Bytes::from_static(b"part"), false).unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    out.send_reset(code);
                } else {
                    respond.send_reset(code);
                }
            });
            let (response, _body) = mesh.client.send_request(post("/"), false).unwrap();
            let error = match response.await {
                Err(error) => error,
                Ok(response) => {
                    let mut body = response.into_body();
                    assert_eq!(body.data().await.unwrap().unwrap().as_ref(), b"part");
                    body.data().await.unwrap().unwrap_err()
                }
            };
            assert!(error.is_remote() && error.is_reset());
            assert_eq!(error.reason(), Some(code));
            assert!(matches!(mesh.outcome().await.end, End::ServerReset(reset) if reset.0 == code));
        }
    });
}

#[test]
fn early_response_ends_the_upload_without_an_error() {
    run(async {
        let mut mesh = Forwarder::start().await;
        let _server = mesh.serve(|_request, mut respond| async move {
            let mut out = respond
                .send_response(Response::builder().status(413).body(()).unwrap(), false)
                .unwrap();
            out.send_data(Bytes::from_static(b"too much"), true).unwrap();
        });
        let (response, mut out) = mesh.client.send_request(post("/"), false).unwrap();
        out.send_data(Bytes::from_static(b"a start"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status().as_u16(), 413);
        let (data, _) = read(&mut response.into_body()).await.unwrap();
        assert_eq!(data, b"too much");
        let code = std::future::poll_fn(|cx| out.poll_reset(cx)).await.unwrap();
        assert_eq!(code, Reason::NO_ERROR);
        assert_eq!(mesh.outcome().await.end, End::Complete);
    });
}

#[test]
fn metadata_of_60_kib_passes_everywhere() {
    run(async {
        let big = || {
            let mut headers = HeaderMap::new();
            for n in 0..60 {
                headers.append(
                    "x-scope",
                    HeaderValue::try_from(format!("{n:03}{}", "s".repeat(1000))).unwrap(),
                );
            }
            headers
        };
        let mut mesh = Forwarder::start().await;
        let _server = mesh.serve(move |request, mut respond| async move {
            assert_eq!(request.headers(), &big());
            let mut response = Response::new(());
            *response.headers_mut() = big();
            let mut out = respond.send_response(response, false).unwrap();
            let (_, trailers) = read(&mut request.into_body()).await.unwrap();
            out.send_trailers(trailers.unwrap()).unwrap();
        });
        let mut request = post("/");
        *request.headers_mut() = big();
        let (response, mut out) = mesh.client.send_request(request, false).unwrap();
        out.send_trailers(big()).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers(), &big());
        let (_, trailers) = read(&mut response.into_body()).await.unwrap();
        assert_eq!(trailers.unwrap(), big());
    });
}

#[test]
fn past_the_header_limit_there_is_a_reason_and_no_harm() {
    run(async {
        let huge = || {
            HeaderMap::from_iter([(
                HeaderName::from_static("x-huge"),
                HeaderValue::try_from("h".repeat(300_000)).unwrap(),
            )])
        };
        let mut mesh = Forwarder::start().await;
        let _server = mesh.serve(move |request, mut respond| async move {
            let path = request.uri().path().to_owned();
            let mut response = Response::new(());
            match path.as_str() {
                "/headers" => *response.headers_mut() = huge(),
                "/trailers" => {
                    let mut out = respond.send_response(response, false).unwrap();
                    out.send_data(Bytes::from_static(b"whole"), false).unwrap();
                    return out.send_trailers(huge()).unwrap();
                }
                _ => {}
            }
            let _ = read(&mut request.into_body()).await;
            respond.send_response(response, true).unwrap();
        });
        // A request of another stream lives through all of it.
        let (bystander, mut bystander_body) = mesh.client.send_request(post("/bystander"), false).unwrap();

        let mut request = post("/");
        *request.headers_mut() = huge();
        let (response, _) = mesh.client.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(
            response.headers()["l5d-proxy-error"],
            "request headers from the client (inbound) are 300038 bytes and the limit is 262144 (SHEER_PROXY_HEADER_LIST_LIMIT)"
        );
        assert_eq!(response.headers()["sheer-reason"], "header-list-too-large");

        let mut request = post("/");
        *request.headers_mut() = huge();
        request
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc+proto"));
        let (response, _) = mesh.client.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(
            (response.status(), response.headers()["grpc-status"].as_bytes()),
            (StatusCode::OK, &b"8"[..])
        );

        let (response, _) = mesh.client.send_request(post("/headers"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert!(
            response.headers()["l5d-proxy-error"]
                .to_str()
                .unwrap()
                .starts_with("response headers from the application")
        );

        let (response, _) = mesh.client.send_request(post("/trailers"), true).unwrap();
        let (data, trailers) = read(&mut response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(data, b"whole");
        assert_eq!(trailers.unwrap()["sheer-reason"], "header-list-too-large");

        let (response, mut out) = mesh.client.send_request(post("/upload"), false).unwrap();
        out.send_trailers(huge()).unwrap();
        assert_eq!(
            response.await.unwrap().status(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        );

        bystander_body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(bystander.await.unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn slow_reader_slows_the_writer() {
    run(async {
        const ALL: usize = 64 * 1024 * 1024;
        let mut mesh = Forwarder::start().await;
        let (progress, sent) = tokio::sync::watch::channel(0);
        let _server = mesh.serve(move |_, mut respond| {
            let progress = progress.clone();
            async move {
                let mut out = respond.send_response(Response::new(()), false).unwrap();
                for n in 0..ALL / 65536 {
                    send(&mut out, Bytes::from(vec![0; 65536]), false).await;
                    progress.send_replace((n + 1) * 65536);
                }
                out.send_data(Bytes::new(), true).unwrap();
            }
        });
        let (response, _) = mesh.client.send_request(post("/"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let first = body.data().await.unwrap().unwrap().len();
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Windows on both legs, and the codecs' buffers.
        assert!(
            *sent.borrow() < 4 * 1024 * 1024,
            "{} bytes went ahead of the reader",
            *sent.borrow()
        );
        body.flow_control().release_capacity(first).unwrap();
        let (data, _) = read(&mut body).await.unwrap();
        assert_eq!(first + data.len(), ALL);
    });
}

#[test]
fn refused_and_unserved_streams_come_back_for_another_try() {
    run(async {
        let mut mesh = Forwarder::start_with(|forwarder| forwarder.attempts = 2).await;
        let first = mesh.serve(|_, mut respond| async move { respond.send_reset(Reason::REFUSED_STREAM) });
        let second = mesh.serve(|request, mut respond| async move {
            let (data, trailers) = read(&mut request.into_body()).await.unwrap();
            assert_eq!(
                (data.as_slice(), trailers.unwrap()["x-end"].as_bytes()),
                (&b"body"[..], &b"yes"[..])
            );
            respond.send_response(Response::new(()), true).unwrap();
        });
        let (response, mut out) = mesh.client.send_request(post("/"), false).unwrap();
        out.send_data(Bytes::from_static(b"body"), false).unwrap();
        out.send_trailers(
            [(HeaderName::from_static("x-end"), HeaderValue::from_static("yes"))]
                .into_iter()
                .collect(),
        )
        .unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        first.await.unwrap();
        second.await.unwrap();
    });
}

#[test]
fn burst_of_cancels_harms_nobody() {
    run(async {
        let mut mesh = Forwarder::start().await;
        let _server = mesh.serve(|request, mut respond| async move {
            let _ = read(&mut request.into_body()).await;
            let _ = respond.send_response(Response::new(()), true);
        });
        for _ in 0..3000 {
            mesh.client = mesh.client.clone().ready().await.unwrap();
            let (_response, mut body) = mesh.client.send_request(post("/"), false).unwrap();
            body.send_reset(Reason::CANCEL);
        }
        let (response, _) = mesh.client.send_request(post("/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn extended_connect_passes() {
    run(async {
        let mut mesh = Forwarder::start().await;
        let _server = mesh.serve(|request, mut respond| async move {
            assert_eq!(
                request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(),
                "websocket"
            );
            assert_eq!((request.method(), request.uri().path()), (&Method::CONNECT, "/chat"));
            let mut out = respond.send_response(Response::new(()), false).unwrap();
            let data = request.into_body().data().await.unwrap().unwrap();
            out.send_data(data, true).unwrap();
        });
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://bank.example/chat")
            .body(())
            .unwrap();
        request
            .extensions_mut()
            .insert(h2::ext::Protocol::from_static("websocket"));
        mesh.client = mesh.client.clone().ready().await.unwrap();
        let (response, mut out) = mesh.client.send_request(request, false).unwrap();
        out.send_data(Bytes::from_static(b"frame"), false).unwrap();
        let (data, _) = read(&mut response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(data, b"frame");
    });
}

//! Honest traffic: the lens and the library agree on every block.

use h2::server;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::*;
use crate::record::{FailureCopy, FailureKind};

const NAMES: [&str; 14] = [
    "accept",
    "cookie",
    "set-cookie",
    "x-request-id",
    "x-a",
    "x-b",
    "te",
    "user-agent",
    "grpc-timeout",
    "authorization",
    "x-a-rather-long-name-of-a-header-field",
    "cache-control",
    "vary",
    "x-tenant",
];

fn value(rng: &mut SmallRng) -> Vec<u8> {
    match rng.random_range(0..6) {
        0 => Vec::new(),
        1 => b"the same every time".to_vec(),
        2 => format!("one of {}", rng.random_range(0..20)).into_bytes(),
        // Nothing that begins or ends in white space.
        3 => (0..rng.random_range(1..40))
            .map(|_| rng.random_range(0x80..=0xff))
            .collect(),
        4 => (0..rng.random_range(1..400))
            .map(|_| rng.random_range(b'!'..=b'~'))
            .collect(),
        _ => (0..rng.random_range(1..24))
            .map(|_| rng.random_range(b'a'..=b'z'))
            .collect(),
    }
}

fn headers(rng: &mut SmallRng, most: usize) -> HeaderMap {
    let mut map = HeaderMap::new();
    for _ in 0..rng.random_range(0..=most) {
        let name = if rng.random_ratio(1, 12) {
            let name = format!("x-random-{}", rng.random_range(0..1_000_000));
            HeaderName::try_from(name).expect("a name")
        } else {
            HeaderName::from_static(NAMES[rng.random_range(0..NAMES.len())])
        };
        if name == "te" {
            map.insert(name, HeaderValue::from_static("trailers"));
            continue;
        }
        for _ in 0..if rng.random_ratio(1, 5) {
            rng.random_range(2..5)
        } else {
            1
        } {
            let mut value = HeaderValue::from_bytes(&value(rng)).expect("a value");
            value.set_sensitive(rng.random_ratio(1, 10));
            map.append(name.clone(), value);
        }
    }
    map
}

async fn answer(request: Request<h2::RecvStream>, mut respond: server::SendResponse<Bytes>) {
    let seed = request.headers()["x-seed"]
        .to_str()
        .expect("text")
        .parse()
        .expect("a number");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut body = request.into_body();
    if rng.random_ratio(1, 4) {
        let mut interim = Response::new(());
        *interim.status_mut() = StatusCode::EARLY_HINTS;
        *interim.headers_mut() = headers(&mut rng, 4);
        let _ = respond.send_informational(interim);
    }
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        let _ = body.flow_control().release_capacity(data.len());
    }
    let _ = body.trailers().await;
    let mut response = Response::new(());
    *response.status_mut() = [StatusCode::OK, StatusCode::NO_CONTENT, StatusCode::IM_A_TEAPOT][rng.random_range(0..3)];
    *response.headers_mut() = headers(&mut rng, 12);
    if rng.random_ratio(1, 20) {
        return respond.send_reset(h2::Reason::INTERNAL_ERROR);
    }
    let Ok(mut stream) = respond.send_response(response, false) else {
        return;
    };
    let _ = stream.send_data(Bytes::from_static(b"hello"), false);
    let _ = stream.send_trailers(headers(&mut rng, 5));
}

async fn ask(mut send: client::SendRequest<Bytes>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(!seed);
    let path = ["/", "/a/b?c=d&e=%20", "/pkg.Service/Method"][rng.random_range(0..3)];
    let mut request = Request::post(format!("http://service-{}.bank:8080{path}", rng.random_range(0..30)))
        .body(())
        .expect("a request");
    *request.headers_mut() = headers(&mut rng, 12);
    request.headers_mut().insert("x-seed", seed.into());
    let (response, mut stream) = match send.send_request(request, false) {
        Ok(sent) => sent,
        Err(_) => return,
    };
    let _ = stream.send_data(Bytes::from_static(b"body"), false);
    if rng.random_ratio(1, 30) {
        // Nobody wants the answer any more.
        return stream.send_reset(h2::Reason::CANCEL);
    }
    let _ = stream.send_trailers(headers(&mut rng, 3));
    let Ok(response) = response.await else { return };
    let mut body = response.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    let _ = body.trailers().await;
}

/// Sends random messages through a recorded proxy until so many header blocks were compared, over connections with tables of all sizes.
async fn honest(recorder: &Recorder, blocks: u64) {
    const TABLES: [u32; 5] = [4_096, 0, 128, 1_000, 65_536];
    for round in 0.. {
        if everything(recorder).compared >= blocks {
            return;
        }
        let (client, server, _life) = proxy(recorder, Lies::default()).await;
        let table = TABLES[round % TABLES.len()];
        let serving = tokio::task::spawn_local(async move {
            let mut builder = server::Builder::new();
            builder.header_table_size(table);
            let mut connection = builder.handshake::<_, Bytes>(server).await.expect("a handshake");
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::task::spawn_local(answer(request, respond));
            }
        });
        let (send, connection) = client::Builder::new()
            .header_table_size(TABLES[(round + 2) % TABLES.len()])
            .handshake::<_, Bytes>(client)
            .await
            .expect("a handshake");
        let driving = tokio::task::spawn_local(connection);
        for batch in 0..40 {
            let asked = (0..25).map(|nth| ask(send.clone(), (round * 1_000 + batch * 25 + nth) as u64));
            futures::future::join_all(asked).await;
        }
        drop(send);
        driving.abort();
        serving.abort();
    }
}

fn assert_no_alarm(recorder: &Recorder) {
    let all = everything(recorder);
    let is_one = |failure: &&FailureCopy| matches!(failure.facts.kind, FailureKind::Disagreement(_));
    let first = all.failures.iter().find(is_one).map(|first| &first.facts);
    assert!(
        first.is_none() && recorder.inner().disagreements() == [0, 0],
        "{first:?}"
    );
}

#[test]
fn honest_traffic_raises_no_alarm() {
    run(async {
        let recorder = Recorder::for_tests();
        honest(&recorder, 100_000).await;
        assert_no_alarm(&recorder);
        assert!(
            recorder.inner().used() <= 1024 * 1024 * 5 / 4,
            "{}",
            recorder.inner().used()
        );
    });
}

/// `make soak-recorder`: some minutes.
#[test]
#[ignore = "takes minutes"]
fn ten_million_blocks_raise_no_alarm_and_memory_stays() {
    run(async {
        let recorder = Recorder::for_tests();
        honest(&recorder, 10_000_000).await;
        assert_no_alarm(&recorder);
        assert!(
            recorder.inner().used() <= 1024 * 1024 * 5 / 4,
            "{}",
            recorder.inner().used()
        );
    });
}

//! A library that is wrong, made by somebody who changes bytes between it and the recorder.

use sheer_testkit::h2peer::{Block, Event, Peer as Script};

use super::*;
use crate::record::{
    FailureKind, List,
    replay::{Detail, Shown},
};

/// A scripted client and server on either side of a proxy whose library is lied to.
async fn lied_to(lies: Lies) -> Recorder {
    let recorder = Recorder::for_tests();
    let (client, server, _life) = proxy(&recorder, lies).await;
    let (client, server) = tokio::join!(Script::client(client), Script::server(server));
    let (mut client, mut server) = (client.expect("a client"), server.expect("a server"));
    let block = Block::get("a.bank", "/x")
        .literal("x-odd", "what was sent")
        .literal("cookie", "s3cret");
    client.headers_end(1, &block).await.expect("sent");
    let (stream, _) = server.request().await.expect("a request");
    let block = Block::status(200).literal("x-even", "y");
    server.headers_end(stream, &block).await.expect("sent");
    client.response(1).await.expect("a response");
    recorder
}

#[test]
fn a_library_that_reads_otherwise_is_caught() {
    run(async {
        let lies = Lies {
            read: Some((b"what was sent", b"what was read")),
            write: None,
        };
        let recorder = lied_to(lies).await;
        assert_eq!(recorder.inner().disagreements(), [1, 0]);
        let failures = everything(&recorder).failures;
        let [failure] = &failures[..] else {
            panic!("{} failures", failures.len())
        };
        assert_eq!(
            (&*failure.facts.reason, failure.facts.place.stream),
            ("library-disagreement", 1)
        );
        let FailureKind::Disagreement(difference) = &failure.facts.kind else {
            panic!("{:?}", failure.facts.kind)
        };
        let of = |list: &Option<List>, name: &str| {
            let list = list.as_ref().expect("a list");
            let field = list.iter().find(|field| field.0 == name.as_bytes()).expect("the field");
            String::from_utf8(field.1.clone()).expect("text")
        };
        assert_eq!(of(&difference.wire, "x-odd"), "what was sent");
        assert_eq!(of(&difference.library, "x-odd"), "what was read");
        // What came before is there, with the very block.
        let shown = failure.recordings[0].stream(1);
        let block = shown.iter().find_map(|shown| shown.block.as_ref()).expect("a block");
        assert!(block.fields.iter().any(|field| field.value == b"what was sent"));
    });
}

#[test]
fn a_library_that_writes_otherwise_is_caught() {
    run(async {
        // HEADERS with END_HEADERS on stream 1: `:status: 200`, and what becomes of it.
        let lies = Lies {
            read: None,
            write: Some((&[1, 5, 0, 0, 0, 1, 0x88], &[1, 5, 0, 0, 0, 1, 0x89])),
        };
        let recorder = lied_to(lies).await;
        assert_eq!(recorder.inner().disagreements(), [0, 1]);
        let failures = everything(&recorder).failures;
        let FailureKind::Disagreement(difference) = &failures[0].facts.kind else {
            panic!("{:?}", failures[0].facts.kind)
        };
        let status = |list: &Option<List>| list.as_ref().expect("a list")[0].1.clone();
        assert_eq!(status(&difference.wire), b"204");
        assert_eq!(status(&difference.library), b"200");
    });
}

#[test]
fn an_entry_that_was_evicted_is_an_alarm_only_where_the_library_takes_it() {
    run(async {
        let recorder = Recorder::for_tests();
        let (client, server, _life) = proxy(&recorder, Lies::default()).await;
        let (client, server) = tokio::join!(Script::client(client), Script::server(server));
        let (mut client, _server) = (client.expect("a client"), server.expect("a server"));
        // Index 62 was never filled: the library ends the connection, and agrees with the lens.
        client
            .headers_end(1, &Block::get("a.bank", "/x").indexed(62))
            .await
            .expect("sent");
        let gone = client.until(|event| matches!(event, Event::GoAway { .. })).await;
        assert!(matches!(gone, Ok(Event::GoAway { code: 1 | 9, .. })), "{gone:?}");
        drop(client);
        let ended = || everything(&recorder).failures.into_iter().next();
        let failure = loop {
            if let Some(failure) = ended() {
                break failure;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(recorder.inner().disagreements(), [0, 0]);
        assert!(matches!(failure.facts.kind, FailureKind::Connection));
        let shown = failure.recordings[0].shown();
        let broken: Vec<&str> = shown
            .iter()
            .flat_map(|shown| shown.violations.iter().map(String::as_str))
            .collect();
        assert!(
            broken
                .iter()
                .any(|rule| rule.contains("index 62 is beyond the 61 entries")),
            "{broken:?}"
        );
        let goaway =
            |shown: &Shown| matches!(&shown.detail, Detail::GoAway { code: 1 | 9, .. }) && shown.record.written;
        assert!(shown.iter().any(goaway));
    });
}

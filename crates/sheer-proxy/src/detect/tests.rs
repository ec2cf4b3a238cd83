//! Detection against scripted peers, in paused time.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::sleep,
};

use super::*;

const WAIT: Wait = Wait {
    silent: Duration::from_millis(250),
    partial: Duration::from_secs(10),
};

/// A ClientHello of 1.4 KiB for `db.bank`, made by hand: version, random, one suite, one large extension, the name, ALPN `h2`.
fn hello() -> Vec<u8> {
    let extensions = [
        &[0, 51, 0x05, 0x14][..],
        &[9; 0x514],
        b"\0\0\0\x0c\0\x0a\0\0\x07db.bank",
        b"\0\x10\0\x05\0\x03\x02h2",
    ]
    .concat();
    let length = |length: usize| (length as u16).to_be_bytes();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 1, 1, 0],
        &length(extensions.len()),
        &extensions,
    ]
    .concat();
    let message = [&[1, 0][..], &length(body.len()), &body].concat();
    [&[22, 3, 1][..], &length(message.len()), &message].concat()
}

/// A client that sends each piece after a pause, then waits.
fn client(pieces: &[&[u8]], pause: Duration) -> DuplexStream {
    let (mut far, near) = duplex(64 * 1024);
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    tokio::spawn(async move {
        for piece in pieces {
            sleep(pause).await;
            far.write_all(&piece).await.expect("open");
        }
        std::future::pending::<()>().await;
    });
    near
}

/// A client that sends this and closes its half.
async fn ended(bytes: &[u8]) -> DuplexStream {
    let (mut far, near) = duplex(1024);
    far.write_all(bytes).await.expect("room");
    drop(far);
    near
}

#[tokio::test(start_paused = true)]
async fn tls_is_known_from_pieces() {
    let hello = hello();
    let mut io = client(
        &[&hello[..3], &hello[3..600], &hello[600..], b"more"],
        Duration::from_millis(200),
    );
    let mut buf = BytesMut::new();
    let found = tls(&mut io, &mut buf, WAIT).await.expect("open");
    assert_eq!(
        found,
        Tls::ClientHello {
            sni: Some("db.bank".to_owned()),
            alpn: vec![b"h2".to_vec()]
        }
    );
    assert_eq!(buf, hello, "every byte is there to be replayed");
}

#[tokio::test(start_paused = true)]
async fn protocols_are_known_from_pieces() {
    for (pieces, expected) in [
        (&["GET", " / HT", "TP/1.1\r\n"][..], Http::Http1),
        (&["PRI * HTTP/2.0\r\n\r\n", "SM\r\n\r\n"], Http::Http2),
        (&["*3\r\n$3\r\nSET"], Http::Opaque),
        (&["GET / HTTP/1."], Http::Partial),
    ] {
        let bytes: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let mut buf = BytesMut::new();
        let found = http(&mut client(&bytes, Duration::from_millis(200)), &mut buf, WAIT)
            .await
            .expect("open");
        assert_eq!(found, expected, "{pieces:?}");
        assert_eq!(buf, pieces.concat());
    }
}

#[tokio::test(start_paused = true)]
async fn stages_share_what_was_read() {
    let mut io = client(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], Duration::ZERO);
    let mut buf = BytesMut::new();
    assert_eq!(tls(&mut io, &mut buf, WAIT).await.expect("open"), Tls::Plain);
    let none = Wait {
        silent: Duration::ZERO,
        partial: Duration::ZERO,
    };
    assert_eq!(
        http(&mut io, &mut buf, none).await.expect("open"),
        Http::Http2,
        "without reading more"
    );
}

#[tokio::test(start_paused = true)]
async fn waits_are_as_long_as_told() {
    let start = Instant::now();
    let mut buf = BytesMut::new();
    let mut silent = client(&[], Duration::ZERO);
    assert_eq!(tls(&mut silent, &mut buf, WAIT).await.expect("open"), Tls::Silent);
    assert_eq!(http(&mut silent, &mut buf, WAIT).await.expect("open"), Http::Silent);
    assert_eq!(start.elapsed().as_millis(), 500);
    let mut hesitant = client(&[b"\x16\x03"], Duration::from_millis(100));
    assert_eq!(tls(&mut hesitant, &mut buf, WAIT).await.expect("open"), Tls::Partial);
    assert_eq!(start.elapsed().as_millis(), 10_600, "from the first byte on");
}

#[tokio::test]
async fn ends_are_told_apart() {
    let mut buf = BytesMut::new();
    assert_eq!(
        tls(&mut ended(b"").await, &mut buf, WAIT).await.expect("open"),
        Tls::Closed
    );
    assert_eq!(
        http(&mut ended(b"").await, &mut buf, WAIT).await.expect("open"),
        Http::Closed
    );
    assert_eq!(
        http(&mut ended(b"GE").await, &mut buf, WAIT).await.expect("open"),
        Http::Partial
    );
    assert_eq!(&buf[..], b"GE", "half a word is still passed on");
}

#[tokio::test(start_paused = true)]
async fn whoever_speaks_first_decides() {
    let never = Duration::from_secs(3600);
    for (client_after, server_after, expected) in [
        (never, Duration::from_secs(3), FirstSpeaker::Server),
        (Duration::from_secs(3), never, FirstSpeaker::Client),
        (Duration::ZERO, Duration::ZERO, FirstSpeaker::Client),
    ] {
        let (mut client, mut server) = (client(&[b"EHLO"], client_after), client(&[b"220 mail"], server_after));
        sleep(Duration::from_millis(1)).await;
        let (mut from_client, mut from_server) = (BytesMut::new(), BytesMut::new());
        let found = first_speaker(&mut client, &mut from_client, &mut server, &mut from_server)
            .await
            .expect("open");
        assert_eq!(found, expected);
        assert_eq!(from_client.is_empty(), expected == FirstSpeaker::Server);
        assert_eq!(from_server.is_empty(), expected == FirstSpeaker::Client);
    }
    let mut buf = BytesMut::new();
    let mut silent = client(&[], never);
    let found = first_speaker(&mut ended(b"").await, &mut BytesMut::new(), &mut silent, &mut buf).await;
    assert_eq!(found.expect("open"), FirstSpeaker::ClientClosed);
    let found = first_speaker(&mut silent, &mut buf, &mut ended(b"").await, &mut BytesMut::new()).await;
    assert_eq!(found.expect("open"), FirstSpeaker::ServerClosed);
}

/// A starved caller's ClientHello came after the wait; the application's SETTINGS made the connection opaque, and the hello went to it
/// as it was.
#[tokio::test(start_paused = true)]
async fn an_http2_server_leaves_the_first_word_to_its_client() {
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    let (mut client, mut caller) = duplex(4096);
    let (mut server, mut app) = duplex(4096);
    app.write_all(settings).await.expect("room");
    let late = tokio::spawn(async move {
        sleep(Duration::from_secs(3)).await;
        caller.write_all(&hello()).await.expect("room");
        caller
    });
    let (mut from_client, mut from_server) = (BytesMut::new(), BytesMut::new());
    let found = first_speaker(&mut client, &mut from_client, &mut server, &mut from_server).await;
    assert_eq!(found.expect("open"), FirstSpeaker::Client);
    assert_eq!(from_server[..], settings[..]);
    drop((late.await, app));
}

#[tokio::test]
async fn a_rewound_stream_gives_everything_once() {
    let mut rewound = Rewind::new(ended(b"def").await, &b"abc"[..]);
    assert_eq!(rewound.prefix(), b"abc");
    let mut two = [0; 2];
    rewound.read_exact(&mut two).await.expect("the prefix");
    assert_eq!((&two, rewound.prefix()), (b"ab", &b"c"[..]));
    let mut rest = String::new();
    rewound.read_to_string(&mut rest).await.expect("an end");
    assert_eq!(rest, "cdef");
}

#[test]
fn waiting_costs_little_memory() {
    // Every fresh and every silent connection is one of these.
    let (mut io, _other) = duplex(1);
    let mut buf = BytesMut::new();
    let size = size_of_val(&http(&mut io, &mut buf, WAIT)).max(size_of_val(&tls(
        &mut duplex(1).0,
        &mut BytesMut::new(),
        WAIT,
    )));
    assert!(size <= 512, "{size} bytes");
}

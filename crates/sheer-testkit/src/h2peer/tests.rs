//! The scripted peer against the `h2` crate: both roles, big blocks, every octet that a value may have.

use anyhow::Result;
use bytes::Bytes;
use tokio::io::duplex;

use super::{Block, Peer, code, setting};

/// An `h2` server that echoes the request's fields and body, with `x-end` in trailers.
async fn echo(io: tokio::io::DuplexStream) -> Result<()> {
    let mut connection = h2::server::Builder::new()
        .max_header_list_size(1 << 24)
        .handshake::<_, Bytes>(io)
        .await?;
    while let Some(next) = connection.accept().await {
        let (request, mut respond) = next?;
        tokio::spawn(async move {
            let (parts, mut body) = request.into_parts();
            let mut response = http::Response::new(());
            *response.headers_mut() = parts.headers;
            let mut out = respond.send_response(response, false)?;
            while let Some(chunk) = body.data().await {
                out.send_data(chunk?, false)?;
            }
            let trailers = http::HeaderMap::from_iter([("x-end".parse()?, "yes".parse()?)]);
            out.send_trailers(trailers)?;
            anyhow::Ok(())
        });
    }
    Ok(())
}

#[tokio::test]
async fn speaks_to_a_server() -> Result<()> {
    let (near, far) = duplex(1 << 16);
    tokio::spawn(echo(far));
    let mut client = Peer::client(near).await?;
    let octets: Vec<u8> = (0x21..=0xff_u8).filter(|b| *b != 0x7f).collect();
    let big = "v".repeat(60_000);
    let block = Block::post("svc", "/")
        .insert("x-a", "1")
        .insert_named(62, "2")
        .literal("x-bin", &octets)
        .literal("x-big", &big);
    client.headers(1, &block).await?;
    client.data(1, "hello", true).await?;
    let response = client.response(1).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.values("x-a"), ["1", "2"]);
    assert_eq!(
        response.values("x-bin"),
        [Bytes::from(octets)],
        "each octet through h2's Huffman encoder and our decoder"
    );
    assert_eq!(response.field("x-big"), Some(big.as_str()));
    assert_eq!(response.body, b"hello");
    assert_eq!(response.trailers, Some(vec![("x-end".into(), "yes".into())]));
    assert!(client.continuations() >= 2);
    client.ping().await
}

#[tokio::test]
async fn holds_the_other_side_to_a_table_of_zero() -> Result<()> {
    let (near, far) = duplex(1 << 16);
    tokio::spawn(echo(far));
    let mut client = Peer::client_with(near, &[(setting::HEADER_TABLE_SIZE, 0)]).await?;
    for stream in [1, 3] {
        client
            .headers_end(stream, &Block::get("svc", "/").literal("x-a", "1").literal("x-a", "2"))
            .await?;
        assert_eq!(client.response(stream).await?.values("x-a"), ["1", "2"]);
    }
    Ok(())
}

#[tokio::test]
async fn speaks_to_a_client() -> Result<()> {
    let (near, far) = duplex(1 << 16);
    let client = tokio::spawn(async move {
        let (mut send, connection) = h2::client::handshake(near).await?;
        tokio::spawn(connection);
        let (response, _) = send.send_request(http::Request::get("http://svc/x").body(())?, true)?;
        let response = response.await?;
        let (reset, _) = send.send_request(http::Request::get("http://svc/y").body(())?, true)?;
        anyhow::Ok((response, reset.await.expect_err("it is reset")))
    });
    let mut server = Peer::server(far).await?;
    let (stream, request) = server.request().await?;
    assert_eq!(request.field(":path"), Some("/x"));
    server
        .headers_end(stream, &Block::status(200).literal("x-a", "1"))
        .await?;
    let (stream, _) = server.request().await?;
    server
        .send(super::Frame::reset(stream, code::ENHANCE_YOUR_CALM))
        .await?;
    let (response, reset) = client.await??;
    assert_eq!(response.headers()["x-a"], "1");
    assert_eq!(reset.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    Ok(())
}

use sheer_api::v1::{
    Ending, Exchange, FrameEvent, HeaderBlock, HeaderField, Http1Head, Leg, PlaintextEvent, TapEvent, TappedRequest,
    frame_event, plaintext_event, tap_event,
};

use super::{super::collected::Collected, *};

/// One connection that an application opened, as events of its proxy.
struct Scene {
    collected: Collected,
    frames: u64,
}

impl Scene {
    fn new(protocol: &str, was_open: bool) -> Self {
        let mut collected = Collected::default();
        let connection = Connection {
            id: 1,
            accepted: true,
            local: "127.0.0.1:4140".to_owned(),
            remote: "10.77.0.2:4000".to_owned(),
            original: "10.78.0.1:80".to_owned(),
            protocol: protocol.to_owned(),
            direction: "outbound".to_owned(),
            peer: "app".to_owned(),
            name: "web.shop".to_owned(),
            opened_us: 1,
            ..Connection::default()
        };
        if !was_open {
            collected.is_new_from_now_on();
        }
        collected.take(of_frame(frame_event::Event::Connection(connection)));
        collected.is_new_from_now_on();
        Self { collected, frames: 0 }
    }

    fn frame(&mut self, frame: Frame) -> &mut Self {
        self.frames += 1;
        self.collected.take(of_frame(frame_event::Event::Frame(Frame {
            connection: 1,
            number: self.frames,
            at_us: 10 * self.frames as i64,
            ..frame
        })));
        self
    }

    fn headers(&mut self, written: bool, kind: &str, flags: u8, fields: &[(&str, &str)]) -> &mut Self {
        self.frame(Frame {
            written,
            type_code: http2::HEADERS.into(),
            flags: flags.into(),
            stream: 1,
            block: Some(HeaderBlock {
                kind: kind.to_owned(),
                fields: shown(fields),
                ..HeaderBlock::default()
            }),
            ..Frame::default()
        })
    }

    fn data(&mut self, written: bool, flags: u8, length: u32) -> &mut Self {
        self.frame(Frame {
            written,
            type_code: http2::DATA.into(),
            flags: flags.into(),
            stream: 1,
            length,
            ..Frame::default()
        })
    }

    fn head(&mut self, written: bool, line: &str, fields: &[(&str, &str)]) -> &mut Self {
        self.frame(Frame {
            written,
            r#type: if written { "RESPONSE" } else { "REQUEST" }.to_owned(),
            stream: 1,
            http1: Some(Http1Head {
                line: line.to_owned(),
                fields: shown(fields),
                ..Http1Head::default()
            }),
            ..Frame::default()
        })
    }

    /// The request of the connection's first stream, with the trailers of its answer.
    fn request(&mut self, trailers: &[(&str, &str)]) -> &mut Self {
        let field = |(name, value): &(&str, &str)| HeaderField {
            name: (*name).to_owned(),
            value: value.as_bytes().to_vec(),
        };
        self.collected
            .take(of_tap(tap_event::Event::Request(Box::new(TappedRequest {
                exchange: Some(Exchange {
                    id: 7,
                    client: Some(Leg {
                        connection: 1,
                        stream: 1,
                        ..Leg::default()
                    }),
                    ..Exchange::default()
                }),
                response_trailers: trailers.iter().map(field).collect(),
                ..TappedRequest::default()
            }))));
        self
    }

    fn body(&mut self, response: bool, until: u64, wire: &str) -> &mut Self {
        self.collected.take(of_tap(tap_event::Event::Body(TappedBody {
            id: 7,
            response,
            until,
            wire: wire.as_bytes().to_vec(),
            note: if wire.is_empty() {
                "no JSON".to_owned()
            } else {
                String::new()
            },
            ..TappedBody::default()
        })));
        self
    }

    /// What the client and the server said, the comments, and what is missing.
    fn played(&self) -> (Vec<u8>, Vec<u8>, String, Missing) {
        let (id, recorded) = self.collected.connections.iter().next().expect("a connection");
        let shown = conversation(id, recorded, self.collected.requests()).expect("a conversation");
        let mut said = [Vec::new(), Vec::new()];
        let mut comments = Vec::new();
        for packet in &shown.packets {
            let segment = &packet.bytes[34..];
            let way = usize::from(segment[..2] != 4000_u16.to_be_bytes());
            said[way].extend(&segment[20..]);
            comments.extend((!packet.comment.is_empty()).then(|| packet.comment.clone()));
        }
        let [client, server] = said;
        (client, server, comments.join("\n"), shown.missing)
    }
}

fn of_frame(event: frame_event::Event) -> PlaintextEvent {
    PlaintextEvent {
        event: Some(plaintext_event::Event::Frame(FrameEvent {
            event: Some(event),
            pod: "shop/client".to_owned(),
        })),
    }
}

fn of_tap(event: tap_event::Event) -> PlaintextEvent {
    PlaintextEvent {
        event: Some(plaintext_event::Event::Tap(TapEvent {
            event: Some(event),
            pod: "shop/client".to_owned(),
        })),
    }
}

fn shown(fields: &[(&str, &str)]) -> Vec<ShownField> {
    let field = |(name, value): &(&str, &str)| ShownField {
        name: (*name).to_owned(),
        value: value.as_bytes().to_vec(),
        ..ShownField::default()
    };
    fields.iter().map(field).collect()
}

const END: u8 = http2::END_STREAM;

#[test]
fn messages_stand_where_their_last_byte_stood() {
    let mut scene = Scene::new("http/2", false);
    scene.request(&[]).body(false, 20, "first").body(false, 30, "second");
    scene.headers(false, "request", 0, &[(":path", "/x")]);
    scene.data(false, 0, 12).data(false, 0, 13).data(false, END, 5);
    let (client, server, comments, missing) = scene.played();
    let expected = [
        http2::PREFACE,
        &http2::headers(1, false, &shown(&[(":path", "/x")])),
        &http2::data(1, false, b"first"),
        &http2::data(1, true, b"second"),
    ];
    assert_eq!(
        (client, server, missing),
        (expected.concat(), Vec::new(), Missing::default())
    );
    assert_eq!(
        comments,
        "(1) the application of shop/client to its sidecar, for web.shop"
    );
}

#[test]
fn what_is_not_shown_has_a_comment_in_its_place() {
    let mut scene = Scene::new("http/2", false);
    scene.request(&[]).body(true, 40, "");
    scene.headers(false, "request", END, &[(":path", "/x")]);
    scene.headers(true, "response", 0, &[(":status", "200"), ("content-encoding", "gzip")]);
    scene.data(true, 0, 40);
    scene.headers(true, "trailers", END, &[("grpc-status", "0")]);
    let (_, server, comments, missing) = scene.played();
    let expected = [
        http2::headers(1, false, &shown(&[(":status", "200"), ("content-encoding", "gzip")])),
        http2::data(1, false, b""),
        http2::headers(1, true, &shown(&[("grpc-status", "0")])),
    ];
    assert_eq!((server, missing.bodies), (expected.concat(), 1));
    assert!(
        comments.contains("a part of the body is not shown: no JSON"),
        "{comments}"
    );
    // Of a request beyond the rate nothing is known.
    let mut scene = Scene::new("http/2", false);
    scene
        .headers(false, "request", 0, &[(":path", "/x")])
        .data(false, END, 9);
    let (.., comments, missing) = scene.played();
    assert!(
        missing.bodies == 1 && comments.contains("it was not kept"),
        "{comments}"
    );
}

#[test]
fn a_connection_that_was_open_begins_with_a_preface_and_without_its_open_streams() {
    let mut scene = Scene::new("http/2", true);
    scene
        .data(true, 0, 5)
        .headers(true, "trailers", END, &[("grpc-status", "0")]);
    let (client, server, comments, missing) = scene.played();
    assert_eq!(client, [http2::PREFACE, &http2::settings()].concat());
    assert_eq!((server, missing.streams), (http2::settings(), 1));
    assert!(comments.contains("open before the capture began"), "{comments}");
}

#[test]
fn a_body_of_http1_is_as_long_as_its_head_says() {
    let mut scene = Scene::new("http/1", false);
    scene
        .request(&[("x-end", "1")])
        .body(false, 30, "{\"a\":\"hash:1\"}")
        .body(true, 9, "[1]");
    scene.head(
        false,
        "POST /pay HTTP/1.1",
        &[("Content-Length", "30"), ("content-encoding", "gzip")],
    );
    scene.head(true, "HTTP/1.1 100 Continue", &[]);
    scene.head(true, "HTTP/1.1 200 OK", &[("transfer-encoding", "chunked")]);
    let (client, server, comments, missing) = scene.played();
    assert_eq!(
        String::from_utf8_lossy(&client),
        "POST /pay HTTP/1.1\r\nContent-Length: 14\r\ncontent-encoding: identity\r\n\r\n{\"a\":\"hash:1\"}"
    );
    assert_eq!(
        String::from_utf8_lossy(&server),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\nx-end: 1\r\n\r\n"
    );
    assert!(
        comments.contains("content-length was 30") && comments.contains("content-encoding was gzip"),
        "{comments}"
    );
    assert_eq!(missing, Missing::default());
}

#[test]
fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let mut scene = Scene::new("http/1", false);
    scene.request(&[]);
    scene.head(false, "HEAD / HTTP/1.1", &[]);
    scene.head(true, "HTTP/1.1 200 OK", &[("content-length", "9")]);
    let (_, server, _, missing) = scene.played();
    assert_eq!(server, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    assert_eq!(missing, Missing::default());
}

#[test]
fn what_is_relayed_is_not_shown_and_ends_as_it_did() {
    let mut scene = Scene::new("tcp", false);
    scene.frame(Frame {
        written: true,
        ending: Some(Ending {
            by: "proxy".to_owned(),
            how: "RST".to_owned(),
            ..Ending::default()
        }),
        ..Frame::default()
    });
    let (client, server, comments, _) = scene.played();
    assert!(client.is_empty() && server.is_empty());
    assert!(
        comments.contains("relayed as bytes") && comments.contains("ended by the proxy: RST"),
        "{comments}"
    );
    // Before, and nothing since: there is nothing to show.
    let scene = Scene::new("http/2", true);
    let (id, recorded) = scene.collected.connections.iter().next().expect("a connection");
    assert!(conversation(id, recorded, scene.collected.requests()).is_none());
}

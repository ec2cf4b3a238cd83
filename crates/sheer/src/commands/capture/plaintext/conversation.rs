//! One connection as a TCP conversation, from what its proxy says of it. What is not shown has a comment in its place.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use sheer_api::v1::{Connection, Frame, ShownField, TappedBody};

use super::{
    collected::{Id, Recorded, Request, Requests},
    http2,
    tcp::{End, Packet, Tcp},
};

/// A connection in packets, and what is not in them.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) packets: Vec<Packet>,
    pub(super) missing: Missing,
}

/// What could be seen and is not shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// Streams that were open before the capture began.
    pub(super) streams: usize,
    /// Bodies, or parts of them, that cannot be read field by field, or were not kept.
    pub(super) bodies: usize,
}

/// Both ends, the client first: with the address that the client used where the connection was redirected.
pub(super) fn ends(connection: &Connection) -> Option<(SocketAddr, SocketAddr)> {
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    let (local, remote) = (address(&connection.local), address(&connection.remote)?);
    if connection.accepted {
        Some((remote, address(&connection.original).or(local)?))
    } else {
        Some((local?, remote))
    }
}

/// The conversation; none where nothing passed, or its ends are not known.
pub(super) fn conversation(id: &Id, recorded: &Recorded, requests: &Requests) -> Option<Conversation> {
    let connection = &recorded.connection;
    let (client, server) = ends(connection)?;
    let first = recorded.frames.first();
    if recorded.was_open && first.is_none() {
        return None;
    }
    let began = match first {
        Some(first) if recorded.was_open => first.at_us,
        _ => connection.opened_us,
    };
    let mut writing = Writing {
        id,
        accepted: connection.accepted,
        requests,
        tcp: Tcp::open(client, server, nanos(began), leg(connection, &id.0)),
        missing: Missing::default(),
    };
    match connection.protocol.as_str() {
        "http/2" => writing.http2(recorded),
        "http/1" => writing.http1(recorded),
        _ => writing
            .tcp
            .say("relayed as bytes, which are not shown: nobody can tell what in them is secret"),
    }
    if let Some((frame, ending)) = recorded
        .frames
        .iter()
        .find_map(|frame| Some((frame, frame.ending.as_ref()?)))
    {
        writing.tcp.say(&format!("ended by the {}: {}", ending.by, ending.how));
        let end = if ending.how.contains("RST") {
            End::Reset
        } else {
            End::Fin
        };
        let from_client = writing.is_from_client(frame);
        writing.tcp.close(from_client, nanos(frame.at_us), end);
    }
    Some(Conversation {
        packets: writing.tcp.into_packets(),
        missing: writing.missing,
    })
}

fn nanos(us: i64) -> u64 {
    u64::try_from(us).unwrap_or(0) * 1_000
}

/// Which leg it is, with the number of the point at which a request is seen there.
fn leg(connection: &Connection, pod: &str) -> String {
    let other = if connection.remote_pod.is_empty() {
        &connection.remote
    } else {
        &connection.remote_pod
    };
    let to = match connection.name.as_str() {
        "" => String::new(),
        name => format!(", for {name}"),
    };
    match (connection.direction.as_str(), connection.peer.as_str()) {
        ("outbound", "app") => format!("(1) the application of {pod} to its sidecar{to}"),
        ("outbound", _) => format!("(2) the sidecar of {pod} to {other}{to}"),
        ("inbound", "app") => format!("(4) the sidecar of {pod} to its application{to}"),
        _ => format!("(3) {other} to the sidecar of {pod}{to}"),
    }
}

struct Writing<'a> {
    id: &'a Id,
    accepted: bool,
    requests: &'a Requests,
    tcp: Tcp,
    missing: Missing,
}

/// What of a body is still to come.
#[derive(Default)]
struct Body<'a> {
    parts: &'a [TappedBody],
    /// Bytes that went by.
    passed: u64,
}

impl<'a> Body<'a> {
    /// The parts that end here, as bytes, and what is to be said of those without any.
    fn take(&mut self, all: bool) -> (Vec<u8>, Vec<&'a str>) {
        let is_here = |part: &TappedBody| all || part.until <= self.passed;
        let here = self.parts.iter().take_while(|part| is_here(part)).count();
        let (here, rest) = self.parts.split_at(here);
        self.parts = rest;
        let bytes = here.iter().flat_map(|part| &part.wire).copied().collect();
        let hidden = here.iter().filter(|part| part.wire.is_empty());
        (bytes, hidden.map(|part| part.note.as_str()).collect())
    }
}

impl<'a> Writing<'a> {
    fn is_from_client(&self, frame: &Frame) -> bool {
        frame.written != self.accepted
    }

    /// Says what of a body is not shown.
    fn hidden(&mut self, why: &[&str]) {
        self.missing.bodies += why.len();
        for why in why {
            self.tcp.say(&format!("a part of the body is not shown: {why}"));
        }
    }

    fn http2(&mut self, recorded: &Recorded) {
        let began = nanos(
            recorded
                .frames
                .first()
                .map_or(recorded.connection.opened_us, |frame| frame.at_us),
        );
        if recorded.was_open {
            self.tcp
                .say("it was open before the capture began: preface and SETTINGS are put in its place by sheer");
        }
        self.tcp.send(true, began, http2::PREFACE);
        if recorded.was_open {
            for from_client in [true, false] {
                self.tcp.send(from_client, began, &http2::settings());
            }
        }
        let mut streams: HashMap<u32, [Body<'a>; 2]> = HashMap::new();
        let mut earlier = HashSet::new();
        for frame in &recorded.frames {
            let kind = frame.type_code as u8;
            let is_request = frame.block.as_ref().is_some_and(|block| block.kind == "request");
            if is_request && self.is_from_client(frame) && !streams.contains_key(&frame.stream) {
                let request = self.requests.on(self.id, frame.stream);
                streams.insert(frame.stream, bodies(request));
            }
            let Some(stream) = streams.get_mut(&frame.stream).filter(|_| frame.stream != 0) else {
                if frame.stream != 0 && matches!(kind, http2::DATA | http2::HEADERS) {
                    earlier.insert(frame.stream);
                } else if frame.stream == 0 {
                    self.other(frame);
                }
                continue;
            };
            let body = &mut stream[usize::from(!self.is_from_client(frame))];
            match kind {
                http2::DATA => self.data(frame, body),
                http2::HEADERS => self.headers(frame, body),
                _ => self.other(frame),
            }
        }
        self.missing.streams += earlier.len();
    }

    fn other(&mut self, frame: &Frame) {
        if frame.ending.is_some() {
            return;
        }
        if let Some(bytes) = http2::other(frame) {
            let from_client = self.is_from_client(frame);
            self.tcp.send(from_client, nanos(frame.at_us), &bytes);
        }
    }

    fn data(&mut self, frame: &Frame, body: &mut Body<'a>) {
        let (from_client, time) = (self.is_from_client(frame), nanos(frame.at_us));
        let ends = frame.flags as u8 & http2::END_STREAM != 0;
        let nobody_saw = body.passed == 0 && body.parts.is_empty() && frame.length > 0;
        body.passed += u64::from(frame.length);
        let (bytes, mut hidden) = body.take(ends);
        if nobody_saw {
            hidden.push("it was not kept");
        }
        self.hidden(&hidden);
        // What is not whole yet comes with its last frame.
        if ends || !bytes.is_empty() || !hidden.is_empty() {
            self.tcp
                .send(from_client, time, &http2::data(frame.stream, ends, &bytes));
        }
    }

    fn headers(&mut self, frame: &Frame, body: &mut Body<'a>) {
        let (from_client, time) = (self.is_from_client(frame), nanos(frame.at_us));
        let Some(block) = &frame.block else {
            self.tcp.say("a header block is not shown: it was not kept");
            return;
        };
        if block.kind == "trailers" {
            let (bytes, hidden) = body.take(true);
            self.hidden(&hidden);
            if !bytes.is_empty() {
                self.tcp
                    .send(from_client, time, &http2::data(frame.stream, false, &bytes));
            }
        }
        if !block.error.is_empty() {
            self.tcp
                .say(&format!("the header block cannot be read further: {}", block.error));
        }
        let mut fields = block.fields.clone();
        self.opened(&mut fields, body.parts);
        let ends = frame.flags as u8 & http2::END_STREAM != 0;
        self.tcp
            .send(from_client, time, &http2::headers(frame.stream, ends, &fields));
    }

    /// Bodies are shown as they are when they are not compressed, so nothing may say that they are.
    fn opened(&mut self, fields: &mut [ShownField], parts: &[TappedBody]) {
        if parts.iter().all(|part| part.wire.is_empty()) {
            return;
        }
        let encodings = fields
            .iter_mut()
            .filter(|field| field.name.eq_ignore_ascii_case("content-encoding"));
        for field in encodings.filter(|field| field.value != b"identity") {
            let was = String::from_utf8_lossy(&field.value).into_owned();
            field.value = b"identity".to_vec();
            self.tcp.say(&format!(
                "content-encoding was {was}, and the body is not compressed here"
            ));
        }
    }

    fn http1(&mut self, recorded: &Recorded) {
        if recorded.was_open {
            self.tcp.say("it was open before the capture began");
        }
        // Methods of requests whose answer has not come.
        let mut methods: HashMap<u32, bool> = HashMap::new();
        for frame in &recorded.frames {
            let Some(head) = &frame.http1 else { continue };
            let is_response = frame.r#type == "RESPONSE";
            if frame.r#type == "TRAILERS" {
                // Bodies are written whole, behind their length: nothing may follow.
                let name = |field: &ShownField| format!("{}: {}", field.name, String::from_utf8_lossy(&field.value));
                let all: Vec<String> = head.fields.iter().map(name).collect();
                self.tcp.say(&format!("trailers followed: {}", all.join(", ")));
                continue;
            }
            if !is_response {
                methods.insert(frame.stream, head.line.starts_with("HEAD "));
            } else if !methods.contains_key(&frame.stream) {
                self.missing.streams += 1;
                continue;
            }
            let of_head = is_response && methods.get(&frame.stream).copied().unwrap_or(false);
            self.message(frame, is_response, of_head);
        }
    }

    /// A head with its body, whose length is that of what is shown.
    fn message(&mut self, frame: &Frame, is_response: bool, of_head: bool) {
        let (Some(head), from_client) = (&frame.http1, self.is_from_client(frame)) else {
            return;
        };
        let request = self.requests.on(self.id, frame.stream);
        let way = usize::from(is_response);
        let parts = request.map_or(&[][..], |request| &request.bodies[way]);
        let status = head.line.split(' ').nth(1).unwrap_or("");
        let has_none = is_response && (of_head || status.starts_with('1') || matches!(status, "204" | "304"));
        let mut body = Body {
            parts: if has_none { &[] } else { parts },
            ..Body::default()
        };
        let (time, until) = (
            frame.at_us,
            body.parts.iter().map(|part| part.at_us).max().unwrap_or(frame.at_us),
        );
        let mut fields = head.fields.clone();
        self.opened(&mut fields, body.parts);
        let (bytes, mut hidden) = body.take(true);
        let is_chunked = is_field(&fields, "transfer-encoding", |value| {
            value.to_ascii_lowercase().ends_with(b"chunked")
        });
        let says_length = |value: &[u8]| value != bytes.len().to_string().as_bytes();
        if !has_none && is_field(&fields, "content-length", says_length) {
            for field in fields
                .iter_mut()
                .filter(|field| field.name.eq_ignore_ascii_case("content-length"))
            {
                let was = String::from_utf8_lossy(&field.value).into_owned();
                field.value = bytes.len().to_string().into_bytes();
                self.tcp.say(&format!(
                    "content-length was {was}: the body here is what may be shown of it"
                ));
            }
            if parts.is_empty() {
                hidden.push("it was not kept");
            }
        }
        self.hidden(&hidden);
        let mut out = format!("{}\r\n", head.line).into_bytes();
        fields
            .iter()
            .for_each(|field| line(&mut out, &field.name, &field.value));
        out.extend(b"\r\n");
        self.tcp.send(from_client, nanos(time), &out);
        out.clear();
        if is_chunked && !has_none {
            if !bytes.is_empty() {
                out.extend(format!("{:x}\r\n", bytes.len()).bytes());
                out.extend(&bytes);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n");
            let trailers = request.map_or(&[][..], |request| &request.trailers[way]);
            trailers
                .iter()
                .for_each(|field| line(&mut out, &field.name, &field.value));
            out.extend(b"\r\n");
        } else {
            out.extend(&bytes);
        }
        self.tcp.send(from_client, nanos(time.max(until)), &out);
    }
}

fn bodies(request: Option<&Request>) -> [Body<'_>; 2] {
    [0, 1].map(|way| Body {
        parts: request.map_or(&[][..], |request| &request.bodies[way]),
        ..Body::default()
    })
}

fn is_field(fields: &[ShownField], name: &str, says: impl Fn(&[u8]) -> bool) -> bool {
    fields
        .iter()
        .any(|field| field.name.eq_ignore_ascii_case(name) && says(&field.value))
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend(name.bytes());
    out.extend(b": ");
    out.extend(value);
    out.extend(b"\r\n");
}

#[cfg(test)]
mod tests;

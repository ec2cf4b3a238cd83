//! Bodies as they went by: cut into messages, put into JSON, and what may be secret replaced before it leaves the proxy. Runs on the control runtime.
//!
//! What cannot be read field by field is not shown, since nobody can tell what in it is secret: of a text, an image or a broken document the reader
//! gets type, size and a keyed hash. Of protobuf without descriptors numbers are shown, text and bytes are not.

mod documents;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use http::{HeaderMap, header};
use prost_reflect::{DescriptorPool, Kind as FieldKind, MessageDescriptor};
use sheer_api::v1;
use sheer_lens::{
    grpc::{Encoding, Message, Messages, decompress},
    protobuf::{self, Limits, Place, Redact},
};

use self::documents::{document, line_of};
use crate::{
    exchange::Way,
    redact::Redactor,
    tap::{BodyEvent, RequestEvent},
};

/// Bodies that are read at once. Of requests beyond it only the heads are shown.
const OPEN: usize = 256;
/// Bytes before a message of gRPC.
const PREFIX: u64 = 5;
/// Both directions of a request.
const WAYS: [Way; 2] = [Way::Request, Way::Response];

/// How bodies are shown to one reader.
pub(super) struct How {
    /// Bytes of each body.
    pub(super) limit: usize,
    pub(super) redactor: Redactor,
    /// Also as bytes.
    pub(super) wire: bool,
    /// Full names of fields of protobuf that their schema marks.
    pub(super) marked: BTreeSet<String>,
}

/// Reads bodies for one reader.
pub(super) struct Bodies {
    how: How,
    descriptors: Vec<DescriptorPool>,
    open: HashMap<(u64, bool), Reader>,
}

struct Reader {
    kind: Kind,
    received: usize,
    /// Where the last part ended that was shown.
    until: u64,
    /// A piece was lost: what follows cannot be read.
    has_gap: bool,
    number: u32,
    /// When the last piece came.
    at: i64,
}

enum Kind {
    Grpc {
        messages: Messages,
        descriptor: Option<MessageDescriptor>,
        encoding: Option<Encoding>,
    },
    /// One JSON document a line: NDJSON, and the `data:` of server-sent events.
    Lines(Vec<u8>),
    Whole {
        bytes: Vec<u8>,
        media: String,
        encoding: Option<Encoding>,
    },
}

/// A part of a body, readable.
#[derive(Default)]
struct Part {
    format: &'static str,
    type_name: String,
    text: String,
    bytes: usize,
    note: String,
    /// For readers of the protocol; of JSON the text where empty.
    wire: Vec<u8>,
    /// Bytes of the body that it takes, where that is not `bytes`.
    length: Option<u64>,
}

impl Bodies {
    /// Whether none is shown.
    pub(super) fn are_unwanted(&self) -> bool {
        self.how.limit == 0
    }

    /// `descriptors`: encoded `FileDescriptorSet`s, for bodies of gRPC.
    /// Gives what is wrong with those that cannot be read, too.
    pub(super) fn new(mut how: How, descriptors: &[impl AsRef<[u8]>]) -> (Self, Vec<String>) {
        let mut pools = Vec::new();
        let mut wrong = Vec::new();
        for set in descriptors {
            match DescriptorPool::decode(set.as_ref()) {
                Ok(pool) => {
                    how.marked.extend(protobuf::marked(set.as_ref()));
                    pools.push(pool);
                }
                Err(error) => wrong.push(format!("descriptors cannot be read: {error}")),
            }
        }
        let bodies = Self {
            how,
            descriptors: pools,
            open: HashMap::new(),
        };
        (bodies, wrong)
    }

    /// A piece of a body: the messages that are whole with it.
    pub(super) fn piece(&mut self, event: &BodyEvent) -> Vec<v1::TappedBody> {
        let key = (event.id, event.way == Way::Response);
        if self.open.len() >= OPEN && !self.open.contains_key(&key) {
            return Vec::new();
        }
        let (how, descriptors) = (&self.how, &self.descriptors);
        let reader = self
            .open
            .entry(key)
            .or_insert_with(|| Reader::new(event, how.limit, descriptors));
        let mut parts = Vec::new();
        reader.take(event, how, &mut parts);
        let shown = |part: Part| reader.show(part, event.id, (event.is_outbound, event.way), how);
        parts.into_iter().map(shown).collect()
    }

    /// The request is over: what is left of its bodies.
    pub(super) fn end(&mut self, event: &RequestEvent) -> Vec<v1::TappedBody> {
        let mut shown = Vec::new();
        let Some(end) = &event.end else { return shown };
        for way in WAYS {
            let whole = match way {
                Way::Request => end.request_bytes,
                Way::Response => end.response_bytes,
            };
            let Some(mut reader) = self.open.remove(&(event.id, way == Way::Response)) else {
                if whole > 0 && !self.are_unwanted() {
                    shown.push(unseen(event, way, whole));
                }
                continue;
            };
            let missing = whole.saturating_sub(self.how.limit.min(reader.received) as u64);
            // There was room for it.
            reader.has_gap |= missing > 0 && reader.received < self.how.limit;
            if let Some(mut part) = reader.rest(missing, &self.how) {
                part.length = Some(whole.saturating_sub(reader.until));
                shown.push(reader.show(part, event.id, (event.is_outbound, way), &self.how));
            }
        }
        shown
    }
}

/// A body of so many bytes, of which no piece came.
fn unseen(event: &RequestEvent, way: Way, bytes: u64) -> v1::TappedBody {
    let has_left = event.answer.as_ref().is_some_and(|answer| match answer.status {
        101 => true,
        200..=299 => event.head.method == Some(http::Method::CONNECT),
        _ => false,
    });
    let note = if has_left {
        "not shown: it is no longer HTTP"
    } else {
        "lost: it came faster than it was read"
    };
    v1::TappedBody {
        id: event.id,
        direction: if event.is_outbound { "outbound" } else { "inbound" }.to_owned(),
        at_us: event.clock.unix(event.at),
        response: way == Way::Response,
        format: "hidden".to_owned(),
        bytes,
        note: note.to_owned(),
        until: bytes,
        ..v1::TappedBody::default()
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

impl Reader {
    fn new(event: &BodyEvent, limit: usize, descriptors: &[DescriptorPool]) -> Self {
        let none = HeaderMap::new();
        let headers = match (event.way, &event.answer) {
            (Way::Request, _) => &event.head.headers,
            (Way::Response, Some(answer)) => &answer.headers,
            (Way::Response, None) => &none,
        };
        let media = field(headers, &header::CONTENT_TYPE)
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        let kind = if media == "application/grpc" || media.starts_with("application/grpc+") {
            let encoding = headers.get("grpc-encoding").map_or(&b""[..], |value| value.as_bytes());
            Kind::Grpc {
                messages: Messages::new(limit),
                descriptor: descriptors
                    .iter()
                    .find_map(|pool| message_of(pool, &event.head.path, event.way)),
                encoding: Encoding::by_name(encoding),
            }
        } else if matches!(
            media.as_str(),
            "application/x-ndjson" | "application/jsonl" | "text/event-stream"
        ) {
            Kind::Lines(Vec::new())
        } else {
            Kind::Whole {
                bytes: Vec::new(),
                media,
                encoding: Encoding::by_name(field(headers, &header::CONTENT_ENCODING).as_bytes()),
            }
        };
        Self {
            kind,
            received: 0,
            until: 0,
            has_gap: false,
            number: 0,
            at: 0,
        }
    }

    fn take(&mut self, event: &BodyEvent, how: &How, parts: &mut Vec<Part>) {
        self.at = event.clock.unix(event.at);
        self.has_gap |= event.offset != self.received;
        if self.has_gap {
            return;
        }
        let room = how.limit.saturating_sub(self.received);
        let data = &event.data[..event.data.len().min(room)];
        self.received += event.data.len();
        match &mut self.kind {
            Kind::Grpc {
                messages,
                descriptor,
                encoding,
            } => messages.feed(data, &mut |message: &Message<'_>| {
                parts.push(grpc(message, descriptor.as_ref(), *encoding, how));
            }),
            Kind::Lines(buffer) => {
                buffer.extend_from_slice(data);
                while let Some(end) = memchr::memchr(b'\n', buffer) {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    parts.extend(line_of(&line, &how.redactor));
                }
            }
            Kind::Whole { bytes, .. } => bytes.extend_from_slice(data),
        }
    }

    /// What is left at the end; `missing` bytes were not kept.
    fn rest(&mut self, missing: u64, how: &How) -> Option<Part> {
        let missing = match (self.has_gap, missing) {
            (true, _) => "the rest was lost: it came faster than it was read".to_owned(),
            (false, 0) => String::new(),
            (false, missing) => format!("{missing} more bytes are not kept (--max)"),
        };
        let mut part = match &mut self.kind {
            Kind::Grpc { messages, .. } if messages.is_between_messages() => None,
            Kind::Grpc {
                messages,
                descriptor,
                encoding,
            } => {
                let begun = messages.begun();
                let mut part =
                    begun.map_or_else(Part::default, |begun| grpc(&begun, descriptor.as_ref(), *encoding, how));
                part.note = if missing.is_empty() {
                    "ends within a message"
                } else {
                    ""
                }
                .to_owned();
                Some(part)
            }
            Kind::Lines(buffer) => line_of(buffer, &how.redactor),
            Kind::Whole { bytes, media, encoding } => {
                (!bytes.is_empty()).then(|| document(bytes, media, *encoding, !missing.is_empty(), &how.redactor))
            }
        };
        if !missing.is_empty() {
            let part = part.get_or_insert_default();
            if !part.note.is_empty() {
                part.note.push_str("; ");
            }
            part.note.push_str(&missing);
        }
        part
    }

    fn show(&mut self, part: Part, id: u64, (is_outbound, way): (bool, Way), how: &How) -> v1::TappedBody {
        let number = self.number;
        self.number += 1;
        self.until += part.length.unwrap_or(part.bytes as u64);
        let wire = match part.format {
            _ if !how.wire => Vec::new(),
            "json" if part.wire.is_empty() => part.text.clone().into_bytes(),
            _ => part.wire,
        };
        v1::TappedBody {
            id,
            direction: if is_outbound { "outbound" } else { "inbound" }.to_owned(),
            at_us: self.at,
            response: way == Way::Response,
            number,
            format: if part.format.is_empty() { "hidden" } else { part.format }.to_owned(),
            type_name: part.type_name,
            text: part.text,
            bytes: part.bytes as u64,
            note: part.note,
            wire,
            until: self.until,
        }
    }
}

/// The message that a method takes or gives.
fn message_of(pool: &DescriptorPool, path: &str, way: Way) -> Option<MessageDescriptor> {
    let (service, method) = path.split('?').next()?.strip_prefix('/')?.split_once('/')?;
    let service = pool.get_service_by_name(service)?;
    let method = service.methods().find(|known| known.name() == method)?;
    Some(match way {
        Way::Request => method.input(),
        Way::Response => method.output(),
    })
}

/// Hides fields of protobuf.
struct Hide<'a>(&'a How);

impl Redact for Hide<'_> {
    fn redact(&mut self, place: &Place<'_>) -> Option<String> {
        let How { redactor, marked, .. } = self.0;
        let is_marked = place.field.is_some_and(|field| marked.contains(field.full_name()));
        if is_marked || redactor.is_sensitive_field(place.path) || redactor.is_sensitive_field(place.name) {
            return Some(redactor.hashed(place.raw));
        }
        // Not of numbers, which may look like text.
        place.field.filter(|field| matches!(field.kind(), FieldKind::String))?;
        match redactor.text(std::str::from_utf8(place.raw).ok()?) {
            Cow::Owned(shown) => Some(shown),
            Cow::Borrowed(_) => None,
        }
    }

    fn redact_nameless(&mut self, place: &Place<'_>) -> Option<String> {
        Some(self.0.redactor.hashed(place.raw))
    }
}

fn grpc(message: &Message<'_>, descriptor: Option<&MessageDescriptor>, encoding: Option<Encoding>, how: &How) -> Part {
    let limit = how.limit;
    let mut part = Part {
        format: "protobuf",
        bytes: message.length as usize,
        length: Some(PREFIX + u64::from(message.length)),
        ..Part::default()
    };
    let opened = match (message.is_compressed(), encoding) {
        (false, _) => None,
        (true, Some(encoding)) => Some(decompress(encoding, message.bytes, limit)),
        (true, None) => {
            (part.format, part.note) = ("hidden", "compressed in a way that nobody here can open".to_owned());
            return part;
        }
    };
    let bytes = opened.as_ref().map_or(message.bytes, |opened| &opened.bytes);
    let limits = Limits {
        size: limit * 2,
        ..Limits::default()
    };
    let json = match descriptor {
        Some(descriptor) => {
            descriptor.full_name().clone_into(&mut part.type_name);
            protobuf::by_descriptor(descriptor, bytes, limits, &mut Hide(how))
        }
        None => {
            "no descriptor: field numbers, without text".clone_into(&mut part.note);
            protobuf::by_structure(bytes, limits, &mut Hide(how))
        }
    };
    let cut = json.is_cut || !message.is_whole() || opened.as_ref().is_some_and(|opened| opened.is_cut);
    if let Some(failed) = opened
        .as_ref()
        .and_then(|opened| opened.failed.as_ref())
        .filter(|_| !cut)
    {
        part.note = failed.to_string();
    } else if cut {
        "cut: it is larger than what is kept (--max)".clone_into(&mut part.note);
    } else {
        if let Some(fault) = json.fault {
            part.note = format!("not what its type says: {fault}");
        }
        if how.wire {
            part.wire = framed(&protobuf::redacted(descriptor, bytes, &mut Hide(how)));
        }
    }
    part.text = json.text;
    part
}

/// A message as it stands in a body, not compressed.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], message].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::{
        record::Clock,
        tap::{Answer, TapHead},
    };

    fn event(media: &'static str, path: &str, way: Way, offset: usize, data: &[u8]) -> BodyEvent {
        let headers: HeaderMap = [(header::CONTENT_TYPE, HeaderValue::from_static(media))]
            .into_iter()
            .collect();
        BodyEvent {
            id: 7,
            is_outbound: true,
            clock: Clock::new(),
            way,
            at: 0,
            head: Arc::new(TapHead::for_tests(path, headers.clone())),
            answer: Some(Arc::new(Answer {
                status: 200,
                headers,
                after: 1,
            })),
            offset,
            data: Bytes::copy_from_slice(data),
        }
    }

    fn bodies(descriptors: &[Vec<u8>]) -> Bodies {
        Bodies::new(how(), descriptors).0
    }

    fn how() -> How {
        How {
            limit: 4_096,
            redactor: Redactor::new(&[7; 32], []),
            wire: true,
            marked: BTreeSet::new(),
        }
    }

    fn rest(bodies: &mut Bodies, way: Way) -> Part {
        let mut reader = bodies.open.remove(&(7, way == Way::Response)).expect("a body");
        reader.rest(0, &how()).expect("a part")
    }

    #[test]
    fn json_comes_whole_and_without_secrets() {
        let mut bodies = bodies(&[]);
        let text = br#"{"payer":"ada","card":{"apiToken":"planted","pan":[1,{"password":{"x":"planted"}}]}}"#;
        let (a, b) = text.split_at(20);
        assert!(
            bodies
                .piece(&event("application/json", "/", Way::Request, 0, a))
                .is_empty()
        );
        assert!(
            bodies
                .piece(&event("application/json", "/", Way::Request, 20, b))
                .is_empty()
        );
        let part = rest(&mut bodies, Way::Request);
        assert_eq!(part.format, "json");
        assert!(
            part.text.contains(r#""payer":"ada""#) && part.text.contains(r#""apiToken":"hash:"#),
            "{}",
            part.text
        );
        assert!(!part.text.contains("planted"), "{}", part.text);
        // A piece that was lost: what follows is no document.
        bodies.piece(&event("application/json", "/", Way::Request, 0, a));
        bodies.piece(&event("application/json", "/", Way::Request, 50, b));
        let part = rest(&mut bodies, Way::Request);
        assert!(part.text.is_empty() && part.note.contains("lost"), "{}", part.note);
    }

    #[test]
    fn a_body_of_which_nothing_came_is_told() {
        let mut bodies = bodies(&[]);
        let mut ends = |event: &RequestEvent| -> Vec<_> {
            let shown = bodies.end(event).into_iter();
            shown
                .map(|body| (body.response, body.bytes, body.until, body.note))
                .collect()
        };
        assert!(
            ends(&RequestEvent::over_for_tests(7, (0, 0))).is_empty(),
            "there was none"
        );
        let mut event = RequestEvent::over_for_tests(7, (0, 12));
        assert_eq!(
            ends(&event),
            [(true, 12, 12, "lost: it came faster than it was read".to_owned())]
        );
        event.answer = Some(Arc::new(Answer {
            status: 101,
            headers: HeaderMap::new(),
            after: 1,
        }));
        assert_eq!(
            ends(&event),
            [(true, 12, 12, "not shown: it is no longer HTTP".to_owned())]
        );
        let mut unwanted = Bodies::new(How { limit: 0, ..how() }, &[] as &[&[u8]]).0;
        assert!(unwanted.end(&event).is_empty(), "nobody asked");
    }

    #[test]
    fn what_cannot_be_read_field_by_field_is_not_shown() {
        for (media, text) in [
            ("text/plain", "password is planted"),
            ("application/json", "{\"a\": planted"),
            ("", "planted"),
        ] {
            let mut bodies = bodies(&[]);
            bodies.piece(&event(media, "/", Way::Response, 0, text.as_bytes()));
            let part = rest(&mut bodies, Way::Response);
            assert!(part.text.is_empty(), "{}", part.text);
            assert!(
                part.note.contains("hash:") && !part.note.contains("planted"),
                "{}",
                part.note
            );
            assert_eq!(part.bytes, text.len());
        }
    }

    #[test]
    fn messages_of_grpc_come_one_by_one_by_descriptor_and_by_structure() {
        let set = descriptors();
        let mut message = vec![0, 0, 0, 0, 0];
        message.extend([0x0a, 3]);
        message.extend(b"ada");
        message.extend([0x12, 7]);
        message.extend(b"planted");
        message.extend([0x18, 42]);
        message[4] = (message.len() - 5) as u8;
        let two = [message.clone(), message].concat();
        let mut known = bodies(&[set]);
        let shown = known.piece(&event("application/grpc", "/shop.Till/Pay", Way::Request, 0, &two));
        assert_eq!(shown.len(), 2);
        assert_eq!((shown[1].number, shown[1].type_name.as_str()), (1, "shop.Pay"));
        let ends = [shown[0].until, shown[1].until].map(|until| until as usize);
        assert_eq!(ends, [two.len() / 2, two.len()], "of the body as it was");
        let (prefix, wire) = shown[0].wire.split_at(5);
        assert_eq!((prefix[0], usize::from(prefix[4])), (0, wire.len()));
        assert_eq!(wire[..5], *b"\x0a\x03ada");
        assert_eq!(
            (&wire[5..8], &wire[wire.len() - 2..]),
            (&b"\x12\x15h"[..], &[0x18, 42][..])
        );
        assert!(!wire.windows(7).any(|bytes| bytes == b"planted"));
        assert!(
            shown[0].text.starts_with(r#"{"payer":"ada","cardToken":"hash:"#),
            "{}",
            shown[0].text
        );
        assert!(shown[0].text.ends_with(r#","cents":"42"}"#), "{}", shown[0].text);
        let mut unknown = bodies(&[]);
        let shown = unknown.piece(&event(
            "application/grpc+proto",
            "/shop.Till/Pay",
            Way::Response,
            0,
            &two,
        ));
        assert!(shown[0].text.contains(r#""3":42"#), "{}", shown[0].text);
        assert!(
            !shown[0].text.contains("ada") && !shown[0].text.contains("planted"),
            "{}",
            shown[0].text
        );
    }

    #[test]
    fn a_message_that_is_longer_than_what_is_kept_shows_its_beginning() {
        let mut message = vec![0, 0, 0, 0, 14, 0x0a, 3];
        message.extend(b"ada");
        message.extend([0x12, 7]);
        message.extend(b"planted");
        let how = How { limit: 14, ..how() };
        let mut bodies = Bodies::new(how, &[descriptors()]).0;
        let pay = event("application/grpc", "/shop.Till/Pay", Way::Request, 0, &message[..14]);
        assert!(bodies.piece(&pay).is_empty());
        let mut reader = bodies.open.remove(&(7, false)).expect("a body");
        let part = reader.rest(5, &bodies.how).expect("a part");
        assert_eq!((part.format, part.bytes), ("protobuf", 14));
        assert!(
            part.text.contains(r#""payer":"ada""#) && !part.text.contains("pl"),
            "{}",
            part.text
        );
        assert_eq!(part.note, "5 more bytes are not kept (--max)");
    }

    /// Of: `package shop; message Pay { string payer = 1; string card_token = 2; int64 cents = 3; } service Till { rpc Pay(Pay) returns (Pay); }`
    fn descriptors() -> Vec<u8> {
        use prost::Message as _;
        use prost_types::{
            DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
            ServiceDescriptorProto, field_descriptor_proto::Type,
        };
        let field = |name: &str, number, kind: Type| FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            r#type: Some(kind.into()),
            label: Some(1),
            ..FieldDescriptorProto::default()
        };
        let pay = DescriptorProto {
            name: Some("Pay".to_owned()),
            field: vec![
                field("payer", 1, Type::String),
                field("card_token", 2, Type::String),
                field("cents", 3, Type::Int64),
            ],
            ..DescriptorProto::default()
        };
        let method = MethodDescriptorProto {
            name: Some("Pay".to_owned()),
            input_type: Some(".shop.Pay".to_owned()),
            output_type: Some(".shop.Pay".to_owned()),
            ..MethodDescriptorProto::default()
        };
        let file = FileDescriptorProto {
            name: Some("shop.proto".to_owned()),
            package: Some("shop".to_owned()),
            message_type: vec![pay],
            service: vec![ServiceDescriptorProto {
                name: Some("Till".to_owned()),
                method: vec![method],
                ..ServiceDescriptorProto::default()
            }],
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        };
        FileDescriptorSet { file: vec![file] }.encode_to_vec()
    }
}

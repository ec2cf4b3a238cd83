//! Frames of HTTP/2, written again from what the proxy says of them. Header blocks hold no index and enter no table, so that each can be read on its own.

use sheer_api::v1::{Frame, ShownField};

/// What a client sends first (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What every peer takes of a frame (RFC 9113, 4.2).
const LARGEST: usize = 16_384;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes by name, in the order of their numbers (RFC 9113, 7).
const ERROR_CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A frame with its header.
pub(super) fn frame(out: &mut Vec<u8>, (kind, flags): (u8, u8), stream: u32, payload: &[u8]) {
    let length = payload.len() as u32;
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// The settings of a side that said none: those of the RFC.
pub(super) fn settings() -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, (SETTINGS, 0), 0, &[]);
    out
}

/// A header list, as HEADERS and the CONTINUATIONs that it needs.
pub(super) fn headers(stream: u32, end_stream: bool, fields: &[ShownField]) -> Vec<u8> {
    let mut block = Vec::new();
    for field in fields {
        // Literal, never indexed, with a name of its own (RFC 7541, 6.2.3).
        block.push(0x10);
        string(&mut block, field.name.as_bytes());
        string(&mut block, &field.value);
    }
    let mut out = Vec::new();
    let pieces = block.len().div_ceil(LARGEST).max(1);
    for number in 0..pieces {
        let piece = &block[number * LARGEST..block.len().min((number + 1) * LARGEST)];
        let end_headers = if number + 1 == pieces { END_HEADERS } else { 0 };
        let (kind, end_stream) = match number {
            0 => (HEADERS, u8::from(end_stream) * END_STREAM),
            _ => (CONTINUATION, 0),
        };
        frame(&mut out, (kind, end_headers | end_stream), stream, piece);
    }
    out
}

/// A piece of a body, which may be empty.
pub(super) fn data(stream: u32, end_stream: bool, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let pieces = body.len().div_ceil(LARGEST).max(1);
    for number in 0..pieces {
        let piece = &body[number * LARGEST..body.len().min((number + 1) * LARGEST)];
        let ends = end_stream && number + 1 == pieces;
        frame(&mut out, (DATA, u8::from(ends) * END_STREAM), stream, piece);
    }
    out
}

/// Any other frame as it was; none of those whose content is not known.
pub(super) fn other(shown: &Frame) -> Option<Vec<u8>> {
    let kind = u8::try_from(shown.type_code).ok()?;
    let flags = shown.flags as u8;
    let payload = match kind {
        // With their blocks, and what no proxy sends.
        HEADERS | CONTINUATION | PUSH_PROMISE | DATA => return None,
        RST_STREAM => code(&shown.error_code).to_be_bytes().to_vec(),
        SETTINGS if flags & ACK != 0 => Vec::new(),
        SETTINGS => {
            let one = |setting: &sheer_api::v1::Setting| {
                let id = (setting.id as u16).to_be_bytes();
                [&id[..], &setting.value.to_be_bytes()].concat()
            };
            shown.settings.iter().flat_map(one).collect()
        }
        GOAWAY => {
            let goaway = shown.goaway.clone().unwrap_or_default();
            let last = goaway.last_stream.to_be_bytes();
            [&last[..], &code(&goaway.error_code).to_be_bytes(), &goaway.debug].concat()
        }
        WINDOW_UPDATE => shown.increment.to_be_bytes().to_vec(),
        _ => shown.payload.clone(),
    };
    let mut out = Vec::new();
    frame(&mut out, (kind, flags), shown.stream, &payload);
    Some(out)
}

/// Of an error code as proxies write it: by name, or `0x1f` where it has none.
fn code(name: &str) -> u32 {
    let known = ERROR_CODES.iter().position(|known| *known == name);
    let number = || u32::from_str_radix(name.trim_start_matches("0x"), 16).ok();
    known.map(|at| at as u32).or_else(number).unwrap_or(0)
}

/// A string without Huffman code (RFC 7541, 5.2).
fn string(out: &mut Vec<u8>, text: &[u8]) {
    const PREFIX: usize = 127;
    if text.len() < PREFIX {
        out.push(text.len() as u8);
    } else {
        out.push(PREFIX as u8);
        let mut left = text.len() - PREFIX;
        while left >= 128 {
            out.push((left % 128) as u8 | 0x80);
            left /= 128;
        }
        out.push(left as u8);
    }
    out.extend(text);
}

#[cfg(test)]
mod tests {
    use sheer_api::v1::{GoAway, Setting};

    use super::*;

    fn field(name: &str, value: &str) -> ShownField {
        ShownField {
            name: name.to_owned(),
            value: value.as_bytes().to_vec(),
            ..ShownField::default()
        }
    }

    #[test]
    fn a_block_holds_no_index() {
        let written = headers(5, true, &[field(":path", "/x")]);
        assert_eq!(
            written,
            [
                &[0, 0, 10, HEADERS, END_STREAM | END_HEADERS, 0, 0, 0, 5, 0x10, 5][..],
                b":path",
                &[2],
                b"/x"
            ]
            .concat()
        );
        // A long value: its length takes three bytes, the block two frames.
        let long = headers(5, false, &[field("a", &"v".repeat(20_000))]);
        assert_eq!(long[9..15], [0x10, 1, b'a', 127, 0xa1, 0x9b]);
        assert_eq!((long[3], long[4]), (HEADERS, 0));
        let second = 9 + LARGEST;
        assert_eq!((long[second + 3], long[second + 4]), (CONTINUATION, END_HEADERS));
        assert_eq!(long.len(), 20_000 + 7 + 18);
    }

    #[test]
    fn bodies_are_cut_and_end_once() {
        assert_eq!(data(3, true, b""), [0, 0, 0, DATA, END_STREAM, 0, 0, 0, 3]);
        let long = data(3, true, &vec![0; LARGEST + 1]);
        assert_eq!((long[4], long[9 + LARGEST + 4]), (0, END_STREAM));
    }

    #[test]
    fn other_frames_are_as_they_were() {
        let of = |kind: u8, flags: u32| Frame {
            type_code: kind.into(),
            flags,
            stream: 0,
            ..Frame::default()
        };
        let settings = Frame {
            settings: vec![Setting {
                id: 4,
                value: 65_535,
                ..Setting::default()
            }],
            ..of(SETTINGS, 0)
        };
        assert_eq!(
            other(&settings).expect("a frame"),
            [0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0xff, 0xff]
        );
        let goaway = Frame {
            goaway: Some(GoAway {
                last_stream: 7,
                error_code: "ENHANCE_YOUR_CALM".to_owned(),
                debug: b"x".to_vec(),
            }),
            ..of(GOAWAY, 0)
        };
        assert_eq!(other(&goaway).expect("a frame")[9..], [0, 0, 0, 7, 0, 0, 0, 11, b'x']);
        let reset = Frame {
            error_code: "0x1f".to_owned(),
            stream: 9,
            ..of(RST_STREAM, 0)
        };
        assert_eq!(other(&reset).expect("a frame")[5..], [0, 0, 0, 9, 0, 0, 0, 0x1f]);
        assert_eq!(other(&of(CONTINUATION, 0)), None);
    }
}

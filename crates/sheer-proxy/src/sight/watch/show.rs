//! Records in the words of the protocol, secrets replaced.

use std::borrow::Cow;

use sheer_api::v1;
use sheer_lens::{
    h2::{FrameHeader, Setting},
    hpack::ListKind,
};

use super::connections::{error_code, go_away, setting, table};
use crate::{
    record::{BlockField, Clock, Detail, Form, GoAway, Head, Shown, ShownBlock},
    redact::{Digest, Redactor},
};

/// A record.
pub(super) fn frame(connection: u64, shown: &Shown, clock: Clock, redactor: &Redactor) -> v1::Frame {
    let header = shown.header();
    let mut frame = v1::Frame {
        connection,
        number: shown.number,
        at_us: clock.unix(shown.at),
        written: shown.record.written,
        r#type: type_name(shown, header),
        type_code: shown.record.kind.into(),
        flags: shown.record.flags.into(),
        flag_names: header.map_or_else(Vec::new, |header| header.flag_names().map(str::to_owned).collect()),
        stream: shown.record.stream,
        length: shown.record.length,
        stream_window: shown
            .room
            .and_then(|room| room.stream)
            .filter(|_| shown.record.stream != 0),
        connection_window: shown.room.map(|room| room.connection),
        block: shown.block.as_ref().map(|shown| block(shown, redactor)),
        violations: shown.violations.clone(),
        ..v1::Frame::default()
    };
    match &shown.detail {
        Detail::Nothing => {}
        Detail::Settings(settings) => {
            frame.settings = settings
                .iter()
                .map(|&Setting { id, value }| setting(id, value))
                .collect();
        }
        Detail::Reset(code) => frame.error_code = error_code(*code),
        Detail::GoAway { last, code, debug } => {
            let (last, code, debug) = (*last, *code, debug.clone());
            frame.goaway = Some(go_away(&GoAway { last, code, debug }));
        }
        Detail::WindowUpdate(increment) => frame.increment = *increment,
        Detail::Priority(priority) => {
            let exclusive = u32::from(priority.exclusive) << 31;
            frame.payload = (priority.dependency | exclusive).to_be_bytes().to_vec();
            frame.payload.push(priority.weight);
        }
        Detail::Promise(promised) => frame.payload = promised.to_be_bytes().to_vec(),
        Detail::Bytes(bytes) => frame.payload = bytes.clone(),
        Detail::Head(head) => {
            let mut head = http1(head, shown.record.length, redactor);
            if shown.record.form == Form::Trailers {
                // That of the last chunk, which says nothing.
                head.line.clear();
            }
            frame.http1 = Some(head);
        }
    }
    frame
}

fn type_name(shown: &Shown, header: Option<FrameHeader>) -> String {
    match shown.record.form {
        Form::Frame => header.map_or_else(String::new, |header| header.kind.to_string()),
        Form::RequestHead => "REQUEST".to_owned(),
        Form::ResponseHead => "RESPONSE".to_owned(),
        Form::Trailers => "TRAILERS".to_owned(),
    }
}

/// What a list is, by name.
pub(super) fn kind(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Request => "request",
        ListKind::Informational => "informational",
        ListKind::Response => "response",
        ListKind::Trailers => "trailers",
    }
}

fn block(shown: &ShownBlock, redactor: &Redactor) -> v1::HeaderBlock {
    v1::HeaderBlock {
        kind: if shown.is_promise { "promise" } else { kind(shown.kind) }.to_owned(),
        fields: fields(&shown.fields, redactor),
        bytes: shown.bytes,
        frames: shown.frames,
        list_size: shown.list_size,
        before: Some(table(shown.before)),
        after: Some(table(shown.after)),
        error: shown.error.clone().unwrap_or_default(),
        size_updates: shown.size_updates.clone(),
    }
}

/// Fields of a block.
pub(super) fn fields(fields: &[BlockField], redactor: &Redactor) -> Vec<v1::ShownField> {
    fields.iter().map(|shown| field(shown, redactor)).collect()
}

fn field(field: &BlockField, redactor: &Redactor) -> v1::ShownField {
    let (value, redacted) = value((&field.name, &field.value), field.digest.as_ref(), redactor);
    v1::ShownField {
        name: text(&field.name),
        value: value.into_owned(),
        redacted,
        representation: field.representation.to_owned(),
        index: field.index,
        huffman_name: field.huffman.0,
        huffman_value: field.huffman.1,
        bytes: field.length,
        offset: field.offset,
        evicted: field.evicted,
        table_before: field.tables.0,
        table_after: field.tables.1,
    }
}

/// A field's value, or what is shown in its place.
fn value<'a>((name, value): (&[u8], &'a [u8]), digest: Option<&Digest>, redactor: &Redactor) -> (Cow<'a, [u8]>, bool) {
    match digest {
        Some(digest) => (redactor.hashed_digest(digest).into_bytes().into(), true),
        None => redactor.value(name, value),
    }
}

/// A name as text; bytes that are none are spelled out.
fn text(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => name.escape_ascii().to_string(),
    }
}

/// A head of HTTP/1, of which the end may be missing.
pub(super) fn http1(head: &Head, length: u32, redactor: &Redactor) -> v1::Http1Head {
    let lines = head.bytes.split(|byte| *byte == b'\n');
    let mut lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).enumerate();
    let (_, line) = lines.next().unwrap_or_default();
    let field = |(at, line): (usize, &[u8])| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = line[..colon].trim_ascii();
        let left_out = head.left_out.iter().find(|left_out| left_out.line == at);
        let digest = left_out.map(|left_out| &left_out.digest);
        let (value, redacted) = value((name, line[colon + 1..].trim_ascii()), digest, redactor);
        Some(v1::ShownField {
            name: text(name),
            value: value.into_owned(),
            redacted,
            bytes: left_out.map_or(line.len() as u32, |left_out| left_out.length),
            ..v1::ShownField::default()
        })
    };
    let line = String::from_utf8_lossy(line);
    let shown = start_line(&line, redactor);
    v1::Http1Head {
        redacted: shown != line,
        line: shown,
        fields: lines.filter_map(field).collect(),
        bytes: length,
    }
}

/// What an answer of HTTP/1 that a proxy made says about itself.
pub(super) fn said(head: &Head) -> Option<String> {
    let lines = head.bytes.split(|byte| *byte == b'\n');
    let mut fields = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
    let message = fields.find(|(name, _)| name.eq_ignore_ascii_case("l5d-proxy-error"))?;
    Some(message.1.trim().to_owned())
}

/// The first line, secrets in its target replaced.
fn start_line(line: &str, redactor: &Redactor) -> String {
    let mut parts = line.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("CONNECT"), Some(target), Some(rest)) => format!("CONNECT {} {rest}", redactor.authority(target)),
        (Some(method), Some(target), Some(rest)) if !method.starts_with("HTTP/") => {
            format!("{method} {} {rest}", redactor.path(target))
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::LeftOut;

    #[test]
    fn a_secret_of_which_a_digest_was_kept_is_shown_as_it_would_be_itself() {
        let redactor = Redactor::new(&[7; 32], []);
        let head = |value: &str| format!("GET /x HTTP/1.1\r\nHost: a\r\nAuthorization:{value}\r\nX-Last: z\r\n\r\n");
        let whole = Head {
            bytes: head(" Bearer t").into(),
            left_out: Vec::new(),
        };
        let excerpt = Head {
            bytes: head("").into(),
            left_out: vec![LeftOut {
                line: 2,
                length: 23,
                digest: Digest::of(b"Bearer t"),
            }],
        };
        let shown = http1(&whole, 60, &redactor);
        assert_eq!(http1(&excerpt, 60, &redactor), shown);
        assert_eq!((shown.fields[1].redacted, shown.fields[1].bytes), (true, 23));
        let field = |value: &[u8], digest| BlockField {
            name: b"authorization".to_vec(),
            value: value.to_vec(),
            digest,
            representation: "literal",
            index: 0,
            huffman: (false, false),
            offset: 0,
            length: 9,
            evicted: 0,
            tables: (0, 0),
        };
        let of_block = fields(
            &[field(b"Bearer t", None), field(b"", Some(Digest::of(b"Bearer t")))],
            &redactor,
        );
        assert_eq!(of_block[0], of_block[1]);
        assert_eq!(of_block[0].value, shown.fields[1].value);
    }
}

//! Records in the words of the protocol, secrets replaced.

use sheer_api::v1;
use sheer_lens::{
    h2::{FrameHeader, Setting},
    hpack::ListKind,
};

use super::connections::{error_code, go_away, setting, table};
use crate::{
    record::{BlockField, Clock, Detail, Form, GoAway, Shown, ShownBlock},
    redact::Redactor,
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
        Detail::Bytes(bytes) => match shown.record.form {
            Form::RequestHead | Form::ResponseHead => {
                frame.http1 = Some(http1(bytes, shown.record.length, redactor));
            }
            Form::Frame => frame.payload = bytes.clone(),
        },
    }
    frame
}

fn type_name(shown: &Shown, header: Option<FrameHeader>) -> String {
    match shown.record.form {
        Form::Frame => header.map_or_else(String::new, |header| header.kind.to_string()),
        Form::RequestHead => "REQUEST".to_owned(),
        Form::ResponseHead => "RESPONSE".to_owned(),
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
    let (value, redacted) = redactor.value(&field.name, &field.value);
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

/// A name as text; bytes that are none are spelled out.
fn text(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => name.escape_ascii().to_string(),
    }
}

/// A head of HTTP/1, of which the end may be missing.
pub(super) fn http1(head: &[u8], length: u32, redactor: &Redactor) -> v1::Http1Head {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let field = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        let (value, redacted) = redactor.value(name, value);
        Some(v1::ShownField {
            name: text(name),
            value: value.into_owned(),
            redacted,
            bytes: line.len() as u32,
            ..v1::ShownField::default()
        })
    };
    v1::Http1Head {
        line: start_line(&line, redactor),
        fields: lines.filter_map(field).collect(),
        bytes: length,
    }
}

/// The first line, secrets in its target replaced.
fn start_line(line: &str, redactor: &Redactor) -> String {
    let mut parts = line.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some(rest)) if !method.starts_with("HTTP/") => {
            format!("{method} {} {rest}", redactor.path(target))
        }
        _ => line.to_owned(),
    }
}

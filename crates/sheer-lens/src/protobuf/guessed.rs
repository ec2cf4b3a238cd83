//! Messages without descriptors, by their structure.

use super::{Fields, MAX_FIELDS, Value, wire::Fault, writer::Writer};

/// Integers beyond this are written as text: readers of JSON keep 53 bits.
const LARGEST_PLAIN: u64 = 1 << 53;

/// A message: field numbers as names, lists where a number repeats.
pub(super) fn message(writer: &mut Writer<'_>, message: &[u8]) {
    if !writer.object(|writer| fields(writer, message)) {
        writer.nameless(message);
    }
}

/// The members of an object that stands open.
pub(super) fn fields(writer: &mut Writer<'_>, message: &[u8]) {
    let (values, fault) = read(message);
    if let Some(fault) = fault {
        writer.fault(fault);
    }
    if values.len() == MAX_FIELDS {
        writer.cut();
    }
    all(writer, values);
}

/// Fields by number, each number's in their order.
pub(super) fn all(writer: &mut Writer<'_>, mut values: Vec<(u32, Value<'_>)>) {
    values.sort_by_key(|(number, _)| *number);
    for run in values.chunk_by(|a, b| a.0 == b.0) {
        let name = run[0].0.to_string();
        let has_room = writer.member(&name, |writer| match run {
            [(_, one)] => value(writer, &name, *one),
            many => writer.array(|writer| {
                for (_, one) in many {
                    if !writer.element() {
                        break;
                    }
                    value(writer, &name, *one);
                }
            }),
        });
        if !has_room {
            break;
        }
    }
}

fn read(message: &[u8]) -> (Vec<(u32, Value<'_>)>, Option<Fault>) {
    let mut values = Vec::new();
    for field in Fields::new(message).take(MAX_FIELDS) {
        match field {
            Ok(field) => values.push((field.number, field.value)),
            Err(fault) => return (values, Some(fault)),
        }
    }
    (values, None)
}

fn value(writer: &mut Writer<'_>, name: &str, value: Value<'_>) {
    let (number, width) = match value {
        Value::Varint(number) | Value::Fixed64(number) => (number.to_le_bytes(), 8),
        Value::Fixed32(number) => (u64::from(number).to_le_bytes(), 4),
        Value::Bytes(_) | Value::Group(_) => ([0; 8], 0),
    };
    let raw = match value {
        Value::Bytes(bytes) | Value::Group(bytes) => bytes,
        _ => &number[..width],
    };
    if writer.is_redacted(name, raw, None) {
        return;
    }
    match value {
        Value::Varint(number) => integer(writer, number),
        Value::Fixed64(number) => both(writer, "@fixed64", number, f64::from_bits(number)),
        Value::Fixed32(number) => both(writer, "@fixed32", u64::from(number), f64::from(f32::from_bits(number))),
        Value::Group(fields) => message(writer, fields),
        Value::Bytes(bytes) => guess(writer, bytes),
    }
}

fn integer(writer: &mut Writer<'_>, number: u64) {
    if number <= LARGEST_PLAIN {
        writer.plain(number)
    } else {
        writer.quoted(number)
    }
}

/// A fixed-width number: nobody can say which of the two it is.
fn both(writer: &mut Writer<'_>, name: &str, number: u64, float: f64) {
    let written = writer.object(|writer| {
        writer.member(name, |writer| integer(writer, number));
        writer.member("@float", |writer| writer.float(float, float));
    });
    if !written {
        integer(writer, number);
    }
}

fn guess(writer: &mut Writer<'_>, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).ok();
    match text {
        Some(text) if is_text(bytes) => {
            if !writer.is_nameless_redacted(bytes) {
                writer.string(text);
            }
        }
        _ if is_message(bytes) => message(writer, bytes),
        _ if writer.is_nameless_redacted(bytes) => {}
        _ => {
            let written = writer.object(|writer| {
                writer.member("@bytes", |writer| writer.bytes(bytes));
            });
            if !written {
                writer.bytes(bytes);
            }
        }
    }
}

fn is_printable(letter: char) -> bool {
    !letter.is_control() || matches!(letter, '\n' | '\r' | '\t')
}

/// Whether bytes are taken for text.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(is_printable))
}

/// Whether bytes that are no text are taken for a message.
pub(super) fn is_message(bytes: &[u8]) -> bool {
    !bytes.is_empty() && Fields::new(bytes).all(|field| field.is_ok())
}

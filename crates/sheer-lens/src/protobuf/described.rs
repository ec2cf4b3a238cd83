//! Messages by their descriptors: the JSON mapping of proto3.
//!
//! Fields are written in the order of their numbers. Of a singular one the last value counts, messages among them are merged, which is what joining
//! their bytes does; packed and unpacked lists are one list.

use std::borrow::Cow;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{
    Fault, Fields, MAX_FIELDS, Value, guessed, known,
    wire::{fixed, varint},
    writer::Writer,
};

/// A message, well-known types in their own way.
pub(super) fn message(writer: &mut Writer<'_>, descriptor: &MessageDescriptor, bytes: &[u8]) {
    if known::message(writer, descriptor, bytes) {
        return;
    }
    if !writer.object(|writer| fields(writer, descriptor, bytes)) {
        writer.nameless(bytes);
    }
}

/// A wrapper type: its value alone.
pub(super) fn wrapper(writer: &mut Writer<'_>, descriptor: &MessageDescriptor, bytes: &[u8]) -> bool {
    let Some(field) = descriptor.get_field(1) else {
        return false;
    };
    let last = Fields::new(bytes)
        .filter_map(Result::ok)
        .filter(|value| value.number == 1)
        .last();
    visible(
        writer,
        &field,
        last.map_or_else(|| default(&field), |value| value.value),
    );
    true
}

/// The members of an object that stands open.
pub(super) fn fields(writer: &mut Writer<'_>, descriptor: &MessageDescriptor, bytes: &[u8]) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (i, field) in Fields::new(bytes).enumerate() {
        if i == MAX_FIELDS {
            writer.cut();
            break;
        }
        match field {
            Ok(field) if descriptor.get_field(field.number).is_some() => known.push((field.number, field.value)),
            Ok(field) => unknown.push((field.number, field.value)),
            Err(fault) => writer.fault(fault),
        }
    }
    known.sort_by_key(|(number, _)| *number);
    for run in known.chunk_by(|a, b| a.0 == b.0) {
        let Some(field) = descriptor.get_field(run[0].0) else {
            continue;
        };
        let values: Vec<Value<'_>> = run.iter().map(|(_, value)| *value).collect();
        if !writer.member(field.json_name(), |writer| self::field(writer, &field, &values)) {
            return;
        }
    }
    if !unknown.is_empty() {
        writer.member("@unknown", |writer| {
            if !writer.object(|writer| guessed::all(writer, unknown)) {
                writer.plain("null");
            }
        });
    }
}

fn field(writer: &mut Writer<'_>, field: &FieldDescriptor, values: &[Value<'_>]) {
    if field.is_map() {
        return map(writer, field, values);
    }
    if field.is_list() {
        return writer.array(|writer| {
            for value in values {
                if !element(writer, field, *value) {
                    break;
                }
            }
        });
    }
    match (field.kind(), values) {
        (Kind::Message(_), [_, _, ..]) => {
            let merged: Vec<u8> = values.iter().flat_map(|value| text(*value)).copied().collect();
            single(writer, field, Value::Bytes(&merged));
        }
        (_, [.., last]) => single(writer, field, *last),
        (_, []) => writer.plain("null"),
    }
}

/// The bytes of a value that has some.
fn text(value: Value<'_>) -> &[u8] {
    match value {
        Value::Bytes(bytes) | Value::Group(bytes) => bytes,
        Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => &[],
    }
}

/// A value of a list, which may be a packed list of its own. False where there is no room for more.
fn element(writer: &mut Writer<'_>, field: &FieldDescriptor, value: Value<'_>) -> bool {
    let (Value::Bytes(mut rest), Some(width)) = (value, packed(&field.kind())) else {
        if !writer.element() {
            return false;
        }
        single(writer, field, value);
        return true;
    };
    while !rest.is_empty() {
        if !writer.element() {
            return false;
        }
        let number = match width {
            Width::Varint => varint(&mut rest).map(Value::Varint),
            Width::Four => fixed(&mut rest).map(|bytes| Value::Fixed32(u32::from_le_bytes(bytes))),
            Width::Eight => fixed(&mut rest).map(|bytes| Value::Fixed64(u64::from_le_bytes(bytes))),
        };
        match number {
            Ok(number) => single(writer, field, number),
            Err(fault) => {
                writer.fault(fault);
                writer.plain("null");
                return true;
            }
        }
    }
    true
}

enum Width {
    Varint,
    Four,
    Eight,
}

/// How numbers of a packed list are encoded; `None` for what is no number.
fn packed(kind: &Kind) -> Option<Width> {
    match kind {
        Kind::String | Kind::Bytes | Kind::Message(_) => None,
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Some(Width::Eight),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Some(Width::Four),
        _ => Some(Width::Varint),
    }
}

/// One value, unless it is not to be seen.
fn single(writer: &mut Writer<'_>, field: &FieldDescriptor, value: Value<'_>) {
    let bytes = raw(value);
    if !writer.is_redacted(field.json_name(), &bytes, Some(field)) {
        visible(writer, field, value);
    }
}

/// The bytes that stand for a value.
pub(super) fn raw(value: Value<'_>) -> Cow<'_, [u8]> {
    match value {
        Value::Bytes(bytes) | Value::Group(bytes) => bytes.into(),
        Value::Varint(number) | Value::Fixed64(number) => number.to_le_bytes().to_vec().into(),
        Value::Fixed32(number) => number.to_le_bytes().to_vec().into(),
    }
}

fn visible(writer: &mut Writer<'_>, field: &FieldDescriptor, value: Value<'_>) {
    match (field.kind(), value) {
        (Kind::Message(descriptor), Value::Bytes(bytes) | Value::Group(bytes)) => message(writer, &descriptor, bytes),
        (Kind::String, Value::Bytes(bytes)) => {
            let text = String::from_utf8_lossy(bytes);
            if matches!(text, Cow::Owned(_)) {
                writer.fault(Fault::Utf8 { number: field.number() });
            }
            writer.string(&text);
        }
        (Kind::Bytes, Value::Bytes(bytes)) => writer.bytes(bytes),
        (Kind::Bool, Value::Varint(number)) => writer.plain(number != 0),
        (Kind::Int32, Value::Varint(number)) => writer.plain(number as i32),
        (Kind::Uint32, Value::Varint(number)) => writer.plain(number as u32),
        (Kind::Sint32, Value::Varint(number)) => writer.plain(zigzag(u64::from(number as u32)) as i32),
        (Kind::Int64, Value::Varint(number)) => writer.quoted(number as i64),
        (Kind::Uint64, Value::Varint(number)) | (Kind::Fixed64, Value::Fixed64(number)) => writer.quoted(number),
        (Kind::Sint64, Value::Varint(number)) => writer.quoted(zigzag(number)),
        (Kind::Sfixed64, Value::Fixed64(number)) => writer.quoted(number as i64),
        (Kind::Fixed32, Value::Fixed32(number)) => writer.plain(number),
        (Kind::Sfixed32, Value::Fixed32(number)) => writer.plain(number as i32),
        (Kind::Double, Value::Fixed64(bits)) => writer.float(f64::from_bits(bits), f64::from_bits(bits)),
        (Kind::Float, Value::Fixed32(bits)) => writer.float(f64::from(f32::from_bits(bits)), f32::from_bits(bits)),
        (Kind::Enum(descriptor), Value::Varint(number)) => match descriptor.get_value(number as i32) {
            Some(_) if descriptor.full_name() == "google.protobuf.NullValue" => writer.plain("null"),
            Some(value) => writer.string(value.name()),
            None => writer.plain(number as i32),
        },
        (_, value) => {
            writer.fault(Fault::Type { number: field.number() });
            writer.nameless(&raw(value));
        }
    }
}

fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn map(writer: &mut Writer<'_>, field: &FieldDescriptor, values: &[Value<'_>]) {
    let Kind::Message(entry) = field.kind() else {
        return writer.plain("null");
    };
    let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
    let written = writer.object(|writer| {
        for value in values {
            let (mut key, mut content) = (None, None);
            for part in Fields::new(text(*value)) {
                match part {
                    Ok(part) if part.number == 1 => key = Some(part.value),
                    Ok(part) if part.number == 2 => content = Some(part.value),
                    Ok(_) => {}
                    Err(fault) => writer.fault(fault),
                }
            }
            let name = key_name(&key_field, key);
            let content = content.unwrap_or_else(|| default(&value_field));
            // A map of secrets is hidden by the field's name, keys and all; or a value by its key.
            let has_room = match writer.instead(field.json_name(), &raw(content), Some(field)) {
                Some(text) => {
                    let key = writer.instead(field.json_name(), name.as_bytes(), Some(field));
                    writer.member(&key.unwrap_or(name), |writer| writer.string(&text))
                }
                None => writer.member(&name, |writer| {
                    if !writer.is_redacted(&name, &raw(content), None) {
                        visible(writer, &value_field, content);
                    }
                }),
            };
            if !has_room {
                break;
            }
        }
    });
    if !written {
        writer.plain("null");
    }
}

/// What a value is that an entry of a map leaves out.
fn default(field: &FieldDescriptor) -> Value<'static> {
    match packed(&field.kind()) {
        None => Value::Bytes(&[]),
        Some(Width::Varint) => Value::Varint(0),
        Some(Width::Four) => Value::Fixed32(0),
        Some(Width::Eight) => Value::Fixed64(0),
    }
}

/// A key as text, as JSON wants it.
pub(super) fn key_name(field: &FieldDescriptor, key: Option<Value<'_>>) -> String {
    match (field.kind(), key.unwrap_or_else(|| default(field))) {
        (Kind::Bool, Value::Varint(number)) => (number != 0).to_string(),
        (Kind::Int32 | Kind::Int64, Value::Varint(number)) => (number as i64).to_string(),
        (Kind::Sint32 | Kind::Sint64, Value::Varint(number)) => zigzag(number).to_string(),
        (Kind::Sfixed32, Value::Fixed32(number)) => (number as i32).to_string(),
        (Kind::Sfixed64, Value::Fixed64(number)) => (number as i64).to_string(),
        (_, Value::Varint(number) | Value::Fixed64(number)) => number.to_string(),
        (_, Value::Fixed32(number)) => number.to_string(),
        (_, Value::Bytes(bytes) | Value::Group(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

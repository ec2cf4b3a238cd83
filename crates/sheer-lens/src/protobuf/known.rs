//! Well-known types, which have a JSON of their own.

use prost_reflect::MessageDescriptor;

use super::{Fields, Value, described, guessed, writer::Writer};

/// Seconds of year 1 and of year 10,000: what RFC 3339 can write.
const YEARS: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;
const NANOS: std::ops::Range<i64> = 0..1_000_000_000;

/// Writes a message of a well-known type; false, and nothing written, for any other, and for one that its own form cannot show.
pub(super) fn message(writer: &mut Writer<'_>, descriptor: &MessageDescriptor, bytes: &[u8]) -> bool {
    let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") else {
        return false;
    };
    match name {
        "Timestamp" => written(writer, timestamp(numbers(bytes))),
        "Duration" => written(writer, duration(numbers(bytes))),
        "FieldMask" => written(writer, mask(bytes)),
        "Any" => any(writer, descriptor, bytes),
        "Value" => value(writer, bytes),
        "Struct" => structure(writer, bytes),
        "ListValue" => list(writer, bytes),
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value" | "BoolValue"
        | "StringValue" | "BytesValue" => described::wrapper(writer, descriptor, bytes),
        _ => false,
    }
}

fn written(writer: &mut Writer<'_>, text: Option<String>) -> bool {
    text.inspect(|text| writer.string(text)).is_some()
}

/// Fields 1 and 2, as signed numbers.
fn numbers(bytes: &[u8]) -> (i64, i64) {
    let mut numbers = [0, 0];
    for field in Fields::new(bytes).filter_map(Result::ok) {
        if let (1 | 2, Value::Varint(number)) = (field.number, field.value) {
            numbers[field.number as usize - 1] = number as i64;
        }
    }
    (numbers[0], i64::from(numbers[1] as i32))
}

/// Digits after the point: none, three, six or nine.
fn fraction(nanos: i64) -> String {
    match nanos {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

fn timestamp((seconds, nanos): (i64, i64)) -> Option<String> {
    if !YEARS.contains(&seconds) || !NANOS.contains(&nanos) {
        return None;
    }
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{}Z",
        fraction(nanos)
    ))
}

/// The date of a day since 1970. Counts from 1 March of year 0, so that a leap day is the last of its year, in eras of 400 years.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + later, month, day)
}

fn duration((seconds, nanos): (i64, i64)) -> Option<String> {
    let is_valid = NANOS.contains(&nanos.abs()) && (seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0));
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    is_valid.then(|| format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos.abs())))
}

/// Paths with commas between them, in lowerCamelCase.
fn mask(bytes: &[u8]) -> Option<String> {
    let mut paths = Vec::new();
    for field in Fields::new(bytes) {
        if let (1, Value::Bytes(path)) = field.ok().map(|field| (field.number, field.value))? {
            paths.push(camel(std::str::from_utf8(path).ok()?));
        }
    }
    Some(paths.join(","))
}

fn camel(path: &str) -> String {
    let mut text = String::new();
    let mut is_upper = false;
    for letter in path.chars() {
        match letter {
            '_' => is_upper = true,
            letter if std::mem::take(&mut is_upper) => text.push(letter.to_ascii_uppercase()),
            letter => text.push(letter),
        }
    }
    text
}

/// `{"@type": …}` and the fields of the message within, by its descriptor if there is one.
fn any(writer: &mut Writer<'_>, descriptor: &MessageDescriptor, bytes: &[u8]) -> bool {
    let (mut url, mut content) = ("", [].as_slice());
    for field in Fields::new(bytes).filter_map(Result::ok) {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => url = std::str::from_utf8(text).unwrap_or(""),
            (2, Value::Bytes(bytes)) => content = bytes,
            _ => {}
        }
    }
    let name = url.rsplit('/').next().unwrap_or(url);
    let inner = descriptor.parent_pool().get_message_by_name(name);
    writer.object(|writer| {
        writer.member("@type", |writer| writer.string(url));
        match inner {
            // A type with a JSON of its own stands under `value`.
            Some(inner) if name.starts_with("google.protobuf.") => {
                writer.member("value", |writer| described::message(writer, &inner, content));
            }
            Some(inner) => described::fields(writer, &inner, content),
            None => {
                writer.member("@value", |writer| guessed::message(writer, content));
            }
        }
    })
}

/// `google.protobuf.Value`: whatever JSON can say.
fn value(writer: &mut Writer<'_>, bytes: &[u8]) -> bool {
    let last = Fields::new(bytes).filter_map(Result::ok).last();
    match last.map(|field| (field.number, field.value)) {
        None | Some((1, _)) => writer.plain("null"),
        Some((2, Value::Fixed64(bits))) => writer.float(f64::from_bits(bits), f64::from_bits(bits)),
        Some((3, Value::Bytes(text))) => writer.string(&String::from_utf8_lossy(text)),
        Some((4, Value::Varint(number))) => writer.plain(number != 0),
        Some((5, Value::Bytes(bytes))) => return structure(writer, bytes),
        Some((6, Value::Bytes(bytes))) => return list(writer, bytes),
        _ => return false,
    }
    true
}

fn structure(writer: &mut Writer<'_>, bytes: &[u8]) -> bool {
    writer.object(|writer| {
        for entry in Fields::new(bytes).filter_map(Result::ok) {
            let (1, Value::Bytes(entry)) = (entry.number, entry.value) else {
                continue;
            };
            let (mut key, mut content) = (String::new(), [].as_slice());
            for part in Fields::new(entry).filter_map(Result::ok) {
                match (part.number, part.value) {
                    (1, Value::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
                    (2, Value::Bytes(bytes)) => content = bytes,
                    _ => {}
                }
            }
            let has_room = writer.member(&key, |writer| {
                if !writer.is_redacted(&key, text(content), None) && !value(writer, content) {
                    writer.plain("null");
                }
            });
            if !has_room {
                break;
            }
        }
    })
}

/// The text of a `Value` that is one: the same bytes as those of a field of text. Otherwise all of it.
fn text(value: &[u8]) -> &[u8] {
    let mut fields = Fields::new(value).filter_map(Result::ok);
    match (fields.next().map(|field| (field.number, field.value)), fields.next()) {
        (Some((3, Value::Bytes(text))), None) => text,
        _ => value,
    }
}

fn list(writer: &mut Writer<'_>, bytes: &[u8]) -> bool {
    writer.nested(|writer| {
        writer.array(|writer| {
            for element in Fields::new(bytes).filter_map(Result::ok) {
                let (1, Value::Bytes(element)) = (element.number, element.value) else {
                    continue;
                };
                if !writer.element() {
                    break;
                }
                if !value(writer, element) {
                    writer.plain("null");
                }
            }
        });
    })
}

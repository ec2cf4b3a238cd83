//! Messages as messages again, without what is not to be seen: what [`super::by_descriptor`] and [`super::by_structure`] do for readers of JSON, for readers
//! of protobuf. Nothing is here that JSON would not show.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{Field, Fields, MAX_DEPTH, MAX_FIELDS, Place, Redact, Value, described, guessed};

/// Encodes a message without what is not to be seen.
pub(super) struct Encoder<'a> {
    redact: &'a mut dyn Redact,
    /// Names of the fields that stand open.
    path: Vec<String>,
}

/// What becomes of a value.
enum Shown {
    AsItIs,
    Instead(String),
}

impl<'a> Encoder<'a> {
    pub(super) fn new(redact: &'a mut dyn Redact) -> Self {
        Self {
            redact,
            path: Vec::new(),
        }
    }

    /// A message: by its descriptor where there is one. What comes behind a fault is left out.
    pub(super) fn message(&mut self, descriptor: Option<&MessageDescriptor>, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len());
        if self.path.len() >= MAX_DEPTH {
            return out;
        }
        if let Some(any) = descriptor.filter(|descriptor| descriptor.full_name() == "google.protobuf.Any") {
            self.any(any, message, &mut out);
            return out;
        }
        for field in Fields::new(message).map_while(Result::ok).take(MAX_FIELDS) {
            match descriptor.and_then(|descriptor| descriptor.get_field(field.number)) {
                Some(known) => self.known(&known, field, &mut out),
                None => self.unknown(field, &mut out),
            }
        }
        out
    }

    /// Whether a value is to be seen; `name` stands for it.
    fn look(&mut self, name: &str, raw: &[u8], field: Option<&FieldDescriptor>) -> Shown {
        self.within(name, |encoder| {
            let path = encoder.path.join(".");
            let place = Place {
                path: &path,
                name,
                raw,
                field,
            };
            encoder.redact.redact(&place).map_or(Shown::AsItIs, Shown::Instead)
        })
    }

    fn within<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name.to_owned());
        let done = work(self);
        self.path.pop();
        done
    }

    fn known(&mut self, field: &FieldDescriptor, Field { number, value }: Field<'_>, out: &mut Vec<u8>) {
        if field.is_map() {
            return self.entry(field, (number, value), out);
        }
        let name = field.json_name().to_owned();
        if let Shown::Instead(text) = self.look(&name, &described::raw(value), Some(field)) {
            // Of what is no text nothing is left.
            if matches!(field.kind(), Kind::String | Kind::Bytes) {
                write(out, number, Value::Bytes(text.as_bytes()));
            }
            return;
        }
        self.within(&name, |encoder| encoder.visible(field, (number, value), out));
    }

    fn visible(&mut self, field: &FieldDescriptor, (number, value): (u32, Value<'_>), out: &mut Vec<u8>) {
        match (field.kind(), value) {
            (Kind::Message(descriptor), Value::Bytes(bytes)) => {
                let inner = self.message(Some(&descriptor), bytes);
                write(out, number, Value::Bytes(&inner));
            }
            (Kind::Message(descriptor), Value::Group(bytes)) => {
                let inner = self.message(Some(&descriptor), bytes);
                write(out, number, Value::Group(&inner));
            }
            (Kind::String | Kind::Bytes, Value::Bytes(_)) => write(out, number, value),
            // Another type than its descriptor says: nobody can say what it is.
            (Kind::String | Kind::Bytes | Kind::Message(_), _) | (_, Value::Group(_)) => {}
            // Numbers of a list, packed.
            (_, Value::Bytes(_)) if !field.is_list() => {}
            (_, Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) | Value::Bytes(_)) => {
                write(out, number, value);
            }
        }
    }

    /// An entry of a map, which is hidden by the field's name or by the key.
    fn entry(&mut self, field: &FieldDescriptor, (number, entry): (u32, Value<'_>), out: &mut Vec<u8>) {
        let (Kind::Message(descriptor), Value::Bytes(entry)) = (field.kind(), entry) else {
            return;
        };
        let (key_field, value_field) = (descriptor.map_entry_key_field(), descriptor.map_entry_value_field());
        let (mut key, mut content) = (None, None);
        for part in Fields::new(entry).map_while(Result::ok) {
            match part.number {
                1 => key = Some(part.value),
                2 => content = Some(part.value),
                _ => {}
            }
        }
        let mut inner = Vec::new();
        let name = described::key_name(&key_field, key);
        let raw = content.map(described::raw).unwrap_or_default();
        let instead = |kind: &Kind, text: &str, number: u32, inner: &mut Vec<u8>| {
            if matches!(kind, Kind::String | Kind::Bytes) {
                write(inner, number, Value::Bytes(text.as_bytes()));
            }
        };
        if let Shown::Instead(text) = self.look(field.json_name(), &raw, Some(field)) {
            if let Shown::Instead(key) = self.look(field.json_name(), name.as_bytes(), Some(field)) {
                instead(&key_field.kind(), &key, 1, &mut inner);
            }
            instead(&value_field.kind(), &text, 2, &mut inner);
        } else {
            if let Some(key) = key {
                write(&mut inner, 1, key);
            }
            self.within(field.json_name(), |encoder| {
                match (content, encoder.look(&name, &raw, None)) {
                    (None, _) => {}
                    (Some(_), Shown::Instead(text)) => instead(&value_field.kind(), &text, 2, &mut inner),
                    (Some(content), Shown::AsItIs) => {
                        encoder.within(&name, |encoder| encoder.visible(&value_field, (2, content), &mut inner));
                    }
                }
            });
        }
        write(out, number, Value::Bytes(&inner));
    }

    /// The message within, by its own descriptor where it is known.
    fn any(&mut self, descriptor: &MessageDescriptor, message: &[u8], out: &mut Vec<u8>) {
        let mut inner = None;
        for field in Fields::new(message).map_while(Result::ok) {
            match (field.number, field.value) {
                (1, Value::Bytes(url)) => {
                    let url = std::str::from_utf8(url).unwrap_or("");
                    let name = url.rsplit('/').next().unwrap_or(url);
                    inner = descriptor.parent_pool().get_message_by_name(name);
                    write(out, 1, field.value);
                }
                (2, Value::Bytes(content)) => {
                    let content = self.within("value", |encoder| encoder.message(inner.as_ref(), content));
                    write(out, 2, Value::Bytes(&content));
                }
                _ => {}
            }
        }
    }

    /// Without a descriptor: numbers are to be seen, text and bytes have no name that could say so.
    fn unknown(&mut self, Field { number, value }: Field<'_>, out: &mut Vec<u8>) {
        let name = number.to_string();
        if let Shown::Instead(_) = self.look(&name, &described::raw(value), None) {
            return;
        }
        match value {
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => write(out, number, value),
            Value::Group(fields) => {
                let inner = self.within(&name, |encoder| encoder.message(None, fields));
                write(out, number, Value::Group(&inner));
            }
            Value::Bytes(bytes) if !guessed::is_text(bytes) && guessed::is_message(bytes) => {
                let inner = self.within(&name, |encoder| encoder.message(None, bytes));
                write(out, number, Value::Bytes(&inner));
            }
            Value::Bytes(bytes) => {
                let path = self.within(&name, |encoder| encoder.path.join("."));
                let place = Place {
                    path: &path,
                    name: &name,
                    raw: bytes,
                    field: None,
                };
                match self.redact.redact_nameless(&place) {
                    Some(text) => write(out, number, Value::Bytes(text.as_bytes())),
                    None => write(out, number, value),
                }
            }
        }
    }
}

fn write(out: &mut Vec<u8>, number: u32, value: Value<'_>) {
    let tag = |out: &mut Vec<u8>, wire_type: u64| varint(out, u64::from(number) << 3 | wire_type);
    match value {
        Value::Varint(value) => {
            tag(out, 0);
            varint(out, value);
        }
        Value::Fixed64(value) => {
            tag(out, 1);
            out.extend(value.to_le_bytes());
        }
        Value::Bytes(bytes) => {
            tag(out, 2);
            varint(out, bytes.len() as u64);
            out.extend(bytes);
        }
        Value::Group(fields) => {
            tag(out, 3);
            out.extend(fields);
            tag(out, 4);
        }
        Value::Fixed32(value) => {
            tag(out, 5);
            out.extend(value.to_le_bytes());
        }
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

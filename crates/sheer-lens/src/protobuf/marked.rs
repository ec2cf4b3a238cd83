//! Fields of which their schema says that they are not to be shown: `[debug_redact = true]`.
//!
//! Read from the descriptors as they are encoded: the option is younger than many copies of `descriptor.proto`, which drop it.

use std::collections::BTreeSet;

use super::{Fields, MAX_DEPTH, Value};

/// Numbers of fields of `descriptor.proto`.
mod number {
    pub(super) const FILE: u32 = 1;
    pub(super) const PACKAGE: u32 = 2;
    pub(super) const MESSAGE: u32 = 4;
    pub(super) const NAME: u32 = 1;
    pub(super) const FIELD: u32 = 2;
    pub(super) const NESTED: u32 = 3;
    pub(super) const OPTIONS: u32 = 8;
    pub(super) const DEBUG_REDACT: u32 = 16;
}

/// Full names, as `bank.v1.Card.number`, of the fields that an encoded `FileDescriptorSet` marks.
pub fn marked(set: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in parts(set, number::FILE) {
        let package = text(file, number::PACKAGE);
        for message in parts(file, number::MESSAGE) {
            of_message(message, package, 0, &mut names);
        }
    }
    names
}

fn of_message(message: &[u8], scope: &str, depth: usize, names: &mut BTreeSet<String>) {
    if depth == MAX_DEPTH {
        return;
    }
    let scope = within(scope, text(message, number::NAME));
    let fields = parts(message, number::FIELD).filter(|field| is_marked(field));
    names.extend(fields.map(|field| within(&scope, text(field, number::NAME))));
    for nested in parts(message, number::NESTED) {
        of_message(nested, &scope, depth + 1, names);
    }
}

fn is_marked(field: &[u8]) -> bool {
    let options = parts(field, number::OPTIONS).flat_map(Fields::new);
    let said = options.filter_map(|option| match option.ok()? {
        option if option.number == number::DEBUG_REDACT => Some(matches!(option.value, Value::Varint(1..))),
        _ => None,
    });
    said.last().unwrap_or(false)
}

fn within(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}

/// Messages and texts with this number.
fn parts(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    let fields = Fields::new(message).map_while(Result::ok);
    fields.filter_map(move |field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

fn text(message: &[u8], number: u32) -> &str {
    let last = parts(message, number).last();
    last.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
}

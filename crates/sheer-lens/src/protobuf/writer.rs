//! Writes JSON within limits: once it is full nothing more is begun, but everything that was begun is closed.

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use prost_reflect::FieldDescriptor;

use super::{Fault, Json, Limits, MAX_DEPTH, Place, Redact};

/// JSON so far, and where in the message it is.
pub(super) struct Writer<'a> {
    text: String,
    limits: Limits,
    redact: &'a mut dyn Redact,
    path: String,
    depth: usize,
    is_cut: bool,
    fault: Option<Fault>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(limits: Limits, redact: &'a mut dyn Redact) -> Self {
        let limits = Limits {
            depth: limits.depth.min(MAX_DEPTH),
            ..limits
        };
        Self {
            text: String::new(),
            limits,
            redact,
            path: String::new(),
            depth: 0,
            is_cut: false,
            fault: None,
        }
    }

    pub(super) fn finish(self) -> Json {
        Json {
            text: self.text,
            is_cut: self.is_cut,
            fault: self.fault,
        }
    }

    /// Keeps the first fault.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Something is left out.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Bytes that may still be written.
    fn room(&self) -> usize {
        self.limits.size.saturating_sub(self.text.len())
    }

    /// Does what `inner` does one level deeper. False, and nothing done, where that is too deep.
    pub(super) fn nested(&mut self, inner: impl FnOnce(&mut Self)) -> bool {
        if self.depth >= self.limits.depth {
            self.cut();
            return false;
        }
        self.depth += 1;
        inner(self);
        self.depth -= 1;
        true
    }

    /// Writes `{`, whatever `fields` writes, and `}`. False, and nothing written, where messages are nested too deep.
    pub(super) fn object(&mut self, fields: impl FnOnce(&mut Self)) -> bool {
        self.nested(|writer| {
            writer.text.push('{');
            fields(writer);
            writer.text.push('}');
        })
    }

    /// Writes `[`, whatever `elements` writes, and `]`.
    pub(super) fn array(&mut self, elements: impl FnOnce(&mut Self)) {
        self.text.push('[');
        elements(self);
        self.text.push(']');
    }

    /// The comma before an element or a name, if one is needed. False where there is no room for more.
    pub(super) fn element(&mut self) -> bool {
        if self.room() == 0 {
            self.cut();
            return false;
        }
        if !matches!(self.text.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.text.push(',');
        }
        true
    }

    /// Writes a name, and what `value` writes for it, which is at `path` below here. False where there is no room for more.
    pub(super) fn member(&mut self, name: &str, value: impl FnOnce(&mut Self)) -> bool {
        if !self.element() {
            return false;
        }
        self.string(name);
        self.text.push(':');
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        value(self);
        self.path.truncate(before);
        true
    }

    /// What stands for the value here where it is not to be seen.
    pub(super) fn instead(&mut self, name: &str, raw: &[u8], field: Option<&FieldDescriptor>) -> Option<String> {
        self.redact.redact(&Place {
            path: &self.path,
            name,
            raw,
            field,
        })
    }

    /// Whether the value here is not to be seen; if so, what stands for it has been written.
    pub(super) fn is_redacted(&mut self, name: &str, raw: &[u8], field: Option<&FieldDescriptor>) -> bool {
        let text = self.instead(name, raw, field);
        text.inspect(|text| self.string(text)).is_some()
    }

    /// The same of text or bytes that only a number names.
    pub(super) fn is_nameless_redacted(&mut self, raw: &[u8]) -> bool {
        let name = self.path.rsplit('.').next().unwrap_or_default();
        let text = self.redact.redact_nameless(&Place {
            path: &self.path,
            name,
            raw,
            field: None,
        });
        text.inspect(|text| self.string(text)).is_some()
    }

    /// Bytes of which nobody can say what they are, unless those are not to be seen.
    pub(super) fn nameless(&mut self, raw: &[u8]) {
        if !self.is_nameless_redacted(raw) {
            self.bytes(raw);
        }
    }

    /// A number, `true`, `false` or `null`.
    pub(super) fn plain(&mut self, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
    }

    /// A number that JSON's readers might round, or one that JSON has not.
    pub(super) fn quoted(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.text, "\"{value}\"");
    }

    /// A float: those that are no numbers by name.
    pub(super) fn float(&mut self, value: f64, text: impl std::fmt::Debug) {
        match value {
            value if value.is_nan() => self.quoted("NaN"),
            f64::INFINITY => self.quoted("Infinity"),
            f64::NEG_INFINITY => self.quoted("-Infinity"),
            _ => {
                let _ = write!(self.text, "{text:?}");
            }
        }
    }

    /// Text, cut where the room ends.
    pub(super) fn string(&mut self, text: &str) {
        self.text.push('"');
        let end = self.limits.size.max(self.text.len() + 1);
        for letter in text.chars() {
            if self.text.len() >= end {
                self.cut();
                self.text.push('…');
                break;
            }
            match letter {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                // What a terminal would take for a command is escaped along with what JSON forbids.
                letter if letter.is_control() => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(letter));
                }
                letter => self.text.push(letter),
            }
        }
        self.text.push('"');
    }

    /// Bytes in base64, cut where the room ends.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.room() / 4 * 3 + 3);
        if kept < bytes.len() {
            self.cut();
        }
        self.text.push('"');
        BASE64_STANDARD.encode_string(&bytes[..kept], &mut self.text);
        self.text.push('"');
    }
}

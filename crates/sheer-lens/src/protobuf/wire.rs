//! The wire format: fields with numbers, types and raw values.

use std::fmt;

/// Bytes of a varint.
const MAX_VARINT: usize = 10;
/// Groups within groups: no schema of today has one.
const MAX_GROUPS: usize = 16;
/// Highest field number.
const MAX_NUMBER: u64 = (1 << 29) - 1;

/// A field as it is encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
}

/// A value as it is encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Wire types 3 and 4: the fields between them.
    Group(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// What is no protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The message ends within a field.
    Truncated,
    /// A varint of more than ten bytes.
    Varint,
    /// Field number 0, or one that is too high.
    Number,
    /// A wire type that does not exist, or a group that does not end or begin.
    WireType,
    /// A value of another wire type than the descriptor has it.
    Type {
        /// The field.
        number: u32,
    },
    /// Text that is no UTF-8.
    Utf8 {
        /// The field.
        number: u32,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message ends within a field"),
            Self::Varint => f.write_str("a number has more than ten bytes"),
            Self::Number => f.write_str("a field has no valid number"),
            Self::WireType => f.write_str("a field has no valid wire type"),
            Self::Type { number } => write!(f, "field {number} has another type than its descriptor says"),
            Self::Utf8 { number } => write!(f, "the text of field {number} is not UTF-8"),
        }
    }
}

impl std::error::Error for Fault {}

/// Fields one by one, and a fault as the last where there is one.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of a message.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<Field<'a>, Fault> {
        let (number, wire_type) = tag(&mut self.rest)?;
        let value = match wire_type {
            3 => Value::Group(group(&mut self.rest, number)?),
            wire_type => scalar(&mut self.rest, wire_type)?,
        };
        Ok(Field { number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0;
    for (i, byte) in rest.iter().take(MAX_VARINT).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < MAX_VARINT {
        Fault::Truncated
    } else {
        Fault::Varint
    })
}

fn tag(rest: &mut &[u8]) -> Result<(u32, u8), Fault> {
    let tag = varint(rest)?;
    let number = tag >> 3;
    if number == 0 || number > MAX_NUMBER {
        return Err(Fault::Number);
    }
    Ok((number as u32, (tag & 7) as u8))
}

pub(super) fn fixed<const BYTES: usize>(rest: &mut &[u8]) -> Result<[u8; BYTES], Fault> {
    let (bytes, after) = rest.split_first_chunk().ok_or(Fault::Truncated)?;
    *rest = after;
    Ok(*bytes)
}

fn scalar<'a>(rest: &mut &'a [u8], wire_type: u8) -> Result<Value<'a>, Fault> {
    Ok(match wire_type {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(u64::from_le_bytes(fixed(rest)?)),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Fault::Truncated)?;
            let (bytes, after) = rest.split_at_checked(length).ok_or(Fault::Truncated)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        5 => Value::Fixed32(u32::from_le_bytes(fixed(rest)?)),
        _ => return Err(Fault::WireType),
    })
}

/// The fields up to the end of the group with this number.
fn group<'a>(rest: &mut &'a [u8], number: u32) -> Result<&'a [u8], Fault> {
    let whole = *rest;
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        let end = whole.len() - rest.len();
        let (number, wire_type) = tag(rest)?;
        match wire_type {
            3 if open.len() < MAX_GROUPS => open.push(number),
            4 if number == *innermost => {
                open.pop();
                if open.is_empty() {
                    return Ok(&whole[..end]);
                }
            }
            3 | 4 => return Err(Fault::WireType),
            wire_type => {
                scalar(rest, wire_type)?;
            }
        }
    }
    Err(Fault::Truncated)
}

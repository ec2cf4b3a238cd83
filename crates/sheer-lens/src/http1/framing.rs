//! How long a message's body is (RFC 9112, 6.3).

use super::{Answering, Head, Rule, Start};

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing.
    None,
    /// So many bytes.
    Length(u64),
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
    /// No HTTP any more.
    Tunnel,
}

/// What the fields say of it.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    has_coding: bool,
    is_chunked: bool,
}

impl Said {
    fn read(head: &Head<'_>, report: &mut impl FnMut(Rule)) -> Self {
        let mut said = Self::default();
        for field in head.fields() {
            if field.is("content-length") {
                said.add_length(field.value, report);
            } else if field.is("transfer-encoding") {
                said.has_coding = true;
                for coding in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if said.is_chunked && !coding.is_empty() {
                        report(Rule::ChunkedTwice);
                    }
                    said.is_chunked = coding.eq_ignore_ascii_case(b"chunked") || (said.is_chunked && coding.is_empty());
                }
            }
        }
        said
    }

    /// A value may be a list: recipients joined repeated fields.
    fn add_length(&mut self, value: &[u8], report: &mut impl FnMut(Rule)) {
        for value in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = if value.is_empty() {
                None
            } else {
                std::str::from_utf8(value).ok()
            };
            let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            match (digits.and_then(|digits| digits.parse().ok()), self.length) {
                (None, _) => report(Rule::ContentLength),
                (Some(length), Some(before)) if length != before => report(Rule::ContentLengthsDiffer),
                (Some(_), Some(_)) => report(Rule::ContentLengthRepeated),
                (Some(length), None) => self.length = Some(length),
            }
        }
    }
}

/// What follows this head. `answering` is what a response answers.
pub(super) fn framing(head: &Head<'_>, answering: Answering, mut report: impl FnMut(Rule)) -> Framing {
    let said = Said::read(head, &mut report);
    if said.has_coding && said.length.is_some() {
        report(Rule::TwoLengths);
    }
    if said.has_coding && head.start.version() == b"HTTP/1.0" {
        report(Rule::CodingInOldVersion);
    }
    match head.start {
        Start::Request { method: b"CONNECT", .. } => Framing::Tunnel,
        Start::Request { .. } => match said {
            Said {
                has_coding: true,
                is_chunked: true,
                ..
            } => Framing::Chunked,
            Said { has_coding: true, .. } => {
                report(Rule::NotChunkedLast);
                Framing::None
            }
            Said {
                length: Some(length), ..
            } => Framing::Length(length),
            Said { .. } => Framing::None,
        },
        Start::Response { status, .. } => response(status, answering, &said, report),
    }
}

fn response(status: u16, answering: Answering, said: &Said, mut report: impl FnMut(Rule)) -> Framing {
    let is_tunnel = status == 101 || (answering == Answering::Connect && (200..300).contains(&status));
    let is_empty = matches!(status, 100..200 | 204);
    if (is_empty || is_tunnel) && said.has_coding {
        report(Rule::CodingForbidden);
    }
    if (is_empty || is_tunnel) && said.length.is_some() {
        report(Rule::LengthForbidden);
    }
    match said {
        _ if is_tunnel => Framing::Tunnel,
        _ if is_empty || status == 304 || answering == Answering::Head => Framing::None,
        Said {
            has_coding: true,
            is_chunked: true,
            ..
        } => Framing::Chunked,
        Said { has_coding: true, .. } => Framing::UntilClose,
        Said {
            length: Some(length), ..
        } => Framing::Length(*length),
        Said { .. } => Framing::UntilClose,
    }
}

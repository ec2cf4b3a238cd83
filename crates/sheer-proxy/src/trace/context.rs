//! Trace context in headers: W3C Trace Context, B3 (single and multi), `grpc-trace-bin`. Pure.
//!
//! Read once for each request, and passed on in the formats in which it came with another span as parent; everything else of those fields
//! (flags, `tracestate`, the width of a trace id) stays as it was. What cannot be read is left alone.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::id::{SpanId, TraceId};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const GRPC_TRACE_BIN: HeaderName = HeaderName::from_static("grpc-trace-bin");

/// Binary headers of gRPC come with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Length of `grpc-trace-bin`: version, and three fields with their numbers.
const BINARY: usize = 29;
/// Bit of the flags that says that somebody records this trace.
const SAMPLED: u8 = 1;

/// The context that a request came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: TraceId,
    /// The span of whoever sent the request.
    pub(crate) parent: SpanId,
    /// Whether somebody records the trace; B3 may leave that to whoever comes first.
    pub(crate) sampled: Option<bool>,
    /// Flags of the format, as they came.
    flags: u8,
    formats: Formats,
}

/// What a request says of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing.
    Nothing,
    /// It belongs to a trace.
    Context(TraceContext),
    /// It must not be traced (`b3: 0`).
    No,
    /// There is a context that cannot be read: it is passed on as it is, and nobody joins it.
    Unreadable,
}

/// In which formats a context came: a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Formats(u8);

impl Formats {
    const W3C: Self = Self(1);
    const B3: Self = Self(2);
    const B3_MULTI: Self = Self(4);
    const BINARY: Self = Self(8);

    fn has(self, format: Self) -> bool {
        self.0 & format.0 != 0
    }
}

/// How a format is read.
type Reader = fn(&HeaderMap, &HeaderValue) -> Said;

/// Reads what a request says. Where it comes in several formats the first of W3C, `grpc-trace-bin`, B3 holds, and the others are part of it as
/// far as they name the same trace.
pub(crate) fn read(headers: &HeaderMap) -> Said {
    let (mut said, mut unreadable) = (Said::Nothing, false);
    let readers: [(&HeaderName, Formats, Reader); 4] = [
        (&TRACEPARENT, Formats::W3C, w3c),
        (&GRPC_TRACE_BIN, Formats::BINARY, binary),
        (&B3, Formats::B3, b3),
        (&B3_TRACE_ID, Formats::B3_MULTI, b3_multi),
    ];
    for (name, format, read) in readers {
        let Some(value) = headers.get(name) else { continue };
        match (read(headers, value), &mut said) {
            (Said::Context(found), Said::Context(first)) if first.trace == found.trace => first.formats.0 |= format.0,
            (Said::Context(found), Said::Nothing) => {
                said = Said::Context(TraceContext {
                    formats: format,
                    ..found
                });
            }
            (Said::No, Said::Nothing) => said = Said::No,
            (Said::Unreadable, _) => unreadable = true,
            _ => {}
        }
    }
    match said {
        Said::Nothing if unreadable => Said::Unreadable,
        Said::Nothing
            if headers
                .get(&B3_SAMPLED)
                .is_some_and(|value| matches!(value.as_bytes(), b"0" | b"false")) =>
        {
            Said::No
        }
        said => said,
    }
}

impl TraceContext {
    /// Has `span` be the parent of whoever reads the headers next, and says that the trace is recorded.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap, span: SpanId) {
        if self.formats.has(Formats::W3C) {
            headers.insert(TRACEPARENT, traceparent(self.trace, span, self.flags | SAMPLED));
        }
        if self.formats.has(Formats::BINARY) {
            headers.insert(GRPC_TRACE_BIN, grpc_trace_bin(self.trace, span, self.flags | SAMPLED));
        }
        if self.formats.has(Formats::B3)
            && let Some(value) = headers.get(&B3).and_then(|value| self.b3_value(value.as_bytes(), span))
        {
            headers.insert(B3, value);
        }
        if self.formats.has(Formats::B3_MULTI) {
            headers.insert(B3_SPAN_ID, value(&span.hex()));
            headers.insert(B3_PARENT, value(&self.parent.hex()));
            if !headers.contains_key(&B3_SAMPLED) && !headers.contains_key(&B3_FLAGS) {
                headers.insert(B3_SAMPLED, HeaderValue::from_static("1"));
            }
        }
    }

    /// The single field: the trace id as it was written, the new span, the state, the parent.
    fn b3_value(&self, old: &[u8], span: SpanId) -> Option<HeaderValue> {
        let mut parts = old.split(|byte| *byte == b'-');
        let (trace, state) = (parts.next()?, parts.nth(1).unwrap_or(b"1"));
        let mut new = Vec::with_capacity(trace.len() + 36);
        for (part, next) in [
            (trace, true),
            (&span.hex()[..], true),
            (state, true),
            (&self.parent.hex()[..], false),
        ] {
            new.extend_from_slice(part);
            if next {
                new.push(b'-');
            }
        }
        HeaderValue::from_bytes(&new).ok()
    }
}

/// Says in a request that came without a context that it belongs to a trace.
pub(crate) fn begin(headers: &mut HeaderMap, trace: TraceId, span: SpanId) {
    headers.insert(TRACEPARENT, traceparent(trace, span, SAMPLED));
}

/// `tracestate` as it came; several fields are one list (W3C Trace Context 3.3.1.1).
pub(crate) fn trace_state(headers: &HeaderMap) -> String {
    let values = headers
        .get_all(&TRACESTATE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

fn traceparent(trace: TraceId, span: SpanId, flags: u8) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    text[3..35].copy_from_slice(&trace.hex());
    text[36..52].copy_from_slice(&span.hex());
    text[53] = hex_digit(flags >> 4);
    text[54] = hex_digit(flags);
    value(&text)
}

fn grpc_trace_bin(trace: TraceId, span: SpanId, flags: u8) -> HeaderValue {
    let mut bytes = [0; BINARY];
    bytes[2..18].copy_from_slice(&trace.bytes());
    bytes[18] = 1;
    bytes[19..27].copy_from_slice(&span.bytes());
    bytes[27] = 2;
    bytes[28] = flags;
    value(BASE64.encode(bytes).as_bytes())
}

fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).expect("hex, base64 and dashes are visible ASCII")
}

/// `00-<trace>-<parent>-<flags>`, and later versions as far as they begin alike (W3C Trace Context 3.2.2.1 and 4.3).
fn w3c(headers: &HeaderMap, value: &HeaderValue) -> Said {
    let text = value.as_bytes();
    let only_one = headers.get_all(&TRACEPARENT).iter().nth(1).is_none();
    let parse = || {
        let version = hex_lower(text.get(..2)?)?;
        let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
        let ends = match version {
            0 => text.len() == 55,
            0xff => false,
            _ => text.len() == 55 || text.get(55) == Some(&b'-'),
        };
        if !(only_one && dashes && ends) {
            return None;
        }
        let flags = hex_lower(text.get(53..55)?)? as u8;
        Some(TraceContext {
            trace: TraceId::new(hex_lower(&text[3..35])?)?,
            parent: SpanId::new(hex_lower(&text[36..52])? as u64)?,
            sampled: Some(flags & SAMPLED != 0),
            // Of a later version only the bits that this one knows.
            flags: if version == 0 { flags } else { flags & SAMPLED },
            formats: Formats::default(),
        })
    };
    parse().map_or(Said::Unreadable, Said::Context)
}

/// OpenCensus' binary format: version 0, then fields with their numbers in front.
fn binary(_: &HeaderMap, value: &HeaderValue) -> Said {
    let parse = || {
        let bytes = BASE64.decode(value.as_bytes()).ok()?;
        let fields = (*bytes.first()?, *bytes.get(1)?, *bytes.get(18)?);
        if fields != (0, 0, 1) {
            return None;
        }
        let flags = match (bytes.get(27), bytes.get(28)) {
            (Some(2), Some(flags)) => *flags,
            (None, None) => 0,
            _ => return None,
        };
        Some(TraceContext {
            trace: TraceId::new(u128::from_be_bytes(bytes.get(2..18)?.try_into().ok()?))?,
            parent: SpanId::new(u64::from_be_bytes(bytes.get(19..27)?.try_into().ok()?))?,
            sampled: Some(flags & SAMPLED != 0),
            flags,
            formats: Formats::default(),
        })
    };
    parse().map_or(Said::Unreadable, Said::Context)
}

/// `<trace>-<span>[-<state>[-<parent>]]`, or a state alone.
fn b3(_: &HeaderMap, value: &HeaderValue) -> Said {
    let text = value.as_bytes();
    if matches!(text, b"0") {
        return Said::No;
    }
    let parse = || {
        let mut parts = text.split(|byte| *byte == b'-');
        let (trace, span, state, _parent) = (parts.next()?, parts.next()?, parts.next(), parts.next());
        let sampled = match state {
            None => None,
            Some(b"1" | b"d") => Some(true),
            Some(b"0") => Some(false),
            Some(_) => return None,
        };
        if parts.next().is_some() {
            return None;
        }
        of_b3(trace, span, sampled)
    };
    match text {
        b"1" | b"d" => Said::Nothing,
        _ => parse().map_or(Said::Unreadable, Said::Context),
    }
}

fn b3_multi(headers: &HeaderMap, value: &HeaderValue) -> Said {
    fn field(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
        headers.get(name).map(HeaderValue::as_bytes)
    }
    let sampled = match (field(headers, B3_FLAGS), field(headers, B3_SAMPLED)) {
        (Some(b"1"), _) | (_, Some(b"1" | b"true")) => Some(true),
        (_, Some(b"0" | b"false")) => Some(false),
        _ => None,
    };
    let span = field(headers, B3_SPAN_ID).unwrap_or_default();
    of_b3(value.as_bytes(), span, sampled).map_or(Said::Unreadable, Said::Context)
}

/// Trace ids of B3 have 64 or 128 bits; the shorter ones are the lower half (OpenTelemetry's rule too).
fn of_b3(trace: &[u8], span: &[u8], sampled: Option<bool>) -> Option<TraceContext> {
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return None;
    }
    Some(TraceContext {
        trace: TraceId::new(hex(trace)?)?,
        parent: SpanId::new(hex(span)? as u64)?,
        sampled,
        flags: u8::from(sampled == Some(true)),
        formats: Formats::default(),
    })
}

fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |value: u128, byte| {
        let digit = (*byte as char).to_digit(16)?;
        Some(value << 4 | u128::from(digit))
    })
}

/// As [`hex`], without capitals, as W3C wants it.
fn hex_lower(text: &[u8]) -> Option<u128> {
    if text.iter().any(u8::is_ascii_uppercase) {
        None
    } else {
        hex(text)
    }
}

fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value & 15)]
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;

//! How long a body is (RFC 9112 6.3), and whether the connection lives on after it.

use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};

use super::ParseError;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body at all. In a response to HEAD and in a 304 a `Content-Length` may still stand in the head.
    None,
    /// This many bytes.
    Exact(u64),
    /// Chunks, then trailers.
    Chunked,
    /// Until the peer closes (responses only). The connection ends with it.
    UntilClose,
}

/// The body of a request. Two framings at once, or one that not everybody reads alike, are how requests are smuggled: refused.
pub(super) fn request(version: Version, headers: &mut HeaderMap) -> Result<BodyLength, ParseError> {
    if headers.contains_key(TRANSFER_ENCODING) {
        if version == Version::HTTP_10 {
            return Err(ParseError::EncodingInHttp10);
        }
        chunked(headers)?;
        return Ok(BodyLength::Chunked);
    }
    Ok(content_length(headers)?.map_or(BodyLength::None, BodyLength::Exact))
}

/// The body of a response, and whether the connection may carry another one as far as framing goes.
pub(super) fn response(
    method: &Method,
    version: Version,
    status: StatusCode,
    headers: &mut HeaderMap,
) -> Result<(BodyLength, bool), ParseError> {
    let never = status.is_informational() || status == StatusCode::NO_CONTENT;
    if never {
        // A server that announces a body where there can be none may send one: nothing after this head can be trusted.
        let announced = headers.contains_key(TRANSFER_ENCODING)
            || headers
                .get_all(CONTENT_LENGTH)
                .iter()
                .any(|length| length.as_bytes() != b"0");
        return Ok((BodyLength::None, !announced));
    }
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return Ok((BodyLength::None, true));
    }
    // What follows is a tunnel; framing fields are to be ignored (RFC 9110 9.3.6).
    if *method == Method::CONNECT && status.is_success() {
        return Ok((BodyLength::None, false));
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        chunked(headers)?;
        // HTTP/1.0 has no such field: read it as chunked, and trust nothing after it (RFC 9112 6.1).
        return Ok((BodyLength::Chunked, version != Version::HTTP_10));
    }
    Ok(match content_length(headers)? {
        Some(length) => (BodyLength::Exact(length), true),
        None => (BodyLength::UntilClose, false),
    })
}

/// Checks that the codings are `chunked` and nothing else.
fn chunked(headers: &HeaderMap) -> Result<(), ParseError> {
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(ParseError::LengthAndEncoding);
    }
    let (mut times, mut last, mut others) = (0, false, false);
    for value in headers.get_all(TRANSFER_ENCODING) {
        for coding in list(value) {
            last = coding.eq_ignore_ascii_case(b"chunked");
            times += usize::from(last);
            others |= !last;
        }
    }
    match (times, last) {
        (1, true) if others => Err(ParseError::TransferCoding),
        (1, true) => Ok(()),
        _ => Err(ParseError::TransferEncoding),
    }
}

/// The one length that the head states. Repetitions of the same number are made one field.
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, ParseError> {
    let mut length = None;
    let mut times = 0;
    for value in headers.get_all(CONTENT_LENGTH) {
        for number in value.as_bytes().split(|byte| *byte == b',') {
            let number = decimal(number.trim_ascii()).ok_or(ParseError::ContentLength)?;
            if length.is_some_and(|other| other != number) {
                return Err(ParseError::ContentLengthConflict);
            }
            length = Some(number);
            times += 1;
        }
    }
    if let (Some(length), 2..) = (length, times) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

/// Digits and nothing else: `str::parse` would take a sign.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The elements of a comma-separated list, empty ones left out (RFC 9110 5.6.1).
pub(super) fn list(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether one of a list field's elements is this word.
pub(super) fn names(headers: &HeaderMap, field: http::HeaderName, word: &[u8]) -> bool {
    headers
        .get_all(field)
        .iter()
        .any(|value| list(value).any(|element| element.eq_ignore_ascii_case(word)))
}

/// Whether the sender of a head means to go on using the connection (RFC 9112 9.3).
pub(super) fn persists(version: Version, headers: &HeaderMap) -> bool {
    if !headers.contains_key(CONNECTION) {
        return version != Version::HTTP_10;
    }
    !names(headers, CONNECTION, b"close") && (version != Version::HTTP_10 || names(headers, CONNECTION, b"keep-alive"))
}

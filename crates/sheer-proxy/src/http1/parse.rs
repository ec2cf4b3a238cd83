//! Heads and field sections, parsed (RFC 9112 2 to 5). Pure: whole sections in, heads out.
//!
//! Values are slices of the head's own memory. The reader calls this once a section is complete.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header::HOST};
use memchr::{memchr, memchr_iter};

use super::{HeaderCase, Limits, ParseError, RequestHead, ResponseHead, Target, case::Tally, framing};

/// Where a head ends.
pub(super) enum Scan {
    /// Just past its empty line.
    Ends(usize),
    /// Not in sight; look again from here when there is more.
    From(usize),
}

/// Looks for the empty line. `from` is 0 or what an earlier scan said.
pub(super) fn scan(bytes: &[u8], from: usize) -> Scan {
    for lf in memchr_iter(b'\n', &bytes[from..]) {
        let next = from + lf + 1;
        match bytes[next..] {
            [b'\n', ..] => return Scan::Ends(next + 1),
            [b'\r', b'\n', ..] => return Scan::Ends(next + 2),
            [] | [b'\r'] => return Scan::From(next - 1),
            _ => {}
        }
    }
    Scan::From(bytes.len())
}

/// How many bytes of empty lines stand before a head (RFC 9112 2.2). A CR whose LF is not there yet does not count.
pub(super) fn leading_empty_lines(bytes: &[u8]) -> usize {
    let mut length = 0;
    loop {
        match bytes[length..] {
            [b'\r', b'\n', ..] => length += 2,
            [b'\n', ..] => length += 1,
            _ => return length,
        }
    }
}

/// A whole request head, its empty line included.
pub(super) fn request(head: &Bytes, limits: &Limits) -> Result<RequestHead, ParseError> {
    let (line, start) = first_line(head)?;
    let (method, rest) = split_space(line).ok_or(ParseError::RequestLine)?;
    let (target, version) = split_space(rest).ok_or(ParseError::RequestLine)?;
    let method = Method::from_bytes(method).map_err(|_| ParseError::Method)?;
    let version = http_version(version)?;
    let target = Target::parse(head.slice_ref(target), &method)?;
    let (mut headers, case) = fields(head, start, limits)?;
    check_host(&headers)?;
    let body = framing::request(version, &mut headers)?;
    let keep_alive = framing::persists(version, &headers);
    Ok(RequestHead {
        method,
        target,
        version,
        headers,
        case,
        body,
        keep_alive,
        raw: head.clone(),
    })
}

/// A whole response head, its empty line included, of the response to a request of this method.
pub(super) fn response(head: &Bytes, method: &Method, limits: &Limits) -> Result<ResponseHead, ParseError> {
    let (line, start) = first_line(head)?;
    let (version, rest) = split_space(line).ok_or(ParseError::StatusLine)?;
    let version = http_version(version)?;
    // The space before an empty reason is often forgotten.
    let (status, reason) = match rest.get(3..) {
        Some([]) => (rest, &[][..]),
        Some([b' ', reason @ ..]) => (&rest[..3], reason),
        _ => return Err(ParseError::StatusLine),
    };
    if reason
        .iter()
        .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
    {
        return Err(ParseError::StatusLine);
    }
    let status = StatusCode::from_bytes(status).map_err(|_| ParseError::StatusLine)?;
    let usual = status.canonical_reason().unwrap_or_default().as_bytes();
    let reason = (reason != usual).then(|| head.slice_ref(reason));
    let (mut headers, case) = fields(head, start, limits)?;
    let (body, framed) = framing::response(method, version, status, &mut headers)?;
    let keep_alive = framed && framing::persists(version, &headers);
    Ok(ResponseHead {
        version,
        status,
        reason,
        headers,
        case,
        body,
        keep_alive,
        raw: head.clone(),
    })
}

/// A whole trailer section, its empty line included. It belongs to chunked framing, where a line ends in CRLF and nothing else.
pub(super) fn trailers(section: &Bytes, limits: &Limits) -> Result<(HeaderMap, HeaderCase), ParseError> {
    if memchr_iter(b'\n', section).any(|lf| lf == 0 || section[lf - 1] != b'\r') {
        return Err(ParseError::BareLf);
    }
    fields(section, 0, limits)
}

/// The first line without its end, and where the next one starts.
fn first_line(head: &Bytes) -> Result<(&[u8], usize), ParseError> {
    let lf = memchr(b'\n', head).ok_or(ParseError::RequestLine)?;
    let line = strip_cr(&head[..lf]);
    if memchr(b'\r', line).is_some() {
        return Err(ParseError::BareCr);
    }
    Ok((line, lf + 1))
}

pub(super) fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn split_space(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr(b' ', line)?;
    Some((&line[..space], &line[space + 1..]))
}

/// Later minor versions are read as 1.1 (RFC 9110 2.5).
fn http_version(version: &[u8]) -> Result<Version, ParseError> {
    match version {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            if *major == b'1' {
                Ok(Version::HTTP_11)
            } else {
                Err(ParseError::VersionNotSupported(major - b'0'))
            }
        }
        _ => Err(ParseError::Version),
    }
}

/// The lines of a field section from `start` up to its empty line, without their ends.
fn lines(section: &[u8], start: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = &section[start..];
    std::iter::from_fn(move || {
        let lf = memchr(b'\n', rest)?;
        let line = strip_cr(&rest[..lf]);
        rest = &rest[lf + 1..];
        (!line.is_empty()).then_some(line)
    })
}

/// Every field of a section.
fn fields(section: &Bytes, start: usize, limits: &Limits) -> Result<(HeaderMap, HeaderCase), ParseError> {
    let too_many = ParseError::TooManyFields { limit: limits.fields };
    let count = memchr_iter(b'\n', &section[start..]).count().saturating_sub(1);
    if count > limits.fields {
        return Err(too_many);
    }
    let mut headers = HeaderMap::with_capacity(count);
    let mut seen = Tally::default();
    for line in lines(section, start) {
        let (name, value) = field(section, line, &mut seen)?;
        headers.try_append(name, value).map_err(|_| too_many)?;
    }
    let names = lines(section, start).map(|line| &line[..memchr(b':', line).unwrap_or(line.len())]);
    Ok((headers, HeaderCase::learn(seen, section, names)))
}

/// One field line.
fn field(section: &Bytes, line: &[u8], seen: &mut Tally) -> Result<(HeaderName, HeaderValue), ParseError> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(ParseError::ObsFold);
    }
    let colon = seen.count_name(line).ok_or(ParseError::FieldLine)?;
    let name = &line[..colon];
    match name.last() {
        None => return Err(ParseError::FieldLine),
        Some(b' ' | b'\t') => return Err(ParseError::SpaceBeforeColon),
        Some(_) => {}
    }
    let name = HeaderName::from_bytes(name).map_err(|_| ParseError::FieldName)?;
    let value = trim(&line[colon + 1..]);
    if value.is_empty() {
        return Ok((name, HeaderValue::from_static("")));
    }
    match HeaderValue::from_maybe_shared(section.slice_ref(value)) {
        Ok(value) => Ok((name, value)),
        Err(_) if memchr(b'\r', value).is_some() => Err(ParseError::BareCr),
        Err(_) => Err(ParseError::FieldValue),
    }
}

/// Without the optional white space around a value: spaces and tabs only, so that no control character slips away.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// One host at most, and nothing in it that two readers could take apart differently (RFC 9112 3.2).
fn check_host(headers: &HeaderMap) -> Result<(), ParseError> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    let invalid = |byte: &u8| !byte.is_ascii_graphic() || b"/?#@\\,".contains(byte);
    if hosts.next().is_some() || host.is_some_and(|host| host.as_bytes().iter().any(invalid)) {
        return Err(ParseError::Host);
    }
    Ok(())
}

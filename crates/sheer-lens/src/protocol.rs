//! Tells HTTP/1, HTTP/2 with prior knowledge and everything else apart from the first bytes of a connection.
//!
//! Decides as early as the bytes allow: a text protocol that is not HTTP (SMTP, Redis, memcached, SIP) is opaque within its first word
//! or line, so that nobody waits for bytes that will not come.

/// What a client of HTTP/2 sends first (RFC 9113 3.4).
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a server's first bytes are its HTTP/2 preface: a SETTINGS frame, not an acknowledgement, on stream 0 (RFC 9113 3.4, 6.5).
/// Such a server speaks at once, but has nothing to say before its client has spoken.
pub fn is_http2_server_preface(bytes: &[u8]) -> bool {
    let [l0, l1, l2, 0x4, 0, s0, 0, 0, 0, ..] = *bytes else {
        return false;
    };
    let length = u32::from_be_bytes([0, l0, l1, l2]);
    s0 & 0x7f == 0 && length.is_multiple_of(6) && length <= 16 * 1024
}

/// Longest method; the longest registered one (`UPDATEREDIRECTREF`) has 17 letters.
const MAX_METHOD: usize = 32;
/// Only HTTP has a second word as long as this: no need to wait for the version.
const LONG_TARGET: usize = 8 * 1024;

/// What the first bytes of a plaintext connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Could still become HTTP: read more.
    Incomplete,
    /// A request line of HTTP/1.0 or HTTP/1.1.
    Http1,
    /// The connection preface of HTTP/2 (RFC 9113 3.4).
    Http2,
    /// Anything else.
    Opaque,
}

/// Looks at the first bytes of a connection. Stateless: ask again with more. No bytes are [`Protocol::Incomplete`].
pub fn protocol(bytes: &[u8]) -> Protocol {
    let common = bytes.len().min(HTTP2_PREFACE.len());
    if bytes[..common] == HTTP2_PREFACE[..common] {
        return if common == HTTP2_PREFACE.len() {
            Protocol::Http2
        } else {
            Protocol::Incomplete
        };
    }
    request_line(bytes)
}

/// `method SP target SP HTTP/1.x`, as far as it is there.
fn request_line(bytes: &[u8]) -> Protocol {
    let length = bytes.iter().take_while(|byte| is_token(**byte)).count();
    if length > MAX_METHOD {
        return Protocol::Opaque;
    }
    let (method, rest) = bytes.split_at(length);
    let Some((separator, target)) = rest.split_first() else {
        return Protocol::Incomplete;
    };
    if method.is_empty() || *separator != b' ' {
        return Protocol::Opaque;
    }
    let length = target.iter().take_while(|byte| is_target(**byte)).count();
    let (target, rest) = target.split_at(length);
    let form = if method == b"CONNECT" {
        authority(target)
    } else {
        target_start(target)
    };
    match (form, rest.split_first()) {
        (Form::Wrong, _) => Protocol::Opaque,
        (_, None) if target.len() > LONG_TARGET => Protocol::Http1,
        (_, None) => Protocol::Incomplete,
        (Form::Whole, Some((b' ', version_part))) => version(version_part),
        (_, Some(_)) => Protocol::Opaque,
    }
}

/// How a word fares as a target.
enum Form {
    /// It may stand as it is.
    Whole,
    /// It may become a target, but is none yet.
    Begun,
    /// No continuation makes it a target.
    Wrong,
}

/// Origin, absolute and asterisk form (RFC 9112 3.2).
fn target_start(target: &[u8]) -> Form {
    match target {
        [] => Form::Begun,
        [b'/', ..] | b"*" => Form::Whole,
        [b'*', ..] => Form::Wrong,
        _ => {
            let scheme = target
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
                .count();
            let rest = &target[scheme..];
            let separator = b"://";
            let common = rest.len().min(separator.len());
            if !target[0].is_ascii_alphabetic() || scheme > MAX_METHOD || rest[..common] != separator[..common] {
                Form::Wrong
            } else if rest.len() > separator.len() {
                Form::Whole
            } else {
                Form::Begun
            }
        }
    }
}

/// Authority form, for CONNECT.
fn authority(target: &[u8]) -> Form {
    let host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~[]:%".contains(byte);
    if !target.iter().all(host) || target.len() > 300 {
        Form::Wrong
    } else if target
        .iter()
        .rposition(|byte| *byte == b':')
        .is_some_and(|colon| colon > 0 && colon + 1 < target.len())
    {
        Form::Whole
    } else {
        Form::Begun
    }
}

/// `HTTP/1.x`, as far as it is there.
fn version(bytes: &[u8]) -> Protocol {
    let name = b"HTTP/1.";
    let common = bytes.len().min(name.len());
    match (bytes[..common] == name[..common], bytes.get(name.len())) {
        (false, _) => Protocol::Opaque,
        (true, None) => Protocol::Incomplete,
        (true, Some(digit)) if digit.is_ascii_digit() => Protocol::Http1,
        (true, Some(_)) => Protocol::Opaque,
    }
}

/// `tchar` of RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whatever is neither white space nor a control character: sloppy clients send UTF-8.
fn is_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

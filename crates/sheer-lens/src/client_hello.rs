//! TLS ClientHello: finds the server name and the ALPN protocols (RFC 8446 4.1.2, RFC 6066 3, RFC 7301).
//!
//! Stateless: the caller collects bytes and asks again with more. A ClientHello may be cut into several records, each of which may
//! hold as little as one byte of it.

use crate::tls::Cursor;

/// Longest ClientHello that is read, its record headers not counted. Those with post-quantum key shares have 1.5 to 2 KiB; beyond
/// this it is not TLS to us, so that nobody makes the proxy collect bytes without end.
pub const MAX_CLIENT_HELLO: usize = 16 * 1024;

/// Content type of a handshake record.
const HANDSHAKE: u8 = 22;
/// Message type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Longest payload of a plaintext record (RFC 8446 5.1).
const MAX_RECORD: usize = 1 << 14;
/// Type, version, length.
const RECORD_HEADER: usize = 5;
/// Type and 24-bit length.
const MESSAGE_HEADER: usize = 4;

/// Extension `server_name`.
const SERVER_NAME: u16 = 0;
/// Extension `application_layer_protocol_negotiation`.
const ALPN: u16 = 16;

/// What the bytes so far say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientHello {
    /// Could still become a ClientHello: read more.
    Incomplete,
    /// Not TLS.
    NotTls,
    /// A whole ClientHello.
    Complete {
        /// `server_name`, lower case, if the client sent one.
        sni: Option<String>,
        /// Offered ALPN protocols, in the client's order.
        alpn: Vec<Vec<u8>>,
    },
}

/// Looks for a ClientHello at the start of a connection. Says [`ClientHello::NotTls`] at the first byte that cannot belong to one;
/// bytes after the message are ignored.
pub fn client_hello(bytes: &[u8]) -> ClientHello {
    match message(bytes) {
        Ok(Some(body)) => parse(&body).unwrap_or(ClientHello::NotTls),
        Ok(None) => ClientHello::Incomplete,
        Err(NotTls) => ClientHello::NotTls,
    }
}

/// The bytes cannot be a ClientHello.
struct NotTls;

/// The body of the handshake message, put together from its records; `None` while some are missing.
fn message(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    let mut message = Vec::new();
    loop {
        let Some(Record { payload, rest }) = record(bytes)? else {
            return Ok(None);
        };
        message.extend_from_slice(payload);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NotTls);
        }
        if let Some(&[_, a, b, c]) = message.get(..MESSAGE_HEADER) {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if length > MAX_CLIENT_HELLO {
                return Err(NotTls);
            }
            if message.len() >= MESSAGE_HEADER + length {
                message.truncate(MESSAGE_HEADER + length);
                message.drain(..MESSAGE_HEADER);
                return Ok(Some(message));
            }
        }
        if rest.is_empty() {
            return Ok(None);
        }
        bytes = rest;
    }
}

/// A record, as far as it is there.
struct Record<'a> {
    payload: &'a [u8],
    /// What follows it.
    rest: &'a [u8],
}

/// The record at the front; `None` where not even one byte of its payload is there.
fn record(bytes: &[u8]) -> Result<Option<Record<'_>>, NotTls> {
    let wrong_type = bytes.first().is_some_and(|kind| *kind != HANDSHAKE);
    let wrong_version = bytes.get(1).is_some_and(|major| *major != 3) || bytes.get(2).is_some_and(|minor| *minor > 4);
    if wrong_type || wrong_version {
        return Err(NotTls);
    }
    let Some(header) = bytes.get(3..RECORD_HEADER) else {
        return Ok(None);
    };
    let length = usize::from(header[0]) << 8 | usize::from(header[1]);
    // A handshake record is never empty (RFC 8446 5.1).
    if length == 0 || length > MAX_RECORD {
        return Err(NotTls);
    }
    let payload = &bytes[RECORD_HEADER..];
    Ok(match payload.len() {
        0 => None,
        available => {
            let (payload, rest) = payload.split_at(length.min(available));
            Some(Record { payload, rest })
        }
    })
}

/// Reads the body of a ClientHello; `None` where it is malformed.
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut hello = Cursor(body);
    hello.take(2 + 32)?; // legacy version, random
    let session = hello.vector8()?;
    let suites = hello.vector16()?;
    let compression = hello.vector8()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    let (mut sni, mut alpn) = (None, Vec::new());
    // Before TLS 1.3 a client could leave the extensions out.
    if !hello.0.is_empty() {
        let mut extensions = Cursor(hello.vector16()?);
        if !hello.0.is_empty() {
            return None;
        }
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let data = extensions.vector16()?;
            match kind {
                SERVER_NAME => sni = server_name(data)?,
                ALPN => alpn = protocols(data)?,
                _ => {}
            }
        }
    }
    Some(ClientHello::Complete { sni, alpn })
}

/// The first host name of the extension. The outer `None` is malformed, the inner one a name that is no DNS name.
fn server_name(data: &[u8]) -> Option<Option<String>> {
    let mut data = Cursor(data);
    let mut names = Cursor(data.vector16()?);
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector16()?;
        if kind == 0 {
            return Some(dns_name(name));
        }
    }
    Some(None)
}

/// A host name, lower case; `None` where it has bytes that no host name has.
fn dns_name(name: &[u8]) -> Option<String> {
    let valid = (1..=253).contains(&name.len())
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    valid.then(|| name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

/// The protocols of the extension.
fn protocols(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut data = Cursor(data);
    let mut list = Cursor(data.vector16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector8()?;
        if protocol.is_empty() {
            return None;
        }
        protocols.push(protocol.to_vec());
    }
    Some(protocols)
}

//! What the two hellos say (RFC 8446, 4.1).

use super::cursor::{Cursor, numbers};

/// A ClientHello, in the client's order of preference throughout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The field `legacy_version`.
    pub legacy_version: u16,
    /// Bytes of `legacy_session_id`: some for a client that wants to pass old middleboxes, or to resume TLS 1.2.
    pub session_id: usize,
    /// Cipher suites, those of no meaning (GREASE, RFC 8701) included.
    pub cipher_suites: Vec<u16>,
    /// `supported_versions`; empty before TLS 1.3.
    pub versions: Vec<u16>,
    /// `server_name`, as sent.
    pub sni: Option<Vec<u8>>,
    /// `application_layer_protocol_negotiation`.
    pub alpn: Vec<Vec<u8>>,
    /// `supported_groups`.
    pub groups: Vec<u16>,
    /// Groups for which `key_share` has a key.
    pub key_shares: Vec<KeyShare>,
    /// `signature_algorithms`.
    pub signature_algorithms: Vec<u16>,
    /// Identities that `pre_shared_key` offers: tickets of earlier sessions.
    pub pre_shared_keys: usize,
    /// Whether `early_data` is offered.
    pub early_data: bool,
    /// Types of all extensions.
    pub extensions: Vec<u16>,
}

/// A key of `key_share`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyShare {
    /// Its group: see [`super::group_name`].
    pub group: u16,
    /// Bytes of the key.
    pub length: usize,
}

/// A ServerHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHello {
    /// The version that was chosen: of `supported_versions`, or before TLS 1.3 of the message itself.
    pub version: u16,
    /// The cipher suite that was chosen.
    pub cipher_suite: u16,
    /// The group of `key_share`; of a HelloRetryRequest, the one that it asks for.
    pub group: Option<u16>,
    /// The client is to try again with another key share.
    pub is_retry: bool,
    /// Which of the client's identities was chosen: the session is resumed.
    pub pre_shared_key: Option<u16>,
    /// The protocol that was chosen, before TLS 1.3; after that it is encrypted.
    pub alpn: Option<Vec<u8>>,
    /// Types of all extensions.
    pub extensions: Vec<u16>,
}

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

/// The random of a HelloRetryRequest: SHA-256 of that name (RFC 8446, 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Reads the body of a ClientHello, its message header left out; `None` where it is malformed.
pub fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut rest = Cursor(body);
    let mut hello = ClientHello {
        legacy_version: rest.u16()?,
        ..ClientHello::default()
    };
    rest.take(32)?; // random
    hello.session_id = rest.vector8()?.len();
    hello.cipher_suites = numbers(rest.vector16()?);
    rest.vector8()?; // compression
    extensions(rest, |kind, data| {
        hello.extensions.push(kind);
        let mut data = Cursor(data);
        match kind {
            SERVER_NAME => hello.sni = server_name(data.vector16()?)?,
            SUPPORTED_GROUPS => hello.groups = numbers(data.vector16()?),
            SIGNATURE_ALGORITHMS => hello.signature_algorithms = numbers(data.vector16()?),
            ALPN => hello.alpn = protocols(data.vector16()?)?,
            PRE_SHARED_KEY => hello.pre_shared_keys = identities(data.vector16()?)?,
            EARLY_DATA => hello.early_data = true,
            SUPPORTED_VERSIONS => hello.versions = numbers(data.vector8()?),
            KEY_SHARE => hello.key_shares = key_shares(data.vector16()?)?,
            _ => {}
        }
        Some(())
    })?;
    Some(hello)
}

/// Reads the body of a ServerHello, its message header left out; `None` where it is malformed.
pub fn server_hello(body: &[u8]) -> Option<ServerHello> {
    let mut rest = Cursor(body);
    let mut hello = ServerHello {
        version: rest.u16()?,
        ..ServerHello::default()
    };
    hello.is_retry = rest.take(32)? == RETRY;
    rest.vector8()?; // session
    hello.cipher_suite = rest.u16()?;
    rest.u8()?; // compression
    extensions(rest, |kind, data| {
        hello.extensions.push(kind);
        let mut data = Cursor(data);
        match kind {
            SUPPORTED_VERSIONS => hello.version = data.u16()?,
            KEY_SHARE => hello.group = Some(data.u16()?),
            PRE_SHARED_KEY => hello.pre_shared_key = Some(data.u16()?),
            ALPN => hello.alpn = protocols(data.vector16()?)?.into_iter().next(),
            _ => {}
        }
        Some(())
    })?;
    Some(hello)
}

/// Shows each extension. Before TLS 1.3 there may be none at all.
fn extensions(mut rest: Cursor<'_>, mut each: impl FnMut(u16, &[u8]) -> Option<()>) -> Option<()> {
    if rest.0.is_empty() {
        return Some(());
    }
    let mut list = Cursor(rest.vector16()?);
    while !list.0.is_empty() {
        let kind = list.u16()?;
        each(kind, list.vector16()?)?;
    }
    rest.0.is_empty().then_some(())
}

/// The first host name. The outer `None` is malformed.
fn server_name(names: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut names = Cursor(names);
    while !names.0.is_empty() {
        let (kind, name) = (names.u8()?, names.vector16()?);
        if kind == 0 {
            return Some(Some(name.to_vec()));
        }
    }
    Some(None)
}

fn protocols(list: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut list, mut protocols) = (Cursor(list), Vec::new());
    while !list.0.is_empty() {
        protocols.push(list.vector8()?.to_vec());
    }
    Some(protocols)
}

fn identities(list: &[u8]) -> Option<usize> {
    let (mut list, mut count) = (Cursor(list), 0);
    while !list.0.is_empty() {
        list.vector16()?;
        list.take(4)?; // obfuscated age
        count += 1;
    }
    Some(count)
}

fn key_shares(list: &[u8]) -> Option<Vec<KeyShare>> {
    let (mut list, mut shares) = (Cursor(list), Vec::new());
    while !list.0.is_empty() {
        shares.push(KeyShare {
            group: list.u16()?,
            length: list.vector16()?.len(),
        });
    }
    Some(shares)
}

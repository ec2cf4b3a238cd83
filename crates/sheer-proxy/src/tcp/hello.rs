//! Notes the server name of TLS that a relay carries, from bytes that it moves anyway: nothing waits for it, and nothing is decided by it.

use std::sync::OnceLock;

use sheer_lens::client_hello::{ClientHello, client_hello};

/// Content type of a handshake record: what a ClientHello begins with.
const HANDSHAKE: u8 = 22;
/// Type, version, length.
const RECORD_HEADER: usize = 5;

/// Looks at the first bytes of a client.
#[derive(Debug, Default)]
pub(super) enum Looker {
    /// Nothing has passed.
    #[default]
    First,
    /// The beginning of what may be a ClientHello.
    Begun(Vec<u8>),
    /// It looks no more.
    Done,
}

impl Looker {
    /// Bytes pass, the first ones or those behind what has passed.
    #[inline]
    pub(super) fn look(&mut self, bytes: &[u8], hello: &OnceLock<Box<str>>) {
        if !matches!(self, Self::Done) && !bytes.is_empty() {
            self.read(bytes, hello);
        }
    }

    /// Bytes pass that it does not see.
    pub(super) fn miss(&mut self) {
        *self = Self::Done;
    }

    #[cold]
    fn read(&mut self, bytes: &[u8], hello: &OnceLock<Box<str>>) {
        // Most are whole at once.
        let found = match self {
            Self::First if bytes[0] != HANDSHAKE => ClientHello::NotTls,
            Self::First => client_hello(bytes),
            Self::Begun(begun) => {
                begun.extend_from_slice(bytes);
                if has_record(begun) {
                    client_hello(begun)
                } else {
                    ClientHello::Incomplete
                }
            }
            Self::Done => return,
        };
        match found {
            ClientHello::Incomplete if matches!(self, Self::First) => *self = Self::Begun(bytes.to_vec()),
            ClientHello::Incomplete => {}
            ClientHello::NotTls => self.miss(),
            ClientHello::Complete { sni, .. } => {
                // Nobody else sets it.
                let _ = hello.set(sni.unwrap_or_default().into());
                self.miss();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        !matches!(self, Self::Begun(_))
    }
}

/// Whether the first record is whole: without it no look is worth while.
fn has_record(bytes: &[u8]) -> bool {
    let length = bytes.get(3..RECORD_HEADER).and_then(<[u8]>::as_array::<2>);
    length.is_some_and(|length| bytes.len() >= RECORD_HEADER + usize::from(u16::from_be_bytes(*length)))
}

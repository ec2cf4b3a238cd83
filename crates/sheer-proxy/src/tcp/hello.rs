//! Notes the server name of TLS that a relay carries, from bytes that it moves anyway: nothing waits for it, and nothing is decided by it.

use std::sync::OnceLock;

use sheer_lens::client_hello::{ClientHello, client_hello};

/// Content type of a handshake record: what a ClientHello begins with.
const HANDSHAKE: u8 = 22;
/// Type, version, length.
const RECORD_HEADER: usize = 5;
/// A ClientHello of one record has no more, with a little for a second one.
const LONGEST: usize = 17 * 1024;
/// Pieces in which one is awaited behind its first record.
const LOOKS: u8 = 8;

/// Looks at the first bytes of a client.
#[derive(Debug, Default)]
pub(super) enum Looker {
    /// Nothing has passed.
    #[default]
    First,
    /// The beginning of what may be a ClientHello.
    Begun {
        bytes: Vec<u8>,
        /// How often it was looked at in vain.
        looks: u8,
    },
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
            Self::Begun { bytes: begun, looks } => {
                if begun.len() + bytes.len() > LONGEST || *looks >= LOOKS {
                    return self.miss();
                }
                begun.extend_from_slice(bytes);
                if has_record(begun) {
                    *looks += 1;
                    client_hello(begun)
                } else {
                    ClientHello::Incomplete
                }
            }
            Self::Done => return,
        };
        match found {
            ClientHello::Incomplete if matches!(self, Self::First) && bytes.len() <= LONGEST => {
                *self = Self::Begun {
                    bytes: bytes.to_vec(),
                    looks: 0,
                };
            }
            ClientHello::Incomplete if matches!(self, Self::First) => self.miss(),
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
        !matches!(self, Self::Begun { .. })
    }
}

/// Whether the first record is whole: without it no look is worth while.
fn has_record(bytes: &[u8]) -> bool {
    let length = bytes.get(3..RECORD_HEADER).and_then(<[u8]>::as_array::<2>);
    length.is_some_and(|length| bytes.len() >= RECORD_HEADER + usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever sends a hello byte by byte, record by record, or without an end costs little, and nothing is kept for him for ever.
    #[test]
    fn a_hello_without_an_end_is_given_up() {
        let first: &[u8] = &[22, 3, 1, 0, 1, 1];
        let record: &[u8] = &[22, 3, 1, 0, 1, 0];
        let (mut looker, hello) = (Looker::default(), OnceLock::new());
        looker.look(first, &hello);
        for _ in 0..2 * usize::from(LOOKS) {
            looker.look(record, &hello);
        }
        assert!(matches!(looker, Looker::Done) && hello.get().is_none());
        let (mut looker, endless) = (Looker::default(), [&[22, 3, 1, 0x40, 0], &[1; 4096][..]].concat());
        for _ in 0..8 {
            looker.look(&endless, &hello);
        }
        assert!(matches!(looker, Looker::Done) && hello.get().is_none());
    }
}

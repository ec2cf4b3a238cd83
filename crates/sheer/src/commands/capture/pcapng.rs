//! Writes pcapng files (draft-ietf-opsawg-pcapng): little-endian, times in nanoseconds.

use std::{
    io::{self, Write},
    net::IpAddr,
};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const NAMES: u32 = 4;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const SECRETS: u32 = 10;

/// `if_name`, `if_description`, `if_tsresol`, `if_os`.
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const ISB_IFDROP: u16 = 5;

/// Secrets of TLS in the form of a key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;
/// Ethernet; Linux' loopback has its header too.
const LINKTYPE_ETHERNET: u16 = 1;

/// Writes one file, in the order in which its methods are called. [`Self::secrets`] go before the packets that they open.
pub(super) struct Writer<W> {
    out: W,
    interfaces: u32,
}

/// A packet as it is written.
#[derive(Clone, Debug)]
pub(super) struct Written<'a> {
    /// As [`Writer::interface`] gave it.
    pub(super) interface: u32,
    /// Nanoseconds since the Unix epoch.
    pub(super) time: u64,
    /// Length on the wire.
    pub(super) length: u32,
    pub(super) bytes: &'a [u8],
    /// May be empty.
    pub(super) comment: &'a str,
}

impl<W: Write> Writer<W> {
    /// Begins a file; `application` is who wrote it.
    pub(super) fn new(out: W, application: &str) -> io::Result<Self> {
        let mut writer = Self { out, interfaces: 0 };
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend([1, 0, 0, 0]); // version 1.0
        body.extend((-1_i64).to_le_bytes()); // the section's length is not said
        option(&mut body, SHB_USERAPPL, application.as_bytes());
        end_of_options(&mut body);
        writer.block(SECTION, &body)?;
        Ok(writer)
    }

    /// An interface; its number is for [`Written::interface`].
    pub(super) fn interface(&mut self, name: &str, description: &str, snap: u32) -> io::Result<u32> {
        let mut body = Vec::new();
        body.extend(LINKTYPE_ETHERNET.to_le_bytes());
        body.extend([0, 0]);
        body.extend(snap.to_le_bytes());
        option(&mut body, IF_NAME, name.as_bytes());
        option(&mut body, IF_DESCRIPTION, description.as_bytes());
        option(&mut body, IF_TSRESOL, &[9]);
        end_of_options(&mut body);
        self.block(INTERFACE, &body)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Names of addresses, which readers show in their place.
    pub(super) fn names<'a>(&mut self, names: impl Iterator<Item = (IpAddr, &'a str)>) -> io::Result<()> {
        let mut body = Vec::new();
        for (address, name) in names {
            let (kind, octets) = match address {
                IpAddr::V4(address) => (1_u16, address.octets().to_vec()),
                IpAddr::V6(address) => (2, address.octets().to_vec()),
            };
            let mut record = octets;
            record.extend(name.as_bytes());
            record.push(0);
            option(&mut body, kind, &record);
        }
        end_of_options(&mut body);
        self.block(NAMES, &body)
    }

    /// Secrets, as lines of a key log.
    pub(super) fn secrets(&mut self, key_log: &str) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend(TLS_KEY_LOG.to_le_bytes());
        body.extend(length(key_log.len())?.to_le_bytes());
        body.extend(key_log.as_bytes());
        pad(&mut body);
        self.block(SECRETS, &body)
    }

    pub(super) fn packet(&mut self, packet: &Written<'_>) -> io::Result<()> {
        let mut body = Vec::with_capacity(packet.bytes.len() + 64);
        body.extend(packet.interface.to_le_bytes());
        body.extend(((packet.time >> 32) as u32).to_le_bytes());
        body.extend((packet.time as u32).to_le_bytes());
        body.extend(length(packet.bytes.len())?.to_le_bytes());
        body.extend(packet.length.to_le_bytes());
        body.extend(packet.bytes);
        pad(&mut body);
        if !packet.comment.is_empty() {
            option(&mut body, COMMENT, packet.comment.as_bytes());
            end_of_options(&mut body);
        }
        self.block(PACKET, &body)
    }

    /// How many packets an interface lost; `time` in nanoseconds since the Unix epoch.
    pub(super) fn lost(&mut self, interface: u32, time: u64, lost: u64) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend(interface.to_le_bytes());
        body.extend(((time >> 32) as u32).to_le_bytes());
        body.extend((time as u32).to_le_bytes());
        option(&mut body, ISB_IFDROP, &lost.to_le_bytes());
        end_of_options(&mut body);
        self.block(STATISTICS, &body)
    }

    /// What was written to.
    pub(super) fn into_inner(self) -> W {
        self.out
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = length(body.len() + 12)?.to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length)?;
        self.out.write_all(body)?;
        self.out.write_all(&length)
    }
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(io::Error::other)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    // A name or comment longer than the format has room for is cut: it is for people.
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// To 32 bits.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Block types with their bodies, each length checked at both ends.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let length = number(&file[4..]) as usize;
            assert_eq!((length % 4, number(&file[length - 4..]) as usize), (0, length));
            blocks.push((number(file), file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        blocks
    }

    #[test]
    fn a_file_of_every_block() {
        let mut writer = Writer::new(Vec::new(), "sheer").expect("memory");
        let interface = writer.interface("web-0/eth0", "bank/web-0", 65_535).expect("memory");
        let name = ("10.77.0.2".parse().expect("an address"), "web-0.bank");
        writer.names([name].into_iter()).expect("memory");
        writer.secrets("LABEL 00 11\n").expect("memory");
        let packet = Written {
            interface,
            time: (1 << 32) + 2,
            length: 60,
            bytes: &[1, 2, 3, 4, 5],
            comment: "hello",
        };
        writer.packet(&packet).expect("memory");
        writer.lost(interface, 3, 9).expect("memory");
        let file = writer.into_inner();
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, NAMES, SECRETS, PACKET, STATISTICS]);
        assert_eq!(blocks[3].1[..8], [0x4b, 0x53, 0x4c, 0x54, 12, 0, 0, 0]);
        assert_eq!(
            blocks[4].1,
            [
                0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 60, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 1, 0, 5, 0, b'h',
                b'e', b'l', b'l', b'o', 0, 0, 0, 0, 0, 0, 0
            ]
        );
    }
}

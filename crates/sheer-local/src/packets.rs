//! Packets as they cross the interfaces of the network namespace that this process is in, loopback included.
//!
//! `sheer capture` runs a reader inside each pod (as `sheer exec` does) and takes what it writes: a record a packet, in the form that
//! [`Record::write`] and [`Record::read`] share. Needs CAP_NET_RAW over the namespace, which the owner of a local mesh has there.

mod dissect;
mod filter;

pub use dissect::{Packet, client_random, dissect};
pub use filter::{Filter, FilterError};

use std::{
    io::{self, IoSliceMut, Read, Write},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    net::if_::if_indextoname,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
            setsockopt, socket, sockopt,
        },
        time::TimeSpec,
    },
};

use sheer_api::names::SIGHT_PORT;

/// What the kernel may hold for a reader that is late: a burst of a second at 1 Gbit/s on a quiet machine is 128 MiB, and a capture that wants
/// more says what it lost.
const BUFFER: usize = 64 * 1024 * 1024;
/// The most of a packet that is kept: more than any MTU, and what segmentation offload makes of it.
const LARGEST: usize = 65_536 + 14;
/// Packets that this host sent (`PACKET_OUTGOING`): on loopback each is seen again as it arrives.
const OUTGOING: u8 = 4;
/// Always there, so that a snap length below it keeps at least this.
const ETHERNET_HEADER: usize = 14;

/// A packet, or a word about the capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An interface, before its first packet.
    Interface {
        /// Its number in this namespace.
        index: u32,
        /// As `eth0`.
        name: String,
    },
    /// A packet, from its Ethernet header on.
    Packet {
        /// Which interface.
        interface: u32,
        /// Nanoseconds since the Unix epoch, as the kernel took it.
        time: u64,
        /// Bytes on the wire; more than are here where it was cut.
        length: u32,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Packets that the kernel had to drop since the capture began.
    Lost(u32),
    /// The reader is there: from now on nothing is missed.
    Ready,
}

/// Why packets cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The socket.
    #[error("packets cannot be read here: {errno}{}", hint(*errno))]
    Socket {
        /// What the kernel says.
        errno: Errno,
    },
    /// The pipe to whoever asked.
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn socket_error(errno: Errno) -> PacketError {
    PacketError::Socket { errno }
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => ": it needs CAP_NET_RAW; run it as the user that started the mesh",
        _ => "",
    }
}

/// Reads packets until the writer's other end is closed, at most `snap` bytes of each, and only what the filter keeps. What the control plane asks
/// of the sidecar is left out: a capture would show itself.
pub fn read_all(snap: usize, filter: &Filter, mut out: impl Write) -> Result<(), PacketError> {
    let socket = open().map_err(socket_error)?;
    let mut buffer = vec![0; LARGEST.min(snap.max(ETHERNET_HEADER))];
    let mut control = cmsg_space!(TimeSpec, u32);
    let mut interfaces = Vec::new();
    let mut lost = 0;
    Record::Ready.write(&mut out)?;
    out.flush()?;
    loop {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        // MSG_TRUNC: the answer is the packet's whole length.
        let received = recvmsg::<LinkAddr>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT,
        );
        let received = match received {
            Ok(received) => received,
            Err(Errno::EINTR) => continue,
            // Nothing more now: what was written must not wait here while nothing comes.
            Err(Errno::EAGAIN) => {
                out.flush()?;
                wait(&socket)?;
                continue;
            }
            Err(errno) => return Err(PacketError::Socket { errno }),
        };
        let mut time = 0;
        let mut dropped = lost;
        for message in received.cmsgs().map_err(socket_error)? {
            match message {
                ControlMessageOwned::ScmTimestampns(at) => time = nanoseconds(&at),
                ControlMessageOwned::RxqOvfl(count) => dropped = count,
                _ => {}
            }
        }
        let Some(from) = received.address else { continue };
        let length = received.bytes;
        let interface = u32::try_from(from.ifindex()).unwrap_or(0);
        let loopback = from.halen() == 6 && from.addr() == Some([0; 6]) && from.hatype() == libc::ARPHRD_LOOPBACK;
        if loopback && from.pkttype() == OUTGOING {
            continue;
        }
        let bytes = &buffer[..length.min(buffer.len())];
        let facts = dissect(bytes);
        if !filter.keeps(facts.as_ref()) || facts.is_some_and(|facts| facts.is_at(SIGHT_PORT)) {
            continue;
        }
        if dropped != lost {
            lost = dropped;
            Record::Lost(lost).write(&mut out)?;
        }
        if !interfaces.contains(&interface) {
            interfaces.push(interface);
            let name = if_indextoname(interface)
                .map_or_else(|_| format!("if{interface}"), |name| name.to_string_lossy().into_owned());
            Record::Interface { index: interface, name }.write(&mut out)?;
        }
        let packet = Record::Packet {
            interface,
            time,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            bytes: bytes.to_vec(),
        };
        packet.write(&mut out)?;
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    // As root past the system's limit; else as much as that allows.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    Ok(socket)
}

/// Waits for a packet.
fn wait(socket: &OwnedFd) -> Result<(), PacketError> {
    let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut sockets, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(socket_error(errno)),
    }
}

fn nanoseconds(at: &TimeSpec) -> u64 {
    Duration::from(*at).as_nanos().try_into().unwrap_or(u64::MAX)
}

impl Record {
    /// Writes the record: a letter, then numbers of 4 or 8 bytes (little-endian), then a length and that many bytes.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Interface { index, name } => {
                out.write_all(b"i")?;
                out.write_all(&index.to_le_bytes())?;
                write_bytes(out, name.as_bytes())
            }
            Self::Packet {
                interface,
                time,
                length,
                bytes,
            } => {
                out.write_all(b"p")?;
                out.write_all(&interface.to_le_bytes())?;
                out.write_all(&time.to_le_bytes())?;
                out.write_all(&length.to_le_bytes())?;
                write_bytes(out, bytes)
            }
            Self::Lost(count) => {
                out.write_all(b"l")?;
                out.write_all(&count.to_le_bytes())
            }
            Self::Ready => out.write_all(b"r"),
        }
    }

    /// Reads a record; none at the end. An error where the stream is cut or is no stream of records.
    pub fn read(input: &mut impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0];
        if input.read(&mut kind)? == 0 {
            return Ok(None);
        }
        Ok(Some(match kind[0] {
            b'i' => Self::Interface {
                index: read_u32(input)?,
                name: String::from_utf8_lossy(&read_bytes(input)?).into_owned(),
            },
            b'p' => Self::Packet {
                interface: read_u32(input)?,
                time: read_u64(input)?,
                length: read_u32(input)?,
                bytes: read_bytes(input)?,
            },
            b'l' => Self::Lost(read_u32(input)?),
            b'r' => Self::Ready,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no record of a capture")),
        }))
    }
}

fn write_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

fn read_u32(input: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn read_u64(input: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = read_u32(input)? as usize;
    if length > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a record of a capture is too long",
        ));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were() {
        let records = [
            Record::Ready,
            Record::Interface {
                index: 2,
                name: "eth0".to_owned(),
            },
            Record::Packet {
                interface: 2,
                time: 1_700_000_000_000_000_001,
                length: 1500,
                bytes: vec![1, 2, 3],
            },
            Record::Lost(7),
        ];
        let mut bytes = Vec::new();
        for record in &records {
            record.write(&mut bytes).expect("memory");
        }
        let mut input = bytes.as_slice();
        let read: Vec<Record> = std::iter::from_fn(|| Record::read(&mut input).expect("whole")).collect();
        assert_eq!(read, records);
        let mut cut = &bytes[..bytes.len() - 1];
        let last = std::iter::from_fn(|| Record::read(&mut cut).transpose())
            .last()
            .expect("some");
        assert!(last.is_err(), "{last:?}");
        assert!(Record::read(&mut &b"x"[..]).is_err());
    }
}

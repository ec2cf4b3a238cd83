//! A TCP conversation that carries what was read above TLS: a handshake, segments, an end. Nothing is lost and nothing comes twice in it, whatever the network did.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Of a segment's payload: what goes into one IP packet with room for headers.
const LARGEST: usize = 32 * 1024;
const ETHERNET_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERNET_IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;
const HOPS: u8 = 64;
const WINDOW: u16 = u16::MAX;
/// Nanoseconds between two packets that came at the same time: readers sort by it.
const STEP: u64 = 100;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// How a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset,
}

/// A packet with its Ethernet header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Nanoseconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) comment: String,
}

/// One conversation, packet by packet. `[0]` is the client's, `[1]` the server's.
#[derive(Debug)]
pub(super) struct Tcp {
    ends: [SocketAddr; 2],
    /// What each sends next, and what of it the other has not acknowledged.
    next: [u32; 2],
    unacknowledged: [usize; 2],
    last: u64,
    /// For the next packet.
    comment: String,
    packets: Vec<Packet>,
}

impl Tcp {
    /// Begins with a handshake at this time.
    pub(super) fn open(client: SocketAddr, server: SocketAddr, time: u64, comment: String) -> Self {
        let mut tcp = Self {
            ends: same_family(client, server),
            next: [0; 2],
            unacknowledged: [0; 2],
            last: 0,
            comment,
            packets: Vec::new(),
        };
        tcp.packet(true, time, SYN, &[]);
        tcp.packet(false, time, SYN | ACK, &[]);
        tcp.packet(true, time, ACK, &[]);
        tcp
    }

    /// Puts a comment at the next packet.
    pub(super) fn say(&mut self, comment: &str) {
        if !self.comment.is_empty() {
            self.comment.push_str("; ");
        }
        self.comment.push_str(comment);
    }

    /// Bytes of one side.
    pub(super) fn send(&mut self, from_client: bool, time: u64, bytes: &[u8]) {
        for part in bytes.chunks(LARGEST) {
            if self.unacknowledged[usize::from(!from_client)] + part.len() > usize::from(WINDOW) {
                self.packet(!from_client, time, ACK, &[]);
            }
            self.packet(from_client, time, PSH | ACK, part);
        }
    }

    /// One side ends it, and the other agrees.
    pub(super) fn close(&mut self, from_client: bool, time: u64, end: End) {
        match end {
            End::Reset => self.packet(from_client, time, RST | ACK, &[]),
            End::Fin => {
                self.packet(from_client, time, FIN | ACK, &[]);
                self.packet(!from_client, time, FIN | ACK, &[]);
                self.packet(from_client, time, ACK, &[]);
            }
        }
    }

    pub(super) fn into_packets(mut self) -> Vec<Packet> {
        // What was said for a packet that never came.
        if let (false, Some(last)) = (self.comment.is_empty(), self.packets.last_mut()) {
            last.comment = [std::mem::take(&mut last.comment), self.comment]
                .into_iter()
                .filter(|said| !said.is_empty())
                .collect::<Vec<_>>()
                .join("; ");
        }
        self.packets
    }

    fn packet(&mut self, from_client: bool, time: u64, flags: u8, payload: &[u8]) {
        let [source, other] = if from_client { [0, 1] } else { [1, 0] };
        let acknowledged = if flags & ACK == 0 { 0 } else { self.next[other] };
        let mut segment = Vec::with_capacity(20 + payload.len());
        segment.extend(self.ends[source].port().to_be_bytes());
        segment.extend(self.ends[other].port().to_be_bytes());
        segment.extend(self.next[source].to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        segment.extend([5 << 4, flags]);
        segment.extend(WINDOW.to_be_bytes());
        segment.extend([0; 4]); // checksum, no urgent data
        segment.extend(payload);
        let bytes = within_ip(self.ends[source].ip(), self.ends[other].ip(), segment);
        let spent = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[source] = self.next[source].wrapping_add(spent);
        self.unacknowledged[source] += payload.len();
        if flags & ACK != 0 {
            self.unacknowledged[other] = 0;
        }
        self.last = time.max(self.last + STEP);
        self.packets.push(Packet {
            time: self.last,
            bytes,
            comment: std::mem::take(&mut self.comment),
        });
    }
}

/// Both of IPv4, or both of IPv6.
fn same_family(client: SocketAddr, server: SocketAddr) -> [SocketAddr; 2] {
    let ends = [client, server].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    if ends[0].is_ipv4() == ends[1].is_ipv4() {
        return ends;
    }
    ends.map(|end| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    })
}

/// Ethernet and IP before a segment, whose checksum is filled in.
fn within_ip(source: IpAddr, destination: IpAddr, mut segment: Vec<u8>) -> Vec<u8> {
    let length = segment.len() as u16;
    let mut bytes = vec![0; 12];
    let pseudo = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(ETHERNET_IPV4);
            let header = ipv4(source, destination, length);
            bytes.extend(header);
            [&header[12..], &[0, TCP], &length.to_be_bytes()].concat()
        }
        (source, destination) => {
            let [source, destination] = [source, destination].map(|ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            });
            bytes.extend(ETHERNET_IPV6);
            bytes.extend([6 << 4, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([TCP, HOPS]);
            bytes.extend(source);
            bytes.extend(destination);
            let length = u32::from(length).to_be_bytes();
            [&source[..], &destination, &length, &[0, 0, 0, TCP]].concat()
        }
    };
    let checksum = checksum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(segment);
    bytes
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, length: u16) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45; // version 4, 20 bytes
    header[2..4].copy_from_slice(&(length + 20).to_be_bytes());
    header[6] = 0x40; // not to be fragmented
    (header[8], header[9]) = (HOPS, TCP);
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&destination.octets());
    let checksum = checksum(&[&header]);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// Of the internet (RFC 1071). Every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(client: &str, server: &str) -> Vec<Packet> {
        let address = |text: &str| text.parse().expect("an address");
        let mut tcp = Tcp::open(address(client), address(server), 1_000, "hello".to_owned());
        tcp.send(true, 2_000, b"abc");
        tcp.say("an answer");
        tcp.send(false, 2_000, &vec![b'x'; LARGEST + 1]);
        tcp.close(false, 3_000, End::Fin);
        tcp.into_packets()
    }

    /// Port, sequence number, acknowledged, flags and payload of a segment.
    fn segment(bytes: &[u8]) -> (u16, u32, u32, u8, usize) {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        (
            u16::from_be_bytes([bytes[0], bytes[1]]),
            number(4),
            number(8),
            bytes[13],
            bytes.len() - 20,
        )
    }

    #[test]
    fn numbers_follow_each_other() {
        let packets = conversation("10.77.0.2:4000", "10.77.0.3:80");
        let seen: Vec<_> = packets.iter().map(|packet| segment(&packet.bytes[34..])).collect();
        let large = LARGEST as u32;
        assert_eq!(
            seen,
            [
                (4000, 0, 0, SYN, 0),
                (80, 0, 1, SYN | ACK, 0),
                (4000, 1, 1, ACK, 0),
                (4000, 1, 1, PSH | ACK, 3),
                (80, 1, 4, PSH | ACK, LARGEST),
                (80, 1 + large, 4, PSH | ACK, 1),
                (80, 2 + large, 4, FIN | ACK, 0),
                (4000, 4, 3 + large, FIN | ACK, 0),
                (80, 3 + large, 5, ACK, 0),
            ]
        );
        assert!(packets.is_sorted_by(|a, b| a.time < b.time));
        let said: Vec<_> = packets.iter().map(|packet| packet.comment.as_str()).collect();
        assert_eq!((said[0], said[4]), ("hello", "an answer"));
    }

    /// A receiver adds up to ones with the checksum in its place.
    #[test]
    fn checksums_hold() {
        for packet in conversation("10.77.0.2:4000", "10.77.0.3:80") {
            let (ip, segment) = packet.bytes[14..].split_at(20);
            assert_eq!(checksum(&[ip]), 0);
            let length = (segment.len() as u16).to_be_bytes();
            assert_eq!(checksum(&[&ip[12..], &[0, TCP], &length, segment]), 0);
        }
        for packet in conversation("[fd00::2]:4000", "10.77.0.3:80") {
            let (ip, segment) = packet.bytes[14..].split_at(40);
            let length = (segment.len() as u32).to_be_bytes();
            assert_eq!(checksum(&[&ip[8..], &length, &[0, 0, 0, TCP], segment]), 0);
        }
    }

    #[test]
    fn nobody_sends_more_than_the_window_takes() {
        let address = |text: &str| text.parse().expect("an address");
        let mut tcp = Tcp::open(address("1.1.1.1:1"), address("1.1.1.2:2"), 5, String::new());
        tcp.send(true, 6, &vec![0; 10 * LARGEST]);
        let mut open = 0;
        for packet in tcp.into_packets() {
            let (port, .., payload) = segment(&packet.bytes[34..]);
            open = if port == 1 { open + payload } else { 0 };
            assert!(open <= usize::from(WINDOW));
        }
    }

    #[test]
    fn what_is_said_last_is_not_lost() {
        let address = |text: &str| text.parse().expect("an address");
        let mut tcp = Tcp::open(address("1.1.1.1:1"), address("1.1.1.2:2"), 5, String::new());
        tcp.say("gone");
        let packets = tcp.into_packets();
        assert_eq!((packets.len(), packets[2].comment.as_str()), (3, "gone"));
    }
}

//! What a captured packet says of itself: Ethernet, IPv4 or IPv6, TCP or UDP. Bytes in, facts out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Facts of a packet, as far as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// IP protocol number: 6 is TCP, 17 UDP, 1 and 58 ICMP.
    pub protocol: u8,
    /// Ports of TCP or UDP; none in other protocols and in later fragments.
    pub ports: Option<(u16, u16)>,
    /// SYN of TCP without ACK: a connection begins.
    pub begins: bool,
    /// FIN or RST of TCP: a connection ends.
    pub ends: bool,
    /// What TCP or UDP carries.
    pub payload: &'a [u8],
}

impl Packet<'_> {
    /// Whether one of its ends has this port.
    pub fn is_at(&self, port: u16) -> bool {
        self.ports.is_some_and(|(from, to)| from == port || to == port)
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP: [u8; 2] = [1, 58];

/// Dissects a packet from its Ethernet header on; none where it is neither IPv4 nor IPv6.
pub fn dissect(bytes: &[u8]) -> Option<Packet<'_>> {
    let mut kind = u16::from_be_bytes([*bytes.get(12)?, *bytes.get(13)?]);
    let mut rest = bytes.get(14..)?;
    // 802.1Q
    if kind == 0x8100 {
        kind = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
        rest = rest.get(4..)?;
    }
    match kind {
        0x0800 => ipv4(rest),
        0x86dd => ipv6(rest),
        _ => None,
    }
}

/// RFC 791.
fn ipv4(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    if header < 20 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    let first_fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x1fff == 0;
    // What is shorter than a frame may be is padded; with segmentation offload the length may be 0.
    let end = if total >= header {
        total.min(bytes.len())
    } else {
        bytes.len()
    };
    let inner = bytes.get(header..end)?;
    let ends = (IpAddr::V4(address(12)?), IpAddr::V4(address(16)?));
    Some(transport(
        ends,
        *bytes.get(9)?,
        if first_fragment { inner } else { &[] },
    ))
}

/// RFC 8200, with the extension headers that carry no length of their own kind left out: they end the dissection.
fn ipv6(bytes: &[u8]) -> Option<Packet<'_>> {
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
    let ends = (IpAddr::V6(address(8)?), IpAddr::V6(address(24)?));
    let mut next = *bytes.get(6)?;
    let mut rest = bytes.get(40..)?;
    // Hop-by-hop, routing, destination options: RFC 8200 4.2. Each is at least 8 bytes, so this ends.
    while matches!(next, 0 | 43 | 60) {
        let Some(&[following, length]) = rest.get(..2) else {
            break;
        };
        next = following;
        rest = rest.get((usize::from(length) + 1) * 8..).unwrap_or(&[]);
    }
    Some(transport(ends, next, rest))
}

fn transport((source, destination): (IpAddr, IpAddr), protocol: u8, bytes: &[u8]) -> Packet<'_> {
    // Of TCP, RFC 9293 3.1.
    let flags = bytes.get(13).copied().filter(|_| protocol == TCP).unwrap_or(0);
    let header = bytes.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4).max(20);
    let (ports, payload) = match protocol {
        TCP => (ports(bytes), bytes.get(header..).unwrap_or(&[])),
        UDP => (ports(bytes), bytes.get(8..).unwrap_or(&[])),
        _ => (None, bytes),
    };
    Packet {
        source,
        destination,
        protocol,
        ports,
        begins: flags & (SYN | ACK) == SYN,
        ends: flags & (FIN | RST) != 0,
        payload,
    }
}

fn ports(bytes: &[u8]) -> Option<(u16, u16)> {
    let &[a, b, c, d] = bytes.get(..4)? else { return None };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// The random of a ClientHello at the start of what TCP carries (RFC 8446 4.1.2, 5.1): with it a key log names a connection.
pub fn client_random(payload: &[u8]) -> Option<[u8; 32]> {
    let record = payload.len() > 43 && payload[0] == 22 && payload[1] == 3;
    let hello = record && payload[5] == 1 && payload[9] == 3;
    hello.then(|| payload[11..43].try_into().expect("32 bytes"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A TCP packet over IPv4 over Ethernet.
    pub(in crate::packets) fn tcp_packet(from: (&str, u16), to: (&str, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
        let ip = |text: &str| text.parse::<Ipv4Addr>().expect("IPv4").octets();
        let mut bytes = vec![0; 12];
        bytes.extend([0x08, 0x00, 0x45, 0]);
        bytes.extend(u16::try_from(40 + payload.len()).expect("short").to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, TCP, 0, 0]);
        bytes.extend(ip(from.0));
        bytes.extend(ip(to.0));
        bytes.extend(from.1.to_be_bytes());
        bytes.extend(to.1.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn tcp_over_ipv4() {
        let mut bytes = tcp_packet(("10.0.0.1", 4000), ("10.0.0.2", 80), 0x18, b"GET /");
        bytes.extend([0; 6]); // padding of a short frame
        let packet = dissect(&bytes).expect("IPv4");
        assert_eq!(packet.source, "10.0.0.1".parse::<IpAddr>().expect("an address"));
        assert_eq!(
            (packet.ports, packet.begins, packet.payload),
            (Some((4000, 80)), false, &b"GET /"[..])
        );
        assert!(
            dissect(&tcp_packet(("10.0.0.1", 1), ("10.0.0.2", 2), 0x02, b""))
                .expect("IPv4")
                .begins
        );
        assert!(
            !dissect(&tcp_packet(("10.0.0.1", 1), ("10.0.0.2", 2), 0x12, b""))
                .expect("IPv4")
                .begins
        );
    }

    #[test]
    fn udp_over_ipv6_behind_an_extension_header() {
        let mut bytes = vec![0; 12];
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 18, 0, 64]);
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend("fd00::2".parse::<Ipv6Addr>().expect("IPv6").octets());
        bytes.extend([UDP, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0, 53, 0x10, 0, 0, 10, 0, 0, b'h', b'i']);
        let packet = dissect(&bytes).expect("IPv6");
        assert_eq!(
            (packet.protocol, packet.ports, packet.payload),
            (UDP, Some((53, 4096)), &b"hi"[..])
        );
    }

    #[test]
    fn no_cut_of_a_packet_panics() {
        let bytes = tcp_packet(("10.0.0.1", 4000), ("10.0.0.2", 80), 0x18, &[22, 3, 1, 0, 200, 1]);
        for end in 0..bytes.len() {
            dissect(&bytes[..end]).map(|packet| client_random(packet.payload));
        }
        assert_eq!(dissect(&[0; 60]), None);
    }

    #[test]
    fn the_random_of_a_client_hello() {
        let mut hello = vec![22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];
        hello.extend([7; 32]);
        hello.push(0);
        assert_eq!(client_random(&hello), Some([7; 32]));
        hello[5] = 2; // ServerHello
        assert_eq!(client_random(&hello), None);
    }
}

//! Whether a pod's programs listen on ports: read from the kernel, so that no program ever sees a connection that nobody meant for it.
//!
//! A socket that listens accepts connections: the kernel answers for it. So this says what a `tcpSocket` probe says, without what such a probe
//! leaves in the logs and counters of servers that did not ask for one.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use crate::namespaces::Namespaces;

/// The state of a socket that listens (`TCP_LISTEN` of the kernel's `tcp_states.h`), as the tables spell it.
const LISTEN: &str = "0A";
/// The kernel's tables of the calling thread's network.
const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

/// Of some ports, those on which nobody in the pod listens where others could reach it.
pub(super) async fn silent(namespaces: &Arc<Namespaces>, ports: &[u16]) -> io::Result<Vec<u16>> {
    let tables = namespaces.run_in_network(|| TABLES.map(|path| fs::read_to_string(path).unwrap_or_default()));
    Ok(silent_in(&tables.await?.concat(), ports))
}

fn silent_in(tables: &str, ports: &[u16]) -> Vec<u16> {
    let listening: Vec<u16> = tables.lines().filter_map(listens).collect();
    ports.iter().copied().filter(|port| !listening.contains(port)).collect()
}

/// The port of a line of `/proc/net/tcp` or `tcp6` that is of a socket that others reach: `0: 00000000:1F90 00000000:0000 0A …`.
fn listens(line: &str) -> Option<u16> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, state) = (words.next()?, words.nth(1)?);
    let (address, port) = local.split_once(':')?;
    let reachable = state == LISTEN && !address_of(address)?.to_canonical().is_loopback();
    reachable.then(|| u16::from_str_radix(port, 16).ok())?
}

/// Words of 32 bits as this machine has them in memory, in hexadecimal.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a pod with a server on every address, one on its own, two on loopback (one of them in IPv6), and a connection shows them.
    #[cfg(target_endian = "little")]
    const TABLES: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 02004D0A:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0100007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: 02004D0A:1F93 01004D0A:C350 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:1F94 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 00000000000000000000000001000000:1F95 00000000000000000000000000000000:0000 0A 00000000:00000000
   2: 0000000000000000FFFF00000100007F:1F96 00000000000000000000000000000000:0000 0A 00000000:00000000
";

    #[test]
    #[cfg(target_endian = "little")]
    fn only_sockets_that_listen_where_others_reach_them_count() {
        let ports: Vec<u16> = (8080..=8087).collect();
        assert_eq!(silent_in(TABLES, &ports), vec![8082, 8083, 8085, 8086, 8087]);
        assert_eq!(silent_in("", &[80]), [80]);
        assert_eq!(silent_in("garbage\n 0: x:y z 0A\n", &[80]), [80]);
    }

    #[test]
    fn the_kernel_says_it_of_this_process_too() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let tables = super::TABLES
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .concat();
        assert!(silent_in(&tables, &[port]).is_empty());
        drop(listener);
        let tables = super::TABLES
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .concat();
        assert_eq!(silent_in(&tables, &[port]), [port]);
    }
}

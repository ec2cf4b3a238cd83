//! What a capture has so far.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use sheer_api::v1::WorkloadSecret;
use sheer_local::packets::{Record, client_random, dissect};

use super::{readers::Event, unseen::Hidden};
use crate::running::Pod;

/// The start of a record of TLS that carries what is encrypted (RFC 8446 5.1).
const APPLICATION_DATA: &[u8] = &[23, 3, 3];
/// Beyond a packet's bytes: what keeping it costs.
const OVERHEAD: usize = 64;

/// What came.
pub(super) struct Recording {
    room: usize,
    packets: Vec<Captured>,
    interfaces: BTreeMap<(usize, u32), String>,
    lost: BTreeMap<usize, u32>,
    /// Lines of a key log, by the random of the ClientHello.
    secrets: HashMap<[u8; 32], String>,
    hellos: HashSet<[u8; 32]>,
    /// Connections whose start was seen, whose end was, and those that carried what TLS encrypted.
    begun: BTreeSet<Flow>,
    ended: BTreeSet<Flow>,
    encrypted: BTreeSet<Flow>,
    notes: Vec<String>,
    hidden: Hidden,
}

/// Both ends, the lower first.
type Flow = (SocketAddr, SocketAddr);

/// A packet of a pod.
#[derive(Debug)]
pub(super) struct Captured {
    /// Which pod.
    pub(super) pod: usize,
    /// Which of its interfaces.
    pub(super) interface: u32,
    /// Nanoseconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) length: u32,
    pub(super) bytes: Vec<u8>,
}

/// What can be said of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    /// Connections whose ClientHello is here.
    pub(super) begun: usize,
    /// Those of them whose secrets are here.
    pub(super) readable: usize,
    /// Encrypted connections between sidecars that were there before, and stayed.
    pub(super) earlier: usize,
}

impl Recording {
    /// Room for about so many bytes.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            packets: Vec::new(),
            interfaces: BTreeMap::new(),
            lost: BTreeMap::new(),
            secrets: HashMap::new(),
            hellos: HashSet::new(),
            begun: BTreeSet::new(),
            ended: BTreeSet::new(),
            encrypted: BTreeSet::new(),
            notes: Vec::new(),
            hidden: Hidden::default(),
        }
    }

    /// Takes what a reader says; gives it back without what was kept. An error where a reader failed.
    pub(super) fn take(&mut self, Event { pod, record }: Event) -> anyhow::Result<Option<Record>> {
        match record? {
            Some(Record::Interface { index, name }) => drop(self.interfaces.insert((pod, index), name)),
            Some(Record::Lost(count)) => drop(self.lost.insert(pod, count)),
            Some(Record::Packet {
                interface,
                time,
                length,
                bytes,
            }) => {
                self.look_at(&bytes);
                self.room = self.room.saturating_sub(bytes.len() + OVERHEAD);
                self.packets.push(Captured {
                    pod,
                    interface,
                    time,
                    length,
                    bytes,
                });
            }
            other => return Ok(other),
        }
        Ok(None)
    }

    /// Remembers which connections began, which are encrypted, and which TLS sessions began.
    fn look_at(&mut self, bytes: &[u8]) {
        let Some(packet) = dissect(bytes) else { return };
        self.hellos.extend(client_random(packet.payload));
        let Some((from, to)) = packet.ports else { return };
        let (from, to) = (
            SocketAddr::new(packet.source, from),
            SocketAddr::new(packet.destination, to),
        );
        let flow = (from.min(to), from.max(to));
        if packet.ends {
            self.ended.insert(flow);
        }
        if packet.begins {
            self.begun.insert(flow);
        } else if packet.payload.starts_with(APPLICATION_DATA) {
            self.encrypted.insert(flow);
        }
    }

    /// Takes what a sidecar says.
    pub(super) fn take_secret(
        &mut self,
        WorkloadSecret {
            pod,
            secret,
            error,
            unseen,
        }: WorkloadSecret,
    ) {
        if let Some(unseen) = unseen {
            self.hidden.take(&pod, unseen);
        }
        if !error.is_empty() {
            self.notes.push(format!("{pod}: no secrets of TLS: {error}"));
        }
        let Some(secret) = secret else { return };
        if secret.lost > 0 {
            self.notes
                .push(format!("{pod}: {} secrets of TLS were lost", secret.lost));
        }
        let Ok(random) = <[u8; 32]>::try_from(secret.client_random) else {
            return;
        };
        let lines = self.secrets.entry(random).or_default();
        let line = format!("{} {} {}\n", secret.label, hex(&random), hex(&secret.secret));
        // Both ends tell where both are captured.
        if !lines.contains(&line) {
            lines.push_str(&line);
        }
    }

    /// Leaves out what nobody may look at; to be called when all has come. How many packets.
    pub(super) fn leave_out(&mut self, pods: &[Pod]) -> usize {
        let before = self.packets.len();
        let (hidden, interfaces) = (&self.hidden, &self.interfaces);
        self.packets.retain(|packet| {
            let interface = interfaces
                .get(&(packet.pod, packet.interface))
                .map_or("", String::as_str);
            let pod = pods.get(packet.pod);
            !pod.is_some_and(|pod| hidden.hides(&packet.bytes, interface, &pod.name, pod.meshed))
        });
        let left_out = before - self.packets.len();
        if left_out > 0 {
            // What is counted of TLS is counted of what is there.
            let kept = std::mem::take(&mut self.packets);
            (self.hellos, self.begun, self.ended, self.encrypted) = Default::default();
            kept.iter().for_each(|packet| self.look_at(&packet.bytes));
            self.packets = kept;
        }
        left_out
    }

    pub(super) fn is_full(&self) -> bool {
        self.room == 0
    }

    /// In the order in which they were taken.
    pub(super) fn packets(&self) -> &[Captured] {
        &self.packets
    }

    /// Interfaces by pod and number, with their names.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = (usize, u32, &str)> {
        self.interfaces
            .iter()
            .map(|((pod, index), name)| (*pod, *index, name.as_str()))
    }

    /// Packets that could not be taken, by pod.
    pub(super) fn lost_of(&self, pod: usize) -> u32 {
        self.lost.get(&pod).copied().unwrap_or(0)
    }

    pub(super) fn lost(&self) -> u32 {
        self.lost.values().sum()
    }

    /// The secrets of the connections that are in here, and of no others.
    pub(super) fn key_log(&self) -> String {
        let mut randoms: Vec<_> = self.hellos.iter().collect();
        randoms.sort_unstable();
        randoms
            .into_iter()
            .filter_map(|random| self.secrets.get(random))
            .fold(String::new(), |log, lines| log + lines)
    }

    /// `meshed` says whether a pod with a sidecar has an address.
    pub(super) fn tls(&self, meshed: impl Fn(IpAddr) -> bool) -> Tls {
        let between_sidecars = |flow: &&Flow| meshed(flow.0.ip()) && meshed(flow.1.ip());
        let earlier = self.encrypted.difference(&self.begun).filter(between_sidecars);
        Tls {
            begun: self.hellos.len(),
            readable: self
                .hellos
                .iter()
                .filter(|random| self.secrets.contains_key(*random))
                .count(),
            earlier: earlier.filter(|flow| !self.ended.contains(flow)).count(),
        }
    }

    /// What went wrong on the way, for people.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use sheer_api::v1::TlsSecret;

    use super::*;

    fn secret(random: u8, label: &str) -> WorkloadSecret {
        WorkloadSecret {
            pod: "web-0".to_owned(),
            secret: Some(TlsSecret {
                label: label.to_owned(),
                client_random: vec![random; 32],
                secret: vec![0xab],
                lost: 0,
                remote: String::new(),
            }),
            error: String::new(),
            unseen: None,
        }
    }

    #[test]
    fn only_secrets_of_captured_connections_are_kept_and_each_once() {
        let mut recording = Recording::new(1000);
        recording.hellos.extend([[1; 32], [3; 32]]);
        for told in [secret(1, "A"), secret(1, "A"), secret(1, "B"), secret(2, "A")] {
            recording.take_secret(told);
        }
        let random = "01".repeat(32);
        assert_eq!(recording.key_log(), format!("A {random} ab\nB {random} ab\n"));
        let tls = Tls {
            begun: 2,
            readable: 1,
            earlier: 0,
        };
        assert_eq!(recording.tls(|_| true), tls);
    }

    #[test]
    fn a_capture_ends_when_its_room_is_used() {
        let mut recording = Recording::new(100);
        let event = || Event {
            pod: 0,
            record: Ok(Some(Record::Packet {
                interface: 1,
                time: 0,
                length: 60,
                bytes: vec![0; 60],
            })),
        };
        assert!(!recording.is_full());
        recording.take(event()).expect("a packet");
        assert!(recording.is_full());
        assert_eq!(recording.packets().len(), 1);
    }
}

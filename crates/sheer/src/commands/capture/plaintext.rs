//! `sheer capture --plaintext`: no packets are read and no secret of TLS is asked for. The proxies say what they read and wrote above TLS, with secret values
//! replaced, and each connection becomes a TCP conversation in the file.
//!
//! [`collected`] holds what came, [`conversation`] turns a connection into packets ([`http2`], [`tcp`]).

mod collected;
mod conversation;
mod http2;
mod tcp;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use sheer_api::v1::{PlaintextEvent, Selection, WatchPlaintextRequest};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until, timeout},
};

use super::{
    file::Counted,
    names::Names,
    pcapng::{Writer, Written},
};
use crate::running::{Mesh, Pod};
use collected::{Collected, Id, Recorded};
use conversation::{Missing, conversation, ends};
use tcp::Packet;

/// Proxies tell what they recorded ten times a second, and what they left out twice: what passed before the end is here by then.
const LAST: Duration = Duration::from_millis(600);
/// Connections that are there already are told at once.
const FIRST: Duration = Duration::from_millis(300);

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    pub(super) workload: &'a str,
    pub(super) namespace: &'a str,
    /// Bytes of each body.
    pub(super) bodies: u32,
    /// Requests a second whose bodies are shown.
    pub(super) rate: u32,
    pub(super) lasting: Option<Duration>,
    /// Bytes.
    pub(super) most: usize,
    pub(super) descriptors: Vec<Vec<u8>>,
}

/// Everything of these pods until the end.
pub(super) async fn collect(asked: &Asked<'_>, mesh: &Mesh, pods: usize) -> anyhow::Result<Plaintext> {
    let request = WatchPlaintextRequest {
        of: Some(Selection {
            workload: asked.workload.to_owned(),
            namespace: asked.namespace.to_owned(),
        }),
        rate: asked.rate,
        bodies: asked.bodies,
        descriptors: asked.descriptors.clone(),
    };
    let mut events = mesh.plaintext(request).await?;
    let mut collected = Collected::default();
    let until = asked
        .lasting
        .map_or_else(|| "until Ctrl-C".to_owned(), |lasting| format!("for {lasting:?}"));
    let end = asked.lasting.map(|lasting| Instant::now() + lasting);
    let first = async {
        loop {
            match next(&mut events).await? {
                Some(event) => collected.take(event),
                None => return anyhow::Ok(()),
            }
        }
    };
    if let Ok(ended) = timeout(FIRST, first).await {
        ended?;
    }
    collected.is_new_from_now_on();
    // Before anybody is told that it captures: who ends it then has the file.
    let mut interrupt = signal(SignalKind::interrupt())?;
    eprintln!("sheer: capturing {} ({pods} pods) above TLS {until}", asked.workload);
    let over = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    let mut over = std::pin::pin!(over);
    loop {
        tokio::select! {
            biased; // an end is an end, however much comes
            () = &mut over => break,
            _ = interrupt.recv() => break,
            event = next(&mut events) => {
                let Some(event) = event? else { break };
                collected.take(event);
                if collected.size() > asked.most {
                    eprintln!("sheer: {} MiB are reached: ending (--max-size)", asked.most >> 20);
                    break;
                }
            }
        }
    }
    // What passed before the end and is not told yet.
    let last = async {
        while let Some(event) = next(&mut events).await? {
            collected.take(event);
        }
        anyhow::Ok(())
    };
    if let Ok(ended) = timeout(LAST, last).await {
        ended?;
    }
    Ok(Plaintext::new(collected))
}

async fn next(events: &mut tonic::Streaming<PlaintextEvent>) -> anyhow::Result<Option<PlaintextEvent>> {
    events
        .message()
        .await
        .map_err(|status| anyhow::anyhow!("{}", status.message()))
}

/// Conversations, ready to be written.
#[derive(Debug, Default)]
pub(super) struct Plaintext {
    packets: Vec<(String, Packet)>,
    connections: usize,
    /// Of them, those that were open before.
    earlier: usize,
    missing: Missing,
    lost: collected::Lost,
    notes: Vec<String>,
    /// Of servers that speak HTTP.
    ports: BTreeSet<u16>,
}

impl Plaintext {
    fn new(collected: Collected) -> Self {
        let mut plaintext = Self {
            lost: collected.lost,
            notes: collected.notes.iter().cloned().collect(),
            ..Self::default()
        };
        let twice = seen_twice(&collected);
        for (id, recorded) in &collected.connections {
            if twice.contains(id) {
                continue;
            }
            let Some(shown) = conversation(id, recorded, collected.requests()) else {
                continue;
            };
            if recorded.connection.protocol.starts_with("http/") {
                plaintext
                    .ports
                    .extend(ends(&recorded.connection).map(|(_, server)| server.port()));
            }
            plaintext.connections += 1;
            plaintext.earlier += usize::from(recorded.was_open);
            plaintext.missing.streams += shown.missing.streams;
            plaintext.missing.bodies += shown.missing.bodies;
            let packets = shown.packets.into_iter();
            plaintext.packets.extend(packets.map(|packet| (id.0.clone(), packet)));
        }
        plaintext.packets.sort_by_key(|(_, packet)| packet.time);
        plaintext
    }

    /// Writes the file; how many bytes.
    pub(super) fn write(&self, out: impl Write, pods: &[Pod], names: &Names) -> io::Result<u64> {
        let mut writer = Writer::new(Counted::new(out), concat!("sheer ", env!("CARGO_PKG_VERSION")))?;
        let mut interfaces = BTreeMap::new();
        for pod in pods {
            let description = format!(
                "what the sidecar of pod {} ({}) in {} read and wrote above TLS; TCP is made up",
                pod.name, pod.workload, pod.namespace
            );
            let number = writer.interface(
                &format!("{}/plaintext", pod.name),
                &description,
                u32::from(u16::MAX) + 15,
            )?;
            interfaces.insert(format!("{}/{}", pod.namespace, pod.name), number);
        }
        writer.names(names.iter())?;
        for (pod, packet) in &self.packets {
            let Some(interface) = interfaces.get(pod) else { continue };
            writer.packet(&Written {
                interface: *interface,
                time: packet.time,
                length: packet.bytes.len() as u32,
                bytes: &packet.bytes,
                comment: &packet.comment,
            })?;
        }
        writer.into_inner().end()
    }

    /// What Wireshark has to be told: which ports speak HTTP. It knows HTTP/2 by its preface there, and nowhere else without TLS.
    pub(super) fn options(&self) -> String {
        let ports: Vec<String> = self
            .ports
            .iter()
            .map(|port| format!("-d tcp.port=={port},http"))
            .collect();
        ports.join(" ")
    }

    /// Says what the file has not, after what it has.
    pub(super) fn report(&self, wrote: &str) {
        eprintln!(
            "sheer: {} connections, {} packets, {wrote}",
            self.connections,
            self.packets.len()
        );
        let say = |number: u64, what: &str| {
            if number > 0 {
                eprintln!("sheer: {number} {what}");
            }
        };
        say(
            self.earlier as u64,
            "of the connections were open before the capture began: they are shown from then on",
        );
        say(
            self.missing.streams as u64,
            "requests were under way when the capture began, and are not shown",
        );
        say(
            self.missing.bodies as u64,
            "bodies, or parts of them, are not shown: a comment in the file says why",
        );
        say(
            self.lost.rate,
            "requests beyond the rate are shown without bodies (--rate)",
        );
        say(
            self.lost.frames,
            "frames are lost: they passed faster than they are kept",
        );
        say(
            self.lost.events,
            "pieces of bodies are lost: they came faster than they were read",
        );
        self.notes.iter().for_each(|note| eprintln!("sheer: {note}"));
    }
}

/// Connections between two pods that are both captured: the side that opened one shows it.
fn seen_twice(collected: &Collected) -> HashSet<&Id> {
    let mut opened: HashMap<(SocketAddr, SocketAddr), &str> = HashMap::new();
    let of = |accepted| {
        let all = collected.connections.iter();
        all.filter(move |(_, recorded)| recorded.connection.accepted == accepted)
    };
    for ((pod, _), recorded) in of(false) {
        opened.extend(ends(&recorded.connection).map(|ends| (ends, pod.as_str())));
    }
    let is_twice = |(id, recorded): &(&Id, &Recorded)| {
        let by = ends(&recorded.connection).and_then(|ends| opened.get(&ends));
        by.is_some_and(|by| *by != id.0)
    };
    of(true).filter(is_twice).map(|(id, _)| id).collect()
}

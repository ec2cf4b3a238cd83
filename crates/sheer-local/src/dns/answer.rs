//! One query in, one answer out. No I/O.
//!
//! Authoritative for `cluster.local`. Names elsewhere do not exist (NXDOMAIN, not REFUSED: a resolver that is refused waits and tries
//! again, and the application sees a stall in place of an error).

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{SOA, SRV},
    },
};
use sheer_api::names::CLUSTER_DOMAIN;

use super::zone::{Found, ServiceNames, Zone};

#[cfg(test)]
mod tests;

/// Seconds that a client may remember an answer, good or bad: CoreDNS' default for cluster names.
const TTL: u32 = 5;
/// Largest datagram that we send: what passes everywhere without fragments (DNS flag day 2020).
const LARGEST_DATAGRAM: u16 = 1232;

/// Answers a datagram; cut short with TC where it does not fit, so that the client asks again over TCP.
pub(super) fn to_datagram(zone: &Zone, client: IpAddr, query: &[u8]) -> Option<Vec<u8>> {
    let (message, limit) = respond(zone, client, query)?;
    let whole = message.to_vec().ok()?;
    if whole.len() <= usize::from(limit) {
        Some(whole)
    } else {
        message.truncate().to_vec().ok()
    }
}

/// Answers a query that came over TCP.
pub(super) fn to_stream(zone: &Zone, client: IpAddr, query: &[u8]) -> Option<Vec<u8>> {
    respond(zone, client, query)?.0.to_vec().ok()
}

/// The answer and how long it may be over UDP; `None` for what deserves none (garbage, answers).
fn respond(zone: &Zone, client: IpAddr, bytes: &[u8]) -> Option<(Message, u16)> {
    let Ok(request) = Message::from_vec(bytes) else {
        let id = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
        // Bit 7 of the third byte: an answer. Answering answers would let two servers talk for ever.
        let is_query = bytes.get(2)? & 0x80 == 0;
        return is_query.then(|| (Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), 512));
    };
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM);
        response.set_edns(edns);
    }
    match (request.metadata.op_code, request.queries.as_slice()) {
        (OpCode::Query, [query]) if query.query_class() == DNSClass::IN => answer(zone, client, query, &mut response),
        (OpCode::Query, []) => response.metadata.response_code = ResponseCode::FormErr,
        (OpCode::Query, [_]) => response.metadata.response_code = ResponseCode::Refused,
        _ => response.metadata.response_code = ResponseCode::NotImp,
    }
    Some((response, request.max_payload().min(LARGEST_DATAGRAM)))
}

fn answer(zone: &Zone, client: IpAddr, query: &Query, response: &mut Message) {
    response.metadata.authoritative = true;
    let name = query.name().to_ascii().to_ascii_lowercase();
    let labels: Vec<&str> = name
        .trim_end_matches('.')
        .split('.')
        .filter(|label| !label.is_empty())
        .collect();
    let found = locate(zone, client, &labels);
    match &found {
        Some(found) => {
            response.add_answers(records(found, query));
        }
        None => response.metadata.response_code = ResponseCode::NXDomain,
    }
    if response.answers.is_empty() {
        let owner = if labels.ends_with(&["cluster", "local"]) {
            cluster_domain()
        } else {
            Name::root()
        };
        response.add_authority(Record::from_rdata(owner, TTL, RData::SOA(soa())));
    }
}

/// A name of the cluster in full, or one as short as `svc` or `svc.ns`: some resolvers ignore search domains.
fn locate<'a>(zone: &'a Zone, client: IpAddr, labels: &[&str]) -> Option<Found<'a>> {
    match labels {
        [rest @ .., "svc", "cluster", "local"] | [rest @ .., "svc"] => zone.find(rest),
        ["cluster", "local"] => Some(Found::Parent),
        [.., "local"] => None,
        [service] => zone.find(&[service, zone.clients.get(&client)?]),
        [rest @ .., namespace] if zone.services.contains_key(*namespace) => zone.find(&[rest, &[*namespace]].concat()),
        _ => None,
    }
}

fn records(found: &Found<'_>, query: &Query) -> Vec<Record> {
    let name = query.name();
    let addresses = |addresses: &[IpAddr]| address_records(name, addresses, query.query_type());
    match (found, query.query_type()) {
        (Found::Service(service), RecordType::A | RecordType::AAAA) => addresses(&service.addresses),
        (Found::Host(host), RecordType::A | RecordType::AAAA) => addresses(&host.addresses),
        (Found::Port(service, port), RecordType::SRV) => srv_records(name, service, *port),
        (Found::Service(_) | Found::Host(_) | Found::Port(..) | Found::Parent, _) => Vec::new(),
    }
}

fn address_records(name: &Name, addresses: &[IpAddr], kind: RecordType) -> Vec<Record> {
    let wanted = |ip: &&IpAddr| {
        if kind == RecordType::A {
            ip.is_ipv4()
        } else {
            ip.is_ipv6()
        }
    };
    addresses
        .iter()
        .filter(wanted)
        .map(|ip| Record::from_rdata(name.clone(), TTL, RData::from(*ip)))
        .collect()
}

/// One record for the service, or one for each pod of a headless one.
fn srv_records(name: &Name, service: &ServiceNames, port: u16) -> Vec<Record> {
    // `_port._tcp.SERVICE…`: the service's own name is two labels shorter.
    let base = name.trim_to(usize::from(name.num_labels()).saturating_sub(2));
    let targets: Vec<Name> = if service.hosts.is_empty() {
        vec![base]
    } else {
        service
            .hosts
            .iter()
            .filter_map(|host| base.prepend_label(host.name.as_str()).ok())
            .collect()
    };
    // Weights share 100, as CoreDNS has them.
    let weight = (100 / targets.len().max(1)) as u16;
    let record = |target| Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, weight, port, target)));
    targets.into_iter().map(record).collect()
}

fn cluster_domain() -> Name {
    Name::from_ascii(format!("{CLUSTER_DOMAIN}.")).expect("a constant, and a name")
}

fn soa() -> SOA {
    let below = |label: &str| cluster_domain().prepend_label(label).expect("a constant, and a label");
    SOA::new(below("ns"), below("hostmaster"), 1, 7200, 1800, 86400, TTL)
}

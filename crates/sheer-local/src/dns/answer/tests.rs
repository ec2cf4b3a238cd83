//! Answers as a resolver sees them.

use std::collections::BTreeMap;

use super::*;
use crate::dns::zone::Host;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn zone() -> Zone {
    let ledger = ServiceNames {
        addresses: vec![ip("10.78.0.5"), ip("fd78::5")],
        hosts: vec![],
        ports: vec![("grpc".into(), 8080)],
    };
    let host = |name: &str, address: &str| Host {
        name: name.into(),
        addresses: vec![ip(address)],
    };
    let store = ServiceNames {
        addresses: vec![ip("10.77.0.2"), ip("10.77.0.3")],
        hosts: vec![host("store-0", "10.77.0.2"), host("store-1", "10.77.0.3")],
        ports: vec![("sql".into(), 5432)],
    };
    let bank = BTreeMap::from([("ledger".to_owned(), ledger), ("store".to_owned(), store)]);
    Zone {
        services: BTreeMap::from([("bank".to_owned(), bank)]),
        clients: BTreeMap::from([(ip("10.77.0.9"), "bank".to_owned())]),
    }
}

fn ask(zone: &Zone, name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).expect("name"), kind));
    let bytes = query.to_vec().expect("query");
    Message::from_vec(&to_datagram(zone, ip("10.77.0.9"), &bytes).expect("an answer")).expect("a message")
}

/// The answer on one line: code, answers, owner of the SOA.
fn line(name: &str, kind: RecordType) -> String {
    let response = ask(&zone(), name, kind);
    let answers: Vec<String> = response.answers.iter().map(|record| record.data.to_string()).collect();
    let owner: Vec<String> = response
        .authorities
        .iter()
        .map(|record| record.name.to_string())
        .collect();
    format!(
        "{:?} [{}] {}",
        response.metadata.response_code,
        answers.join(" "),
        owner.join(" ")
    )
}

#[test]
fn services_answer_under_every_length_of_their_name() {
    for name in [
        "ledger.bank.svc.cluster.local.",
        "ledger.bank.svc.",
        "ledger.bank.",
        "ledger.",
        "LEDGER.bank.Svc.Cluster.Local.",
    ] {
        assert_eq!(line(name, RecordType::A), "NoError [10.78.0.5] ", "{name}");
    }
    assert_eq!(
        line("ledger.bank.svc.cluster.local.", RecordType::AAAA),
        "NoError [fd78::5] "
    );
}

#[test]
fn a_headless_service_answers_with_its_pods() {
    assert_eq!(
        line("store.bank.svc.cluster.local.", RecordType::A),
        "NoError [10.77.0.2 10.77.0.3] "
    );
    assert_eq!(
        line("store-1.store.bank.svc.cluster.local.", RecordType::A),
        "NoError [10.77.0.3] "
    );
    assert_eq!(
        line("_sql._tcp.store.bank.svc.cluster.local.", RecordType::SRV),
        "NoError [0 50 5432 store-0.store.bank.svc.cluster.local. 0 50 5432 store-1.store.bank.svc.cluster.local.] "
    );
    assert_eq!(
        line("_grpc._tcp.ledger.bank.svc.cluster.local.", RecordType::SRV),
        "NoError [0 100 8080 ledger.bank.svc.cluster.local.] "
    );
}

#[test]
fn what_is_not_there_does_not_exist_and_nothing_is_forwarded() {
    assert_eq!(
        line("nothing.bank.svc.cluster.local.", RecordType::A),
        "NXDomain [] cluster.local."
    );
    assert_eq!(
        line("ledger.other.svc.cluster.local.", RecordType::A),
        "NXDomain [] cluster.local."
    );
    assert_eq!(
        line("store-7.store.bank.svc.cluster.local.", RecordType::A),
        "NXDomain [] cluster.local."
    );
    assert_eq!(line("example.com.", RecordType::A), "NXDomain [] .");
    assert_eq!(
        line("ledger.bank.svc.cluster.local.bank.svc.cluster.local.", RecordType::A),
        "NXDomain [] cluster.local."
    );
}

#[test]
fn a_name_without_such_a_record_is_empty_but_exists() {
    assert_eq!(
        line("store.bank.svc.cluster.local.", RecordType::AAAA),
        "NoError [] cluster.local."
    );
    assert_eq!(
        line("bank.svc.cluster.local.", RecordType::A),
        "NoError [] cluster.local."
    );
    assert_eq!(
        line("_tcp.ledger.bank.svc.cluster.local.", RecordType::SRV),
        "NoError [] cluster.local."
    );
    assert_eq!(
        line("ledger.bank.svc.cluster.local.", RecordType::MX),
        "NoError [] cluster.local."
    );
}

#[test]
fn an_answer_that_does_not_fit_a_datagram_comes_over_tcp() {
    let mut zone = zone();
    let many = (0..400_u16)
        .map(|host| IpAddr::from([10, 77, (host >> 8) as u8, host as u8]))
        .collect();
    zone.services
        .get_mut("bank")
        .expect("bank")
        .get_mut("store")
        .expect("store")
        .addresses = many;
    let short = ask(&zone, "store.bank.svc.cluster.local.", RecordType::A);
    assert!(short.metadata.truncation && short.answers.is_empty());
    let mut query = Message::query();
    query.add_query(Query::query(
        Name::from_ascii("store.bank.svc.cluster.local.").expect("name"),
        RecordType::A,
    ));
    let whole = to_stream(&zone, ip("10.77.0.9"), &query.to_vec().expect("query")).expect("answer");
    assert_eq!(Message::from_vec(&whole).expect("message").answers.len(), 400);
}

#[test]
fn garbage_gets_a_format_error_and_answers_get_nothing() {
    let garbage = to_datagram(&zone(), ip("10.77.0.9"), &[0xab, 0xcd, 1, 0, 0, 9, 9]).expect("an answer");
    let message = Message::from_vec(&garbage).expect("message");
    assert_eq!(
        (message.metadata.id, message.metadata.response_code),
        (0xabcd, ResponseCode::FormErr)
    );
    assert_eq!(
        to_datagram(&zone(), ip("10.77.0.9"), &[0xab, 0xcd, 0x80, 0, 0, 9, 9]),
        None
    );
    assert_eq!(to_datagram(&zone(), ip("10.77.0.9"), &[0xab]), None);
    let answer = ask(&zone(), "ledger.bank.", RecordType::A).to_vec().expect("answer");
    assert_eq!(to_datagram(&zone(), ip("10.77.0.9"), &answer), None);
}

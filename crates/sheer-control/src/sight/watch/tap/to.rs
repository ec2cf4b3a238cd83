//! Where the operator wants to see requests go: `svc/ledger:8080`, `pod/ledger-0`, an address. Pure: made of one snapshot.

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tonic::Status;

use super::super::name;
use crate::{
    config::MeshConfig,
    objects::{Pod, Service},
    sight::resolve,
    store::Snapshot,
};

/// What a proxy is asked for, and what is looked for in what it tells.
#[derive(Clone, Debug, Default)]
pub(super) struct To {
    /// For the proxies: addresses and names.
    pub(super) words: Vec<String>,
    /// Pods at whose addresses they must arrive, where the operator named pods.
    pub(super) pods: Option<HashSet<IpAddr>>,
    /// Pods that stand behind it.
    pub(super) behind: Vec<Arc<Pod>>,
}

impl To {
    fn words(words: impl IntoIterator<Item = String>) -> Self {
        Self {
            words: words.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// Reads it, as seen from a namespace. Everything where the text is empty.
pub(super) fn read(config: &MeshConfig, snapshot: &Snapshot, text: &str, namespace: &str) -> Result<To, Status> {
    if text.is_empty() {
        return Ok(To::default());
    }
    if let Some((ip, port)) = address(snapshot, text)? {
        return Ok(at(snapshot, ip, port));
    }
    match text.split_once('/').unwrap_or(("svc", text)) {
        ("svc" | "service" | "services", name) => service(config, snapshot, name, namespace),
        _ => pods(snapshot, text, namespace),
    }
}

/// An address, with its port where there is one; none where the text is a name.
fn address(snapshot: &Snapshot, text: &str) -> Result<Option<(IpAddr, Option<u16>)>, Status> {
    if let Ok(address) = text.parse::<SocketAddr>()
        && address.port() > 0
    {
        return Ok(Some((address.ip(), Some(address.port()))));
    }
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = inner.unwrap_or(text).parse::<IpAddr>() {
        let is_known = snapshot.find_pod_at(ip).is_some() || snapshot.find_service_at(ip).is_some();
        return match without_brackets(text).filter(|_| inner.is_none() && !is_known) {
            None => Ok(Some((ip, None))),
            Some(meant) => Err(Status::invalid_argument(format!(
                "no pod and no service has the address {text}: with a port it is written {meant}, without one [{text}]"
            ))),
        };
    }
    if is_like_an_address(text) {
        return Err(Status::invalid_argument(format!(
            "{text:?} is no address; write it as 10.77.0.7, 10.77.0.7:9000 or [fd78::7]:9000"
        )));
    }
    Ok(None)
}

/// What was meant by an IPv6 address whose last part could be a port.
fn without_brackets(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    Some(SocketAddr::new(ip.parse().ok()?, port))
}

/// Names of services have letters, and one colon at most.
fn is_like_an_address(text: &str) -> bool {
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    let is_of_digits = host.contains('.') && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_of_digits || text.starts_with('[') || text.bytes().filter(|byte| *byte == b':').count() > 1
}

/// With a port or without.
fn word(ip: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| ip.to_string(), |port| SocketAddr::new(ip, port).to_string())
}

/// An address. Of a pod it is where requests arrive.
fn at(snapshot: &Snapshot, ip: IpAddr, port: Option<u16>) -> To {
    match snapshot.find_pod_at(ip) {
        Some(pod) => arriving(snapshot, (vec![Arc::clone(pod)], HashSet::from([ip])), port),
        None => To::words([word(ip, port)]),
    }
}

/// Requests that arrive at these addresses of pods: mostly they are sent to a service that stands before them.
fn arriving(snapshot: &Snapshot, (pods, ips): (Vec<Arc<Pod>>, HashSet<IpAddr>), port: Option<u16>) -> To {
    // By the port that is sent to: what is relayed as bytes arrives at a port of the sidecar's.
    let before = in_front(snapshot, &pods).flat_map(|service| {
        let behind = snapshot.pods_of(service).iter();
        let meant = behind.filter(|one| pods.iter().any(|pod| name(pod) == name(one)));
        meant.flat_map(move |pod| words_before(service, pod, port))
    });
    let words: BTreeSet<String> = before.chain(ips.iter().map(|ip| word(*ip, port))).collect();
    To {
        words: words.into_iter().collect(),
        pods: Some(ips),
        behind: pods,
    }
}

/// Addresses of a service, with those of its ports that lead to this one of the pod's.
fn words_before(service: &Service, pod: &Pod, port: Option<u16>) -> Vec<String> {
    let ports: Vec<Option<u16>> = match port {
        None => vec![None],
        Some(_) => {
            let leads = service
                .spec
                .ports
                .iter()
                .filter(|of| pod.spec.find_port(&of.target()) == port);
            leads.map(|of| Some(of.port)).collect()
        }
    };
    let addresses = service.addresses().into_iter();
    addresses
        .flat_map(|ip| ports.iter().map(move |port| word(ip, *port)))
        .collect()
}

/// A service, with a port or without.
fn service(config: &MeshConfig, snapshot: &Snapshot, text: &str, namespace: &str) -> Result<To, Status> {
    let (name, port) = with_port(text);
    let service = resolve::service(snapshot, config, name, namespace)?;
    let fqdn = service.fqdn(&config.cluster_domain);
    let called = port.map_or_else(|| fqdn.clone(), |port| format!("{fqdn}:{port}"));
    let addresses = service.addresses().into_iter().map(|ip| word(ip, port));
    Ok(To {
        behind: snapshot.pods_of(service).to_vec(),
        ..To::words(addresses.chain([called]))
    })
}

/// Pods by what made them, or by name, with a port or without.
fn pods(snapshot: &Snapshot, text: &str, namespace: &str) -> Result<To, Status> {
    let (name, port) = with_port(text);
    let pods = resolve::pods(snapshot, name, namespace)?;
    let ips = pods.iter().flat_map(|pod| pod.addresses()).collect();
    Ok(arriving(snapshot, (pods, ips), port))
}

/// A name, and its port where there is one.
fn with_port(text: &str) -> (&str, Option<u16>) {
    let with_port = text
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse().ok().filter(|port| *port > 0)?)));
    with_port.map_or((text, None), |(name, port)| (name, Some(port)))
}

/// The services that stand before any of these pods: whoever goes to a pod mostly asks for one of them.
fn in_front<'a>(snapshot: &'a Snapshot, pods: &'a [Arc<Pod>]) -> impl Iterator<Item = &'a Arc<Service>> {
    let is_meant = |behind: &Arc<Pod>| pods.iter().any(|pod| name(pod) == name(behind));
    snapshot
        .services()
        .filter(move |service| snapshot.pods_of(service).iter().any(is_meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANK: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec: {clusterIP: 10.96.0.3, selector: {app: ledger}, ports: [{name: a, port: 80, targetPort: main}, {name: b, port: 81, targetPort: 9001}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: bank}
spec: {clusterIP: 10.96.0.4, selector: {app: other}, ports: [{port: 80, targetPort: 9000}]}
";
    const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ledger-0, namespace: bank, labels: {app: ledger}}
spec: {containers: [{name: a, ports: [{name: main, containerPort: 9000}]}]}
status: {phase: Running, podIP: 10.77.0.7, podIPs: [{ip: 10.77.0.7}, {ip: 'fd78::82fa'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ledger-1, namespace: bank, labels: {app: ledger}}
spec: {containers: [{name: a}]}
status: {phase: Running, podIP: 'fd78::82fb:9000'}
";

    /// Words, then the pods at which requests must arrive.
    fn read(text: &str) -> Result<(String, String), String> {
        let to = super::read(&MeshConfig::for_tests(), &Snapshot::of(BANK, PODS), text, "bank");
        let to = to.map_err(|status| status.message().to_owned())?;
        let join = |mut words: Vec<String>| {
            words.sort();
            words.join(" ")
        };
        let pods = to.pods.iter().flatten().map(ToString::to_string).collect();
        Ok((join(to.words), join(pods)))
    }

    fn reads(text: &str, words: &str, pods: &str) {
        assert_eq!(read(text), Ok((words.to_owned(), pods.to_owned())), "{text}");
    }

    #[test]
    fn requests_for_a_pods_address_are_sent_to_the_services_before_it() {
        reads("10.77.0.7", "10.77.0.7 10.96.0.3", "10.77.0.7");
        reads("10.77.0.7:9000", "10.77.0.7:9000 10.96.0.3:80", "10.77.0.7");
        reads("10.77.0.7:9001", "10.77.0.7:9001 10.96.0.3:81", "10.77.0.7");
        reads("[fd78::82fa]:9000", "10.96.0.3:80 [fd78::82fa]:9000", "fd78::82fa");
        reads("fd78::82fa", "10.96.0.3 fd78::82fa", "fd78::82fa");
        reads("pod/ledger-0", "10.77.0.7 10.96.0.3 fd78::82fa", "10.77.0.7 fd78::82fa");
        reads(
            "pod/ledger-0:9000",
            "10.77.0.7:9000 10.96.0.3:80 [fd78::82fa]:9000",
            "10.77.0.7 fd78::82fa",
        );
    }

    #[test]
    fn a_port_of_many_pods_is_that_of_those_behind_each_service() {
        let other = "
---
apiVersion: v1
kind: Pod
metadata: {name: other-0, namespace: bank, labels: {app: other}}
spec: {containers: [{name: a, ports: [{name: main, containerPort: 9001}]}]}
status: {phase: Running, podIP: 10.77.0.9}
";
        let snapshot = Snapshot::of(BANK, &format!("{PODS}{other}"));
        let to = super::read(&MeshConfig::for_tests(), &snapshot, "ns/bank:9001", "bank").expect("pods");
        // Nothing of ledger:80, which leads to another port.
        assert!(to.words.contains(&"10.96.0.3:81".to_owned()), "{:?}", to.words);
        assert!(!to.words.contains(&"10.96.0.3:80".to_owned()), "{:?}", to.words);
    }

    #[test]
    fn other_addresses_and_names_are_what_they_are() {
        reads("10.96.0.3:80", "10.96.0.3:80", "");
        reads("1.1.1.1", "1.1.1.1", "");
        reads("[2001:db8::1:8080]", "2001:db8::1:8080", "");
        reads("ledger:80", "10.96.0.3:80 ledger.bank.svc.cluster.local:80", "");
        reads("svc/ledger.bank", "10.96.0.3 ledger.bank.svc.cluster.local", "");
        reads("", "", "");
        assert_eq!(read("fx"), Err("there is no service fx in namespace bank".to_owned()));
    }

    #[test]
    fn what_is_no_address_is_not_taken_for_a_name_nor_for_an_address_that_nobody_has() {
        let unbracketed = "no pod and no service has the address fd78::82fa:9000: with a port it is written [fd78::82fa]:9000, \
                           without one [fd78::82fa:9000]";
        assert_eq!(read("fd78::82fa:9000"), Err(unbracketed.to_owned()));
        reads("fd78::82fb:9000", "10.96.0.3 fd78::82fb:9000", "fd78::82fb:9000");
        for wrong in [
            "300.1.1.1",
            "10.77.0:80",
            "10.77.0.7:99999",
            "10.77.0.7:0",
            "fd78::1::2",
            "[fd78::7",
        ] {
            let why = read(wrong).expect_err(wrong);
            assert!(why.contains("is no address; write it as 10.77.0.7,"), "{why}");
        }
    }
}

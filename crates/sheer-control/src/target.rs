//! What a proxy asks about: a service by name or address, a pod by address, with a port. And who asks.

use std::{net::SocketAddr, sync::Arc};

use tonic::Status;

use crate::{
    objects::{Pod, Service},
    store::Snapshot,
};

/// What a proxy asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// By name.
    Service {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Port of the service.
        port: u16,
    },
    /// One pod of a headless service, by name.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name of the service.
        service: String,
        /// Name of the pod.
        pod: String,
        /// Port of the service, or of the pod.
        port: u16,
    },
    /// By address.
    Address(SocketAddr),
}

/// What a [`Target`] is in one snapshot.
pub(crate) enum Found<'a> {
    /// A service.
    Service(&'a Arc<Service>, u16),
    /// A running pod.
    Pod(&'a Arc<Pod>, SocketAddr),
    /// Neither.
    Nothing,
}

impl Target {
    /// Reads `NAME.NAMESPACE.svc.DOMAIN[:PORT]`, `POD.NAME.NAMESPACE.svc.DOMAIN[:PORT]` or `ADDRESS:PORT`; a name without a port means 80, as everywhere on the web.
    pub(crate) fn parse(authority: &str, cluster_domain: &str) -> Result<Self, Status> {
        if let Ok(address) = authority.parse::<SocketAddr>() {
            // An IPv4 address that came in over an IPv6 socket is still an IPv4 address.
            return Ok(Self::Address(SocketAddr::new(
                address.ip().to_canonical(),
                address.port(),
            )));
        }
        let wrong = || {
            Status::invalid_argument(format!(
                "{authority:?} is not of the form NAME.NAMESPACE.svc.{cluster_domain}:PORT"
            ))
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse::<u16>().map_err(|_| wrong())?),
            None => (authority, 80),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let host = host
            .strip_suffix(cluster_domain)
            .and_then(|rest| rest.strip_suffix(".svc."))
            .ok_or_else(wrong)?;
        let labels: Vec<&str> = host.split('.').collect();
        if port == 0 || labels.iter().any(|label| label.is_empty()) {
            return Err(wrong());
        }
        match labels[..] {
            [name, namespace] => Ok(Self::Service {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                port,
            }),
            [pod, service, namespace] => Ok(Self::Pod {
                namespace: namespace.to_owned(),
                service: service.to_owned(),
                pod: pod.to_owned(),
                port,
            }),
            _ => Err(wrong()),
        }
    }

    /// Looks the target up.
    pub(crate) fn find<'a>(&self, snapshot: &'a Snapshot) -> Found<'a> {
        match self {
            Self::Service { namespace, name, port } => match snapshot.find_service(namespace, name) {
                Some(service) => Found::Service(service, *port),
                None => Found::Nothing,
            },
            Self::Pod {
                namespace,
                service,
                pod,
                port,
            } => find_by_name(snapshot, (namespace, service, pod), *port)
                .map_or(Found::Nothing, |(pod, address)| Found::Pod(pod, address)),
            Self::Address(address) => {
                if let Some(service) = snapshot.find_service_at(address.ip()) {
                    return Found::Service(service, address.port());
                }
                snapshot
                    .find_pod_at(address.ip())
                    .map_or(Found::Nothing, |pod| Found::Pod(pod, *address))
            }
        }
    }
}

/// A running pod below the headless service that it belongs to. A port of the service means the pod's that stands behind it.
fn find_by_name<'a>(
    snapshot: &'a Snapshot,
    (namespace, service, pod): (&str, &str, &str),
    port: u16,
) -> Option<(&'a Arc<Pod>, SocketAddr)> {
    let service = snapshot
        .find_service(namespace, service)
        .filter(|service| service.is_headless())?;
    let pods = snapshot.pods_of(service);
    let pod = pods.iter().find(|found| found.metadata.name == pod)?;
    let known = service.spec.ports.iter().find(|known| known.port == port);
    let port = known
        .and_then(|known| pod.spec.find_port(&known.target()))
        .unwrap_or(port);
    Some((pod, SocketAddr::new(*pod.addresses().first()?, port)))
}

/// A workload as proxies name it: `{"ns":"bank","pod":"ledger-0"}`, or the older `bank:ledger-0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadName {
    /// Namespace.
    pub(crate) namespace: String,
    /// Pod.
    pub(crate) pod: String,
}

impl WorkloadName {
    /// Reads either form.
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        #[derive(serde::Deserialize)]
        struct Json {
            ns: String,
            pod: String,
        }
        let wrong = || {
            Status::invalid_argument(format!(
                "workload {text:?} is not of the form {{\"ns\":\"…\",\"pod\":\"…\"}}"
            ))
        };
        let (namespace, pod) = if text.starts_with('{') {
            let json: Json = serde_json::from_str(text).map_err(|_| wrong())?;
            (json.ns, json.pod)
        } else {
            let (namespace, pod) = text.split_once(':').ok_or_else(wrong)?;
            (namespace.to_owned(), pod.to_owned())
        };
        if namespace.is_empty() || pod.is_empty() {
            Err(wrong())
        } else {
            Ok(Self { namespace, pod })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let parse = |text: &str| Target::parse(text, "cluster.local").map_err(|status| status.message().to_owned());
        let ledger = |port| {
            Ok(Target::Service {
                namespace: "bank".to_owned(),
                name: "ledger".to_owned(),
                port,
            })
        };
        assert_eq!(parse("ledger.bank.svc.cluster.local:8080"), ledger(8080));
        assert_eq!(parse("Ledger.bank.svc.cluster.local."), ledger(80));
        assert_eq!(
            parse("Store-0.store.bank.svc.cluster.local:5432"),
            Ok(Target::Pod {
                namespace: "bank".to_owned(),
                service: "store".to_owned(),
                pod: "store-0".to_owned(),
                port: 5432,
            })
        );
        assert_eq!(
            parse("10.0.0.1:80"),
            Ok(Target::Address("10.0.0.1:80".parse().unwrap()))
        );
        assert_eq!(
            parse("[fd00::1]:80"),
            Ok(Target::Address("[fd00::1]:80".parse().unwrap()))
        );
        for wrong in [
            "",
            ":",
            "ledger:80",
            "ledger.bank:80",
            "a.b.ledger.bank.svc.cluster.local:80",
            "a..bank.svc.cluster.local:80",
            "ledger.bank.svc.cluster.local:0",
            "x.y.svc.cluster.local:99999",
            ".bank.svc.cluster.local:80",
            "example.com:80",
        ] {
            assert!(
                parse(wrong).is_err_and(|message| message.contains("NAME.NAMESPACE.svc.cluster.local:PORT")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn workloads() {
        let parse = |text: &str| WorkloadName::parse(text).ok();
        let ledger = Some(WorkloadName {
            namespace: "bank".to_owned(),
            pod: "ledger-0".to_owned(),
        });
        assert_eq!(parse(r#"{"ns":"bank", "pod":"ledger-0", "nodeName":"here"}"#), ledger);
        assert_eq!(parse("bank:ledger-0"), ledger);
        for wrong in [
            "",
            "bank",
            "bank:",
            ":pod",
            "{",
            r#"{"ns":"bank"}"#,
            r#"{"ns":"","pod":"x"}"#,
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

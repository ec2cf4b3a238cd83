//! Services: a name and a virtual address for the pods that a selector matches.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{IntOrString, Labels, ObjectMeta};

/// A name and a virtual address for the pods that a selector matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// What it stands for.
    #[serde(default)]
    pub spec: ServiceSpec,
}

/// What a [`Service`] stands for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Labels that its pods carry; a service without them has no endpoints.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: Labels,
    /// Ports that it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Virtual address: an address, `None` for a headless service, absent until one is assigned.
    #[serde(rename = "clusterIP", default, skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<String>,
    /// All virtual addresses, one a family; the first is `clusterIP`.
    #[serde(rename = "clusterIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    /// Whether pods that are not ready are endpoints too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_not_ready_addresses: bool,
    /// `ClientIP`: requests of one client go to the same endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<String>,
    /// `PreferClose`, `PreferSameZone` or `PreferSameNode`: endpoints of the client's zone first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
}

/// One port of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name, needed where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP` where absent; others are not carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The port of the service's address.
    pub port: u16,
    /// The pods' port, by number or by the name of a container's port; the same number where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// What is spoken (`http`, `kubernetes.io/h2c`, `grpc`, `linkerd.io/opaque`, …); detected where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

impl Service {
    /// The virtual addresses, each once.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for text in self.spec.cluster_ip.iter().chain(&self.spec.cluster_ips) {
            // `None` (headless) and empty are not addresses; anything else was checked when the file was read.
            if let Ok(address) = text.parse()
                && !addresses.contains(&address)
            {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Whether the service asked for no virtual address.
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip.as_deref() == Some("None")
    }

    /// `NAME.NAMESPACE.svc.DOMAIN`.
    pub fn fqdn(&self, cluster_domain: &str) -> String {
        format!(
            "{}.{}.svc.{cluster_domain}",
            self.metadata.name, self.metadata.namespace
        )
    }
}

impl ServicePort {
    /// Whether the mesh carries the port.
    pub fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }

    /// The pods' port, by number or name.
    pub fn target(&self) -> IntOrString {
        self.target_port.clone().unwrap_or(IntOrString::Int(self.port))
    }
}

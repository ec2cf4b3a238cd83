//! What resources are called: in links, in the map's nodes, to the control plane.

use serde::{Serialize, Serializer};
use sheer_api::v1::selector::Kind;
use sheer_api::v1::{ObjectRef, Resource, Selector};

/// A resource as links name it: `bank/deploy/ledger`, `/address/10.0.0.9`. What has no namespace begins with a slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) namespace: String,
    /// As kubectl has it in short.
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Id {
    pub(crate) fn of(resource: Option<&Resource>) -> Self {
        let Resource {
            kind, namespace, name, ..
        } = resource.cloned().unwrap_or_default();
        Self {
            namespace,
            kind: if kind.is_empty() { "other".to_owned() } else { kind },
            name,
        }
    }

    /// None where it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('/')?;
        let (kind, name) = rest.split_once('/')?;
        (!kind.is_empty() && !name.is_empty()).then(|| Self {
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }

    /// What the control plane calls the kind, for workloads.
    pub(crate) fn workload_kind(&self) -> Option<Kind> {
        match self.kind.as_str() {
            "deploy" => Some(Kind::Deployment),
            "sts" => Some(Kind::Statefulset),
            "pod" => Some(Kind::Pod),
            _ => None,
        }
    }

    /// Just this.
    pub(crate) fn selector(&self) -> Option<Selector> {
        Some(Selector {
            kind: self.workload_kind().unwrap_or(Kind::Workload).into(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
        })
    }

    /// As commands name it: `deploy/ledger`.
    pub(crate) fn short(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// Whether it lies outside of what the mesh runs.
    pub(crate) fn is_outside(&self) -> bool {
        matches!(self.kind.as_str(), "address" | "host" | "identity" | "other")
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind, self.name)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An object as operators write it: `HTTPRoute bank/canary:8080`; empty for none.
pub(crate) fn object(object: Option<&ObjectRef>) -> String {
    let Some(object) = object else {
        return String::new();
    };
    let kind = match object.kind.as_str() {
        "server" => "Server",
        "authorizationpolicy" => "AuthorizationPolicy",
        kind => kind,
    };
    // Made up by the control plane or the proxy: no namespace has it.
    if kind == object.name {
        return kind.to_owned();
    }
    let namespace = match object.namespace.as_str() {
        "" => String::new(),
        _ if kind == "default" => String::new(),
        namespace => format!("{namespace}/"),
    };
    let port = match object.port {
        0 => String::new(),
        port => format!(":{port}"),
    };
    format!("{kind} {namespace}{}{port}", object.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in ["bank/deploy/ledger", "/address/10.0.0.9", "/host/api.example/v1"] {
            assert_eq!(Id::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Id::parse("bank/deploy"), None);
        assert_eq!(Id::of(None).to_string(), "/other/");
    }
}

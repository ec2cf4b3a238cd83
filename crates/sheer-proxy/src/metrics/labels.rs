//! Sets of labels, rendered to text once, and the builders of those that Linkerd's dashboards expect.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc};

use super::path::Peer;
use crate::{
    discovery::{Endpoint, ObjectRef, OutboundTarget},
    error::Direction,
};

/// Labels of a series as they stand between the braces: `direction="inbound",tls="true"`. Names are unique and valid, values escaped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LabelSet(Arc<str>);

impl LabelSet {
    /// Begins a set.
    pub fn builder() -> LabelBuilder {
        LabelBuilder::default()
    }

    /// This set with one label more (or replaced nothing, where the name is there already).
    pub fn with(&self, name: &str, value: &str) -> Self {
        self.to_builder().label(name, value).build()
    }

    /// A builder that starts with this set.
    pub fn to_builder(&self) -> LabelBuilder {
        LabelBuilder {
            text: self.0.to_string(),
        }
    }

    /// Names and values, the values as they were before they were escaped.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let (mut pairs, mut rest) = (Vec::new(), self.as_str());
        while let Some((name, quoted)) = rest.split_once("=\"") {
            let (mut value, mut escaped, mut end) = (String::new(), false, quoted.len());
            for (at, c) in quoted.char_indices() {
                match (c, escaped) {
                    ('\\', false) => escaped = true,
                    ('"', false) => {
                        end = at;
                        break;
                    }
                    (c, was) => {
                        value.push(if was && c == 'n' { '\n' } else { c });
                        escaped = false;
                    }
                }
            }
            pairs.push((name.to_owned(), value));
            // After the quote and the comma.
            rest = quoted.get(end + 2..).unwrap_or_default();
        }
        pairs
    }

    /// The text between the braces.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes a [`LabelSet`].
#[derive(Clone, Debug, Default)]
pub struct LabelBuilder {
    text: String,
}

impl LabelBuilder {
    /// Adds a label. The first of a name wins; characters that a name may not have become `_`.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.push(name, value);
        self
    }

    /// Adds a label where there is a value.
    #[must_use]
    pub fn label_if(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.push(name, value);
        }
        self
    }

    /// Adds labels, each name behind `prefix`.
    #[must_use]
    pub fn labels<'a>(mut self, prefix: &str, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        for (name, value) in labels {
            self.push(&format!("{prefix}{name}"), value);
        }
        self
    }

    /// Adds the `group`, `kind`, `namespace`, `name`, `port` and `section_name` of an object, each behind `prefix`
    /// (`parent_`, `backend_`, `srv_`, `authz_`). Empty parts are left out, but for those that Linkerd always has.
    #[must_use]
    pub fn object(mut self, prefix: &str, object: &ObjectRef) -> Self {
        let always = [("group", &object.group), ("kind", &object.kind), ("name", &object.name)];
        let sometimes = [("namespace", &object.namespace), ("section_name", &object.section)];
        for (name, value) in always {
            self.push(&format!("{prefix}{name}"), value);
        }
        for (name, value) in sometimes {
            if !value.is_empty() {
                self.push(&format!("{prefix}{name}"), value);
            }
        }
        if object.port != 0 {
            self.push(&format!("{prefix}port"), &object.port.to_string());
        }
        self
    }

    /// The set.
    pub fn build(self) -> LabelSet {
        LabelSet(self.text.into())
    }

    fn push(&mut self, name: &str, value: &str) {
        let name = valid_name(name);
        if self.has(&name) {
            return;
        }
        if !self.text.is_empty() {
            self.text.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    /// Walks the rendered text rather than keeping a list: sets are built rarely and are short.
    fn has(&self, name: &str) -> bool {
        let mut rest = self.text.as_str();
        while let Some((found, value)) = rest.split_once("=\"") {
            if found == name {
                return true;
            }
            let mut escaped = false;
            let end = value.find(|c| {
                let quote = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                quote
            });
            rest = end.and_then(|end| value.get(end + 2..)).unwrap_or_default();
        }
        false
    }
}

/// Prometheus allows `[a-zA-Z_][a-zA-Z0-9_]*`.
fn valid_name(name: &str) -> String {
    let mut valid: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    if !valid.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        valid.insert(0, '_');
    }
    valid
}

/// State of TLS on a connection, as the labels `tls`, `no_tls_reason`, `server_id` and `client_id` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls<'a> {
    /// Mutual TLS; who the peer is, where it said so.
    Mutual(Option<&'a str>),
    /// TLS of the application, passed through.
    Opaque,
    /// None, because this proxy has no identity or the connection is within the pod.
    Loopback,
    /// None, because discovery promised no identity for the endpoint (outbound).
    NotProvided,
    /// None, because the client did not begin TLS (inbound).
    NoClientHello,
}

impl LabelBuilder {
    /// Adds the labels of a connection's TLS. `peer` says whether the named peer is the client or the server.
    #[must_use]
    pub fn tls(self, peer: Peer, tls: Tls<'_>) -> Self {
        let id_label = match peer {
            Peer::Src => "client_id",
            Peer::Dst => "server_id",
        };
        match tls {
            Tls::Mutual(id) => self.label("tls", "true").label_if(id_label, id),
            Tls::Opaque => self.label("tls", "opaque"),
            Tls::Loopback => self.label("tls", "no_identity").label("no_tls_reason", "loopback"),
            Tls::NotProvided => self
                .label("tls", "no_identity")
                .label("no_tls_reason", "not_provided_by_service_discovery"),
            Tls::NoClientHello => self
                .label("tls", "no_identity")
                .label("no_tls_reason", "no_tls_from_remote"),
        }
    }

    /// Adds what discovery says of a target: `authority`, `parent_*`, `backend_*`.
    fn about(self, target: &OutboundTarget, backend: Option<&ObjectRef>) -> Self {
        let labels = self.label("authority", &target.name).object("parent_", target.parent());
        match backend {
            Some(backend) => labels.object("backend_", backend),
            None => labels,
        }
    }
}

/// Labels of what goes to one endpoint: `direction`, `peer`, `target_*`, `tls`, `parent_*`, `backend_*` and the endpoint's own `dst_*`.
pub fn outbound_labels(
    target: &OutboundTarget,
    backend: Option<&ObjectRef>,
    endpoint: &Endpoint,
    tls: Tls<'_>,
) -> LabelSet {
    labels_of(Direction::Outbound, Peer::Dst, endpoint.addr)
        .tls(Peer::Dst, tls)
        .about(target, backend)
        .labels("dst_", endpoint.labels.iter())
        .build()
}

/// Labels of what was meant for `dst` and went to no endpoint: neither `dst_*` nor `tls`, since nothing was sent.
pub fn target_labels(target: &OutboundTarget, backend: Option<&ObjectRef>, dst: SocketAddr) -> LabelSet {
    labels_of(Direction::Outbound, Peer::Dst, dst)
        .about(target, backend)
        .build()
}

/// Labels of what comes in for one port of the workload from one client: `direction`, `peer`, `target_*`, `tls`, `client_id`, `srv_*`.
pub fn inbound_labels(target: SocketAddr, server: &ObjectRef, tls: Tls<'_>) -> LabelSet {
    labels_of(Direction::Inbound, Peer::Src, target)
        .tls(Peer::Src, tls)
        .object("srv_", server)
        .build()
}

/// Labels of connections to the application behind one port, which are within the pod.
pub fn application_labels(target: SocketAddr, server: &ObjectRef) -> LabelSet {
    labels_of(Direction::Inbound, Peer::Dst, target)
        .tls(Peer::Dst, Tls::Loopback)
        .object("srv_", server)
        .build()
}

/// The labels that everything on a connection begins with: `direction`, `peer`, `target_*`.
pub fn labels_of(direction: Direction, peer: Peer, target: SocketAddr) -> LabelBuilder {
    LabelSet::builder()
        .label("direction", direction.as_str())
        .label("peer", peer.as_str())
        .label("target_addr", &target.to_string())
        .label("target_ip", &target.ip().to_string())
        .label("target_port", &target.port().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_names_made_valid() {
        let labels = LabelSet::builder().label("a-b", "x\"y\\z\nw").label("1c", "").build();
        assert_eq!(labels.as_str(), r#"a_b="x\"y\\z\nw",_1c="""#);
    }

    /// A control plane may send a label twice under names that become the same: the page must stay valid.
    #[test]
    fn first_of_a_name_wins() {
        let labels = LabelSet::builder()
            .label("a", "1\",b=\"2")
            .label("b", "3")
            .label("a", "4")
            .build();
        assert_eq!(labels.as_str(), r#"a="1\",b=\"2",b="3""#);
        assert_eq!(labels.with("b", "5"), labels);
        assert_eq!(labels.with("c", "6").as_str(), r#"a="1\",b=\"2",b="3",c="6""#);
    }

    #[test]
    fn values_that_end_in_a_backslash_do_not_hide_the_next_name() {
        let labels = LabelSet::builder()
            .label("a", "\\")
            .label("b", "1")
            .label("b", "2")
            .build();
        assert_eq!(labels.as_str(), r#"a="\\",b="1""#);
    }
}

//! References to the objects that decisions come from.

use std::fmt;

/// Reference to the object that a decision came from (`meta.proto`), as metric labels name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// API group, as `core` or `policy.sheer.dev`.
    pub group: String,
    /// Kind, as `Service`; `default` where the control plane made it up.
    pub kind: String,
    /// Namespace, empty for a default.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Section (a listener or port name), empty where none.
    pub section: String,
    /// Port, 0 where none.
    pub port: u16,
}

impl ObjectRef {
    /// What a control plane, or the proxy, made up: no object of a user.
    pub fn default_of(name: &str) -> Self {
        Self {
            kind: "default".to_owned(),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Whether no object of a user stands behind it.
    pub fn is_default(&self) -> bool {
        self.kind == "default"
    }
}

/// `Service bank/ledger:8080`, `default http`.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            namespace,
            name,
            port,
            ..
        } = self;
        write!(f, "{} ", spelt(kind))?;
        if !namespace.is_empty() {
            write!(f, "{namespace}/")?;
        }
        f.write_str(name)?;
        if *port != 0 {
            write!(f, ":{port}")?;
        }
        Ok(())
    }
}

/// A kind as manifests spell it. Linkerd's labels have these in lower case.
fn spelt(kind: &str) -> &str {
    match kind {
        "server" => "Server",
        "authorizationpolicy" => "AuthorizationPolicy",
        "serverauthorization" => "ServerAuthorization",
        kind => kind,
    }
}

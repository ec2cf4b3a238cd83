//! Who can be at fault.

use std::fmt;

/// The layer at fault for a failure, in error responses, metrics, taps, traces and diagnoses alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The application's own code.
    Application,
    /// A library that the application uses.
    ApplicationLibrary,
    /// What the caller asked for or how it is set up.
    ClientConfig,
    /// The sidecar's own code or defaults.
    Proxy,
    /// A library that the sidecar uses.
    ProxyLibrary,
    /// The control plane's view of services and endpoints.
    Discovery,
    /// Certificates, keys and names.
    Identity,
    /// A rule that an operator wrote.
    Policy,
    /// How the sidecar was put beside the workload.
    Injection,
    /// Kubernetes: life cycle, DNS, endpoints, objects.
    Kubernetes,
    /// The network between two machines or namespaces.
    Network,
    /// The kernel of this machine: conntrack, sockets, limits.
    Kernel,
    /// Too little of something: CPU, memory, descriptors, ready endpoints.
    Capacity,
}

impl Verdict {
    /// Every verdict, in the order of the enum.
    pub const ALL: [Self; 13] = [
        Self::Application,
        Self::ApplicationLibrary,
        Self::ClientConfig,
        Self::Proxy,
        Self::ProxyLibrary,
        Self::Discovery,
        Self::Identity,
        Self::Policy,
        Self::Injection,
        Self::Kubernetes,
        Self::Network,
        Self::Kernel,
        Self::Capacity,
    ];

    /// The word that users see, as `proxy-library`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::ApplicationLibrary => "application-library",
            Self::ClientConfig => "client-config",
            Self::Proxy => "proxy",
            Self::ProxyLibrary => "proxy-library",
            Self::Discovery => "discovery",
            Self::Identity => "identity",
            Self::Policy => "policy",
            Self::Injection => "injection",
            Self::Kubernetes => "kubernetes",
            Self::Network => "network",
            Self::Kernel => "kernel",
            Self::Capacity => "capacity",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

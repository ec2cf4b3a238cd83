//! What the commands share that look at the wire: which workload, who is at the other end, times, and bytes as text (`sheer_dashboard::wire`).

use sheer_api::v1::Selection;
pub(crate) use sheer_dashboard::wire::text::{clock, text};

/// Which workload.
#[derive(clap::Args, Debug)]
pub(crate) struct Of {
    /// A workload or pod, as deploy/ledger, sts/db or pod/ledger-6d9f4-0; ns/bank for all of a namespace
    #[arg(value_name = "WORKLOAD")]
    pub(crate) workload: String,
    /// Namespace of a name that has none
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

impl Of {
    /// As the control plane takes it.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            workload: self.workload.clone(),
            namespace: self.namespace.clone().unwrap_or_default(),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PeerKind {
    /// The application beside the proxy.
    App,
    /// Another proxy of the mesh.
    Mesh,
    /// Somebody else.
    Outside,
}

impl PeerKind {
    /// As the control plane takes it; empty for any.
    pub(crate) fn name(peer: Option<Self>) -> String {
        let name = match peer {
            None => "",
            Some(Self::App) => "app",
            Some(Self::Mesh) => "mesh",
            Some(Self::Outside) => "outside",
        };
        name.to_owned()
    }
}

/// A short time: `85µs`, `1.2ms`, `340ms`, `2.1s`.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..100_000 => format!("{:.1}ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{}ms", us / 1_000),
        _ => format!("{:.1}s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times() {
        assert_eq!(
            [85, 1_240, 340_000, 2_140_000].map(micros),
            ["85µs", "1.2ms", "340ms", "2.1s"]
        );
    }
}

//! The wire between Sheer's parts: `sheer.v1`, the re-exported Linkerd proxy API, and the few names that every part must
//! spell alike (verdicts, ports, headers). No logic lives here.

pub mod names;
mod verdict;

pub use linkerd2_proxy_api as linkerd;
pub use verdict::Verdict;

/// OpenTelemetry's protocol, as far as Sheer speaks it.
pub mod opentelemetry {
    #![expect(
        missing_docs,
        clippy::all,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated from proto/otlp; the modules are nested as the packages are"
    )]
    pub mod proto {
        pub mod common {
            pub mod v1 {
                tonic::include_proto!("opentelemetry.proto.common.v1");
            }
        }
        pub mod collector {
            pub mod trace {
                pub mod v1 {
                    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
                }
            }
            pub mod logs {
                pub mod v1 {
                    tonic::include_proto!("opentelemetry.proto.collector.logs.v1");
                }
            }
        }
    }
}

/// `sheer.v1`: Sheer's own services and messages.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::all,
        clippy::too_many_lines,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated from proto/sheer/v1, where the comments are"
    )]
    tonic::include_proto!("sheer.v1");
}

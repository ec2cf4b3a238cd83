//! Compiles `proto/` with protox, so that no `protoc` has to be installed.

/// What commands print as JSON, field by field as the protocol has it.
const SHOWN: [&str; 26] = [
    ".sheer.v1.ObjectRef",
    ".sheer.v1.ProxyState",
    ".sheer.v1.Listener",
    ".sheer.v1.ControlStream",
    ".sheer.v1.OutboundState",
    ".sheer.v1.RouteState",
    ".sheer.v1.BackendState",
    ".sheer.v1.EndpointState",
    ".sheer.v1.InboundState",
    ".sheer.v1.ProxyDump",
    ".sheer.v1.PolicyChange",
    ".sheer.v1.ConfigDumpResponse",
    ".sheer.v1.ProxyConnections",
    ".sheer.v1.Connection",
    ".sheer.v1.TlsSession",
    ".sheer.v1.PassedTls",
    ".sheer.v1.Http2State",
    ".sheer.v1.Setting",
    ".sheer.v1.TableState",
    ".sheer.v1.GoAway",
    ".sheer.v1.TcpState",
    ".sheer.v1.Ending",
    ".sheer.v1.RecorderState",
    ".sheer.v1.TraceStoreState",
    ".sheer.v1.TimeShares",
    ".sheer.v1.PropagationCount",
];

/// Large ones that streams hand on: a pointer is moved and not a kilobyte.
const BOXED: [&str; 4] = [
    ".sheer.v1.TapEvent.event.request",
    ".sheer.v1.TapLine.line.request",
    ".sheer.v1.JoinedRequest.outbound",
    ".sheer.v1.JoinedRequest.inbound",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(
        [
            "sheer/v1/control.proto",
            "sheer/v1/extras.proto",
            "sheer/v1/sight.proto",
            "sheer/v1/watch.proto",
            "sheer/v1/trace.proto",
            "otlp/trace.proto",
            "otlp/logs.proto",
            "sheer/v1/telemetry.proto",
        ],
        ["proto"],
    )?;
    let mut config = tonic_prost_build::configure();
    for message in SHOWN {
        config = config.type_attribute(message, "#[derive(serde::Serialize)]");
    }
    for field in BOXED {
        config = config.boxed(field);
    }
    config.compile_fds(descriptors)?;
    Ok(())
}

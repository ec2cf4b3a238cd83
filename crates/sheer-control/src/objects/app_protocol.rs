//! What a Service says that its port speaks (`appProtocol`).

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppProtocol {
    /// HTTP/1, WebSocket among it.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// Never inspected.
    Opaque,
}

impl AppProtocol {
    /// Reads an `appProtocol`; `None` where the name is not known: such ports are opaque, as in Linkerd.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "http" | "HTTP" | "http1" | "kubernetes.io/ws" | "ws" => Some(Self::Http1),
            "kubernetes.io/h2c" | "h2c" | "http2" | "HTTP2" => Some(Self::Http2),
            "grpc" | "GRPC" => Some(Self::Grpc),
            // The application's own TLS is a stream like any other.
            "linkerd.io/tcp" | "linkerd.io/opaque" | "sheer.dev/tcp" | "sheer.dev/opaque" | "tcp" | "https"
            | "HTTPS" | "tls" | "kubernetes.io/wss" | "wss" => Some(Self::Opaque),
            _ => None,
        }
    }
}

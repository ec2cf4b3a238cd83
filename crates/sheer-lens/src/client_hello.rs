//! TLS ClientHello: finds the server name and the ALPN protocols (RFC 8446 4.1.2, RFC 6066 3, RFC 7301).

/// What the bytes so far say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientHello {
    /// Could still become a ClientHello: read more.
    Incomplete,
    /// Not TLS.
    NotTls,
    /// A whole ClientHello.
    Complete {
        /// `server_name`, lower case, if the client sent one.
        sni: Option<String>,
        /// Offered ALPN protocols, in the client's order.
        alpn: Vec<Vec<u8>>,
    },
}

//! Newtypes for every role of an address, so that they cannot be mixed up.

use std::{fmt, net::SocketAddr};

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub SocketAddr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

role! {
    /// Where the client wanted to go before redirection brought it here (`SO_ORIGINAL_DST`). Never IPv4-mapped.
    OrigDst
}
role! {
    /// Who opened the connection.
    ClientAddr
}
role! {
    /// The address of one endpoint that the proxy connects to.
    EndpointAddr
}

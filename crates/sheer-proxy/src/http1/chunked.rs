//! The chunked coding (RFC 9112 7.1), read.

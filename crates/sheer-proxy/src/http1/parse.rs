//! Heads and field sections, parsed (RFC 9112 2 to 5).

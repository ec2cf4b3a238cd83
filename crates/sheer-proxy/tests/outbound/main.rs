//! The outbound path as a whole, on loopback: a client of the test, real servers, and a discovery that the test plays.

mod balancing;
mod failing;
mod support;

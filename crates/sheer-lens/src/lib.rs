//! Pure decoders: bytes in, facts out. No I/O, no async, no panic on any input, bounded memory.
//!
//! Written apart from the libraries of the data path on purpose: what checks a library must share no code with it.
//!
//! | module | reads | says |
//! |---|---|---|
//! | [`protocol`] | a connection's first bytes | HTTP/1, HTTP/2 or neither |
//! | [`client_hello`] | a connection's first bytes | where TLS wants to go: server name and ALPN |
//! | [`tls`] | either direction of TLS | records, both hellos, alerts |
//! | [`http1`] | either direction of HTTP/1 | heads as sent, bodies, trailers, where each message ends |
//! | [`h2`] | either direction of HTTP/2 | every frame, header blocks, settings, windows |
//! | [`hpack`] | header blocks | fields with their representation, and the table before and after |
//! | [`grpc`] | bodies | messages, decompressed; status, timeout, binary values |
//! | [`protobuf`] | messages | JSON |
//!
//! What they share:
//!
//! * **Any pieces.** Every decoder of a stream takes bytes as they come and says the same however they were cut. A visitor, a trait whose methods do
//!   nothing unless overridden, sees the events in order, borrowed from the bytes given wherever they lie there in one piece.
//! * **Facts, not verdicts.** A broken rule is an event with its section of the RFC; decoding goes on wherever the next byte still has a meaning.
//! * **Limits** are named constants (`MAX_…`), and hitting one is an event as well.
//! * **State is a value.** Decoders are [`Clone`]: a recorder keeps a state and raw bytes, and decodes when somebody asks.
//!
//! A recorder of a connection in HTTP/2 needs little more than this:
//!
//! ```
//! use sheer_lens::{h2::{Block, Connection, Events, Frame, Room, Sender}, hpack};
//!
//! #[derive(Default)]
//! struct Recorder(Vec<String>);
//!
//! impl Events for Recorder {
//!     fn frame(&mut self, sender: Sender, frame: &Frame<'_>, room: Room) {
//!         self.0.push(format!("{sender:?} {} {} {}", frame.header.kind, frame.header.stream, room.connection));
//!     }
//!
//!     fn block(&mut self, _: Sender, block: &Block<'_>, hpack: &mut hpack::Decoder) -> Result<(), hpack::Error> {
//!         let before = hpack.state();
//!         let done = hpack.decode(block.bytes, &mut |field: &hpack::Field<'_>| {
//!             self.0.push(format!("{}: {:?}", String::from_utf8_lossy(field.name), field.representation));
//!         })?;
//!         assert!(done.table.inserted >= before.inserted);
//!         Ok(())
//!     }
//! }
//!
//! let mut recorder = Recorder::default();
//! let mut connection = Connection::new();
//! connection.feed(Sender::Client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &mut recorder);
//! connection.feed(Sender::Client, &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82], &mut recorder);
//! assert_eq!(recorder.0, ["Client SETTINGS 0 65535", "Client HEADERS 1 65535", ":method: Indexed { index: 2 }"]);
//! ```

pub mod client_hello;
pub mod grpc;
pub mod h2;
pub mod hpack;
pub mod http1;
pub mod protobuf;
pub mod protocol;
pub mod tls;

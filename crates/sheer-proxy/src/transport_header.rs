//! Linkerd's transport header: what an outbound proxy says to the peer's inbound proxy before opaque bytes.
//!
//! `transport.l5d.io/v1` CR LF CR LF, a big-endian u32 length, a protobuf message. The outbound path writes it first on a connection with
//! the ALPN of the same name; the inbound path reads it. Bytes after it belong to the stream and stay in the buffer.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What stands before the length.
pub const PREFACE: &[u8; 23] = b"transport.l5d.io/v1\r\n\r\n";

/// Longest message that is read. Linkerd's is some 20 bytes and a name of at most 253.
pub const MAX_MESSAGE: usize = 1024;

/// Preface and length.
const FIXED: usize = PREFACE.len() + size_of::<u32>();

/// The header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportHeader {
    /// Port of the workload that the bytes are for.
    pub port: u16,
    /// Authority that the connection is for, where it goes through a gateway.
    pub name: Option<String>,
    /// Protocol of what follows; `None` for opaque bytes.
    pub protocol: Option<SessionProtocol>,
}

/// Protocol that follows a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TransportHeaderError {
    /// Other bytes stand where the header should.
    #[error("the connection does not start with a transport header")]
    Missing,
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("the transport header has {0} bytes, more than 1024")]
    TooLong(u32),
    /// Not the protobuf message, or no port in it.
    #[error("the transport header is malformed: {0}")]
    Malformed(&'static str),
    /// Closed before the header was whole.
    #[error("the connection was closed within the transport header")]
    Truncated,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

impl TransportHeader {
    /// Preface, length and message.
    pub fn encode(&self) -> Bytes {
        let message = wire::Header {
            port: self.port.into(),
            name: self.name.clone().unwrap_or_default(),
            protocol: self.protocol.map(|protocol| wire::SessionProtocol {
                kind: Some(match protocol {
                    SessionProtocol::Http1 => wire::Kind::Http1(wire::Empty {}),
                    SessionProtocol::Http2 => wire::Kind::Http2(wire::Empty {}),
                }),
            }),
        };
        let length = message.encoded_len();
        let mut out = BytesMut::with_capacity(FIXED + length);
        out.put_slice(PREFACE);
        out.put_u32(length as u32); // a port, a name: far from 4 GiB
        message.encode_raw(&mut out);
        out.freeze()
    }

    /// Takes a header off the front of `buf`; `None` where more bytes are needed. Says no at the first byte that cannot be one.
    pub fn decode(buf: &mut BytesMut) -> Result<Option<Self>, TransportHeaderError> {
        let common = buf.len().min(PREFACE.len());
        if buf[..common] != PREFACE[..common] {
            return Err(TransportHeaderError::Missing);
        }
        let Some(mut length) = buf.get(PREFACE.len()..FIXED) else {
            return Ok(None);
        };
        let length = length.get_u32();
        if length as usize > MAX_MESSAGE {
            return Err(TransportHeaderError::TooLong(length));
        }
        let end = FIXED + length as usize;
        let Some(message) = buf.get(FIXED..end) else {
            return Ok(None);
        };
        let header = Self::parse(message)?;
        buf.advance(end);
        Ok(Some(header))
    }

    /// Reads until the header is whole. What follows it stays in `buf`.
    pub async fn read<R: AsyncRead + Unpin>(io: &mut R, buf: &mut BytesMut) -> Result<Self, TransportHeaderError> {
        loop {
            if let Some(header) = Self::decode(buf)? {
                return Ok(header);
            }
            if io.read_buf(buf).await? == 0 {
                return Err(TransportHeaderError::Truncated);
            }
        }
    }

    fn parse(message: &[u8]) -> Result<Self, TransportHeaderError> {
        use TransportHeaderError::Malformed;
        let message = wire::Header::decode(message).map_err(|_| Malformed("not the protobuf message"))?;
        let port = u16::try_from(message.port).map_err(|_| Malformed("the port is out of range"))?;
        if port == 0 {
            return Err(Malformed("there is no port"));
        }
        let protocol = message
            .protocol
            .and_then(|protocol| protocol.kind)
            .map(|kind| match kind {
                wire::Kind::Http1(_) => SessionProtocol::Http1,
                wire::Kind::Http2(_) => SessionProtocol::Http2,
            });
        Ok(Self {
            port,
            name: Some(message.name).filter(|name| !name.is_empty()),
            protocol,
        })
    }
}

/// The message, as `transport-header.proto` of linkerd2-proxy has it.
mod wire {
    /// `TransportHeader`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Header {
        #[prost(int32, tag = "1")]
        pub(super) port: i32,
        #[prost(string, tag = "2")]
        pub(super) name: String,
        #[prost(message, optional, tag = "3")]
        pub(super) protocol: Option<SessionProtocol>,
    }

    /// `SessionProtocol`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SessionProtocol {
        #[prost(oneof = "Kind", tags = "1, 2")]
        pub(super) kind: Option<Kind>,
    }

    /// `SessionProtocol.kind`.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Kind {
        #[prost(message, tag = "1")]
        Http1(Empty),
        #[prost(message, tag = "2")]
        Http2(Empty),
    }

    /// `SessionProtocol.Http1` and `.Http2`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Empty {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes as linkerd2-proxy writes them, put down by hand.
    #[test]
    fn bytes_are_those_of_linkerd() {
        let header = TransportHeader {
            port: 8080,
            name: Some("db.bank".to_owned()),
            protocol: Some(SessionProtocol::Http2),
        };
        let message = b"\x08\x90\x3f\x12\x07db.bank\x1a\x02\x12\x00";
        let expected = [&b"transport.l5d.io/v1\r\n\r\n\x00\x00\x00\x10"[..], message].concat();
        assert_eq!(header.encode(), expected);
        let opaque = TransportHeader {
            port: 25,
            ..TransportHeader::default()
        };
        assert_eq!(
            opaque.encode(),
            &b"transport.l5d.io/v1\r\n\r\n\x00\x00\x00\x02\x08\x19"[..]
        );
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let with = |bytes: &[u8]| TransportHeader::decode(&mut BytesMut::from(bytes));
        let framed = |length: u32, message: &[u8]| [PREFACE, &length.to_be_bytes()[..], message].concat();
        assert!(matches!(with(b"GET / HTTP/1.1"), Err(TransportHeaderError::Missing)));
        assert!(matches!(
            with(b"transport.l5d.io/v2"),
            Err(TransportHeaderError::Missing)
        ));
        assert!(matches!(
            with(&framed(1025, b"")),
            Err(TransportHeaderError::TooLong(1025))
        ));
        assert!(matches!(with(&framed(0, b"")), Err(TransportHeaderError::Malformed(_))));
        assert!(matches!(
            with(&framed(2, b"\x08\xff")),
            Err(TransportHeaderError::Malformed(_))
        ));
        assert!(matches!(
            with(&framed(4, b"\x08\x80\x80\x04")),
            Err(TransportHeaderError::Malformed(_))
        ));
    }

    #[tokio::test]
    async fn bytes_behind_the_header_stay() {
        let header = TransportHeader {
            port: 5432,
            ..TransportHeader::default()
        };
        let wire = [&header.encode()[..], b"startup"].concat();
        for cut in 0..wire.len() {
            let (mut first, mut buf) = (&wire[cut..], BytesMut::from(&wire[..cut]));
            assert_eq!(
                TransportHeader::read(&mut first, &mut buf).await.expect("whole"),
                header
            );
            buf.extend_from_slice(first);
            assert_eq!(&buf[..], b"startup");
        }
        let end = TransportHeader::read(&mut &wire[..20], &mut BytesMut::new()).await;
        assert!(matches!(end, Err(TransportHeaderError::Truncated)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(port in 1_u16.., name in "[a-z.:0-9]{0,60}", protocol in 0_usize..3) {
            let protocol = [None, Some(SessionProtocol::Http1), Some(SessionProtocol::Http2)][protocol];
            let header = TransportHeader { port, name: Some(name).filter(|name| !name.is_empty()), protocol };
            let wire = header.encode();
            for cut in 0..wire.len() {
                prop_assert!(matches!(TransportHeader::decode(&mut BytesMut::from(&wire[..cut])), Ok(None)));
            }
            prop_assert_eq!(TransportHeader::decode(&mut BytesMut::from(&wire[..])).expect("whole"), Some(header));
        }

        #[test]
        fn random_messages_never_panic(message in prop::collection::vec(any::<u8>(), 0..80)) {
            let wire = [PREFACE, &(message.len() as u32).to_be_bytes()[..], &message].concat();
            let _ = TransportHeader::decode(&mut BytesMut::from(&wire[..]));
        }
    }
}

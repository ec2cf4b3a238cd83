//! HTTP/2 frames as bytes: what a test writes is what goes out, right or wrong (RFC 9113, section 4 and 6).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Block;

/// Frame types.
pub mod kind {
    #![expect(missing_docs, reason = "the names of RFC 9113, section 6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags; which of them mean something depends on the type.
pub mod flag {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 0x1;
    /// Of HEADERS and DATA.
    pub const END_STREAM: u8 = 0x1;
    /// Of HEADERS and CONTINUATION.
    pub const END_HEADERS: u8 = 0x4;
    /// Of HEADERS and DATA.
    pub const PADDED: u8 = 0x8;
    /// Of HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// Settings (RFC 9113, 6.5.2; RFC 8441).
pub mod setting {
    #![expect(missing_docs, reason = "the names of RFC 9113, section 6.5.2")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Error codes (RFC 9113, section 7).
pub mod code {
    #![expect(missing_docs, reason = "the names of RFC 9113, section 7")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What a client says first (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type, as in [`kind`].
    pub kind: u8,
    /// Flags, as in [`flag`].
    pub flags: u8,
    /// Stream, 0 for the connection.
    pub stream: u32,
    /// Payload without the nine bytes before it.
    pub payload: Bytes,
}

impl Frame {
    /// Any frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Bytes>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// HEADERS without END_HEADERS: end it with [`Frame::end_headers`], or send CONTINUATION after it.
    pub fn headers(stream: u32, block: impl AsRef<[u8]>) -> Self {
        Self::new(kind::HEADERS, 0, stream, block.as_ref().to_vec())
    }

    /// CONTINUATION.
    pub fn continuation(stream: u32, block: impl AsRef<[u8]>) -> Self {
        Self::new(kind::CONTINUATION, 0, stream, block.as_ref().to_vec())
    }

    /// DATA.
    pub fn data(stream: u32, data: impl Into<Bytes>) -> Self {
        Self::new(kind::DATA, 0, stream, data)
    }

    /// RST_STREAM.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes().to_vec())
    }

    /// SETTINGS.
    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let mut payload = BytesMut::new();
        for (id, value) in settings {
            payload.put_u16(*id);
            payload.put_u32(*value);
        }
        Self::new(kind::SETTINGS, 0, 0, payload)
    }

    /// Acknowledgement of SETTINGS.
    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, Bytes::new())
    }

    /// PING.
    pub fn ping(payload: [u8; 8]) -> Self {
        Self::new(kind::PING, 0, 0, payload.to_vec())
    }

    /// GOAWAY.
    pub fn goaway(last_stream: u32, code: u32, debug: &str) -> Self {
        let mut payload = BytesMut::new();
        payload.put_u32(last_stream);
        payload.put_u32(code);
        payload.put_slice(debug.as_bytes());
        Self::new(kind::GOAWAY, 0, 0, payload)
    }

    /// WINDOW_UPDATE of a stream, or of the connection (0).
    pub fn window_update(stream: u32, increment: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes().to_vec())
    }

    /// With END_STREAM.
    pub fn end_stream(mut self) -> Self {
        self.flags |= flag::END_STREAM;
        self
    }

    /// With END_HEADERS.
    pub fn end_headers(mut self) -> Self {
        self.flags |= flag::END_HEADERS;
        self
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// As it goes over the wire.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_uint(self.payload.len() as u64, 3);
        out.put_u8(self.kind);
        out.put_u8(self.flags);
        out.put_u32(self.stream);
        out.put_slice(&self.payload);
    }

    /// HEADERS or DATA without padding and priority.
    pub(super) fn content(&self) -> Bytes {
        let mut content = self.payload.clone();
        let mut padding = 0;
        if self.has(flag::PADDED) && !content.is_empty() {
            padding = usize::from(content.split_to(1)[0]);
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            let _ = content.split_to(5.min(content.len()));
        }
        content.truncate(content.len().saturating_sub(padding));
        content
    }

    /// The `n`th big-endian u32 of the payload; 0 where it is too short.
    pub(super) fn word(&self, n: usize) -> u32 {
        self.payload
            .get(n * 4..n * 4 + 4)
            .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
}

/// A block cut into HEADERS and CONTINUATION frames at the given offsets (in the middle of a name, if a test wants that), the last with END_HEADERS.
pub fn split_headers(stream: u32, block: &Block, cuts: &[usize]) -> Vec<Frame> {
    let bytes = block.bytes();
    let mut frames = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        let piece = &bytes[from..to];
        frames.push(if frames.is_empty() {
            Frame::headers(stream, piece)
        } else {
            Frame::continuation(stream, piece)
        });
        from = to;
    }
    if let Some(last) = frames.last_mut() {
        last.flags |= flag::END_HEADERS;
    }
    frames
}

/// A block in frames of at most `size` bytes.
pub fn chunk_headers(stream: u32, block: &Block, size: usize) -> Vec<Frame> {
    let cuts: Vec<usize> = (size..block.bytes().len()).step_by(size).collect();
    split_headers(stream, block, &cuts)
}

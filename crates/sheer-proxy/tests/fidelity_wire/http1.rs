//! HTTP/1.1 by hand, chunked bodies with trailers only: what goes out and what came in, octet by octet.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use sheer_testkit::h2peer::{Field, PATIENCE};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A message as it arrived.
pub(super) struct Arrived {
    pub(super) start: String,
    pub(super) head: Vec<Field>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<Field>,
}

/// One end of a connection.
pub(super) struct Connection {
    io: TcpStream,
    received: BytesMut,
}

impl Connection {
    pub(super) fn new(io: TcpStream) -> Self {
        Self {
            io,
            received: BytesMut::new(),
        }
    }

    /// Sends a message with a chunked body.
    pub(super) async fn send(&mut self, start: &str, head: &[Field], body: &[u8], trailers: &[Field]) -> Result<()> {
        let mut out = start.as_bytes().to_vec();
        out.extend_from_slice(b"\r\n");
        write_fields(&mut out, head);
        out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n0\r\n");
        write_fields(&mut out, trailers);
        Ok(self.io.write_all(&out).await?)
    }

    /// Receives a message with a chunked body.
    pub(super) async fn receive(&mut self) -> Result<Arrived> {
        let start = String::from_utf8(self.line().await?.to_vec())?;
        let head = self.fields().await?;
        let chunked = |(name, value): &Field| name.eq_ignore_ascii_case(b"transfer-encoding") && value == "chunked";
        ensure!(head.iter().any(chunked), "{start}: the body is not chunked: {head:?}");
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(std::str::from_utf8(&line)?, 16)
                .with_context(|| format!("chunk size {line:?}"))?;
            if size == 0 {
                break;
            }
            while self.received.len() < size + 2 {
                self.read().await?;
            }
            body.extend_from_slice(&self.received.split_to(size));
            ensure!(&self.received.split_to(2)[..] == b"\r\n", "chunk without its end");
        }
        Ok(Arrived {
            start,
            head,
            body,
            trailers: self.fields().await?,
        })
    }

    async fn fields(&mut self) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line
                .iter()
                .position(|octet| *octet == b':')
                .with_context(|| format!("field {line:?}"))?;
            let value = line.slice(colon + 1..);
            fields.push((line.slice(..colon), value.slice_ref(value.trim_ascii())));
        }
    }

    async fn line(&mut self) -> Result<Bytes> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let line = self.received.split_to(end).freeze();
                self.received.advance(2);
                return Ok(line);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        let read = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.received)).await;
        let read = read.with_context(|| format!("nothing more after {:?}", self.received))??;
        ensure!(read > 0, "closed after {:?}", self.received);
        Ok(())
    }
}

fn write_fields(out: &mut Vec<u8>, fields: &[Field]) {
    for (name, value) in fields {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// What the proxy writes itself (the framing, the client's identity) it may spell its own way.
pub(super) fn canonical_own(fields: Vec<Field>) -> Vec<Field> {
    let spelt = |(name, value): Field| {
        let own = ["Transfer-Encoding", "l5d-client-id"].into_iter();
        let own = own.map(Bytes::from).find(|own| own.eq_ignore_ascii_case(&name));
        (own.unwrap_or(name), value)
    };
    fields.into_iter().map(spelt).collect()
}

/// Spells names as HTTP/1 peers do: lower case, Title-Case, SHOUTING, or mixed; one name always alike.
#[derive(Default)]
pub(super) struct Spelling(HashMap<Bytes, Bytes>);

impl Spelling {
    pub(super) fn of(&mut self, (name, value): &Field) -> Field {
        let style = self.0.len() % 4;
        let spelt = self.0.entry(name.clone()).or_insert_with(|| spell(name, style));
        (spelt.clone(), value.clone())
    }
}

fn spell(name: &[u8], style: usize) -> Bytes {
    let upper = |at: usize| match style {
        0 => false,
        1 => at == 0 || name[at - 1] == b'-',
        2 => true,
        _ => at % 3 == 1,
    };
    let octets = name.iter().enumerate();
    octets
        .map(|(at, octet)| if upper(at) { octet.to_ascii_uppercase() } else { *octet })
        .collect()
}

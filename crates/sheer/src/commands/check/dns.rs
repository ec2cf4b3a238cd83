//! One question to a DNS server over TCP, by hand: all that is asked is whether a name has an address.

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Identifies the answer; there is one question a connection at a time.
const ID: u16 = 0x5348;

/// Asks for the IPv4 addresses of a name, and fails unless there are any.
pub(super) async fn resolve<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, name: &str) -> anyhow::Result<()> {
    let query = query(name)?;
    stream.write_u16(query.len() as u16).await?; // a name has 255 bytes at most
    stream.write_all(&query).await?;
    let length = stream
        .read_u16()
        .await
        .context("the DNS server closed the connection")?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    judge(&answer).with_context(|| name.to_owned())
}

fn query(name: &str) -> anyhow::Result<Vec<u8>> {
    ensure!(name.len() <= 253, "{name} is too long for a name");
    let mut query = Vec::with_capacity(name.len() + 18);
    query.extend(ID.to_be_bytes());
    query.extend([0x01, 0x00]); // a standard query, recursion desired
    query.extend([0, 1, 0, 0, 0, 0, 0, 0]); // one question
    for label in name.split('.') {
        ensure!((1..=63).contains(&label.len()), "{name} is no name");
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]); // root, type A, class IN
    Ok(query)
}

fn judge(answer: &[u8]) -> anyhow::Result<()> {
    let (Some(flags), Some(count)) = (answer.get(3), answer.get(6..8)) else {
        bail!("the answer is too short")
    };
    ensure!(
        answer.starts_with(&ID.to_be_bytes()),
        "the answer is to another question"
    );
    match flags & 0x0f {
        0 if count == [0, 0] => bail!("it has no address"),
        0 => Ok(()),
        3 => bail!("there is no such name"),
        code => bail!("the DNS server refuses with code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_judged() {
        for (flags, count, expected) in [
            (0x80, 1, None),
            (0x80, 0, Some("no address")),
            (0x83, 0, Some("no such name")),
            (0x85, 0, Some("code 5")),
        ] {
            let (mut client, mut server) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let length = server.read_u16().await.unwrap();
                let mut query = vec![0; length.into()];
                server.read_exact(&mut query).await.unwrap();
                assert!(query[12..].starts_with(b"\x06ledger\x04bank\x03svc"));
                query[2..8].copy_from_slice(&[0x81, flags, 0, 1, 0, count]);
                server.write_u16(length).await.unwrap();
                server.write_all(&query).await.unwrap();
            });
            let result = resolve(&mut client, "ledger.bank.svc.cluster.local").await;
            match expected {
                None => result.unwrap(),
                Some(words) => assert!(format!("{:#}", result.unwrap_err()).contains(words)),
            }
        }
    }

    #[test]
    fn what_is_no_name_is_not_asked() {
        assert!(query("a..b").is_err() && query(&"a".repeat(64)).is_err() && query(&"a.".repeat(200)).is_err());
    }
}

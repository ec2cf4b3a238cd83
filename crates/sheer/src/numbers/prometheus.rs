//! A Prometheus, asked over its HTTP API.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::outcome::Misuse;

/// Patience with one query.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer is longer than this.
const LARGEST: u64 = 256 * 1024 * 1024;

/// Where a Prometheus answers.
#[derive(Clone, Debug)]
pub(crate) struct Prometheus {
    /// Host and port.
    authority: String,
    /// Before `/api/v1`.
    prefix: String,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Sample {
    /// A label's value; empty where there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Prometheus {
    /// Reads a URL, as `http://localhost:9090` or `http://host/prometheus`.
    pub(crate) fn at(url: &str) -> Result<Self, Misuse> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(Misuse(format!(
                "{url:?} is not understood: write it as http://localhost:9090. Over https, forward a port: kubectl port-forward svc/prometheus 9090"
            )));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains('@') {
            return Err(Misuse(format!(
                "{url:?} names no host: write it as http://localhost:9090"
            )));
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let path = path.trim_end_matches('/');
        Ok(Self {
            authority: if has_port {
                authority.to_owned()
            } else {
                format!("{authority}:80")
            },
            prefix: if path.is_empty() {
                String::new()
            } else {
                format!("/{path}")
            },
        })
    }

    /// The series that a query has at a time, in seconds since the Unix epoch.
    pub(super) async fn query(&self, query: &str, at: f64) -> anyhow::Result<Vec<Sample>> {
        let path = format!("{}/api/v1/query?time={at:.3}&query={}", self.prefix, encoded(query));
        let body = timeout(PATIENCE, self.fetch(&path))
            .await
            .map_err(|_| anyhow::anyhow!("it took too long"))
            .and_then(|body| body)
            .with_context(|| format!("Prometheus at {} does not answer", self.authority))?;
        samples(&body).with_context(|| format!("Prometheus at {}, asked for {query}", self.authority))
    }

    /// HTTP/1.0, so that the answer ends with the connection.
    async fn fetch(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.authority).await?;
        let host = &self.authority;
        let request = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\naccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer).await?;
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .context("no answer of HTTP")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap_or_default();
        // What is wrong with a query is told in a body of its own.
        ensure!(
            matches!(status, "200" | "400" | "422"),
            "it answers {}",
            head.lines().next().unwrap_or_default()
        );
        Ok(answer.split_off(end + 4))
    }
}

fn samples(body: &[u8]) -> anyhow::Result<Vec<Sample>> {
    let answer: Answer = serde_json::from_slice(body).context("the answer is not Prometheus'")?;
    if answer.status != "success" {
        bail!("{}", answer.error);
    }
    let series = answer.data.map(|data| data.result).unwrap_or_default();
    let sample = |series: Series| {
        let value: f64 = series.value.1.parse().ok()?;
        // Of nothing, a quantile is no number.
        value.is_finite().then_some(Sample {
            labels: series.metric,
            value,
        })
    };
    Ok(series.into_iter().filter_map(sample).collect())
}

/// A text as a part of a URL's query.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_people_write_them() {
        let at = |url: &str| Prometheus::at(url).map(|at| (at.authority, at.prefix)).ok();
        assert_eq!(
            at("http://localhost:9090/"),
            Some(("localhost:9090".to_owned(), String::new()))
        );
        assert_eq!(
            at("http://mesh.example/prometheus/"),
            Some(("mesh.example:80".to_owned(), "/prometheus".to_owned()))
        );
        assert_eq!(at("https://localhost"), None);
        assert_eq!(at("localhost:9090"), None);
    }

    #[test]
    fn answers_are_read_and_errors_are_told() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"namespace":"bank"},"value":[1.5,"42.5"]},{"metric":{},"value":[1.5,"NaN"]}]}}"#;
        let samples = samples(body).unwrap();
        assert_eq!(
            (samples.len(), samples[0].value, samples[0].label("namespace")),
            (1, 42.5, "bank")
        );
        let error = super::samples(br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#).unwrap_err();
        assert_eq!(error.to_string(), "parse error");
        assert_eq!(encoded("a{b=\"c\"}"), "a%7Bb%3D%22c%22%7D");
    }
}

//! Readiness probes, from inside the pod and past its sidecar: what they say is about the application.

use std::{
    io,
    net::{SocketAddr, TcpStream as StdTcpStream},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut as _, BytesMut};
use http::Request;
use sheer_control::objects::{PodSpec, Probe};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    namespaces::Namespaces,
    process::{self, Program, describe_exit},
};

/// A probe of a program that is not ready comes at least so often: Kubernetes, too, asks more often then.
const EAGER: Duration = Duration::from_millis(250);
/// The first answers of a sidecar decide how fast a pod starts.
const EAGER_SIDECAR: Duration = Duration::from_millis(25);
/// Longest answer that is read.
const LONGEST_ANSWER: usize = 8 * 1024;

/// When and how to ask.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// How.
    pub(crate) action: Action,
    /// Wait before the first.
    pub(crate) initial_delay: Duration,
    /// Time from one to the next.
    pub(crate) period: Duration,
    /// The same, while not ready.
    pub(crate) eager: Duration,
    /// Patience with one.
    pub(crate) timeout: Duration,
    /// Good ones in a row that make it ready.
    pub(crate) success: u32,
    /// Bad ones in a row that make it unready.
    pub(crate) failure: u32,
}

/// One kind of probe.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// GET; 200–399 is good.
    Http {
        /// Where.
        address: SocketAddr,
        /// Path.
        path: String,
    },
    /// Connects.
    Tcp {
        /// Where.
        address: SocketAddr,
    },
    /// Asks `grpc.health.v1`.
    Grpc {
        /// Where.
        address: SocketAddr,
        /// Service to ask for.
        service: String,
    },
    /// Runs a command; 0 is good.
    Exec {
        /// What; its command is replaced by the probe's.
        program: Box<Program>,
    },
}

impl Check {
    /// A container's readiness probe. `program` is the container's own, for its environment.
    pub(crate) fn of_container(probe: &Probe, spec: &PodSpec, ip: std::net::IpAddr, program: &Program) -> Option<Self> {
        let seconds = |value: Option<u32>, default: u64| Duration::from_secs(value.map_or(default, u64::from));
        let address = |port| SocketAddr::new(ip, port);
        let action = if let Some(http) = &probe.http_get {
            let (address, path) = (
                address(spec.find_port(&http.port)?),
                http.path.clone().unwrap_or_else(|| "/".to_owned()),
            );
            // No certificate is known that HTTPS could be checked with: that it listens is what can be told.
            if http.scheme.as_deref() == Some("HTTPS") {
                Action::Tcp { address }
            } else {
                Action::Http { address, path }
            }
        } else if let Some(tcp) = &probe.tcp_socket {
            Action::Tcp {
                address: address(spec.find_port(&tcp.port)?),
            }
        } else if let Some(grpc) = &probe.grpc {
            Action::Grpc {
                address: address(grpc.port),
                service: grpc.service.clone().unwrap_or_default(),
            }
        } else {
            let command = probe.exec.as_ref()?.command.clone();
            Action::Exec {
                program: Box::new(Program {
                    command,
                    quiet: true,
                    ..program.clone()
                }),
            }
        };
        Some(Self {
            action,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            eager: EAGER,
            timeout: seconds(probe.timeout_seconds, 1),
            success: probe.success_threshold.unwrap_or(1).max(1),
            failure: probe.failure_threshold.unwrap_or(3).max(1),
        })
    }

    /// The sidecar's `/ready`.
    pub(crate) fn of_sidecar(address: SocketAddr) -> Self {
        Self {
            action: Action::Http {
                address,
                path: "/ready".to_owned(),
            },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(2),
            eager: EAGER_SIDECAR,
            timeout: Duration::from_secs(1),
            success: 1,
            failure: 3,
        }
    }

    /// The time to the next probe.
    pub(crate) fn pause(&self, ready: bool) -> Duration {
        if ready {
            self.period
        } else {
            self.period.min(self.eager)
        }
    }
}

impl Action {
    /// Asks once; the error says what was wrong.
    pub(crate) async fn run(&self, namespaces: &Arc<Namespaces>) -> Result<(), String> {
        match self {
            Self::Http { address, path } => get(connect(namespaces, *address).await?, *address, path).await,
            Self::Tcp { address } => connect(namespaces, *address).await.map(drop),
            Self::Grpc { address, service } => {
                let health = grpc_health(connect(namespaces, *address).await?, service);
                Box::pin(health)
                    .await
                    .map_err(|error| format!("gRPC health of {address}: {error}"))
            }
            Self::Exec { program } => exec(namespaces, program).await,
        }
    }
}

/// A connection that begins inside the pod.
async fn connect(namespaces: &Namespaces, address: SocketAddr) -> Result<TcpStream, String> {
    let stream = namespaces.run_in_network(move || {
        let stream = StdTcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_nonblocking(true)?;
        Ok::<_, io::Error>(stream)
    });
    let stream = stream
        .await
        .and_then(|connected| connected)
        .and_then(TcpStream::from_std);
    stream.map_err(|error| format!("{address}: {error}"))
}

async fn get(mut stream: TcpStream, address: SocketAddr, path: &str) -> Result<(), String> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: sheer-probe\r\nConnection: close\r\n\r\n");
    let failed = |error: io::Error| format!("GET http://{address}{path}: {error}");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    // The head is enough: a server may keep the connection open whatever it was asked.
    while answer.len() < LONGEST_ANSWER && !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await.map_err(failed)? == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => {
            let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
            Err(format!(
                "GET http://{address}{path}: {status} {}",
                body.lines().next().unwrap_or_default()
            ))
        }
        None => Err(format!("GET http://{address}{path}: not an HTTP/1 answer")),
    }
}

/// `grpc.health.v1.Health/Check` (grpc/grpc, doc/health-checking.md), by hand: two fields need no code generator.
async fn grpc_health(stream: TcpStream, service: &str) -> anyhow::Result<()> {
    let (sender, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let result = grpc_check(sender, service).await;
    connection.abort();
    result
}

async fn grpc_check(sender: h2::client::SendRequest<bytes::Bytes>, service: &str) -> anyhow::Result<()> {
    let request = Request::post("http://health/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = sender.ready().await?.send_request(request, false)?;
    body.send_data(health_request(service).freeze(), true)?;
    let response = response.await?;
    let status = |headers: &http::HeaderMap| {
        let text = |name: &str| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        text("grpc-status")
            .filter(|code| code != "0")
            .map(|code| (code, text("grpc-message").unwrap_or_default()))
    };
    let mut refused = status(response.headers());
    let mut body = response.into_body();
    let mut message = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        anyhow::ensure!(
            message.len() + chunk.len() <= LONGEST_ANSWER,
            "an answer above {LONGEST_ANSWER} bytes"
        );
        message.extend_from_slice(&chunk);
    }
    refused = refused.or(body.trailers().await?.as_ref().and_then(status));
    if let Some((code, why)) = refused {
        anyhow::bail!("grpc-status {code} {why}");
    }
    // Five bytes of framing, then field 1 (status) as a varint: 1 is SERVING.
    match message.get(5..) {
        Some([0x08, 0x01, ..]) => Ok(()),
        _ => anyhow::bail!("not serving"),
    }
}

fn health_request(service: &str) -> BytesMut {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a); // field 1 (service), length-delimited
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame
}

async fn exec(namespaces: &Namespaces, program: &Program) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", program.command.join(" "));
    let mut child = process::spawn(namespaces, program.clone()).await.map_err(failed)?;
    let guard = process::KillGroup::new(&child);
    let status = child.wait().await.map_err(failed)?;
    drop(guard);
    if status.success() {
        Ok(())
    } else {
        Err(format!("{}: {}", program.command.join(" "), describe_exit(status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_request_is_framed() {
        assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&health_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_request(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
    }

    async fn answered_with(answer: &'static [u8]) -> Result<(), String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("address");
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            stream.write_all(answer).await.expect("answered");
        };
        let client = async { get(TcpStream::connect(address).await.expect("connected"), address, "/ready").await };
        tokio::join!(server, client)
            .1
            .map_err(|error| error.replace(&address.to_string(), "APP"))
    }

    #[tokio::test]
    async fn an_http_probe_goes_by_the_status() {
        assert_eq!(answered_with(b"HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        let waiting = answered_with(b"HTTP/1.1 503 Service Unavailable\r\n\r\nwaiting for identity\n").await;
        assert_eq!(waiting, Err("GET http://APP/ready: 503 waiting for identity".into()));
        assert_eq!(
            answered_with(b"SSH-2.0\r\n").await,
            Err("GET http://APP/ready: not an HTTP/1 answer".into())
        );
    }
}

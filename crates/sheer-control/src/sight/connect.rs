//! Connections to the sight ports of proxies.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use sheer_api::{
    names,
    v1::{self, sight_client::SightClient},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::{Code, Status, Streaming, transport::Channel, transport::Endpoint};

use crate::{config::MeshConfig, objects::Pod};

/// Time for TCP and TLS: a proxy of the same mesh answers in milliseconds.
const CONNECT: Duration = Duration::from_secs(2);
/// Time for an answer. A proxy itself may wait 3 s for what it has to ask the control plane.
const ANSWER: Duration = Duration::from_secs(6);
/// A proxy with thousands of destinations has much to tell.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Asks proxies.
#[derive(Clone)]
pub(super) struct Proxies {
    tls: TlsConnector,
}

/// A proxy to ask.
#[derive(Clone)]
pub(super) struct Proxy(SightClient<Channel>);

impl Proxies {
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls: tls.into() }
    }

    /// A connection to the proxy of a pod, which has to prove the pod's identity. The error is for people.
    pub(super) async fn connect(&self, config: &MeshConfig, pod: &Pod) -> Result<Proxy, String> {
        let ip = pod.addresses().first().copied().ok_or("it has no address yet")?;
        let address = SocketAddr::new(ip, names::SIGHT_PORT);
        let name = config.pod_identity(pod);
        let expected = ServerName::try_from(name.clone()).map_err(|_| format!("{name} is no name for TLS"))?;
        let tls = self.tls.clone();
        let connect = move |_| {
            let (tls, expected) = (tls.clone(), expected.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                io::Result::Ok(TokioIo::new(tls.connect(expected, tcp).await?))
            }
        };
        let endpoint = Endpoint::from_static("http://sight");
        let channel = timeout(CONNECT, endpoint.connect_with_connector(tower::service_fn(connect)))
            .await
            .map_err(|_| format!("{address} does not answer"))?
            .map_err(|error| format!("{address}: {}", innermost(&error)))?;
        Ok(Proxy(
            SightClient::new(channel).max_decoding_message_size(LARGEST_ANSWER),
        ))
    }
}

impl Proxy {
    pub(super) async fn state(&mut self) -> Result<v1::ProxyState, String> {
        answer(self.0.state(v1::StateRequest {})).await
    }

    pub(super) async fn explain_outbound(
        &mut self,
        asked: v1::ExplainOutboundRequest,
    ) -> Result<v1::Explanation, String> {
        answer(self.0.explain_outbound(asked)).await
    }

    pub(super) async fn explain_inbound(
        &mut self,
        asked: v1::ExplainInboundRequest,
    ) -> Result<v1::Explanation, String> {
        answer(self.0.explain_inbound(asked)).await
    }

    pub(super) async fn connections(
        &mut self,
        asked: v1::ConnectionsRequest,
    ) -> Result<v1::ConnectionsResponse, String> {
        answer(self.0.connections(asked)).await
    }

    /// Only the beginning of the answer is waited for.
    pub(super) async fn frames(&mut self, asked: v1::FramesRequest) -> Result<Streaming<v1::FrameEvent>, String> {
        answer(self.0.frames(asked)).await
    }

    /// Only the beginning of the answer is waited for.
    pub(super) async fn tap(&mut self, asked: v1::TapRequest) -> Result<Streaming<v1::TapEvent>, String> {
        answer(self.0.tap(asked)).await
    }

    /// Descriptors of the application beside it.
    pub(super) async fn reflect(&mut self, asked: v1::ReflectRequest) -> Result<v1::ReflectResponse, String> {
        answer(self.0.reflect(asked)).await
    }

    pub(super) async fn exchanges(&mut self, asked: v1::ExchangesRequest) -> Result<v1::ExchangesResponse, String> {
        answer(self.0.exchanges(asked)).await
    }

    /// Secrets of the TLS sessions that begin from now on. Ends with the stream.
    pub(super) async fn secrets(&mut self) -> Result<Streaming<v1::TlsSecret>, String> {
        answer(self.0.secrets(v1::SecretsRequest {})).await
    }

    pub(super) async fn log_level(&mut self, change: v1::LogLevelRequest) -> Result<v1::LogLevelResponse, String> {
        answer(self.0.log_level(change)).await
    }

    pub(super) async fn renew_connections(&mut self) -> Result<v1::RenewConnectionsResponse, String> {
        answer(self.0.renew_connections(v1::RenewConnectionsRequest {})).await
    }

    pub(super) async fn traffic(
        &mut self,
        within: Duration,
        redaction: v1::Redaction,
    ) -> Result<v1::TrafficResponse, String> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let redaction = Some(redaction);
        answer(self.0.traffic(v1::TrafficRequest { within_ms, redaction })).await
    }
}

async fn answer<T>(asked: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, String> {
    match timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            Err("its proxy does not show what it holds: it is another proxy, or an older one".to_owned())
        }
        Ok(Err(status)) if status.message().is_empty() => Err(status.code().description().to_owned()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("no answer within {ANSWER:?}")),
    }
}

/// tonic says "transport error"; the reason lies below.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

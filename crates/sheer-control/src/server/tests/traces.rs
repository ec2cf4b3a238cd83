//! Spans from proxies to whoever asks: who may push, who may ask, and what comes of it.

use rcgen::KeyPair;
use sheer_api::{
    linkerd::identity::{CertifyRequest, identity_client::IdentityClient},
    v1::{
        ListTracesRequest, PropagationCount, PropagationRequest, PushReply, ShowTraceRequest, Span, SpanBatch,
        SpanKept, SpanKind, SpanSource, trace_intake_client::TraceIntakeClient, traces_client::TracesClient,
    },
};
use tonic::Status;

use super::{
    identity::{LEDGER, csr, roots, secure, token},
    *,
};

fn source(pod: &str) -> SpanBatch {
    SpanBatch {
        source: Some(SpanSource {
            workload: format!(r#"{{"ns":"bank","pod":"{pod}"}}"#),
            attributes: Vec::new(),
        }),
        ..SpanBatch::default()
    }
}

fn span(id: u8) -> Span {
    Span {
        trace_id: vec![0xab; 16],
        span_id: vec![id; 8],
        kind: SpanKind::Server.into(),
        kept: SpanKept::Sampled.into(),
        name: "GET".to_owned(),
        start_unix_ns: 1_000_000_000,
        end_unix_ns: 1_020_000_000,
        ..Span::default()
    }
}

/// Pushes batches to the end; what was answered.
async fn push(channel: Channel, batches: Vec<SpanBatch>) -> Result<Vec<PushReply>, Status> {
    let pushed = TraceIntakeClient::new(channel)
        .push(tokio_stream::iter(batches))
        .await?;
    let mut replies = pushed.into_inner();
    let mut all = Vec::new();
    while let Some(reply) = replies.message().await? {
        all.push(reply);
    }
    Ok(all)
}

async fn socket(mesh: &Mesh) -> TracesClient<Channel> {
    let socket = format!("unix://{}", mesh.folder.path().join("control.sock").display());
    let endpoint = tonic::transport::Endpoint::new(socket).unwrap();
    TracesClient::new(endpoint.connect().await.unwrap())
}

#[tokio::test]
async fn what_a_proxy_pushes_is_told_over_the_socket_only() {
    let mesh = Mesh::start().await;
    let spans = SpanBatch {
        spans: vec![span(1), span(2)],
        dropped: 3,
        propagation: vec![PropagationCount {
            target: "fx.bank:9000".to_owned(),
            with_context: 0,
            without_context: 30,
        }],
        ..SpanBatch::default()
    };
    let replies = push(mesh.channel(2), vec![source("ledger-0"), spans]).await.unwrap();
    let taken: Vec<u64> = replies.iter().map(|reply| reply.spans).collect();
    assert_eq!(taken, [0, 2], "at once, and after each batch");

    let mut traces = socket(&mesh).await;
    let list = traces.list(ListTracesRequest::default()).await.unwrap().into_inner();
    let store = list.store.unwrap();
    assert_eq!((list.traces.len(), store.spans, store.dropped_by_proxies), (1, 2, 3));
    let show = |id: &str| ShowTraceRequest {
        trace_id: id.to_owned(),
    };
    let trace = traces.show(show("ABAB")).await.unwrap().into_inner();
    assert_eq!((trace.spans.len(), trace.spans[0].pod.as_str()), (2, "ledger-0"));
    for (id, code) in [
        ("", Code::InvalidArgument),
        ("xyz", Code::InvalidArgument),
        ("cd", Code::NotFound),
    ] {
        assert_eq!(traces.show(show(id)).await.unwrap_err().code(), code, "{id:?}");
    }
    let workloads = traces
        .propagation(PropagationRequest::default())
        .await
        .unwrap()
        .into_inner()
        .workloads;
    assert!(
        workloads[0].breaks && workloads[0].finding.contains("fx.bank:9000"),
        "{workloads:?}"
    );

    // Not on a port.
    let refused = TracesClient::new(mesh.channel(2))
        .list(ListTracesRequest::default())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    mesh.stop().await;
}

#[tokio::test]
async fn a_stream_without_a_source_is_refused() {
    let mesh = Mesh::start().await;
    for wrong in [
        vec![],
        vec![SpanBatch::default()],
        vec![SpanBatch {
            source: Some(SpanSource {
                workload: "nobody".to_owned(),
                ..SpanSource::default()
            }),
            ..SpanBatch::default()
        }],
    ] {
        assert_eq!(
            push(mesh.channel(2), wrong).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    mesh.stop().await;
}

#[tokio::test]
async fn a_proxy_speaks_for_its_own_pod_alone() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["manifests", "status/pods"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    std::fs::write(
        folder.path().join("status/pods/ledger-0.json"),
        pod("ledger-0", "10.77.0.5", true),
    )
    .unwrap();
    let web = pod("web-0", "10.77.0.6", true).replace("\"ledger\"", "\"web\"");
    std::fs::write(folder.path().join("status/pods/web-0.json"), web).unwrap();
    let mesh = Mesh::start_in(folder, FREE, Ipv4Addr::UNSPECIFIED.into()).await;
    let here = |which: usize| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), mesh.addresses[which].port());
    let key = KeyPair::generate().unwrap();
    let request = CertifyRequest {
        identity: LEDGER.to_owned(),
        token: token(&mesh, "ledger", Duration::from_secs(60)),
        certificate_signing_request: csr(&key, |_| {}),
    };
    let certified = IdentityClient::new(secure(roots(&mesh), here(0), None))
        .certify(request)
        .await;
    let certified = certified.unwrap().into_inner();
    let own = || secure(roots(&mesh), here(2), Some((&certified, &key)));
    assert_eq!(push(own(), vec![source("ledger-0")]).await.unwrap().len(), 1);
    let refused = push(own(), vec![source("web-0")]).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused.message().contains("does not speak for pod bank/web-0"),
        "{refused}"
    );
    let nobody = push(secure(roots(&mesh), here(2), None), vec![source("ledger-0")]).await;
    assert_eq!(nobody.unwrap_err().code(), Code::Unauthenticated);
    mesh.stop().await;
}

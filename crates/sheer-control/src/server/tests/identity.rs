//! Certificates: who gets one, who does not, and that the control plane's own ports speak TLS with one.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject};
use sheer_api::linkerd::identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient};
use tonic::{Status, codegen::Service, transport::Endpoint, transport::Uri};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;
use crate::identity::token::Workload;

pub(super) const LEDGER: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
const SPIFFE: &str = "spiffe://cluster.local/ns/bank/sa/ledger";
const CONTROL: &str = "sheer-control.sheer.serviceaccount.identity.sheer.cluster.local";

pub(super) fn token(mesh: &Mesh, service_account: &str, lifetime: Duration) -> Vec<u8> {
    let signer = Signer::load_or_create(&mesh.folder.path().join("identity")).unwrap();
    let workload = Workload {
        namespace: "bank".to_owned(),
        service_account: service_account.to_owned(),
        pod: format!("{service_account}-0"),
    };
    signer.sign(&workload, lifetime).into_bytes()
}

/// A request as proxies make it, then changed.
pub(super) fn csr(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(vec![LEDGER.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, LEDGER);
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

async fn certify(mesh: &Mesh, token: Vec<u8>, identity: &str, csr: Vec<u8>) -> Result<CertifyResponse, Status> {
    let request = CertifyRequest {
        identity: identity.to_owned(),
        token,
        certificate_signing_request: csr,
    };
    IdentityClient::new(mesh.channel(0))
        .certify(request)
        .await
        .map(tonic::Response::into_inner)
}

pub(super) fn roots(mesh: &Mesh) -> RootCertStore {
    let pem = std::fs::read(mesh.folder.path().join("identity/anchors.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    for anchor in CertificateDer::pem_slice_iter(&pem) {
        roots.add(anchor.unwrap()).unwrap();
    }
    roots
}

#[tokio::test]
async fn a_workload_gets_a_certificate_with_both_names() {
    let mesh = Mesh::start().await;
    let key = KeyPair::generate().unwrap();
    let hour = Duration::from_secs(3600);
    let response = certify(&mesh, token(&mesh, "ledger", hour), LEDGER, csr(&key, |_| {}))
        .await
        .unwrap();
    let [issuer] = &response.intermediate_certificates[..] else {
        panic!("{response:?}")
    };

    let (_, leaf) = X509Certificate::from_der(&response.leaf_certificate).unwrap();
    let names = leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .clone();
    assert_eq!(
        names,
        [GeneralName::DNSName(LEDGER), GeneralName::URI(SPIFFE)],
        "the DNS name first"
    );
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    let end = response.valid_until.unwrap().seconds;
    assert_eq!(leaf.validity().not_after.timestamp(), end);
    let life = end - leaf.validity().not_before.timestamp();
    assert_eq!(life, 24 * 3600 + 20, "a day, and 20 s for clocks that differ");
    assert_eq!(
        leaf.public_key().raw,
        rcgen::PublicKeyData::subject_public_key_info(&key)
    );

    // It verifies as a peer will verify it.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&mesh)), provider)
        .build()
        .unwrap();
    let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(end as u64 - 100));
    let (leaf, issuer) = (
        CertificateDer::from(&*response.leaf_certificate),
        CertificateDer::from(&**issuer),
    );
    let name = ServerName::try_from(LEDGER).unwrap();
    rustls::client::danger::ServerCertVerifier::verify_server_cert(&*verifier, &leaf, &[issuer], &name, &[], now)
        .unwrap();

    // SPIFFE may be asked for as well, and the next certificate has another serial number.
    let spiffe = csr(&key, |params| {
        params.subject_alt_names.push(SanType::URI(SPIFFE.try_into().unwrap()))
    });
    let again = certify(&mesh, token(&mesh, "ledger", hour), LEDGER, spiffe)
        .await
        .unwrap();
    let (_, again) = X509Certificate::from_der(&again.leaf_certificate).unwrap();
    let (_, first) = X509Certificate::from_der(&response.leaf_certificate).unwrap();
    assert_ne!(again.raw_serial(), first.raw_serial());
    mesh.stop().await;
}

#[tokio::test]
async fn nobody_gets_a_certificate_of_another() {
    let mesh = Mesh::start().await;
    let key = KeyPair::generate().unwrap();
    let hour = Duration::from_secs(3600);
    let refusal = async |token: Vec<u8>, identity: &str, csr: Vec<u8>| {
        let secret = String::from_utf8_lossy(&token).into_owned();
        let status = certify(&mesh, token, identity, csr).await.unwrap_err();
        for part in secret.split('.').filter(|part| part.len() > 8) {
            assert!(
                !status.message().contains(part),
                "no part of a token may be repeated: {status:?}"
            );
        }
        format!("{:?}: {}", status.code(), status.message())
    };
    let good = || token(&mesh, "ledger", hour);
    let asked = |change: &dyn Fn(&mut CertificateParams)| csr(&key, |params| change(params));

    insta::assert_snapshot!(refusal(token(&mesh, "web", hour), LEDGER, asked(&|_| {})).await, @r#"PermissionDenied: the token is for web.bank.serviceaccount.identity.sheer.cluster.local, not for "ledger.bank.serviceaccount.identity.sheer.cluster.local""#);
    insta::assert_snapshot!(refusal(token(&mesh, "web", hour), &LEDGER.replace("ledger", "web"), asked(&|_| {})).await, @r#"PermissionDenied: the certificate signing request asks for the DNS name "ledger.bank.serviceaccount.identity.sheer.cluster.local", but the token is for web.bank.serviceaccount.identity.sheer.cluster.local"#);
    insta::assert_snapshot!(refusal(good(), "", asked(&|_| {})).await, @r#"PermissionDenied: the token is for ledger.bank.serviceaccount.identity.sheer.cluster.local, not for """#);
    insta::assert_snapshot!(refusal(b"".to_vec(), LEDGER, asked(&|_| {})).await, @"InvalidArgument: the workload token is malformed (not three parts): it must be the content of the token file, without changes");
    insta::assert_snapshot!(refusal(b"garbage".to_vec(), LEDGER, asked(&|_| {})).await, @"InvalidArgument: the workload token is malformed (not three parts): it must be the content of the token file, without changes");
    let mut changed = good();
    let at = changed.len() - 10;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    assert!(
        refusal(changed, LEDGER, asked(&|_| {}))
            .await
            .starts_with("Unauthenticated"),
        "signature"
    );
    let other = Mesh::start().await;
    insta::assert_snapshot!(refusal(token(&other, "ledger", hour), LEDGER, asked(&|_| {})).await, @"Unauthenticated: the workload token was not signed by this mesh: the workload was started by another mesh, or before its identity folder was replaced; restart it");
    other.stop().await;

    let extra = |name: SanType| asked(&move |params| params.subject_alt_names.push(name.clone()));
    insta::assert_snapshot!(refusal(good(), LEDGER, extra(SanType::DnsName("web.example".try_into().unwrap()))).await, @r#"PermissionDenied: the certificate signing request asks for the DNS name "web.example", but the token is for ledger.bank.serviceaccount.identity.sheer.cluster.local"#);
    insta::assert_snapshot!(refusal(good(), LEDGER, extra(SanType::URI("spiffe://cluster.local/ns/bank/sa/web".try_into().unwrap()))).await, @r#"PermissionDenied: the certificate signing request asks for the URI "spiffe://cluster.local/ns/bank/sa/web", but the token is for ledger.bank.serviceaccount.identity.sheer.cluster.local"#);
    insta::assert_snapshot!(refusal(good(), LEDGER, extra(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()))).await, @"PermissionDenied: the certificate signing request asks for the address 127.0.0.1, but the token is for ledger.bank.serviceaccount.identity.sheer.cluster.local");
    insta::assert_snapshot!(refusal(good(), LEDGER, asked(&|params| params.subject_alt_names.clear())).await, @"PermissionDenied: the certificate signing request asks for no DNS name, but the token is for ledger.bank.serviceaccount.identity.sheer.cluster.local");
    insta::assert_snapshot!(refusal(good(), LEDGER, asked(&|params| params.distinguished_name.push(DnType::CommonName, "web"))).await, @r#"PermissionDenied: the certificate signing request asks for the common name "web", but the token is for ledger.bank.serviceaccount.identity.sheer.cluster.local"#);
    insta::assert_snapshot!(refusal(good(), LEDGER, asked(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))).await, @"PermissionDenied: the certificate signing request asks for a certificate authority");

    let mut unsigned = asked(&|_| {});
    *unsigned.last_mut().unwrap() ^= 1;
    let refused = refusal(good(), LEDGER, unsigned).await;
    assert!(refused.starts_with("InvalidArgument"), "{refused}");
    for garbage in [
        Vec::new(),
        b"garbage".to_vec(),
        b"-----BEGIN CERTIFICATE REQUEST-----".to_vec(),
        vec![0x30; 20_000],
    ] {
        assert!(refusal(good(), LEDGER, garbage).await.starts_with("InvalidArgument"));
    }
    mesh.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_told_so() {
    let mesh = Mesh::start().await;
    let signer = Signer::load_or_create(&mesh.folder.path().join("identity")).unwrap();
    let workload = Workload {
        namespace: "bank".to_owned(),
        service_account: "ledger".to_owned(),
        pod: "ledger-0".to_owned(),
    };
    let past = rustls_pki_types::UnixTime::now().as_secs() - 1000;
    let token = signer.sign_at(
        &workload,
        std::time::UNIX_EPOCH + Duration::from_secs(past),
        Duration::from_secs(100),
    );
    let status = certify(
        &mesh,
        token.into_bytes(),
        LEDGER,
        csr(&KeyPair::generate().unwrap(), |_| {}),
    )
    .await
    .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(
        status.message().starts_with("the workload token expired 90"),
        "{status:?}"
    );
    assert!(
        status
            .message()
            .contains(&format!("at {} seconds since 1970", past + 100)),
        "{status:?}"
    );
    mesh.stop().await;
}

/// Connects as a proxy does: TLS 1.3, the control plane's name checked.
#[derive(Clone)]
struct Connector(Arc<ClientConfig>, SocketAddr);

impl Service<Uri> for Connector {
    type Response = TokioIo<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self(config, address) = self.clone();
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = ServerName::try_from(CONTROL).unwrap();
            tokio_rustls::TlsConnector::from(config)
                .connect(name, stream)
                .await
                .map(TokioIo::new)
        })
    }
}

pub(super) fn secure(
    roots: RootCertStore,
    address: SocketAddr,
    client: Option<(&CertifyResponse, &KeyPair)>,
) -> Channel {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some((certified, key)) => {
            let chain = [&certified.leaf_certificate, &certified.intermediate_certificates[0]]
                .map(|der| CertificateDer::from(der.clone()));
            builder
                .with_client_auth_cert(chain.to_vec(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Endpoint::from_static("http://control").connect_with_connector_lazy(Connector(Arc::new(config), address))
}

#[tokio::test]
async fn off_loopback_every_port_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("manifests")).unwrap();
    std::fs::create_dir_all(folder.path().join("status/pods")).unwrap();
    std::fs::write(folder.path().join("manifests/ledger.yaml"), SERVICE).unwrap();
    let mesh = Mesh::start_in(folder, FREE, Ipv4Addr::UNSPECIFIED.into()).await;
    let here = |which: usize| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), mesh.addresses[which].port());

    // First without a certificate of one's own, to get one.
    let key = KeyPair::generate().unwrap();
    let request = CertifyRequest {
        identity: LEDGER.to_owned(),
        token: token(&mesh, "ledger", Duration::from_secs(60)),
        certificate_signing_request: csr(&key, |_| {}),
    };
    let channel = secure(roots(&mesh), here(0), None);
    let certified = IdentityClient::new(channel)
        .certify(request)
        .await
        .unwrap()
        .into_inner();

    // Then with it.
    let channel = secure(roots(&mesh), here(1), Some((&certified, &key)));
    let request = GetDestination {
        path: "ledger.bank.svc.cluster.local:80".to_owned(),
        ..GetDestination::default()
    };
    let mut stream = DestinationClient::new(channel)
        .get(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next(&mut stream).await, "no endpoints, exists: true");

    // A certificate that the mesh did not issue is refused, plaintext is not answered, another mesh is not believed.
    let stray = Mesh::start().await;
    let stray_certified = certify(
        &stray,
        token(&stray, "ledger", Duration::from_secs(60)),
        LEDGER,
        csr(&key, |_| {}),
    )
    .await
    .unwrap();
    let channel = secure(roots(&mesh), here(1), Some((&stray_certified, &key)));
    assert!(DestinationClient::new(channel).get(request.clone()).await.is_err());
    let channel = secure(roots(&stray), here(1), None);
    assert!(DestinationClient::new(channel).get(request.clone()).await.is_err());
    let plain = Channel::from_shared(format!("http://{}", here(1)))
        .unwrap()
        .connect_lazy();
    assert!(DestinationClient::new(plain).get(request).await.is_err());
    assert_eq!(mesh.report().await.objects["Service"], 1, "and the rest is served on");
    stray.stop().await;
    mesh.stop().await;
}

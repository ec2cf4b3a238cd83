//! The identity service (`io.linkerd.proxy.identity`): a token and a signing request in, a certificate out.

use std::sync::Arc;

use sheer_api::{
    linkerd::identity::{
        CertifyRequest, CertifyResponse,
        identity_server::{Identity, IdentityServer},
    },
    names,
};
use tonic::{Request, Response, Status};

use super::{
    Authority,
    request::{self, RequestError},
    token::{TokenError, Verifier, Workload},
};
use crate::config::MeshConfig;

/// The identity service.
pub(crate) struct IdentityService {
    authority: Arc<Authority>,
    verifier: Verifier,
    config: Arc<MeshConfig>,
}

impl IdentityService {
    /// The service, as tonic serves it.
    pub(crate) fn server(
        authority: Arc<Authority>,
        verifier: Verifier,
        config: Arc<MeshConfig>,
    ) -> IdentityServer<Self> {
        IdentityServer::new(Self {
            authority,
            verifier,
            config,
        })
    }

    fn certify_now(&self, request: &CertifyRequest) -> Result<CertifyResponse, Status> {
        let workload = self.verifier.verify(&request.token).map_err(token_status)?;
        let Workload {
            namespace,
            service_account,
            pod,
        } = &workload;
        let dns = self.config.identity(namespace, service_account);
        if request.identity != dns {
            return Err(Status::permission_denied(format!(
                "the token is for {dns}, not for {:?}",
                request.identity
            )));
        }
        let spiffe = names::spiffe_identity(service_account, namespace, &self.config.trust_domain);
        let key = request::check(&request.certificate_signing_request, &dns, &spiffe).map_err(request_status)?;
        let issued = self.authority.issue(&dns, &spiffe, &key).map_err(|error| {
            tracing::error!(%error, %dns, "a certificate could not be issued");
            Status::internal("the certificate could not be issued: see the log of the control plane")
        })?;
        tracing::info!(%dns, pod = %format_args!("{namespace}/{pod}"), "certified");
        Ok(CertifyResponse {
            leaf_certificate: issued.leaf.to_vec(),
            intermediate_certificates: vec![issued.issuer.to_vec()],
            valid_until: Some(issued.not_after.into()),
        })
    }
}

fn token_status(error: TokenError) -> Status {
    match error {
        TokenError::Malformed(_) => Status::invalid_argument(error.to_string()),
        TokenError::Audience { .. } => Status::permission_denied(error.to_string()),
        TokenError::Signature | TokenError::Expired { .. } | TokenError::NotYet { .. } => {
            Status::unauthenticated(error.to_string())
        }
    }
}

fn request_status(error: RequestError) -> Status {
    match error {
        RequestError::Malformed(_) | RequestError::Signature => Status::invalid_argument(error.to_string()),
        RequestError::Name { .. } | RequestError::Authority => Status::permission_denied(error.to_string()),
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let request = request.into_inner();
        // Some 100 µs of signing: not worth a thread of its own.
        self.certify_now(&request).map(Response::new).inspect_err(|status| {
            tracing::warn!(identity = %request.identity, code = ?status.code(), "not certified: {}", status.message());
        })
    }
}

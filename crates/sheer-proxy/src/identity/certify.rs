//! Has the certificate issued and renewed, for ever.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sheer_api::linkerd::identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Status};

use super::{
    Credentials, CredentialsError, Material, Publisher,
    files::{self, FileError, KeyAndRequest},
};
use crate::{
    control::{Channel, Waits},
    metrics::{LabelSet, Shard, family},
    settings,
};

/// The certificate is renewed after this share of its remaining life.
const RENEW_AT: f64 = 0.7;
/// Renewals come earlier by up to this share, so that proxies that started together do not renew together.
const EARLIER: f64 = 0.1;
/// An answer that takes longer is asked for again.
const CERTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the time of day is looked at while a renewal is waited for.
const LOOK: Duration = Duration::from_secs(60);

/// Why there is no new certificate. Words for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertifyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the identity service gave no answer within {CERTIFY_TIMEOUT:?}")]
    Timeout,
    #[error("the identity service refuses the token in {token_file}: {message}; is it expired, or another workload's?")]
    Refused { token_file: String, message: String },
    #[error("the identity service cannot issue: {0}")]
    Service(String),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// Trust anchors from PEM. The settings have checked it.
pub(crate) fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
    roots
}

/// What the renewal holds.
pub(crate) struct Certifier {
    settings: settings::Identity,
    channel: Channel,
    roots: Arc<RootCertStore>,
    shard: Shard,
    publish: Publisher,
}

impl Certifier {
    pub(crate) fn new(
        settings: settings::Identity,
        channel: Channel,
        roots: Arc<RootCertStore>,
        publish: Publisher,
    ) -> Self {
        let shard = channel.shard().clone();
        Self {
            settings,
            channel,
            roots,
            shard,
            publish,
        }
    }

    /// Renews until dropped. Failures are said once each, and tried again with backoff.
    pub(crate) async fn run(self) {
        let mut waits = Waits::control();
        loop {
            match self.renew().await {
                Ok(wait) => {
                    self.count("ok");
                    waits.reset();
                    pass(wait, now).await;
                }
                Err(error) => {
                    self.count("error");
                    if self.publish.fail(error.to_string()) {
                        tracing::error!(identity = %self.settings.name, "no new certificate: {error}");
                    }
                    sleep(waits.next()).await;
                }
            }
        }
    }

    /// One certificate, and how long to wait for the next.
    async fn renew(&self) -> Result<Duration, CertifyError> {
        let KeyAndRequest { key, request } = files::key_and_request(&self.settings.dir, &self.settings.name)?;
        let CertifyResponse {
            leaf_certificate,
            intermediate_certificates,
            ..
        } = self.certify(request).await?;
        let chain = std::iter::once(leaf_certificate)
            .chain(intermediate_certificates)
            .map(CertificateDer::from);
        let credentials = Credentials::new(Material {
            name: Arc::clone(&self.settings.name),
            server_name: self.settings.server_name.clone(),
            key,
            chain: chain.collect(),
            roots: Arc::clone(&self.roots),
        })?;
        let now = now();
        let remaining = credentials.not_after().duration_since(now).unwrap_or_default();
        let wait = renewal_wait(
            remaining,
            self.settings.min_refresh,
            self.settings.max_refresh,
            rand::random(),
        );
        tracing::info!(
            identity = %self.settings.name,
            valid_for_s = remaining.as_secs(),
            renewed_in_s = wait.as_secs(),
            "certificate issued"
        );
        self.gauge(
            &family::CONTROL_IDENTITY_CERT_EXPIRATION_TIMESTAMP_SECONDS,
            credentials.not_after(),
        );
        self.gauge(&family::CONTROL_IDENTITY_CERT_REFRESH_TIMESTAMP_SECONDS, now);
        self.publish.publish(credentials);
        Ok(wait)
    }

    async fn certify(&self, certificate_signing_request: Vec<u8>) -> Result<CertifyResponse, CertifyError> {
        self.channel.ready().await;
        // Read only now: a token that was rotated while there was no connection is the right one.
        let token = files::token(&self.settings.token_file)?;
        let identity = self.settings.name.to_string();
        let request = CertifyRequest {
            identity,
            token,
            certificate_signing_request,
        };
        let mut client = IdentityClient::with_origin(self.channel.clone(), self.channel.origin());
        let response = tokio::time::timeout(CERTIFY_TIMEOUT, client.certify(request)).await;
        let response = response
            .map_err(|_| CertifyError::Timeout)?
            .map_err(|status| self.explain(&status))?;
        Ok(response.into_inner())
    }

    fn explain(&self, status: &Status) -> CertifyError {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument => {
                CertifyError::Refused {
                    token_file: self.settings.token_file.display().to_string(),
                    message,
                }
            }
            code => CertifyError::Service(format!("{message} ({code:?})")),
        }
    }

    fn count(&self, result: &str) {
        let labels = LabelSet::builder().label("result", result).build();
        self.shard
            .counter(&family::CONTROL_IDENTITY_CERT_REFRESHES_TOTAL, &labels)
            .inc();
    }

    fn gauge(&self, family: &'static family::Family, time: SystemTime) {
        let seconds = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        self.shard
            .gauge(family, &LabelSet::default())
            .set(seconds.try_into().unwrap_or(i64::MAX));
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are of wall-clock time")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Waits, by whichever clock is ahead. Certificates go by the time of day, and the timers of a machine that was suspended stood still
/// meanwhile.
async fn pass(wait: Duration, clock: impl Fn() -> SystemTime) {
    let (due, until) = (clock() + wait, Instant::now() + wait);
    while clock() < due && Instant::now() < until {
        sleep_until(until.min(Instant::now() + LOOK)).await;
    }
}

/// `chance` is from 0 to 1.
fn renewal_wait(remaining: Duration, min: Duration, max: Duration, chance: f64) -> Duration {
    let wait = remaining.mul_f64(RENEW_AT * (1.0 - EARLIER * chance));
    wait.clamp(min.min(max), max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_renews_a_minute_after_it_wakes() {
        let start = Instant::now();
        let slept = std::cell::Cell::new(Duration::ZERO);
        let clock = || SystemTime::UNIX_EPOCH + start.elapsed() + slept.get();
        pass(S(3_600), clock).await;
        assert_eq!(start.elapsed(), S(3_600), "it was awake");
        let start = Instant::now();
        let wake = async {
            sleep(S(90)).await;
            slept.set(S(86_400));
            std::future::pending().await
        };
        tokio::select! {
            () = pass(S(3_600), clock) => {}
            () = wake => {}
        }
        assert_eq!(start.elapsed(), S(120));
    }

    #[test]
    fn certificates_are_renewed_at_seven_tenths_at_the_latest() {
        assert_eq!(renewal_wait(S(86_400), S(10), S(86_400), 0.0), S(60_480));
        assert_eq!(renewal_wait(S(86_400), S(10), S(86_400), 1.0), S(54_432));
        assert_eq!(renewal_wait(S(86_400), S(10), S(3_600), 0.5), S(3_600));
        assert_eq!(renewal_wait(Duration::ZERO, S(10), S(3_600), 0.5), S(10));
    }
}

//! Workload tokens: short-lived proof that a process is a certain pod of a certain service account.
//!
//! A token is a JSON Web Token (RFC 7519) signed with Ed25519, with the claims of a Kubernetes service account token. Whoever starts
//! workloads signs with `token.key`; the identity service checks with `token.pub`, from which nothing can be forged.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sheer_api::names::TOKEN_AUDIENCE;

use super::files::{FileError, create, make_folder, now, pem, read, read_private, seconds};

/// How long a token may be ahead of the checker's clock (`iat`), and behind it (`exp`).
const CLOCK_SKEW: Duration = Duration::from_secs(20);
/// Longest token that is looked at: ours have some 500 bytes, Kubernetes' some 1,200.
const LONGEST: usize = 8 * 1024;
/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// RFC 8037.
const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT"}"#;

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Namespace of the pod and of its service account.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Pod.
    pub pod: String,
}

/// Why a token is not accepted. Never holds the token or a part of its signature.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not a token of ours at all.
    #[error("the workload token is malformed ({0}): it must be the content of the token file, without changes")]
    Malformed(&'static str),
    /// The signature is not by our key.
    #[error(
        "the workload token was not signed by this mesh: the workload was started by another mesh, or before its identity folder was replaced; restart it"
    )]
    Signature,
    /// Meant for somebody else.
    #[error("the workload token is for audience {found:?}, not for {TOKEN_AUDIENCE:?}")]
    Audience {
        /// The audiences that it is for.
        found: Vec<String>,
    },
    /// Too old.
    #[error(
        "the workload token expired {ago:?} ago (at {at} seconds since 1970): the token file is not being renewed, or the clock is wrong"
    )]
    Expired {
        /// When, seconds since the Unix epoch.
        at: u64,
        /// For how long it has been.
        ago: Duration,
    },
    /// From the future.
    #[error(
        "the workload token is valid only in {ahead:?}: the clocks of the control plane and of what started the workload differ"
    )]
    NotYet {
        /// How far ahead its issuer's clock is.
        ahead: Duration,
    },
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: Vec<String>,
    sub: String,
    iat: u64,
    exp: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaims,
}

#[derive(Serialize, Deserialize)]
struct KubernetesClaims {
    namespace: String,
    serviceaccount: Named,
    pod: Named,
}

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
}

/// Makes tokens. Held by whatever starts workloads.
pub struct Signer {
    key: Ed25519KeyPair,
}

impl Signer {
    /// Reads `token.key` of the identity folder; makes it, and `token.pub`, where absent.
    pub fn load_or_create(folder: &Path) -> Result<Self, FileError> {
        make_folder(folder)?;
        let path = folder.join("token.key");
        let bytes = match read_private(&path)? {
            Some(bytes) => bytes,
            None => {
                let pair =
                    Ed25519KeyPair::generate().map_err(|_| FileError::content(&path, "no random numbers for a key"))?;
                // Version 1: what the openssl command reads.
                let der = pair
                    .to_pkcs8v1()
                    .map_err(|_| FileError::content(&path, "the new key cannot be written"))?;
                create(&path, pem("PRIVATE KEY", der.as_ref()).as_bytes(), 0o600)?;
                // Perhaps another process was first: what stands is what counts.
                read_private(&path)?.ok_or_else(|| FileError::content(&path, "vanished while it was made"))?
            }
        };
        let unreadable =
            "not an Ed25519 private key in PEM: remove it to have a new one made (workloads then need a restart)";
        let der = PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|_| FileError::content(&path, unreadable))?;
        let key =
            Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| FileError::content(&path, unreadable))?;
        let public = folder.join("token.pub");
        let text = pem("PUBLIC KEY", &[SPKI_PREFIX, key.public_key().as_ref()].concat());
        if !create(&public, text.as_bytes(), 0o644)? && read(&public)?.as_deref() != Some(text.as_bytes()) {
            return Err(FileError::content(
                &public,
                "does not belong to token.key: remove it to have it written anew",
            ));
        }
        Ok(Self { key })
    }

    /// A token for a workload, valid from now on.
    pub fn sign(&self, workload: &Workload, lifetime: Duration) -> String {
        self.sign_at(workload, now(), lifetime)
    }

    pub(crate) fn sign_at(&self, workload: &Workload, at: SystemTime, lifetime: Duration) -> String {
        let iat = seconds(at);
        self.sign_claims(&Claims {
            iss: "sheer".to_owned(),
            aud: vec![TOKEN_AUDIENCE.to_owned()],
            sub: format!(
                "system:serviceaccount:{}:{}",
                workload.namespace, workload.service_account
            ),
            iat,
            exp: iat + lifetime.as_secs(),
            kubernetes: KubernetesClaims {
                namespace: workload.namespace.clone(),
                serviceaccount: Named {
                    name: workload.service_account.clone(),
                },
                pod: Named {
                    name: workload.pod.clone(),
                },
            },
        })
    }

    fn sign_claims(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).expect("claims are strings and numbers");
        let signed = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(HEADER),
            BASE64_URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// What checks this signer's tokens.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            key: self.key.public_key().as_ref().to_vec(),
        }
    }
}

/// Checks tokens. Held by the identity service.
#[derive(Clone, Debug)]
pub struct Verifier {
    key: Vec<u8>,
}

impl Verifier {
    /// Whom the token speaks for, if it is ours, meant for us, and valid now.
    pub fn verify(&self, token: &[u8]) -> Result<Workload, TokenError> {
        self.verify_at(token, now())
    }

    fn verify_at(&self, token: &[u8], at: SystemTime) -> Result<Workload, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Malformed("too long"));
        }
        let text = std::str::from_utf8(token)
            .map_err(|_| TokenError::Malformed("not text"))?
            .trim();
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed("not three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed("not three parts"))?;
        let decode = |part: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Malformed("not base64url"))
        };
        // The algorithm is ours to choose, never the token's: any other header is refused before anything is checked.
        if decode(header)? != HEADER.as_bytes() {
            return Err(TokenError::Signature);
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        key.verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims =
            serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed("claims missing"))?;
        claims.check(seconds(at))
    }
}

impl Claims {
    fn check(self, now: u64) -> Result<Workload, TokenError> {
        let skew = CLOCK_SKEW.as_secs();
        if !self.aud.iter().any(|audience| audience == TOKEN_AUDIENCE) {
            return Err(TokenError::Audience { found: self.aud });
        }
        if now > self.exp + skew {
            return Err(TokenError::Expired {
                at: self.exp,
                ago: Duration::from_secs(now - self.exp),
            });
        }
        if self.iat > now + skew {
            return Err(TokenError::NotYet {
                ahead: Duration::from_secs(self.iat - now),
            });
        }
        let KubernetesClaims {
            namespace,
            serviceaccount,
            pod,
        } = self.kubernetes;
        Ok(Workload {
            namespace,
            service_account: serviceaccount.name,
            pod: pod.name,
        })
    }
}

#[cfg(test)]
mod tests;

//! What the identity directory holds: the key, the certificate signing request; and the token file.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType, string::Ia5String};
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A token is a signed text of at most some kilobytes; anything larger is another file.
const LARGEST_TOKEN: u64 = 64 * 1024;

/// Why there is no key, request or token. Words for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// Cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not there, and cannot be made.
    #[error("{} is missing and cannot be made: {error}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There, but of no use.
    #[error("{} {problem}", path.display())]
    Bad {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Key and request of this workload, the same for its whole life.
#[derive(Clone, Debug)]
pub(crate) struct KeyAndRequest {
    pub(crate) key: Arc<dyn SigningKey>,
    /// DER.
    pub(crate) request: Vec<u8>,
}

/// Reads `key.p8` and `csr.der`, or makes them where they are missing. A key without a request gets a new request; a
/// request without a key is of no use and replaced.
pub(crate) fn key_and_request(dir: &Path, name: &str) -> Result<KeyAndRequest, FileError> {
    let (key_path, request_path) = (dir.join("key.p8"), dir.join("csr.der"));
    let (der, key_is_new) = match read(&key_path)? {
        Some(der) => (der, false),
        None => {
            let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
            let der = pair
                .map_err(|error| bad(&key_path, &format!("cannot be made: {error}")))?
                .serialize_der();
            write(&key_path, &der)?;
            (der, true)
        }
    };
    let der = PrivatePkcs8KeyDer::from(der);
    let request = match read(&request_path)?.filter(|_| !key_is_new) {
        Some(request) if request.is_empty() => return Err(bad(&request_path, "is empty")),
        Some(request) => request,
        None => {
            let request = make_request(&der, name).map_err(|error| bad(&key_path, &format!("is no key: {error}")))?;
            write(&request_path, &request)?;
            request
        }
    };
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(der))
        .map_err(|error| bad(&key_path, &format!("is no PKCS#8 key: {error}")))?;
    Ok(KeyAndRequest { key, request })
}

/// The workload's token, as it is now.
pub(crate) fn token(path: &Path) -> Result<Vec<u8>, FileError> {
    let size = fs::metadata(path)
        .map_err(|error| FileError::Read {
            path: path.into(),
            error,
        })?
        .len();
    if size > LARGEST_TOKEN {
        return Err(bad(path, &format!("is no token: it has {size} bytes")));
    }
    let token = fs::read(path).map_err(|error| FileError::Read {
        path: path.into(),
        error,
    })?;
    let token = token.trim_ascii();
    if token.is_empty() {
        Err(bad(path, "is empty"))
    } else {
        Ok(token.to_vec())
    }
}

/// As Linkerd's identity service wants it: the common name and one alternative name, both the identity.
fn make_request(key: &PrivatePkcs8KeyDer<'_>, name: &str) -> Result<Vec<u8>, rcgen::Error> {
    let key = KeyPair::try_from(key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let alternative = Ia5String::try_from(name)?;
    let is_uri = name.starts_with("spiffe://");
    params.subject_alt_names = vec![if is_uri {
        SanType::URI(alternative)
    } else {
        SanType::DnsName(alternative)
    }];
    Ok(params.serialize_request(&key)?.der().to_vec())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::Read {
            path: path.into(),
            error,
        }),
    }
}

/// Whole or not at all, and for the owner's eyes only.
fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let attempt = || {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let temporary = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(|error| FileError::Write {
        path: path.into(),
        error,
    })
}

fn bad(path: &Path, problem: &str) -> FileError {
    FileError::Bad {
        path: path.into(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

    use super::*;

    const NAME: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";

    #[test]
    fn key_and_request_are_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = key_and_request(dir.path(), NAME).expect("made");
        let second = key_and_request(dir.path(), NAME).expect("read");
        assert_eq!(first.request, second.request);
        let (_, request) = X509CertificationRequest::from_der(&first.request).expect("a request");
        assert!(request.verify_signature().is_ok());
        assert_eq!(
            request.certification_request_info.subject.to_string(),
            format!("CN={NAME}")
        );
        let mode = fs::metadata(dir.path().join("key.p8"))
            .expect("a key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// A request for another key would be signed and then be of no use.
    #[test]
    fn new_key_gets_a_new_request() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = key_and_request(dir.path(), NAME).expect("made");
        fs::remove_file(dir.path().join("key.p8")).expect("removed");
        assert_ne!(key_and_request(dir.path(), NAME).expect("made").request, first.request);
    }

    #[test]
    fn mistakes_name_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("key.p8"), b"no key").expect("written");
        let error = key_and_request(dir.path(), NAME).expect_err("no key").to_string();
        assert!(error.contains("key.p8 is no key"), "{error}");
        let token_path = dir.path().join("token");
        assert!(
            token(&token_path)
                .expect_err("missing")
                .to_string()
                .contains("cannot be read")
        );
        fs::write(&token_path, " \n").expect("written");
        assert!(
            token(&token_path)
                .expect_err("empty")
                .to_string()
                .ends_with("token is empty")
        );
        fs::write(&token_path, "abc\n").expect("written");
        assert_eq!(token(&token_path).expect("a token"), b"abc");
    }
}

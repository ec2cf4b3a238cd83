use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn payments() -> Workload {
    Workload {
        namespace: "bank".to_owned(),
        service_account: "payments".to_owned(),
        pod: "payments-0".to_owned(),
    }
}

fn signer() -> (tempfile::TempDir, Signer) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::load_or_create(folder.path()).unwrap();
    (folder, signer)
}

#[test]
fn a_token_speaks_for_its_workload() {
    let (folder, signer) = signer();
    let token = signer.sign(&payments(), Duration::from_secs(60));
    assert_eq!(signer.verifier().verify(token.as_bytes()), Ok(payments()));
    assert_eq!(
        signer.verifier().verify(format!("{token}\n").as_bytes()),
        Ok(payments())
    );
    // A second process reads the same key.
    let again = Signer::load_or_create(folder.path()).unwrap();
    assert_eq!(again.verifier().verify(token.as_bytes()), Ok(payments()));
}

#[test]
fn keys_are_private_and_open_ones_are_refused() {
    let (folder, _) = signer();
    let path = folder.path().join("token.key");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Signer::load_or_create(folder.path()).err().unwrap().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn expired_and_future_tokens_say_by_how_much() {
    let (_folder, signer) = signer();
    let start = now();
    let token = signer.sign_at(&payments(), start, Duration::from_secs(60));
    let verify = |after: u64| {
        signer
            .verifier()
            .verify_at(token.as_bytes(), start + Duration::from_secs(after))
    };
    assert_eq!(verify(80), Ok(payments()));
    assert_eq!(
        verify(81),
        Err(TokenError::Expired {
            at: seconds(start) + 60,
            ago: Duration::from_secs(21)
        })
    );
    let early = signer
        .verifier()
        .verify_at(token.as_bytes(), start - Duration::from_secs(21));
    assert_eq!(
        early,
        Err(TokenError::NotYet {
            ahead: Duration::from_secs(21)
        })
    );
}

#[test]
fn another_mesh_another_audience_and_changed_tokens_are_refused() {
    let ((_a, ours), (_b, theirs)) = (signer(), signer());
    let token = theirs.sign(&payments(), Duration::from_secs(60));
    assert_eq!(ours.verifier().verify(token.as_bytes()), Err(TokenError::Signature));

    let foreign = theirs.sign_claims(&Claims {
        iss: "sheer".to_owned(),
        aud: vec!["vault".to_owned()],
        sub: String::new(),
        iat: seconds(now()),
        exp: seconds(now()) + 60,
        kubernetes: KubernetesClaims {
            namespace: "bank".to_owned(),
            serviceaccount: Named {
                name: "payments".to_owned(),
            },
            pod: Named {
                name: "payments-0".to_owned(),
            },
        },
    });
    let found = vec!["vault".to_owned()];
    assert_eq!(
        theirs.verifier().verify(foreign.as_bytes()),
        Err(TokenError::Audience { found })
    );

    // Every single changed byte breaks it, and none panics.
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(theirs.verifier().verify(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn algorithm_none_is_refused() {
    let (_folder, signer) = signer();
    let token = signer.sign(&payments(), Duration::from_secs(60));
    let claims = token.split('.').nth(1).unwrap();
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    assert_eq!(
        signer.verifier().verify(format!("{header}.{claims}.").as_bytes()),
        Err(TokenError::Signature)
    );
    for garbage in [&b""[..], b".", b"..", b"\xff\xfe", b"a.b.c", &[b'a'; 9000]] {
        assert!(signer.verifier().verify(garbage).is_err());
    }
}

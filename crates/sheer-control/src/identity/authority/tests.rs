use std::os::unix::fs::MetadataExt;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn open(folder: &Path) -> Result<Authority, AuthorityError> {
    Authority::load_or_create(folder, "cluster.local", DAY)
}

fn refused(folder: &Path) -> String {
    let error = open(folder).err().expect("refused").to_string();
    error.replace(&*folder.to_string_lossy(), "")
}

/// Parameters of an authority that ends in so many hours, or ended.
fn ending(name: &str, hours: i64, constraint: BasicConstraints) -> CertificateParams {
    let mut params = authority(name, DAY, constraint).unwrap();
    let hour = Duration::from_secs(3600);
    let by = hour * u32::try_from(hours.abs()).unwrap();
    params.not_before = (files::now() - 1000 * DAY).into();
    params.not_after = if hours < 0 {
        files::now() - by
    } else {
        files::now() + by
    }
    .into();
    params
}

/// An operator's own anchor and issuer, as files.
fn foreign(anchor_hours: i64, issuer_hours: i64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let anchor_key = KeyPair::generate().unwrap();
    let anchor = ending("root.example", anchor_hours, BasicConstraints::Unconstrained);
    let anchor_pem = anchor.self_signed(&anchor_key).unwrap().pem();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let issuer = ending("issuer.example", issuer_hours, BasicConstraints::Constrained(0));
    let pem = issuer
        .signed_by(&key, &Issuer::from_params(&anchor, &anchor_key))
        .unwrap()
        .pem();
    files::replace(&folder.path().join("anchors.pem"), anchor_pem.as_bytes(), 0o644).unwrap();
    files::replace(&folder.path().join("issuer.pem"), pem.as_bytes(), 0o644).unwrap();
    files::replace(&folder.path().join("issuer.key"), key.serialize_pem().as_bytes(), 0o600).unwrap();
    folder
}

#[test]
fn first_start_makes_everything_and_the_next_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    for (name, mode) in [
        ("anchor.key", 0o600),
        ("issuer.key", 0o600),
        ("anchors.pem", 0o644),
        ("issuer.pem", 0o644),
    ] {
        let metadata = std::fs::metadata(folder.path().join(name)).unwrap();
        assert_eq!(metadata.mode() & 0o777, mode, "{name}");
    }
    let left = first.issuer_not_after().duration_since(files::now()).unwrap();
    assert!(left > 364 * DAY && left <= 365 * DAY, "{left:?}");
    let again = open(folder.path()).unwrap();
    assert_eq!(again.anchors_pem(), first.anchors_pem());
    assert_eq!(again.issuer_not_after(), first.issuer_not_after());
    assert!(!again.renew_issuer("cluster.local").unwrap(), "not due");
}

#[test]
fn our_own_issuer_is_replaced_whatever_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let anchors = open(folder.path()).unwrap().anchors_pem().to_owned();
    let stray = KeyPair::generate().unwrap().serialize_pem();
    for (name, content) in [
        ("issuer.key", stray.as_str()),
        ("issuer.pem", "garbage"),
        ("issuer.key", "garbage"),
    ] {
        files::replace(&folder.path().join(name), content.as_bytes(), 0o600).unwrap();
        assert_eq!(open(folder.path()).unwrap().anchors_pem(), anchors, "{name}");
    }
    std::fs::remove_file(folder.path().join("issuer.key")).unwrap();
    assert_eq!(open(folder.path()).unwrap().anchors_pem(), anchors);
    // An issuer that ends soon is replaced while the control plane runs.
    let opened = open(folder.path()).unwrap();
    let issuing = opened.issuing.load();
    let old = Issuing {
        certificate: issuing.certificate.clone(),
        issuer: Issuer::from_ca_cert_der(&issuing.certificate, KeyPair::generate().unwrap()).unwrap(),
        not_before: files::now() - 300 * DAY,
        not_after: files::now() + 65 * DAY,
    };
    opened.issuing.store(Arc::new(old));
    assert!(opened.renew_issuer("cluster.local").unwrap());
    assert!(opened.issuer_not_after() > files::now() + 300 * DAY);
}

#[test]
fn an_operators_issuer_is_used_and_never_changed() {
    let folder = foreign(2400, 240);
    let before = std::fs::read(folder.path().join("issuer.pem")).unwrap();
    let opened = open(folder.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let issued = opened
        .issue(
            "a.b.serviceaccount.identity.sheer.cluster.local",
            "spiffe://cluster.local/ns/b/sa/a",
            &key,
        )
        .unwrap();
    assert!(issued.not_after <= files::now() + DAY);
    assert!(!folder.path().join("anchor.key").exists());
    assert_eq!(std::fs::read(folder.path().join("issuer.pem")).unwrap(), before);
}

#[test]
fn an_operators_issuer_that_cannot_serve_is_refused_with_what_to_do() {
    let expired = foreign(2400, -240);
    insta::assert_snapshot!(refused(expired.path()), @"/issuer.pem: the certificate expired 10 days ago: put a new issuer there (issuer.pem, issuer.key), signed by one of anchors.pem");
    let expired_anchor = foreign(-3, 240);
    insta::assert_snapshot!(refused(expired_anchor.path()), @"/anchors.pem: the certificate expired 3 h ago: remove the folder to have a new anchor made (every workload then needs a restart), or put a valid one there");

    let (one, other) = (foreign(2400, 240), foreign(2400, 240));
    let copy = |name: &str| {
        let content = std::fs::read(other.path().join(name)).unwrap();
        files::replace(&one.path().join(name), &content, 0o600).unwrap();
    };
    copy("issuer.key");
    insta::assert_snapshot!(refused(one.path()), @"/issuer.pem: issuer.key is not the key of issuer.pem: put the pair there that belongs together");
    copy("issuer.pem");
    insta::assert_snapshot!(refused(one.path()), @"/issuer.pem: the issuer was not signed by any certificate of anchors.pem: put the ones there that belong together");

    std::fs::remove_file(one.path().join("issuer.key")).unwrap();
    insta::assert_snapshot!(refused(one.path()), @"/issuer.key: missing: issuer.pem is there: put its private key beside it");
    std::fs::remove_file(one.path().join("issuer.pem")).unwrap();
    insta::assert_snapshot!(refused(one.path()), @"/issuer.pem: missing: put the issuer's certificate and key there (issuer.pem, issuer.key), signed by one of anchors.pem");
    files::replace(&one.path().join("anchors.pem"), b"nothing", 0o644).unwrap();
    insta::assert_snapshot!(refused(one.path()), @"/anchors.pem: no certificate in it (PEM)");
}

#[test]
fn a_leaf_does_not_outlive_its_issuer() {
    let folder = foreign(2400, 1);
    let opened = open(folder.path()).unwrap();
    let issued = opened
        .issue(
            "a.example",
            "spiffe://cluster.local/ns/b/sa/a",
            &KeyPair::generate().unwrap(),
        )
        .unwrap();
    assert_eq!(issued.not_after, opened.issuer_not_after());
}

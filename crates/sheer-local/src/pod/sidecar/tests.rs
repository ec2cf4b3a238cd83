//! The contract with linkerd2-proxy: environment and files.

use super::*;

fn pod() -> PodFacts {
    PodFacts {
        name: "ledger-6d9f4-0".into(),
        namespace: "bank".into(),
        uid: "u".into(),
        service_account: "ledger".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ips: vec!["10.77.0.2".parse().expect("ip"), "fd77::2".parse().expect("ip")],
        host_ip: "10.77.0.1".parse().expect("ip"),
    }
}

fn workload() -> Workload {
    let text = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: ledger, namespace: bank }
spec:
  selector: { matchLabels: { app: ledger } }
  template:
    metadata:
      labels: { app: ledger }
      annotations: { config.sheer.dev/proxy-cpu-limit: 1500m, config.sheer.dev/proxy-log-level: debug, config.linkerd.io/opaque-ports: "3306" }
    spec:
      serviceAccountName: ledger
      containers: [{ name: app, command: [bank], ports: [{ name: grpc, containerPort: 9000 }, { containerPort: 53, protocol: UDP }] }]
"#;
    let loaded = sheer_control::manifests::parse(Path::new("test.yaml"), text);
    let desired = crate::workload::desired(&loaded.manifests, &crate::workload::Overrides::default());
    desired
        .workloads
        .into_values()
        .next()
        .map(|workload| (*workload).clone())
        .expect("a workload")
}

#[test]
fn the_environment_is_what_linkerd2_proxy_expects() {
    let sidecar = Sidecar {
        identity: "/run/sheer/pods/x/identity".into(),
        exemption: Exemption::Uid,
        ipv6: true,
    };
    let env = sidecar.environment(&pod(), &workload(), "PEM").expect("meshed");
    let text: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn what_annotations_hide_is_hidden_in_the_sidecars_logs_too() {
    let sidecar = Sidecar {
        identity: "/x".into(),
        exemption: Exemption::Mark,
        ipv6: false,
    };
    let mut workload = workload();
    for (name, value) in [
        ("headers", "X-Account, *-key, no name,"),
        ("fields", "iban, card.number"),
    ] {
        let name = format!("sheer.dev/redact-{name}");
        workload.annotations.insert(name, value.to_owned());
    }
    let env = sidecar.environment(&pod(), &workload, "PEM").expect("meshed");
    assert_eq!(env["LINKERD2_PROXY_SIGHT_REDACT"], "X-Account,*-key");
    assert_eq!(env["LINKERD2_PROXY_SIGHT_REDACT_FIELDS"], "iban, card.number");
}

#[test]
fn a_mark_replaces_a_uid_that_cannot_be_had() {
    let sidecar = Sidecar {
        identity: "/x".into(),
        exemption: Exemption::Mark,
        ipv6: false,
    };
    let env = sidecar.environment(&pod(), &workload(), "PEM").expect("meshed");
    assert_eq!(env["SHEER_PROXY_MARK"], PROXY_MARK.to_string());
    assert_eq!(env["LINKERD2_PROXY_INBOUND_LISTEN_ADDR"], "0.0.0.0:4143");
    assert_eq!(env["LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS"], "127.0.0.1:4140");
}

#[test]
fn key_request_and_token_are_for_this_pod_and_private() {
    let dir = tempfile::tempdir().expect("a folder");
    let sidecar = Sidecar {
        identity: dir.path().join("identity"),
        exemption: Exemption::Mark,
        ipv6: true,
    };
    sidecar.create_identity(&pod()).expect("made");
    let signer = Signer::load_or_create(&dir.path().join("ca")).expect("signer");
    sidecar.write_token(&signer, &pod()).expect("written");
    let token = fs::read(sidecar.identity.join("token")).expect("token");
    assert_eq!(signer.verifier().verify(&token).expect("valid").pod, "ledger-6d9f4-0");
    let request = fs::read(sidecar.identity.join("csr.der")).expect("request");
    let request = rcgen::CertificateSigningRequestParams::from_der(&request.into()).expect("a request");
    let name = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
    assert_eq!(
        request.params.subject_alt_names,
        [rcgen::SanType::DnsName(name.try_into().expect("name"))]
    );
    for file in ["key.p8", "csr.der", "token"] {
        let mode = fs::metadata(sidecar.identity.join(file))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(
        fs::read_dir(&sidecar.identity).expect("folder").count(),
        3,
        "nothing half-written is left"
    );
}

/// A machine that was suspended has timers that stood still, and tokens that did not.
#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_by_the_time_of_day() {
    let dir = tempfile::tempdir().expect("a folder");
    let sidecar = Sidecar {
        identity: dir.path().join("identity"),
        exemption: Exemption::Mark,
        ipv6: true,
    };
    sidecar.create_identity(&pod()).expect("made");
    let signer = Signer::load_or_create(&dir.path().join("ca")).expect("signer");
    let file = sidecar.identity.join("token");
    fs::write(&file, "old").expect("written");
    let seconds = std::cell::Cell::new(1_000_000_u64);
    let clock = || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.get());
    let watch = async {
        tokio::time::sleep(TOKEN_LOOK + Duration::from_secs(1)).await;
        assert_eq!(fs::read(&file).expect("token"), b"old", "it is fresh");
        seconds.set(seconds.get() + TOKEN_LIFETIME.as_secs() / 2);
        tokio::time::sleep(TOKEN_LOOK).await;
        assert!(
            fs::read(&file).expect("token").len() > 100,
            "it was renewed a minute later"
        );
    };
    tokio::select! {
        () = watch => {}
        () = sidecar.clone().renew_token(&signer, pod(), clock) => unreachable!("it never ends"),
    }
}

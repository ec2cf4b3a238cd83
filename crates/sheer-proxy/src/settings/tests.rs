use std::collections::BTreeMap;

use super::*;

/// The least that a proxy starts with.
fn least() -> BTreeMap<String, String> {
    let anchors = rcgen::generate_simple_self_signed(["anchor".to_owned()]).expect("a certificate");
    [
        ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "localhost.:8086"),
        ("LINKERD2_PROXY_POLICY_SVC_ADDR", "127.0.0.1:8090"),
        ("LINKERD2_PROXY_POLICY_WORKLOAD", r#"{"ns":"bank","pod":"ledger-0"}"#),
        ("LINKERD2_PROXY_IDENTITY_SVC_ADDR", "localhost:8080"),
        (
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
            "ledger.bank.serviceaccount.identity.sheer.cluster.local",
        ),
        ("LINKERD2_PROXY_IDENTITY_DIR", "/id"),
        ("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", "/token"),
        ("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", &anchors.cert.pem()),
        ("HOME", "/"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn with(changes: &[(&str, &str)]) -> Result<(Settings, Vec<Note>), Vec<Mistake>> {
    let mut environment = least();
    environment.extend(
        changes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    read(environment)
}

#[test]
fn least_settings_give_linkerds_defaults() {
    let (settings, notes) = with(&[]).expect("valid");
    assert_eq!(notes, []);
    assert_eq!(settings.inbound.listen.to_string(), "0.0.0.0:4143");
    assert_eq!(settings.outbound.listen[0].to_string(), "127.0.0.1:4140");
    assert_eq!(settings.outbound.first_answer, Duration::from_millis(500));
    assert_eq!(settings.shutdown_grace, Duration::from_secs(120));
    assert_eq!(settings.http.header_list_limit, 256 * 1024);
    assert_eq!((settings.workers, settings.mark), (1, None));
    assert_eq!(settings.destination.name, None);
    assert!(matches!(
        settings.inbound.default_policy,
        DefaultPolicy::Allow {
            name: "all-unauthenticated",
            ..
        }
    ));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let mistakes = with(&[
        ("SHEER_PROXY_WORKERS", "0"),
        ("SHEER_PROXY_OUTBOUND_CONNECT_TIMEOUT", "5"),
        ("SHEER_PROXY_OUTBOUND_CONECT_TIMEOUT", "5s"),
        ("SHEER_PROXY_POLICY_SVC_ADDR", "policy.sheer:8090"),
        ("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "none"),
        ("LINKERD2_PROXY_IDENTITY_DISABLED", "1"),
        ("SHEER_PROXY_CONTROL_STREAM_IDLE_TIMEOUT", "2h"),
    ])
    .expect_err("mistakes");
    let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    LINKERD2_PROXY_IDENTITY_DISABLED="1" is not possible: every proxy has an identity
    SHEER_PROXY_OUTBOUND_CONECT_TIMEOUT="5s" is not a setting: did you mean SHEER_PROXY_OUTBOUND_CONNECT_TIMEOUT?
    SHEER_PROXY_OUTBOUND_CONNECT_TIMEOUT="5" has no unit; allowed: a whole number and ms, s, m, h or d, as 500ms
    LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS="none" has no certificate; allowed: PEM with at least one certificate
    SHEER_PROXY_POLICY_SVC_NAME is not set, and the address is not loopback; allowed: a DNS name, as sheer-control.sheer.serviceaccount.identity.sheer.cluster.local
    SHEER_PROXY_CONTROL_STREAM_IDLE_TIMEOUT="7200s" is longer than SHEER_PROXY_CONTROL_STREAM_LIFETIME (3600s); allowed: at most that
    SHEER_PROXY_WORKERS="0" is below 1; allowed: 1 to 256
    "#);
}

#[test]
fn every_required_setting_is_named_when_it_is_missing() {
    let mistakes = read([]).expect_err("mistakes");
    let missing: BTreeSet<_> = mistakes.iter().map(|mistake| mistake.variable.as_str()).collect();
    let expected = [
        "SHEER_PROXY_DESTINATION_SVC_ADDR",
        "SHEER_PROXY_IDENTITY_DIR",
        "SHEER_PROXY_IDENTITY_LOCAL_NAME",
        "SHEER_PROXY_IDENTITY_SVC_ADDR",
        "SHEER_PROXY_IDENTITY_TOKEN_FILE",
        "SHEER_PROXY_IDENTITY_TRUST_ANCHORS",
        "SHEER_PROXY_POLICY_SVC_ADDR",
        "SHEER_PROXY_POLICY_WORKLOAD",
    ];
    assert_eq!(missing, BTreeSet::from(expected));
}

#[test]
fn own_prefix_wins_and_the_conflict_is_said() {
    let (settings, notes) = with(&[("LINKERD2_PROXY_CORES", "2"), ("SHEER_PROXY_CORES", "3")]).expect("valid");
    assert_eq!(settings.workers, 3);
    let text = "SHEER_PROXY_CORES and LINKERD2_PROXY_CORES differ: SHEER_PROXY_CORES holds".to_owned();
    assert_eq!(notes, [Note { warn: true, text }]);
}

/// What an injector for Linkerd sets must not stop a drop-in.
#[test]
fn what_linkerd_sets_beside_is_accepted() {
    let (_, notes) = with(&[
        ("LINKERD2_PROXY_TAP_SVC_NAME", "tap"),
        ("LINKERD2_PROXY_NEWER_THAN_US", "1"),
    ])
    .expect("valid");
    assert_eq!(notes.iter().filter(|note| !note.warn).count(), 2);
}

#[test]
fn spiffe_identities_need_a_server_name() {
    let id = (
        "SHEER_PROXY_IDENTITY_SERVER_ID",
        "spiffe://cluster.local/ns/bank/sa/ledger",
    );
    let mistakes = with(&[id]).expect_err("no name");
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].variable, "SHEER_PROXY_IDENTITY_SERVER_NAME");
    let (settings, _) = with(&[id, ("SHEER_PROXY_IDENTITY_SERVER_NAME", "ledger.bank.example")]).expect("valid");
    assert_eq!(&*settings.identity.name, "spiffe://cluster.local/ns/bank/sa/ledger");
}

/// `Source::value` relies on it.
#[test]
fn every_default_is_valid() {
    let (settings, _) = with(&[]).expect("valid");
    drop(settings);
    for (_, rows) in table::sections() {
        for row in rows {
            let table::Fallback::Value(value) = row.default else {
                continue;
            };
            let name = format!("SHEER_PROXY_{}", row.name);
            assert!(with(&[(&name, value)]).is_ok(), "{name}={value}");
        }
    }
}

#[test]
fn document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, markdown()).expect("docs/settings.md is writable");
    }
    let file = std::fs::read_to_string(path).expect("docs/settings.md");
    assert!(
        file == markdown(),
        "docs/settings.md is old: UPDATE_DOCS=1 cargo test -p sheer-proxy --lib settings"
    );
}

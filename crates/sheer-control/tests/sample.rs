//! The sample's own manifests are read without a word.

use std::path::Path;

use sheer_control::manifests;

#[test]
fn the_sample_has_no_findings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bank/manifests");
    let loaded = manifests::load(&[folder]);
    let findings: Vec<String> = loaded.findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings, [""; 0]);
    assert!(loaded.manifests.len() > 8, "eight services and more");
}

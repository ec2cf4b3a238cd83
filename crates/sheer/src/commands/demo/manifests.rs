//! The bank's manifests, within this program, so that `sheer demo` needs nothing beside the two binaries.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use sheer_local::state::State;

macro_rules! manifests {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../../../../examples/bank/manifests/", $name)))),*]
    };
}

/// File name and text.
const MANIFESTS: &[(&str, &str)] = manifests![
    "namespace.yaml",
    "accounts.yaml",
    "audit.yaml",
    "fraud.yaml",
    "fx.yaml",
    "gateway.yaml",
    "ledger.yaml",
    "load.yaml",
    "notify.yaml",
    "payments.yaml"
];

/// Writes the manifests into the state directory, where they can be edited while the demo runs; the folder.
pub(super) fn write(state: &State) -> anyhow::Result<PathBuf> {
    let folder = state.root().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (name, text) in MANIFESTS {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_of_the_sample_is_within() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/bank/manifests");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut within: Vec<&str> = MANIFESTS.iter().map(|(name, _)| *name).collect();
        within.sort_unstable();
        assert_eq!(files, within);
    }

    #[test]
    fn the_control_plane_finds_nothing_wrong_in_them() {
        for (name, text) in MANIFESTS {
            let loaded = sheer_control::manifests::parse(std::path::Path::new(name), text);
            assert_eq!(loaded.findings, [], "{name}");
        }
    }
}

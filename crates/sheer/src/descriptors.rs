//! Files of protobuf descriptors, read before anybody is asked for anything.

use std::path::Path;

use anyhow::Context as _;
use prost_reflect::DescriptorPool;

use crate::outcome::Misuse;

/// An encoded `FileDescriptorSet`, as `protoc --descriptor_set_out` writes it. An error where the file is none, or describes no message.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let wrong = |why: &dyn std::fmt::Display| {
        Misuse(format!(
            "{} has no descriptors of messages ({why}): write it with `protoc --include_imports --descriptor_set_out={} FILE.proto`",
            path.display(),
            path.display()
        ))
    };
    let pool = DescriptorPool::decode(&*bytes).map_err(|error| wrong(&error))?;
    if pool.all_messages().next().is_none() {
        return Err(wrong(&"it is empty").into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_set_of_descriptors_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bank.pb");
        let said = |bytes: &[u8]| {
            std::fs::write(&file, bytes).expect("written");
            read(&file).map_err(|error| format!("{error:#}"))
        };
        for wrong in [&b""[..], b"syntax = \"proto3\";"] {
            let said = said(wrong).expect_err("no descriptors");
            assert!(said.contains("bank.pb has no descriptors of messages ("), "{said}");
        }
        // A file "a.proto" with one message "M".
        let set = b"\x0a\x0e\x0a\x07a.proto\x22\x03\x0a\x01M";
        assert_eq!(said(set), Ok(set.to_vec()));
        let gone = read(&folder.path().join("gone.pb")).expect_err("no file");
        assert!(format!("{gone:#}").contains("gone.pb cannot be read"), "{gone:#}");
    }
}

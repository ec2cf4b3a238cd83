//! The fuzzers' corpus, replayed: what fuzzing once reached is reached in every test run.

#[expect(unreachable_pub, reason = "a library where the fuzzers build it")]
#[path = "../fuzz/checks.rs"]
mod checks;

use std::{fs, path::Path};

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&folder)
        .expect("a corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(files.len() >= 8, "{} has {} files", folder.display(), files.len());
    for file in files {
        let bytes = fs::read(&file).expect("a file");
        // The name of the file that breaks something is all that one needs to know.
        let outcome = std::panic::catch_unwind(|| check(&bytes));
        assert!(outcome.is_ok(), "{}", file.display());
    }
}

#[test]
fn client_hello() {
    replay("client_hello", checks::client_hello);
}

#[test]
fn http1() {
    replay("http1", checks::http1);
}

#[test]
fn frames() {
    replay("frames", checks::frames);
}

#[test]
fn hpack() {
    replay("hpack", checks::hpack);
}

#[test]
fn grpc() {
    replay("grpc", checks::grpc);
}

#[test]
fn protobuf() {
    replay("protobuf", checks::protobuf);
}

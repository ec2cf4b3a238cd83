//! Header blocks of encoders that nobody here wrote.
//!
//! The public `hpack-test-case` stories of fourteen encoders (go-hpack, nghttp2, haskell-http2, node-http2, swift-nio, …) come with the sources of the
//! crate `httlib-hpack`, which is a dependency of the tests for them and for the bench; `vectors/python-hpack.txt` is made by `vectors/generate.py`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use sheer_lens::hpack::{Decoder, Field, Indexing, Representation, Violation, Visitor};

type List = Vec<(Vec<u8>, Vec<u8>)>;

/// A list, and the rules that were broken on the way.
#[derive(Default)]
struct Seen {
    list: List,
    /// Whether a field may be indexed by the next hop; `None` where it was an index itself.
    may_index: Vec<Option<bool>>,
    violations: Vec<Violation>,
}

impl Visitor for Seen {
    fn field(&mut self, field: &Field<'_>) {
        self.list.push((field.name.to_vec(), field.value.to_vec()));
        self.may_index.push(match field.representation {
            Representation::Indexed { .. } => None,
            Representation::Literal { indexing, .. } => Some(indexing != Indexing::Never),
        });
    }

    fn violation(&mut self, violation: Violation) {
        self.violations.push(violation);
    }
}

/// Decodes with one decoder and advances with another, which has to end up in the same state.
#[derive(Default)]
struct Pair(Decoder, Decoder);

impl Pair {
    fn decode(&mut self, block: &[u8]) -> Seen {
        let mut seen = Seen::default();
        self.0.decode(block, &mut seen).expect("a valid block");
        self.1.advance(block).expect("a valid block");
        assert_eq!(self.0.snapshot(), self.1.snapshot());
        seen
    }

    fn set_allowed(&mut self, size: u32) {
        self.0.set_allowed(size);
        self.1.set_allowed(size);
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
        .collect()
}

/// The folder of stories, where cargo put the crate's sources.
fn stories() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages
        .iter()
        .find(|package| package["name"] == "httlib-hpack")
        .expect("a dependency of the tests");
    Path::new(package["manifest_path"].as_str().expect("a path")).with_file_name("fixtures")
}

#[test]
fn public_stories_of_fourteen_encoders() {
    let (mut stories_read, mut blocks, mut fields) = (0, 0, 0);
    let mut folders: Vec<_> = fs::read_dir(stories())
        .expect("stories")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.retain(|path| path.is_dir());
    assert_eq!(folders.len(), 14);
    for folder in folders {
        for story in fs::read_dir(&folder).expect("a folder") {
            let path = story.expect("an entry").path();
            let story: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a story")).expect("JSON");
            let mut decoder = Pair::default();
            for case in story["cases"].as_array().expect("cases") {
                if let Some(size) = case["header_table_size"].as_u64() {
                    decoder.set_allowed(size as u32);
                }
                let seen = decoder.decode(&unhex(case["wire"].as_str().expect("wire")));
                let text = |text: &serde_json::Value| text.as_str().expect("text").as_bytes().to_vec();
                let list: List = case["headers"]
                    .as_array()
                    .expect("headers")
                    .iter()
                    .flat_map(|header| header.as_object().expect("a field").iter())
                    .map(|(name, value)| (name.clone().into_bytes(), text(value)))
                    .collect();
                assert_eq!(seen.list, list, "{}, case {}", path.display(), case["seqno"]);
                (blocks, fields) = (blocks + 1, fields + list.len());
            }
            stories_read += 1;
        }
    }
    println!("{stories_read} stories, {blocks} blocks, {fields} fields");
    assert!(
        stories_read > 440 && blocks > 40_000,
        "{stories_read} stories, {blocks} blocks"
    );
}

/// A block, what went into it, and what was allowed before it.
#[derive(Default)]
struct Expected {
    block: Option<Vec<u8>>,
    list: List,
    never: Vec<bool>,
    sizes: Vec<u32>,
}

impl Expected {
    /// Decodes the block, if there is one, and says how many that were.
    fn check(&mut self, decoder: &mut Pair) -> usize {
        let Some(block) = self.block.take() else { return 0 };
        let seen = decoder.decode(&block);
        assert_eq!(seen.list, self.list);
        // A secret that an entry has in full is sent as its index all the same.
        let mut told = seen.may_index.iter().zip(&self.never);
        assert!(
            told.all(|(may, never)| may.is_none_or(|may| may != *never)),
            "{:?}",
            self.list
        );
        // Of several sizes that were allowed since the last block this encoder signals all, though but the last is still allowed.
        let is_outdated = |violation: &Violation| matches!(violation, Violation::SizeUpdateTooLarge { size, .. } if self.sizes.contains(size));
        assert!(seen.violations.iter().all(is_outdated), "{:?}", seen.violations);
        *self = Self::default();
        1
    }
}

#[test]
fn blocks_of_pythons_encoder() {
    let (mut decoder, mut expected, mut blocks) = (Pair::default(), Expected::default(), 0);
    for line in include_str!("vectors/python-hpack.txt").lines().chain(["story"]) {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or("");
        let (kind, first, second) = (word(), word(), word());
        if !matches!(kind, "f" | "s") {
            blocks += expected.check(&mut decoder);
        }
        match kind {
            "story" => decoder = Pair::default(),
            "size" => {
                let size = first.parse().expect("a size");
                decoder.set_allowed(size);
                expected.sizes.push(size);
            }
            "block" => expected.block = Some(unhex(first)),
            kind => {
                expected.list.push((unhex(first), unhex(second)));
                expected.never.push(kind == "s");
            }
        }
    }
    assert_eq!(blocks, 32 * 10);
}

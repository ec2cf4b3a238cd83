//! YAML as a tree of nodes that know their lines, so that a path can be pointed at.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

/// A value and the line on which it (or its key) stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// From 1.
    pub line: u32,
    /// The value.
    pub value: Tree,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// Null, boolean, number or text.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A mapping; each node has the line of its key.
    Map(Vec<(String, Node)>),
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// A path as users write it: `spec.containers[0].ports`.
pub(super) fn render(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            // An annotation's name has dots and slashes of its own.
            Step::Key(key) if key.contains(['.', '/']) => text.push_str(&format!("[\"{key}\"]")),
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
        }
    }
    text
}

/// The documents of a file; or line and text of its first mistake. Empty documents are left out.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, (u32, String)> {
    match serde_saphyr::from_multiple::<Spanned<Raw>>(text) {
        Ok(documents) => Ok(documents
            .into_iter()
            .map(Node::from)
            .filter(|node| !node.is_null())
            .collect()),
        Err(error) => {
            let line = error.location().map_or(0, |location| line(location.line()));
            // The library's rendering has a snippet below its first line: the file and line suffice.
            let text = error.without_snippet().to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.split(" at line ").next().unwrap_or(text);
            let text = text.split(", set DuplicateKeyPolicy").next().unwrap_or(text);
            Err((line, text.to_owned()))
        }
    }
}

fn line(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(0)
}

struct Raw(Tree);

impl From<Spanned<Raw>> for Node {
    fn from(raw: Spanned<Raw>) -> Self {
        Self {
            line: line(raw.referenced.line()),
            value: raw.value.0,
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw(Tree::Scalar(Value::Null)))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw(Tree::Scalar(Value::Null)))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw(Tree::Scalar(value.into())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw(Tree::Scalar(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw(Tree::Scalar(value.into())))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that is not finite"))?;
        Ok(Raw(Tree::Scalar(number.into())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw(Tree::Scalar(value.into())))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Raw>>()? {
            list.push(item.into());
        }
        Ok(Raw(Tree::List(list)))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            map.push((
                key.value,
                Node {
                    line: line(key.referenced.line()),
                    value: value.value.0,
                },
            ));
        }
        Ok(Raw(Tree::Map(map)))
    }
}

impl Node {
    fn is_null(&self) -> bool {
        self.value == Tree::Scalar(Value::Null)
    }

    /// The entry of a mapping.
    pub(super) fn entry(&self, key: &str) -> Option<&Self> {
        let Tree::Map(entries) = &self.value else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The text of a mapping's entry.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.entry(key).and_then(Self::as_str)
    }

    /// A scalar as it was written, quotes aside.
    pub(super) fn plain(&self) -> String {
        self.as_str()
            .map_or_else(|| self.to_json().to_string(), ToOwned::to_owned)
    }

    /// The text of a scalar.
    pub(super) fn as_str(&self) -> Option<&str> {
        let Tree::Scalar(Value::String(text)) = &self.value else {
            return None;
        };
        Some(text)
    }

    /// The node at a path, or the last that exists on the way to it.
    pub(super) fn nearest(&self, path: &[Step]) -> &Self {
        let mut node = self;
        for step in path {
            let next = match (step, &node.value) {
                (Step::Key(key), _) => node.entry(key),
                (Step::Index(index), Tree::List(list)) => list.get(*index),
                (Step::Index(_), _) => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    /// The value without lines. Entries that are null are left out: as in Kubernetes, they mean the same as absent ones.
    pub(super) fn to_json(&self) -> Value {
        match &self.value {
            Tree::Scalar(value) => value.clone(),
            Tree::List(list) => list.iter().map(Self::to_json).collect(),
            Tree::Map(map) => {
                let present = map.iter().filter(|(_, node)| !node.is_null());
                Value::Object(present.map(|(key, node)| (key.clone(), node.to_json())).collect())
            }
        }
    }
}

//! Documents to objects: finds the type of a document, fills it in, and says what did not fit.

use std::{path::Path, sync::Arc};

use serde::de::DeserializeOwned;

use super::{
    Finding, Loaded, Manifest, check,
    kinds::{self, Treatment},
    tree::{self, Node, Step, Tree, render},
    unhonoured,
};
use crate::objects::{Kind, Object, ObjectId};

/// Reads every document of a file.
pub(super) fn decode(file: &Arc<Path>, text: &str) -> Loaded {
    let mut reader = Reader {
        file,
        loaded: Loaded::default(),
    };
    match tree::parse(text) {
        Ok(documents) => documents.iter().for_each(|document| reader.document(document)),
        Err((line, message)) => {
            reader
                .loaded
                .findings
                .push(Finding::error(file, line, format!("is not valid YAML: {message}")))
        }
    }
    reader.loaded
}

struct Reader<'a> {
    file: &'a Arc<Path>,
    loaded: Loaded,
}

impl Reader<'_> {
    fn document(&mut self, node: &Node) {
        let (Some(api_version), Some(kind)) = (node.text("apiVersion"), node.text("kind")) else {
            let message = "not a Kubernetes object: apiVersion and kind must be given as text";
            return self.loaded.findings.push(Finding::error(self.file, node.line, message));
        };
        let kind_line = node.entry("kind").map_or(node.line, |entry| entry.line);
        match kinds::treatment(api_version, kind) {
            Treatment::Honoured(kind) => self.object(kind, node),
            Treatment::List => match node.entry("items").map(|items| &items.value) {
                Some(Tree::List(items)) => items.iter().for_each(|item| self.document(item)),
                _ => self
                    .loaded
                    .findings
                    .push(Finding::error(self.file, kind_line, "items must be a list of objects").at("items")),
            },
            Treatment::Wrong(message) => {
                let finding = Finding::error(self.file, kind_line, message).at("apiVersion");
                self.loaded.findings.push(finding.on_named(label(kind, node)));
            }
            Treatment::Unhonoured(message) => {
                self.loaded
                    .findings
                    .push(Finding::warning(self.file, kind_line, message).on_named(label(kind, node)));
            }
        }
    }

    fn object(&mut self, kind: Kind, node: &Node) {
        match fill(kind, node) {
            Ok((object, ignored)) => {
                let id = object.id();
                for path in ignored {
                    self.ignored(&id, node, &path);
                }
                for (severity, path, message) in check::check(&object) {
                    let mut finding = Finding::error(self.file, node.nearest(&path).line, message)
                        .on(&id)
                        .at(render(&path));
                    finding.severity = severity;
                    self.loaded.findings.push(finding);
                }
                self.loaded.manifests.push(Manifest {
                    object,
                    file: self.file.clone(),
                    line: node.line,
                    rules: rules(node),
                });
            }
            Err((path, message)) => {
                let finding = Finding::error(self.file, node.nearest(&path).line, message).at(render(&path));
                self.loaded.findings.push(finding.on_named(label(kind.as_str(), node)));
            }
        }
    }

    fn ignored(&mut self, id: &ObjectId, node: &Node, path: &[Step]) {
        let at = node.nearest(path);
        if let Some(message) = unhonoured::explain(id.kind, path, at) {
            self.loaded
                .findings
                .push(Finding::warning(self.file, at.line, message).on(id).at(render(path)));
        }
    }
}

/// The lines of an object's rules.
fn rules(node: &Node) -> Arc<[u32]> {
    let spec = node.entry("spec");
    let rules = spec.and_then(|spec| spec.entry("rules").or_else(|| spec.entry("routes")));
    match rules.map(|rules| &rules.value) {
        Some(Tree::List(rules)) => rules.iter().map(|rule| rule.line).collect(),
        _ => Arc::default(),
    }
}

/// The name of an object that could not be read, as far as it is known.
fn label(kind: &str, node: &Node) -> String {
    let metadata = node.entry("metadata");
    match (
        metadata.and_then(|m| m.text("namespace")),
        metadata.and_then(|m| m.text("name")),
    ) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        _ => kind.to_owned(),
    }
}

type Filled = Result<(Object, Vec<Vec<Step>>), (Vec<Step>, String)>;

fn fill(kind: Kind, node: &Node) -> Filled {
    match kind {
        Kind::Namespace => fill_as(node, Object::Namespace),
        Kind::ServiceAccount => fill_as(node, Object::ServiceAccount),
        Kind::Service => fill_as(node, Object::Service),
        Kind::Pod => fill_as(node, Object::Pod),
        Kind::Deployment => fill_as(node, Object::Deployment),
        Kind::StatefulSet => fill_as(node, Object::StatefulSet),
        Kind::Server => fill_as(node, Object::Server),
        Kind::AuthorizationPolicy => fill_as(node, Object::AuthorizationPolicy),
        Kind::MeshTlsAuthentication => fill_as(node, Object::MeshTlsAuthentication),
        Kind::NetworkAuthentication => fill_as(node, Object::NetworkAuthentication),
        Kind::HttpLocalRateLimitPolicy => fill_as(node, Object::HttpLocalRateLimitPolicy),
        Kind::ServerAuthorization => fill_as(node, Object::ServerAuthorization),
        Kind::HttpRoute => fill_as(node, Object::HttpRoute),
        Kind::PolicyHttpRoute => fill_as(node, Object::PolicyHttpRoute),
        Kind::GrpcRoute => fill_as(node, Object::GrpcRoute),
        Kind::TlsRoute => fill_as(node, Object::TlsRoute),
        Kind::TcpRoute => fill_as(node, Object::TcpRoute),
        Kind::ReferenceGrant => fill_as(node, Object::ReferenceGrant),
        Kind::EgressNetwork => fill_as(node, Object::EgressNetwork),
        Kind::HttpFault => fill_as(node, Object::HttpFault),
        Kind::ServiceProfile => fill_as(node, Object::ServiceProfile),
    }
}

fn fill_as<T: DeserializeOwned>(node: &Node, wrap: impl FnOnce(Arc<T>) -> Object) -> Filled {
    let json = node.to_json();
    let mut ignored = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(&json, &mut track);
    let result: Result<T, serde_json::Error> =
        serde_ignored::deserialize(deserializer, |path| ignored.push(ignored_path(&path)));
    match result {
        Ok(object) => Ok((wrap(Arc::new(object)), ignored)),
        Err(error) => Err((error_path(&track.path()), explain_error(&error.to_string()))),
    }
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    match path {
        Path::Root => Vec::new(),
        Path::Seq { parent, index } => {
            let mut steps = ignored_path(parent);
            steps.push(Step::Index(*index));
            steps
        }
        Path::Map { parent, key } => {
            let mut steps = ignored_path(parent);
            steps.push(Step::Key(key.clone()));
            steps
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_path(parent)
        }
    }
}

fn error_path(path: &serde_path_to_error::Path) -> Vec<Step> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// The library's words, where a Rust type stands in them the operator's, and what to do where a beginner cannot know.
fn explain_error(error: &str) -> String {
    let mut text = error.to_owned();
    for (rust, plain) in [
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number"),
        ("struct ", "a mapping for "),
    ] {
        text = text.replace(&format!("expected {rust}"), &format!("expected {plain}"));
    }
    let unquoted = [
        "invalid type: integer",
        "invalid type: boolean",
        "invalid type: floating point",
    ];
    if unquoted.iter().any(|start| text.starts_with(start)) && text.contains("expected a string") {
        text.push_str(": put it in quotes");
    }
    text
}

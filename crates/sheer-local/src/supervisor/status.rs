//! The status directory: what runs, one JSON object a file, for the control plane. Each file is replaced in one step, and only when
//! it changed.

use std::{collections::BTreeMap, fs, io, net::IpAddr, path::PathBuf, sync::Arc};

use sheer_control::objects::{Object, ObjectMeta, Pod, Service, ServiceSpec};

/// Writes the status directory.
pub(super) struct StatusWriter {
    root: PathBuf,
    written: BTreeMap<String, String>,
}

impl StatusWriter {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            written: BTreeMap::new(),
        }
    }

    /// Makes the files say exactly this.
    pub(super) fn write(&mut self, objects: impl Iterator<Item = Object>) -> io::Result<()> {
        let wanted: BTreeMap<String, String> = objects
            .map(|object| (file_name(&object), object.to_manifest().to_string()))
            .collect();
        for gone in self
            .written
            .keys()
            .filter(|file| !wanted.contains_key(*file))
            .cloned()
            .collect::<Vec<_>>()
        {
            remove(&self.root.join(&gone))?;
            self.written.remove(&gone);
        }
        for (file, content) in wanted {
            if self.written.get(&file) != Some(&content) {
                self.replace(&file, &content)?;
                self.written.insert(file, content);
            }
        }
        Ok(())
    }

    fn replace(&self, file: &str, content: &str) -> io::Result<()> {
        // In the root, which nobody watches for objects.
        let new = self.root.join(".new");
        fs::write(&new, content)?;
        fs::rename(new, self.root.join(file))
    }
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `pods/NS.NAME.json`, `services/NS.NAME.json`.
fn file_name(object: &Object) -> String {
    let metadata = object.metadata();
    let folder = if matches!(object, Object::Pod(_)) {
        "pods"
    } else {
        "services"
    };
    format!("{folder}/{}.{}.json", metadata.namespace, metadata.name)
}

/// A pod, for [`StatusWriter::write`].
pub(super) fn pod(pod: Pod) -> Object {
    Object::Pod(Arc::new(pod))
}

/// A service's virtual addresses and nothing else: the rest is the user's.
pub(super) fn service(namespace: &str, name: &str, addresses: &[IpAddr]) -> Object {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let spec = ServiceSpec {
        cluster_ip: texts.first().cloned(),
        cluster_ips: texts,
        ..ServiceSpec::default()
    };
    Object::Service(Arc::new(Service {
        metadata: ObjectMeta::new(namespace, name),
        spec,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_what_runs() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("services")).expect("folder");
        let mut status = StatusWriter::new(dir.path().to_owned());
        let ip = |text: &str| vec![text.parse::<IpAddr>().expect("ip")];
        let ledger = dir.path().join("services/bank.ledger.json");
        status
            .write([service("bank", "ledger", &ip("10.78.0.5"))].into_iter())
            .expect("written");
        let value: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&ledger).expect("there")).expect("JSON");
        assert_eq!(
            (&value["kind"], &value["spec"]["clusterIP"]),
            (&"Service".into(), &"10.78.0.5".into())
        );
        let written = fs::metadata(&ledger).expect("there").modified().expect("time");
        status
            .write(
                [
                    service("bank", "ledger", &ip("10.78.0.5")),
                    service("bank", "fx", &ip("10.78.0.6")),
                ]
                .into_iter(),
            )
            .expect("written");
        assert_eq!(
            fs::metadata(&ledger).expect("there").modified().expect("time"),
            written,
            "what did not change is not touched"
        );
        status
            .write([service("bank", "fx", &ip("10.78.0.6"))].into_iter())
            .expect("written");
        assert!(!ledger.exists() && dir.path().join("services/bank.fx.json").exists());
    }
}

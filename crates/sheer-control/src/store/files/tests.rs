use std::{
    fs,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::*;
use crate::{
    manifests::parse,
    store::watcher::{RESCAN, Watched, Writer},
};

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: bank}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

struct Folder {
    folder: tempfile::TempDir,
    files: Files,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(vec![folder.path().to_owned()], None, None);
        Self { folder, files }
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.folder.path().join(name);
        // As programs do that do not rename; the other way is what the server's tests do.
        fs::write(path, content).unwrap();
    }

    /// Services and their ports, and findings, after a scan.
    fn scan(&mut self) -> (String, Vec<String>) {
        self.files.rescan();
        let snapshot = self.files.state();
        let services = ["a", "b", "c"].into_iter().filter_map(|name| {
            let service = snapshot.find_service("bank", name)?;
            Some(format!("{name}:{}", service.spec.ports[0].port))
        });
        let folder = self.folder.path().to_string_lossy().into_owned();
        let findings = snapshot
            .diagnosis()
            .findings
            .iter()
            .map(|finding| finding.to_string().replace(&folder, ""));
        (services.collect::<Vec<_>>().join(" "), findings.collect())
    }
}

#[test]
fn each_file_keeps_its_own_last_good_state() {
    let mut folder = Folder::new();
    folder.write("a.yaml", &service("a", 1));
    folder.write("b.yaml", &service("b", 1));
    assert_eq!(folder.scan(), ("a:1 b:1".to_owned(), Vec::new()));
    folder.write("a.yaml", "kind: [");
    folder.write("b.yaml", &service("b", 2));
    let (services, findings) = folder.scan();
    assert_eq!((services.as_str(), findings.len()), ("a:1 b:2", 1), "{findings:?}");
    folder.write("a.yaml", &service("a", 3));
    assert_eq!(folder.scan(), ("a:3 b:2".to_owned(), Vec::new()));
    fs::remove_file(folder.folder.path().join("b.yaml")).unwrap();
    assert_eq!(folder.scan(), ("a:3".to_owned(), Vec::new()));
    assert!(!folder.files.rescan(), "nothing changed");
}

#[test]
fn an_object_stays_with_the_file_that_had_it() {
    let mut folder = Folder::new();
    folder.write("z.yaml", &service("a", 1));
    assert_eq!(folder.scan().0, "a:1");
    // Another file, earlier in the order, begins to define it as well.
    folder.write("b.yaml", &(service("a", 2) + "---\n" + &service("b", 2)));
    let (services, findings) = folder.scan();
    assert_eq!(services, "a:1 b:2");
    assert_eq!(
        findings,
        ["error: /b.yaml:1: Service bank/a: defined twice: also in /z.yaml:1, which stays in force"]
    );
    fs::remove_file(folder.folder.path().join("z.yaml")).unwrap();
    assert_eq!(
        folder.scan(),
        ("a:2 b:2".to_owned(), Vec::new()),
        "and passes on when that file is gone"
    );
}

#[test]
fn a_file_that_is_empty_for_a_moment_loses_nothing() {
    let mut folder = Folder::new();
    folder.write("a.yaml", &service("a", 1));
    assert_eq!(folder.scan().0, "a:1");
    folder.write("a.yaml", "");
    let path = folder.folder.path().join("a.yaml");
    let writer = thread::spawn(move || {
        thread::park_timeout(Duration::from_millis(40));
        fs::write(path, service("a", 2)).unwrap();
    });
    assert_eq!(folder.scan().0, "a:2");
    writer.join().unwrap();
    folder.write("a.yaml", "");
    assert_eq!(folder.scan().0, "", "and one that stays empty is empty");
}

#[test]
fn addresses_that_were_assigned_are_laid_over_what_users_wrote() {
    let read = |text: &str| parse(Path::new("test.yaml"), text).manifests;
    let overlay = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: bank}\nspec: {clusterIP: 10.78.0.1, clusterIPs: [10.78.0.1, 'fd78::1']}\n";
    let stray = overlay.replace("name: a", "name: b").replace("10.78.0.1", "10.78.0.2");
    let snapshot = Snapshot::new(
        &read(&service("a", 1)),
        &read(&(overlay.to_owned() + "---\n" + &stray)),
        Vec::new(),
    );
    let at = |address: &str| {
        snapshot
            .find_service_at(address.parse().unwrap())
            .map(|service| service.spec.ports[0].port)
    };
    assert_eq!(
        (at("10.78.0.1"), at("fd78::1"), at("10.78.0.2")),
        (Some(1), Some(1), None)
    );
    let headless = service("a", 1).replace("spec: {", "spec: {clusterIP: None, ");
    let snapshot = Snapshot::new(&read(&headless), &read(overlay), Vec::new());
    assert!(
        snapshot.find_service_at("10.78.0.1".parse().unwrap()).is_none(),
        "a headless service has no address"
    );
}

#[test]
fn changes_are_seen_without_notifications_and_the_writer_ends_with_its_readers() {
    let folder = Folder::new();
    let path = folder.folder.path().join("a.yaml");
    let mut files = folder.files;
    files.rescan();
    let (sender, receiver) = watch::channel(Arc::new(files.state()));
    let (_kept, events) = mpsc::channel();
    let writer = thread::spawn(move || {
        Writer {
            scan: files,
            states: sender,
            watched: Watched::default(),
        }
        .run(&events)
    });
    fs::write(path, service("a", 1)).unwrap();
    let deadline = Instant::now() + 3 * RESCAN;
    while receiver.borrow().find_service("bank", "a").is_none() {
        assert!(Instant::now() < deadline, "not seen");
        thread::park_timeout(Duration::from_millis(10));
    }
    drop(receiver);
    writer.join().unwrap();
}

#[test]
fn a_restart_while_a_file_is_broken_keeps_its_last_good_state() {
    let memory = tempfile::tempdir().unwrap();
    let mut folder = Folder::new();
    let restart = |folder: &mut Folder| {
        let memory = Memory::new(memory.path().join("last-good"));
        folder.files = Files::new(vec![folder.folder.path().to_owned()], None, Some(memory));
    };
    restart(&mut folder);
    folder.write("a.yaml", &service("a", 1));
    assert_eq!(folder.scan().0, "a:1");
    folder.write("a.yaml", "kind: [");
    restart(&mut folder);
    let (services, findings) = folder.scan();
    assert_eq!((services.as_str(), findings.len()), ("a:1", 1));
    // A file that was removed is not remembered when it comes back broken.
    fs::remove_file(folder.folder.path().join("a.yaml")).unwrap();
    assert_eq!(folder.scan().0, "");
    folder.write("a.yaml", "kind: [");
    restart(&mut folder);
    assert_eq!(folder.scan().0, "");
}

#[test]
fn a_folder_that_cannot_be_read_loses_nothing() {
    let mut folder = Folder::new();
    folder.write("a.yaml", &service("a", 1));
    assert_eq!(folder.scan().0, "a:1");
    let (here, away) = (
        folder.folder.path().to_owned(),
        folder.folder.path().with_extension("away"),
    );
    fs::rename(&here, &away).unwrap();
    let (services, findings) = folder.scan();
    assert_eq!(services, "a:1");
    assert_eq!(
        findings,
        ["error: : cannot be read: No such file or directory (os error 2)"]
    );
    fs::rename(&away, &here).unwrap();
    folder.write("a.yaml", &service("a", 2));
    assert_eq!(folder.scan(), ("a:2".to_owned(), Vec::new()));
}

#[test]
fn what_the_mesh_wrote_itself_is_no_mistake_of_users() {
    let (written, status) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: bank, annotations: {{sheer.dev/injct: disabled}}}}\n\
             spec: {{containers: [{{name: app, command: [app], livenessProbe: {{tcpSocket: {{port: 80}}}}}}]}}\n"
        )
    };
    fs::write(written.path().join("pod.yaml"), pod("a")).unwrap();
    fs::write(status.path().join("bank.a.json"), pod("a")).unwrap();
    fs::write(status.path().join("bank.b.json"), "{").unwrap();
    let mut files = Files::new(vec![written.path().to_owned()], Some(status.path().to_owned()), None);
    files.rescan();
    let snapshot = files.state();
    let findings = &snapshot.diagnosis().findings;
    let of = |folder: &Path| {
        findings
            .iter()
            .filter(|finding| finding.file.starts_with(folder))
            .count()
    };
    assert_eq!(of(written.path()), 2, "{findings:?}");
    // One that cannot be read is a fault of the mesh, and nobody else would say it.
    assert_eq!(of(status.path()), 1, "{findings:?}");
}

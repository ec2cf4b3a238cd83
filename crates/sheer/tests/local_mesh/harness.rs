//! A mesh for one test: a state directory of its own, its manifests, and the command line.

use std::{
    fs,
    io::BufRead as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long something may take that takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A user without privileges that every machine has.
const NOBODY: u32 = 65_534;

/// Who runs the mesh.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever runs the tests.
    Current,
    /// An ordinary user: whoever runs the tests, or nobody if that is root.
    Ordinary,
}

/// A mesh for one test; gone when dropped.
pub(crate) struct Mesh {
    folder: tempfile::TempDir,
    state: PathBuf,
    user: User,
    wrapper: Vec<String>,
    up: Mutex<Option<Child>>,
}

impl Mesh {
    /// A mesh that is not started yet.
    pub(crate) fn new(user: User) -> Self {
        check_machine();
        let folder = tempfile::Builder::new()
            .prefix("sheer-test-")
            .tempdir_in("/tmp")
            .expect("a folder in /tmp");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
        // Where an ordinary user can reach it, wherever the checkout lies.
        // By another program: a file that this one wrote might still be open in a process that another test is about to start.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_sheer"))
            .arg(folder.path().join("sheer"))
            .status();
        assert!(copied.expect("cp runs").success(), "the program is copied");
        for beside in ["sheer-proxy", "bank"] {
            let program = Path::new(env!("CARGO_BIN_EXE_sheer")).with_file_name(beside);
            if program.exists() {
                let copied = Command::new("cp").arg(program).arg(folder.path()).status();
                assert!(copied.expect("cp runs").success(), "{beside} is copied");
            }
        }
        fs::create_dir(folder.path().join("manifests")).expect("a folder");
        Self {
            state: folder.path().join("state"),
            folder,
            user,
            wrapper: Vec::new(),
            up: Mutex::new(None),
        }
    }

    /// The same with another state directory, below the mesh's folder.
    pub(crate) fn with_state(mut self, name: &str) -> Self {
        self.state = self.folder.path().join(name);
        self
    }

    /// The same with a program before each command of `sheer`, which must end by executing its last arguments.
    pub(crate) fn wrapped(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Writes a manifest.
    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.folder.path().join("manifests").join(name);
        let new = self.folder.path().join(".new");
        fs::write(&new, text).expect("written");
        fs::rename(new, path).expect("in place");
        self
    }

    /// Removes a manifest.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.folder.path().join("manifests").join(name)).expect("removed");
    }

    /// Where everything of this test lies, and where commands of its mesh start.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// Where its manifests lie.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// A command of `sheer`, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let sheer = self.folder.path().join("sheer");
        let mut command = match self.wrapper.split_first() {
            None => Command::new(sheer),
            Some((wrapper, words)) => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(sheer);
                command
            }
        };
        command
            .arg("--state")
            .arg(self.state())
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        if self.user == User::Ordinary && is_root() {
            command.uid(NOBODY).gid(NOBODY).env("HOME", self.folder.path());
            // As an ordinary user's on Debian: without the folders of system programs.
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        command
    }

    /// Starts the mesh in the background of the test; returns when everything is ready.
    pub(crate) fn up(&self) -> &Self {
        let manifests = self.manifests();
        let log = fs::File::create(self.folder.path().join("up.log")).expect("a log");
        let child = self
            .command(&["up", "-f", &manifests.to_string_lossy()])
            .stderr(log)
            .spawn()
            .expect("sheer up starts");
        *self.up.lock().expect("no test panicked here") = Some(child);
        self.wait("everything is ready", || {
            self.up_log().contains(" ready after ").then_some(())
        });
        self
    }

    /// What `sheer up` said so far.
    pub(crate) fn up_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    /// The process that `sheer up` is.
    pub(crate) fn outer(&self) -> i32 {
        self.up
            .lock()
            .expect("no test panicked here")
            .as_ref()
            .expect("the mesh was started")
            .id() as i32
    }

    /// Waits for the end of `sheer up`.
    pub(crate) fn wait_outer(&self) -> ExitStatus {
        let child = self.up.lock().expect("no test panicked here").take();
        child.expect("the mesh was started").wait().expect("it ends")
    }

    /// Runs a command of `sheer`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("sheer runs")
    }

    /// Runs a command that must succeed; its stdout.
    pub(crate) fn sheer(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "sheer {arguments:?}: {} {stderr}\nup said:\n{}",
            output.status,
            self.up_log()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell command in a workload; its stdout, whatever its exit code.
    pub(crate) fn shell(&self, workload: &str, script: &str) -> String {
        let output = self.run(&["exec", workload, "--", "sh", "-c", script]);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Taps requests of namespace shop while something happens again and again, until a line is the one that is looked for.
    pub(crate) fn tap(&self, arguments: &[&str], happens: impl Fn(), found: impl Fn(&Value) -> bool) -> Value {
        let mut tap = self
            .command(&[&["tap", "-n", "shop", "-o", "json"], arguments].concat())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sheer runs");
        let out = std::io::BufReader::new(tap.stdout.take().expect("a pipe"));
        let (lines, seen) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let line = self.wait(&format!("tap {arguments:?} shows it"), || {
            happens();
            for line in seen.try_iter() {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if found(&line) {
                    return Some(line);
                }
            }
            None
        });
        let _ = tap.kill();
        let _ = tap.wait();
        line
    }

    /// `sheer ps -o json`.
    pub(crate) fn ps(&self) -> Value {
        serde_json::from_slice(&self.run(&["ps", "-o", "json"]).stdout).expect("ps prints JSON")
    }

    /// Ready pods of a workload, by name.
    pub(crate) fn ready_pods(&self, workload: &str) -> Vec<String> {
        let ps = self.ps();
        let pods = ps["pods"]
            .as_array()
            .expect("pods")
            .iter()
            .filter(|pod| pod["workload"] == workload && pod["ready"] == true);
        pods.map(|pod| pod["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// Waits until something is there.
    pub(crate) fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            let ps = || String::from_utf8_lossy(&self.run(&["ps", "-o", "wide"]).stdout).into_owned();
            assert!(
                Instant::now() < until,
                "not within {PATIENCE:?}: {what}\nup said:\n{}\n{}",
                self.up_log(),
                ps()
            );
            pause();
        }
    }

    /// Processes that belong to this mesh, seen from outside.
    pub(crate) fn processes(&self) -> Vec<String> {
        let marker = self.folder.path().to_string_lossy().into_owned();
        let pids = fs::read_dir("/proc").expect("/proc").flatten().filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                && entry.file_name() != *std::process::id().to_string()
        });
        pids.filter_map(|entry| {
            let folder = entry.path();
            let exe = fs::read_link(folder.join("exe")).ok()?.to_string_lossy().into_owned();
            let cwd = fs::read_link(folder.join("cwd"))
                .map(|cwd| cwd.to_string_lossy().into_owned())
                .unwrap_or_default();
            (exe.starts_with(&marker) || cwd.starts_with(&marker))
                .then(|| format!("{} {exe}", entry.file_name().to_string_lossy()))
        })
        .collect()
    }

    /// The process in one of the roles of a mesh.
    pub(crate) fn role(&self, role: &str) -> i32 {
        let is = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line == format!("sheer\0mesh-process\0{role}\0").as_bytes())
        };
        let mut pids = self
            .processes()
            .into_iter()
            .filter_map(|line| line.split(' ').next()?.parse().ok());
        pids.find(is).unwrap_or_else(|| panic!("no process in the role {role}"))
    }

    /// The process ids of a workload's containers.
    pub(crate) fn pids(&self, workload: &str) -> Vec<Value> {
        let ps = self.ps();
        let pods = ps["pods"].as_array().expect("pods").iter();
        pods.filter(|pod| pod["workload"] == workload)
            .map(|pod| pod["containers"][0]["pid"].clone())
            .collect()
    }

    /// Asserts that nothing of the mesh is left: process, socket, status.
    pub(crate) fn assert_gone(&self) {
        self.wait("every process is gone", || self.processes().is_empty().then_some(()));
        for folder in ["run", "status/pods", "status/services"] {
            let left: Vec<_> = fs::read_dir(self.state().join(folder))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

/// Last lines of each log that a failed test shows.
const LAST_LINES: usize = 20;

/// Prints the ends of the control plane's and the sidecars' logs below a folder: of a failure that nobody can repeat they are all there is.
fn print_logs(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_of_mesh = ["control.log", "sheer-proxy.log"]
            .iter()
            .any(|name| path.ends_with(name));
        if path.is_dir() {
            print_logs(&path);
        } else if is_of_mesh && let Ok(text) = fs::read_to_string(&path) {
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            println!("---- {}\n{}", path.display(), last.join("\n"));
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_logs(&self.state.join("logs"));
        }
        if let Ok(Some(mut child)) = self.up.lock().map(|mut up| up.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A shell on a machine's own network, for what must not change there.
pub(crate) fn host_network() -> String {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let links = run("ip", &["-o", "link"]);
    let names: Vec<&str> = links.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    names.join(" ") + &run("nft", &["list", "tables"])
}

/// A port of the host that nobody else in this test run has.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = NEXT.fetch_add(1, Ordering::Relaxed);
    (0..200)
        .map(|attempt| 20_000 + (std::process::id() as u16 % 100) * 100 + (offset * 7 + attempt) % 100)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[expect(clippy::disallowed_methods, reason = "a test thread that waits for processes")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(30));
}

/// Names at once everything that the machine lacks.
fn check_machine() {
    let needed = [
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("python3", "python3"),
        ("curl", "curl"),
    ];
    let paths = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|(program, _)| !paths.iter().any(|path| Path::new(path).join(program).exists()))
        .map(|(_, package)| package)
        .collect();
    assert!(
        missing.is_empty(),
        "the kernel tests need these packages: {}",
        missing.join(" ")
    );
}

/// An HTTP server that answers with its host name and the client's address, and dies on `/die`. With QUICK in its environment no answer waits for the
/// acknowledgement of its head.
const SERVER: &str = r#"
import http.server, os, signal, socket, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = "QUICK" in os.environ
    def do_GET(self):
        if self.path == "/die": os._exit(3)
        body = (os.environ.get("GREETING", "") + socket.gethostname() + " " + self.client_address[0] + "\n").encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200); self.send_header("content-type", self.headers.get("content-type", "text/plain"))
        self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): print("served", self.path, flush=True)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
server = Server(("::", 8080), Handler)
signal.signal(signal.SIGTERM, lambda *args: threading.Thread(target=server.shutdown).start())
print("listening", flush=True)
server.serve_forever()
"#;

/// A Deployment of [`SERVER`] and its Service, without sidecars.
pub(crate) fn web(replicas: u32, greeting: &str, annotations: &str) -> String {
    server(replicas, greeting, &format!("sheer.dev/inject: disabled{annotations}"))
}

/// The same with sidecars.
pub(crate) fn meshed_web(replicas: u32) -> String {
    let sidecar = Path::new(env!("CARGO_BIN_EXE_sheer")).with_file_name("sheer-proxy");
    assert!(
        sidecar.exists(),
        "{} is missing: build it with `cargo build --bin sheer-proxy`",
        sidecar.display()
    );
    server(replicas, "", "")
}

fn server(replicas: u32, greeting: &str, annotations: &str) -> String {
    let server = serde_json::to_string(SERVER).expect("a string");
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: shop }}
spec: {{ selector: {{ app: web }}, ports: [{{ name: http, port: 80, targetPort: http }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, namespace: shop }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }}, annotations: {{ {annotations} }} }}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: app
          command: [/usr/bin/python3, -c, {server}]
          env: [{{ name: GREETING, value: "{greeting}" }}]
          ports: [{{ name: http, containerPort: 8080 }}]
          readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
"#
    )
}

/// A pod with a sidecar that does nothing else.
pub(crate) fn meshed_client() -> String {
    client().replace("sheer.dev/inject: disabled", "sheer.dev/inject: enabled")
}

/// A pod that does nothing, to run commands in.
pub(crate) fn client() -> &'static str {
    r#"
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: shop, annotations: { sheer.dev/inject: disabled } }
spec: { containers: [{ name: app, command: [sleep, infinity] }] }
"#
}

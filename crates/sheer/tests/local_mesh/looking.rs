//! Looking into a mesh that runs: packets with what decrypts them, tools in a pod's network, what sidecars log.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::{Mesh, User, meshed_client, meshed_web, pause},
    odd::{SECRET, call, odd},
};

const GET: &str = "curl -sS --fail --max-time 10 -H 'x-planted: s3cret-of-the-client' http://web/captured";

fn mesh(user: User, annotations: &str) -> Mesh {
    let mesh = Mesh::new(user);
    let web = meshed_web(1).replace("annotations: {  }", &format!("annotations: {{ {annotations} }}"));
    assert!(web.contains(annotations));
    mesh.write("web.yaml", &web).write("client.yaml", &meshed_client()).up();
    assert!(mesh.shell("client", GET).contains("web-"));
    mesh
}

/// What tshark makes of a file, told to find TLS on any port as `sheer capture` says.
pub(crate) fn tshark(file: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tshark")
        .args(["-o", "tcp.try_heuristic_first:TRUE"])
        .arg("-r")
        .arg(file)
        .args(arguments)
        .env("HOME", file.parent().expect("a folder"))
        .output()
        .expect("tshark runs: `make test` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Captures while requests are made.
fn capture(mesh: &Mesh, arguments: &[&str]) -> Output {
    let mut all = vec!["capture", "-n", "shop", "--for", "3s"];
    all.extend(arguments);
    let capturing = mesh
        .command(&all)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("sheer runs");
    let end = Instant::now() + std::time::Duration::from_secs(4);
    while Instant::now() < end {
        mesh.shell("client", GET);
        pause();
    }
    capturing.wait_with_output().expect("it ends")
}

fn opens_decrypted(user: User) {
    let mesh = mesh(user, "");
    let file = mesh.folder().join("web.pcapng");
    let output = capture(&mesh, &["deploy/web", "--fresh", "-o", &file.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("can be decrypted: "), "{said}");
    assert!(!said.contains("stay encrypted"), "all were replaced: {said}");

    // Between the sidecars: only TLS without the file's secrets, and HTTP/2 with them.
    let mesh_leg = tshark(
        &file,
        &[
            "-Y",
            "!(ip.addr == 127.0.0.0/8) && http2.headers.path",
            "-T",
            "fields",
            "-e",
            "http2.headers.path",
        ],
    );
    assert!(
        mesh_leg.lines().any(|line| line.contains("/captured")),
        "{mesh_leg}{said}"
    );
    let field = tshark(
        &file,
        &[
            "-Y",
            "!(ip.addr == 127.0.0.0/8) && http2.header.name == \"x-planted\"",
            "-T",
            "fields",
            "-e",
            "http2.header.value",
        ],
    );
    assert!(field.contains("s3cret-of-the-client"), "{field}");
    // Names and comments.
    let names = tshark(&file, &["-q", "-z", "hosts"]);
    assert!(names.contains("web-") && names.contains(".shop"), "{names}");
    let comments = tshark(&file, &["-Y", "frame.comment", "-T", "fields", "-e", "frame.comment"]);
    assert!(comments.contains("(2)(3) from sidecar to sidecar"), "{comments}");
    assert!(comments.contains("(4) within web-"), "{comments}");
    // Only its owner reads what opens connections.
    let mode = std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let bare = mesh.folder().join("bare.pcapng");
    capture(
        &mesh,
        &[
            "deploy/web",
            "--no-secrets",
            "--filter",
            "port 8080 and not host 127.0.0.1",
            "-o",
            &bare.display().to_string(),
        ],
    );
    assert_eq!(tshark(&bare, &["-Y", "http2"]), "");
    assert_eq!(tshark(&bare, &["-Y", "tcp.port != 8080"]), "");
    assert!(tshark(&bare, &["-Y", "tls"]).lines().count() > 2);
    let contains = |file: &Path, text: &[u8]| {
        std::fs::read(file)
            .expect("the file")
            .windows(text.len())
            .any(|bytes| bytes == text)
    };
    assert!(contains(&file, b"CLIENT_TRAFFIC_SECRET_0 ") && !contains(&bare, b"CLIENT_TRAFFIC_SECRET_0 "));
}

#[test]
fn a_capture_opens_decrypted() {
    opens_decrypted(User::Current);
}

#[test]
fn a_capture_opens_decrypted_for_an_ordinary_user() {
    opens_decrypted(User::Ordinary);
}

/// A message of gRPC: a text, which has no name without descriptors, and the number 4711.
const MESSAGE: &str = r"printf '\000\000\000\000\016\012\011in-a-text\030\347\044'";
/// Of a header, a query, fields of JSON, and of the answer.
const SECRETS: [&str; 5] = [
    "pl4nted-bearer",
    "pl4nted-query",
    "pl4nted-json",
    "planted-answer",
    "in-a-text",
];

/// A mesh with connections that are there before anybody looks.
fn with_grpc() -> Mesh {
    let mesh = Mesh::new(User::Ordinary);
    mesh.write("web.yaml", &meshed_web(1))
        .write("odd.yaml", &odd())
        .write("client.yaml", &meshed_client())
        .up();
    requests(&mesh);
    mesh
}

fn requests(mesh: &Mesh) {
    let secret = "-H 'authorization: Bearer pl4nted-bearer' --data-binary @-";
    let grpc = call(SECRET, "bank.Secret/Tell?access_token=pl4nted-query", secret);
    let json = r#"-H content-type:application/json -d '{"payer":"ada","password":"pl4nted-json"}'"#;
    let post = format!("curl -sS --max-time 10 -o /dev/null {json} http://web/pay");
    let head = "curl -sS --max-time 10 -I http://web/head";
    mesh.shell(
        "client",
        &format!("{post}; {head}; {MESSAGE} | {grpc}; {post} 'http://web/pay/[1-9]' >/dev/null; {post}"),
    );
}

/// A file, opened as the capture says.
struct Opened {
    file: PathBuf,
    options: Vec<String>,
}

impl Opened {
    fn tshark(&self, arguments: &[&str]) -> String {
        let options = self.options.iter().map(String::as_str);
        tshark(
            &self.file,
            &options.chain(arguments.iter().copied()).collect::<Vec<_>>(),
        )
    }

    fn fields(&self, filter: &str, fields: &[&str]) -> String {
        let mut arguments = vec!["-Y", filter, "-T", "fields"];
        fields.iter().for_each(|field| arguments.extend(["-e", *field]));
        self.tshark(&arguments)
    }
}

/// A capture above TLS while requests are made: the file, and what was said.
fn above_tls(mesh: &Mesh, workload: &str, more: &[&str]) -> (Opened, String) {
    let file = mesh.folder().join(format!("{}.pcapng", workload.replace('/', "-")));
    let path = file.display().to_string();
    let arguments = ["capture", "-n", "shop", workload, "--plaintext", "-o", &path];
    let capturing = mesh
        .command(&[&arguments, more].concat())
        .stderr(Stdio::piped())
        .spawn();
    let mut capturing = capturing.expect("sheer runs");
    let mut stderr = BufReader::new(capturing.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("above TLS") {
        let more = stderr.read_line(&mut said).expect("lines");
        assert!(more > 0, "it ended before it began: {said}");
    }
    for _ in 0..3 {
        requests(mesh);
    }
    kill(Pid::from_raw(capturing.id() as i32), Signal::SIGINT).expect("signalled");
    stderr.read_to_string(&mut said).expect("lines");
    let output = capturing.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{said}");
    let bytes = std::fs::read(&file).expect("the file");
    for secret in SECRETS {
        let is_there = bytes.windows(secret.len()).any(|seen| seen == secret.as_bytes());
        assert!(!is_there, "{workload} shows {secret}: {said}");
    }
    let command = said.split("open it with `wireshark ").nth(1).expect("how to open it");
    let options = command.split(' ').take_while(|word| !word.starts_with('/'));
    let options = options.map(str::to_owned).collect();
    (Opened { file, options }, said)
}

#[test]
fn plaintext_opens_without_keys_and_without_secrets() {
    let mesh = with_grpc();
    // Of the caller: from its application, and between the sidecars, on connections that were there.
    let (file, said) = above_tls(&mesh, "pod/client", &[]);
    assert!(said.contains("were open before the capture began"), "{said}");
    let heads = file.fields(
        "http2.headers.method",
        &["http2.headers.method", "http2.headers.path", "ip.dst"],
    );
    assert!(heads.contains("POST\t/bank.Secret/Tell?access_token=hash:"), "{heads}");
    assert!(
        heads.contains("POST\t/pay\t10.77.0."),
        "of HTTP/1, within the mesh: {heads}"
    );
    let statuses = file.fields("http2.headers.status", &["http2.headers.status"]);
    assert!(
        statuses.lines().filter(|status| status.starts_with("200")).count() > 3,
        "{statuses}"
    );
    let messages = file.tshark(&["-Y", "grpc && protobuf", "-V"]);
    assert!(messages.contains("4711") && messages.contains("hash:"), "{messages}");
    let http1 = file.fields("http.request", &["http.request.method", "http.request.uri"]);
    assert!(http1.contains("POST\t/pay") && http1.contains("HEAD\t/head"), "{http1}");
    let json = file.tshark(&["-Y", "json", "-V"]);
    assert!(json.contains("ada") && json.contains("hash:"), "{json}");
    // Readers complain of nothing that was made up.
    let wrong = "_ws.malformed || tcp.analysis.flags || tcp.checksum.status == 0 || ip.checksum.status == 0";
    let checked = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"];
    assert_eq!(file.tshark(&[&checked[..], &["-Y", wrong]].concat()), "");
    assert_eq!(file.tshark(&["-Y", "tls"]), "");
    let comments = file.fields("frame.comment", &["frame.comment"]);
    for leg in ["(1) the application of shop/client", "(2) the sidecar of shop/client"] {
        assert!(comments.contains(leg), "{comments}");
    }
    let mode = std::fs::metadata(&file.file).expect("the file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn plaintext_needs_two_rights_and_says_what_it_leaves_out() {
    let mesh = with_grpc();
    let (file, said) = above_tls(&mesh, "deploy/web", &["--rate", "1"]);
    assert!(
        said.contains("requests beyond the rate are shown without bodies"),
        "{said}"
    );
    let comments = file.fields("frame.comment", &["frame.comment"]);
    for part in ["(3) ", "(4) ", "it was not kept"] {
        assert!(comments.contains(part), "{comments}");
    }
    let path = mesh.folder().join("refused.pcapng").display().to_string();
    for (allowed, missing) in [("capture", "`bodies`"), ("tap,bodies,frames", "`capture`")] {
        let token = mesh.sheer(&[
            "token",
            "--allow",
            allowed,
            "--on",
            "deploy/web",
            "-n",
            "shop",
            "--for",
            "5m",
        ]);
        let of = ["--token", token.trim(), "capture", "-n", "shop", "deploy/web"];
        let refused = mesh.run(&[&of[..], &["--plaintext", "--for", "1s", "-o", &path]].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(missing), "{said}");
    }
    assert!(!Path::new(&path).exists());
    let audit = mesh.sheer(&["logs", "control"]);
    for right in ["capture", "bodies"] {
        let noted = format!("audit: traffic is looked at what=\"plaintext\" right=\"{right}\"");
        assert!(audit.contains(&noted), "{audit}");
    }
}

#[test]
fn plaintext_has_nothing_of_a_hidden_workload() {
    let mesh = mesh(User::Current, "sheer.dev/sight: disabled");
    mesh.write("odd.yaml", &odd());
    mesh.wait("odd is there", || {
        (!mesh.ready_pods("deploy/odd").is_empty()).then_some(())
    });
    let file = mesh.folder().join("client.pcapng");
    let path = file.display().to_string();
    let refused = mesh.run(&[
        "capture",
        "-n",
        "shop",
        "deploy/web",
        "--plaintext",
        "--for",
        "1s",
        "-o",
        &path,
    ]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("sheer.dev/sight: disabled"),
        "{said}"
    );
    // Nor at the other end.
    let arguments = [
        "capture",
        "-n",
        "shop",
        "pod/client",
        "--plaintext",
        "--for",
        "3s",
        "-o",
        &path,
    ];
    let mut capturing = mesh.command(&arguments).spawn().expect("sheer runs");
    while capturing.try_wait().expect("a child").is_none() {
        mesh.shell("client", GET);
        mesh.shell("client", &call(SECRET, "bank.Secret/Tell", ""));
        pause();
    }
    let bytes = std::fs::read(&file).expect("the file");
    let has = |text: &str| bytes.windows(text.len()).any(|seen| seen == text.as_bytes());
    assert!(has("/bank.Secret/Tell"), "what is not hidden is there");
    assert!(!has("/captured") && !has("s3cret-of-the-client"));
}

#[test]
fn fresh_connections_lose_no_request() {
    let mesh = mesh(User::Current, "");
    let load = "for i in $(seq 300); do curl -sS --max-time 10 -o /dev/null -w '%{http_code}\\n' http://web/x; done";
    let load = mesh
        .command(&["exec", "-n", "shop", "pod/client", "--", "sh", "-c", load])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sheer runs");
    for n in 0..3 {
        let file = mesh.folder().join(format!("{n}.pcapng"));
        let output = mesh.run(&[
            "capture",
            "-n",
            "shop",
            "deploy/web",
            "--fresh",
            "--for",
            "500ms",
            "-o",
            &file.display().to_string(),
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let codes = String::from_utf8(load.wait_with_output().expect("it ends").stdout).expect("text");
    assert_eq!(
        (
            codes.lines().count(),
            codes.lines().filter(|code| *code != "200").count()
        ),
        (300, 0)
    );
}

#[test]
fn nobody_looks_where_sight_is_disabled_and_mistakes_cost_nothing() {
    let mesh = mesh(User::Current, "sheer.dev/sight: disabled");
    let file = mesh.folder().join("web.pcapng");
    let path = file.display().to_string();
    let refused = mesh.run(&["capture", "-n", "shop", "deploy/web", "--for", "1s", "-o", &path]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("sheer.dev/sight: disabled"),
        "{said}"
    );
    assert!(!file.exists());

    let misuse = mesh.run(&[
        "capture",
        "-n",
        "shop",
        "pod/client",
        "--filter",
        "port http",
        "-o",
        &path,
    ]);
    assert_eq!(misuse.status.code(), Some(2));
    let said = String::from_utf8_lossy(&misuse.stderr);
    assert!(said.contains("expected a port"), "{said}");
    let nobody = mesh.run(&["capture", "-n", "shop", "deploy/nobody", "-o", &path]);
    assert_eq!(nobody.status.code(), Some(2));
    let nowhere = mesh.run(&["capture", "-n", "shop", "pod/client", "-o", "/nowhere/x.pcapng"]);
    assert_eq!(nowhere.status.code(), Some(1));
}

#[test]
fn the_hosts_tools_see_the_pods_network() {
    let mesh = mesh(User::Ordinary, "");
    let debugged = |command: &[&str]| {
        let mut all = vec!["debug", "-n", "shop", "deploy/web", "--"];
        all.extend(command);
        mesh.sheer(&all)
    };
    assert_ne!(
        debugged(&["readlink", "/proc/self/ns/net"]),
        crate::harness::host_network()
    );
    let listening = debugged(&["ss", "-Htln"]);
    assert!(listening.contains(":4143"), "{listening}");
    assert!(debugged(&["nft", "list", "ruleset"]).contains("redirect"));
    // The host's files, not the pod's; names are the pod's, and the machine's own file stays what it is.
    assert_eq!(
        debugged(&["cat", "/etc/hosts"]),
        std::fs::read_to_string("/etc/hosts").expect("a file")
    );
    let before = std::fs::read_to_string("/etc/resolv.conf").expect("a file");
    assert_eq!(
        debugged(&["cat", "/etc/resolv.conf"]),
        mesh.sheer(&["exec", "-n", "shop", "deploy/web", "--", "cat", "/etc/resolv.conf"])
    );
    assert_eq!(std::fs::read_to_string("/etc/resolv.conf").expect("a file"), before);
    assert!(
        debugged(&["getent", "hosts", "web"]).contains("web"),
        "names of services"
    );
    let failed = mesh.run(&["debug", "-n", "shop", "deploy/web", "--", "sh", "-c", "exit 7"]);
    assert_eq!(failed.status.code(), Some(7));
}

#[test]
fn a_log_level_comes_back_by_itself() {
    let mesh = mesh(User::Current, "");
    let filter = |arguments: &[&str]| {
        let mut all = vec!["log-level", "-n", "shop", "deploy/web", "-o", "json"];
        all.extend(arguments);
        let json: serde_json::Value = serde_json::from_str(&mesh.sheer(&all)).expect("JSON");
        json[0]["filter"].as_str().expect("a filter").to_owned()
    };
    let before = filter(&[]);
    assert_eq!(filter(&["debug", "--for", "2s"]), "debug");
    mesh.shell("client", GET);
    mesh.wait("the filter that held before", || (filter(&[]) == before).then_some(()));
    let logs = mesh.sheer(&["logs", "-n", "shop", "deploy/web", "--proxy"]);
    assert!(logs.contains("DEBUG"), "{logs}");
    let app = mesh.sheer(&["logs", "-n", "shop", "deploy/web", "--app"]);
    assert!(!app.contains("DEBUG"), "{app}");
    let wrong = mesh.run(&["log-level", "-n", "shop", "deploy/web", "sheer_proxy=loud"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("is not a filter"));
    assert!(wrong.stdout.is_empty());
}

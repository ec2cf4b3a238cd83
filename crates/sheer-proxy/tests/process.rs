//! The binary: exit codes, the admin port, signals.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sheer_testkit::control::ControlPlane;
use tokio::time::timeout;

const NAME: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
const PATIENCE: Duration = Duration::from_secs(30);

fn proxy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sheer-proxy"));
    command.env_clear().stderr(Stdio::piped());
    command
}

/// Reads the log up to a line with this text.
async fn logged(child: &mut Child, text: &'static str) -> String {
    let log = child.stderr.take().expect("piped");
    let read = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let line = lines.by_ref().find(|line| line.contains(text));
        // The rest is read too, so that the proxy never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        line
    });
    timeout(PATIENCE, read)
        .await
        .expect("in time")
        .expect("read")
        .unwrap_or_else(|| panic!("{text:?} was not logged"))
}

async fn ended(mut child: Child) -> Option<i32> {
    let wait = tokio::task::spawn_blocking(move || child.wait());
    timeout(PATIENCE, wait)
        .await
        .expect("in time")
        .expect("waited")
        .expect("waited")
        .code()
}

#[test]
fn wrong_settings_exit_with_64_and_name_everything() {
    let output = proxy().env("SHEER_PROXY_WORKERS", "none").output().expect("runs");
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(r#"SHEER_PROXY_WORKERS="none""#), "{text}");
    assert!(text.contains("SHEER_PROXY_IDENTITY_DIR is not set"), "{text}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_0() {
    let plane = ControlPlane::start();
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = proxy()
        .envs(plane.environment(NAME, dir.path()))
        .env("SHEER_PROXY_INBOUND_LISTEN_ADDR", "127.0.0.1:0")
        .env("SHEER_PROXY_OUTBOUND_LISTEN_ADDR", "127.0.0.1:0")
        .env("SHEER_PROXY_LOG_FORMAT", "json")
        .spawn()
        .expect("runs");
    let line = logged(&mut child, r#""message":"ready""#).await;
    assert!(line.contains(NAME), "{line}");
    let terminated = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .expect("kill runs");
    assert!(terminated.success());
    assert_eq!(ended(child).await, Some(0));
}

/// Kubernetes may end a pod that never became ready.
#[tokio::test]
async fn sigterm_ends_a_proxy_that_is_not_ready() {
    let plane = ControlPlane::start();
    plane.set_silent(true);
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = proxy().envs(plane.environment(NAME, dir.path())).spawn().expect("runs");
    logged(&mut child, "connected to the control plane").await;
    let terminated = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .expect("kill runs");
    assert!(terminated.success());
    assert_eq!(ended(child).await, Some(0));
}

#[tokio::test]
async fn log_filter_changes_while_the_proxy_runs() {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    let plane = ControlPlane::start();
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = proxy()
        .envs(plane.environment(NAME, dir.path()))
        .env("SHEER_PROXY_INBOUND_LISTEN_ADDR", "127.0.0.1:0")
        .env("SHEER_PROXY_OUTBOUND_LISTEN_ADDR", "127.0.0.1:0")
        .spawn()
        .expect("runs");
    let line = logged(&mut child, "admin=").await;
    let admin = line
        .split("admin=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("an address");
    let ask = async |method: &str, body: &str| {
        let mut stream = TcpStream::connect(admin).await.expect("connects");
        let length = body.len();
        let head =
            format!("{method} /proxy-log-level HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}");
        stream
            .write_all(format!("{head}\r\n\r\n{body}").as_bytes())
            .await
            .expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    };
    assert!(ask("GET", "").await.ends_with("\r\n\r\nwarn,sheer_proxy=info\n"));
    assert!(ask("PUT", "warn,linkerd=debug").await.starts_with("HTTP/1.1 204"));
    assert!(ask("GET", "").await.ends_with("\r\n\r\nwarn,linkerd=debug\n"));
    assert!(ask("PUT", "sheer_proxy=loud").await.starts_with("HTTP/1.1 400"));
    assert!(ask("GET", "").await.ends_with("\r\n\r\nwarn,linkerd=debug\n"));
    child.kill().expect("killed");
    ended(child).await;
}

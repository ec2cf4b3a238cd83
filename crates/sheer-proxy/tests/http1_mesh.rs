//! HTTP/1 through one sidecar and through two, octet by octet: what is refused and how it is told, limits, tunnels, clients that leave.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[path = "http1_mesh/ends.rs"]
mod ends;
#[path = "http1_mesh/limits.rs"]
mod limits;
#[path = "http1_mesh/marks.rs"]
mod marks;
#[path = "support/pair.rs"]
#[expect(dead_code, reason = "other tests look at traces too")]
mod pair;
#[path = "http1_mesh/refusals.rs"]
mod refusals;
#[path = "support/run.rs"]
mod run;
#[path = "http1_mesh/targets.rs"]
mod targets;
#[path = "http1_mesh/tunnels.rs"]
mod tunnels;

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long anything may take that needs no waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// One and two sidecars.
const EACH: [bool; 2] = [false, true];

async fn say(io: &mut TcpStream, text: &str) {
    io.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until `end` has come, and nothing beyond.
async fn until(io: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    while !read.ends_with(end) {
        match timeout(PATIENCE, io.read_u8()).await {
            Ok(Ok(byte)) => read.push(char::from(byte)),
            Ok(Err(error)) => panic!("{error} after {read:?}, before {end:?}"),
            Err(_) => panic!("nothing more after {read:?}, before {end:?}"),
        }
    }
    read
}

/// Everything up to the end of the connection, and whether that was an orderly one.
async fn rest(io: &mut TcpStream) -> (String, bool) {
    let mut read = Vec::new();
    let ended = timeout(PATIENCE, io.read_to_end(&mut read)).await;
    let ended = ended.unwrap_or_else(|_| panic!("it stays open after {read:?}"));
    (String::from_utf8(read).unwrap(), ended.is_ok())
}

/// Waits until something is so.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

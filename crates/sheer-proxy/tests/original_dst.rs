//! Original destinations, from the kernel itself: a network namespace with a real redirection. Works as root and, in a user
//! namespace, without; needs `unshare`, `ip` and `nft`.

use std::{net::SocketAddr, process::Command};

use sheer_proxy::{addr::OrigDst, sys};
use tokio::net::{TcpListener, TcpStream};

/// Name of the test that runs inside the namespace.
const INSIDE: &str = "inside_a_namespace";

/// What an application connects to, and where the redirection leads.
const PORT: u16 = 4140;

/// As `sheer-local` sets it up: what an application sends goes to the proxy, unless the socket carries the mark.
const RULES: &str = "
table inet mesh {
  chain output {
    type nat hook output priority -100;
    meta mark 7 accept
    tcp dport 8000-9000 redirect to :4140
  }
}";

#[test]
fn original_destinations_survive_redirection() {
    let test = std::env::current_exe().expect("a test is a program");
    let script = "ip link set lo up && ip addr add 10.9.9.9/32 dev lo && ip -6 addr add fd77::9/128 dev lo nodad \
        && echo \"$RULES\" | nft -f - && exec \"$TEST\" --exact \"$INSIDE\" --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", script])
        .env("RULES", RULES)
        .env("TEST", test)
        .env("INSIDE", INSIDE)
        .output()
        .expect("unshare is installed");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "needs the namespace that `original_destinations_survive_redirection` makes for it"]
async fn inside_a_namespace() {
    // One listener for both families: IPv4 connections have mapped addresses on it, and are IPv4 all the same.
    for listen in ["[::]:4140", "0.0.0.0:4140"] {
        let listen: SocketAddr = listen.parse().expect("an address");
        let proxy = sys::listen(listen, sys::ListenOptions::default()).expect("a free port");
        redirected(&proxy, "10.9.9.9:8080").await;
        if listen.is_ipv6() {
            redirected(&proxy, "[fd77::9]:8081").await;
        }
        straight(&proxy).await;
        marked(&proxy).await;
    }
}

/// A redirected connection knows where it was to go.
async fn redirected(proxy: &TcpListener, dst: &str) {
    let dst: SocketAddr = dst.parse().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(dst), proxy.accept());
    let client = client.expect("redirected");
    let (accepted, peer) = accepted.expect("redirected");
    assert_eq!(sys::original_dst(&accepted).expect("tracked"), Some(OrigDst(dst)));
    assert_eq!(sys::canonical(peer), client.local_addr().expect("open"));
}

/// A connection that was meant for the proxy is tracked too, but has no other destination.
async fn straight(proxy: &TcpListener) {
    let dst = SocketAddr::from(([10, 9, 9, 9], PORT));
    let (client, accepted) = tokio::join!(TcpStream::connect(dst), proxy.accept());
    client.expect("listening");
    assert_eq!(
        sys::original_dst(&accepted.expect("listening").0).expect("tracked"),
        None
    );
}

/// The proxy's own connections are not redirected: the mark reaches its real destination, where nobody listens.
async fn marked(proxy: &TcpListener) {
    let dst = SocketAddr::from(([10, 9, 9, 9], 8080));
    tokio::select! {
        biased;
        accepted = proxy.accept() => panic!("redirected in spite of its mark: {accepted:?}"),
        connected = sys::connect(dst, Some(7)) => {
            assert_eq!(connected.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }
}

//! The same as an ordinary user, in a user namespace.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Mesh, User, client, free_port, is_root, web};

#[test]
fn an_ordinary_user_has_a_whole_mesh() {
    let mesh = Mesh::new(User::Ordinary);
    let port = free_port();
    mesh.write(
        "web.yaml",
        &web(2, "", &format!(", sheer.dev/publish: \"{port}:8080\"")),
    )
    .write("client.yaml", client())
    .up();
    assert!(!is_root() || mesh.ps()["rootless"] == true);
    for family in ["-4", "-6"] {
        let answer = mesh.shell("client", &format!("curl {family} -sS --max-time 5 http://web/"));
        assert!(answer.starts_with("web-"), "{answer}");
    }
    assert_eq!(mesh.shell("client", "id -u"), "0\n", "root inside, nobody outside");
    let published = std::process::Command::new("curl")
        .args(["-sS", "--max-time", "5", &format!("http://127.0.0.1:{port}/")])
        .output()
        .expect("curl");
    assert!(
        String::from_utf8_lossy(&published.stdout).starts_with("web-"),
        "{published:?}"
    );
    assert_eq!(
        mesh.run(&["exec", "client", "--", "sh", "-c", "exit 9"]).status.code(),
        Some(9)
    );
    mesh.sheer(&["down"]);
    mesh.assert_gone();
}

#[test]
fn a_killed_rootless_mesh_leaves_nothing() {
    let mesh = Mesh::new(User::Ordinary);
    mesh.write("web.yaml", &web(1, "", "")).up();
    kill(Pid::from_raw(mesh.outer()), Signal::SIGKILL).expect("killed");
    mesh.wait_outer();
    mesh.wait("nothing runs", || mesh.processes().is_empty().then_some(()));
    mesh.sheer(&["down"]);
    mesh.assert_gone();
}

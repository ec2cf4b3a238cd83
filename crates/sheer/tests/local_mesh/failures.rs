//! What goes wrong on real machines: strict umasks, deep folders, files that are half written, ports that are taken, a control plane that
//! cannot start.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::harness::{Mesh, User, client, free_port, is_root, meshed_client, meshed_web, web};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

#[test]
fn sidecars_start_whatever_the_umask() {
    let mesh = Mesh::new(User::Current).wrapped(&["sh", "-c", "umask 077; exec \"$0\" \"$@\""]);
    // As a build under that umask leaves it.
    mode(&mesh.folder().join("sheer-proxy"), 0o700);
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", &meshed_client())
        .up();
    let answer = mesh.shell("client", "curl -sS --max-time 10 http://web/");
    assert!(answer.starts_with("web-"), "{answer}");
    mesh.sheer(&["down"]);
    mesh.assert_gone();
}

/// A path of a unix socket has 107 bytes at most.
#[test]
fn a_mesh_works_however_deep_its_state_lies() {
    let mesh = Mesh::new(User::Current).with_state(&"d".repeat(120));
    mesh.write("web.yaml", &meshed_web(1)).up();
    mesh.sheer(&["check"]);
    mesh.sheer(&["endpoints", "web:80"]);
    let undefined = mesh.run(&["endpoints", "web:9999"]);
    assert_eq!(undefined.status.code(), Some(1));
    let said = text(&undefined.stderr);
    assert!(
        said.contains("service web of namespace shop has no port 9999; it has 80 (http)"),
        "{said}"
    );
    mesh.sheer(&["down"]);
    mesh.assert_gone();
}

#[test]
fn a_control_plane_that_cannot_start_is_heard() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", &meshed_client()).up();
    mesh.sheer(&["down"]);
    mesh.wait_outer();
    mode(&mesh.state().join("identity/anchor.key"), 0o644);
    // Without the anchor's key nothing can be made anew.
    let why = "a private key that others may read";
    let manifests = mesh.manifests();
    let up = mesh.run(&["up", "-f", &manifests.to_string_lossy(), "--detach", "--wait", "3"]);
    assert_eq!(up.status.code(), Some(1));
    assert!(text(&up.stderr).contains(why), "{}", text(&up.stderr));
    mesh.wait("ps says it too", || {
        text(&mesh.run(&["ps"]).stderr).contains(why).then_some(())
    });
    mode(&mesh.state().join("identity/anchor.key"), 0o600);
    mesh.wait("it recovers", || {
        (mesh.ready_pods("pod/client").len() == 1).then_some(())
    });
    // Its log is not a second one's, which is refused.
    let log = mesh.state().join("logs/supervisor.log");
    let before = fs::read_to_string(&log).expect("a log");
    assert!(before.contains(why), "{before}");
    let second = mesh.run(&["up", "-f", &manifests.to_string_lossy(), "--detach"]);
    assert!(text(&second.stderr).contains("a mesh runs already"), "{second:?}");
    assert!(fs::read_to_string(&log).expect("a log").starts_with(&before));
    mesh.sheer(&["down"]);
    mesh.assert_gone();
}

#[test]
fn a_port_that_is_taken_is_published_once_it_is_free() {
    let mesh = Mesh::new(User::Current);
    let port = free_port();
    let other = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    mesh.write(
        "web.yaml",
        &web(1, "", &format!(", sheer.dev/publish: \"{port}:8080\"")),
    )
    .up();
    mesh.wait("it is said", || {
        mesh.up_log()
            .contains(&format!("127.0.0.1:{port} cannot be published"))
            .then_some(())
    });
    mesh.wait("ps knows it", || {
        mesh.ps()["published"][0]["problem"].is_string().then_some(())
    });
    assert!(mesh.sheer(&["ps"]).contains(&format!("127.0.0.1:{port} is not open")));
    drop(other);
    mesh.wait("it is published", || {
        mesh.up_log()
            .contains(&format!("127.0.0.1:{port} is published now"))
            .then_some(())
    });
    let get = Command::new("curl")
        .args(["-sS", "--max-time", "5", &format!("http://127.0.0.1:{port}/")])
        .output()
        .expect("curl");
    assert!(text(&get.stdout).starts_with("web-"), "{get:?}");
    mesh.wait("ps knows it", || {
        mesh.ps()["published"][0]["problem"].is_null().then_some(())
    });
}

/// Shells and editors that do not write by renaming leave a file empty for a moment.
#[test]
fn a_file_that_is_being_written_takes_no_pod_away() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(1, "", ""))
        .write("client.yaml", client())
        .up();
    let before = mesh.pids("deploy/web");
    for round in 0..3 {
        let script = "cp web.yaml ../save; : > web.yaml; sleep 0.1; cat ../save > web.yaml";
        let saved = Command::new("sh")
            .args(["-c", script])
            .current_dir(mesh.manifests())
            .status();
        assert!(saved.expect("sh").success());
        // An edit that comes later was read later.
        let marker = format!("marker-{round}");
        mesh.write(
            "marker.yaml",
            &client().replace("name: client", &format!("name: {marker}")),
        );
        mesh.wait("a later edit was read", || {
            (mesh.ready_pods(&format!("pod/{marker}")).len() == 1).then_some(())
        });
        assert_eq!(mesh.pids("deploy/web"), before, "the same process runs");
    }
}

#[test]
fn a_folder_that_cannot_be_read_keeps_what_it_said() {
    let mesh = Mesh::new(User::Ordinary);
    mesh.write("web.yaml", &web(1, "", "")).up();
    let before = mesh.pids("deploy/web");
    mode(&mesh.manifests(), if is_root() { 0o700 } else { 0o000 });
    mesh.wait("it is said", || mesh.up_log().contains("cannot be read").then_some(()));
    assert_eq!(mesh.pids("deploy/web"), before, "the same process runs");
    mode(&mesh.manifests(), 0o755);
    mesh.write("web.yaml", &web(2, "", ""));
    mesh.wait("an edit is read again", || {
        (mesh.ready_pods("deploy/web").len() == 2).then_some(())
    });
    let said = mesh.shell("deploy/web", "command -v nft && nft list tables");
    assert!(
        said.contains("sheer_services"),
        "tools are found without their folder in PATH: {said}"
    );
}

#[test]
fn what_a_container_left_behind_ends_with_it() {
    let mesh = Mesh::new(User::Current);
    let script = "sleep 4242 & if [ -e begun ]; then exec sleep infinity; fi; touch begun; exit 3";
    mesh.write(
        "client.yaml",
        &client().replace("[sleep, infinity]", &format!("[sh, -c, {script:?}]")),
    )
    .up();
    mesh.wait("it runs again", || {
        let ps = mesh.ps();
        (ps["pods"][0]["restarts"] == 1 && ps["pods"][0]["ready"] == true).then_some(())
    });
    let count = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 424[2]' | wc -l";
    mesh.wait("only the second one's is left", || {
        (mesh.shell("client", count).trim() == "1").then_some(())
    });
}

#[test]
fn a_long_name_is_no_obstacle() {
    let mesh = Mesh::new(User::Current);
    let name = "w".repeat(71);
    let long = meshed_web(1).replace("name: web,", &format!("name: {name},"));
    // The Service's name is a part of a DNS name, which has its own bound.
    let long = long.replacen(&format!("name: {name},"), "name: web,", 1);
    mesh.write("web.yaml", &long)
        .write("client.yaml", &meshed_client())
        .up();
    let answer = mesh.shell("client", "curl -sS --max-time 10 http://web/");
    assert!(answer.starts_with(&format!("{} ", "w".repeat(63))), "{answer}");
}

#[test]
fn processes_have_names() {
    let mesh = Mesh::new(User::Current);
    mesh.write("client.yaml", &meshed_client()).up();
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).expect("a name");
    let roles = ["stage", "init", "supervisor"].map(|role| name(mesh.role(role)));
    assert_eq!(roles, ["sheer-stage\n", "sheer-init\n", "sheer-superviso\n"]);
    assert_eq!(name(mesh.outer()), "sheer\n");
    let control = mesh.ps()["control"]["pid"].clone();
    assert_eq!(
        mesh.shell("client", &format!("cat /proc/{control}/comm")),
        "sheer-control\n"
    );
}

//! Traffic past the sidecar: by port, by network, in one family alone. And the sidecar's own user in a user namespace.

use crate::harness::{Mesh, User, client, is_root, meshed_client, meshed_web};

/// How many requests a workload's sidecars counted in a direction.
fn counted(mesh: &Mesh, pod: &str, direction: &str) -> u64 {
    let metrics = mesh.shell(pod, "curl -sS --max-time 5 http://127.0.0.1:4191/metrics");
    let of = |line: &&str| line.starts_with("request_total{") && line.contains(&format!("direction=\"{direction}\""));
    let lines = metrics.lines().filter(of);
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

fn get(mesh: &Mesh, from: &str, family: &str) {
    let answer = mesh.shell(from, &format!("curl {family} -sS --max-time 10 http://web/"));
    assert!(answer.starts_with("web-"), "{from} {family}: {answer}");
}

fn annotated(manifest: &str, annotation: &str) -> String {
    let meshed = manifest.replace("annotations: {  }", &format!("annotations: {{ {annotation} }}"));
    let meshed = meshed.replace("sheer.dev/inject: enabled", annotation);
    assert!(meshed.contains(annotation), "the manifest has the annotation");
    meshed
}

#[test]
fn skipped_ports_pass_by_the_sidecar_at_either_end() {
    let mesh = Mesh::new(User::Current);
    let other = annotated(&meshed_client(), "config.sheer.dev/skip-outbound-ports: \"80\"");
    mesh.write(
        "web.yaml",
        &annotated(&meshed_web(1), "config.sheer.dev/skip-inbound-ports: \"8000-8080\""),
    )
    .write("client.yaml", &meshed_client())
    .write("skipper.yaml", &other.replace("name: client", "name: skipper"))
    .up();
    let web = mesh.ready_pods("deploy/web").remove(0);
    for family in ["-4", "-6"] {
        get(&mesh, "client", family);
        get(&mesh, "skipper", family);
    }
    assert_eq!(
        counted(&mesh, "client", "outbound"),
        2,
        "it goes through its own sidecar"
    );
    assert_eq!(counted(&mesh, "skipper", "outbound"), 0, "it skips its own");
    assert_eq!(counted(&mesh, &web, "inbound"), 0, "the port is skipped");
    // A port that is skipped is none by which a sidecar can be judged.
    mesh.sheer(&["check"]);
    mesh.sheer(&["identity", "deploy/web"]);
}

#[test]
fn a_skipped_network_is_skipped_in_its_family_alone() {
    let mesh = Mesh::new(User::Current);
    let skipper = annotated(
        &meshed_client(),
        "config.sheer.dev/skip-subnets: \"10.77.0.0/16, 10.78.0.0/16\"",
    );
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", &skipper)
        .up();
    let web = mesh.ready_pods("deploy/web").remove(0);
    let before = counted(&mesh, &web, "inbound");
    get(&mesh, "client", "-4");
    assert_eq!(counted(&mesh, "client", "outbound"), 0, "IPv4 is skipped");
    get(&mesh, "client", "-6");
    assert_eq!(counted(&mesh, "client", "outbound"), 1, "IPv6 is not");
    assert!(
        counted(&mesh, &web, "inbound") >= before + 2,
        "the other end skips nothing"
    );
}

/// With subordinate ids an ordinary user's sidecars have a user of their own, and need no mark on their sockets. Only where the tests run as
/// root: the ids are given in a mount namespace of the test's own.
#[test]
fn with_subordinate_ids_sidecars_have_their_own_user() {
    if !is_root() {
        return;
    }
    let give = "mount --bind \"$1\" /etc/subuid && mount --bind \"$1\" /etc/subgid && shift && \
                exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    let ids = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(ids.path(), "nobody:200000:65536\nnogroup:200000:65536\n").expect("written");
    std::fs::set_permissions(ids.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("permissions");
    let needed = ["/etc/subuid", "/etc/subgid", "/usr/bin/newuidmap", "/usr/bin/setpriv"];
    for file in needed {
        assert!(
            std::path::Path::new(file).exists(),
            "{file} is missing: install the package uidmap (and util-linux)"
        );
    }
    let path = ids.path().to_string_lossy().into_owned();
    let mesh = Mesh::new(User::Current).wrapped(&["unshare", "-m", "sh", "-c", give, "sh", &path]);
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", &meshed_client())
        .write("outside.yaml", &client().replace("name: client", "name: outside"))
        .up();
    assert!(mesh.ps()["rootless"] == true);
    for from in ["client", "outside"] {
        get(&mesh, from, "-4");
        get(&mesh, from, "-6");
    }
    let ps = mesh.ps();
    let pods = ps["pods"].as_array().expect("pods");
    let sidecar = pods
        .iter()
        .find_map(|pod| pod["sidecar"]["pid"].as_u64())
        .expect("a sidecar");
    let status = mesh.shell("outside", &format!("grep ^Uid: /proc/{sidecar}/status"));
    assert!(status.contains("2102"), "it runs as the sidecar's user: {status}");
    let rules = mesh.shell("client", "nft list ruleset");
    assert!(rules.contains("skuid 2102"), "and is exempt by it: {rules}");
    mesh.sheer(&["down"]);
    mesh.assert_gone();
}

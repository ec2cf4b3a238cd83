//! Addresses, names, virtual addresses, published ports: what a workload sees of the network.

use crate::harness::{Mesh, User, client, free_port, host_network, web};

#[test]
fn workloads_find_each_other_by_every_name_and_family() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(2, "", ""))
        .write("client.yaml", client())
        .up();
    for name in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
        for family in ["-4", "-6"] {
            let answer = mesh.shell("client", &format!("curl {family} -sS --max-time 5 http://{name}/"));
            assert!(answer.starts_with("web-"), "{family} {name}: {answer}");
        }
    }
    let client_ip = mesh.shell("client", "hostname -i");
    assert!(client_ip.contains("10.77.0."), "{client_ip}");
    let seen = mesh.shell("client", "curl -4 -sS http://web/");
    let own = client_ip
        .split_whitespace()
        .find(|ip| ip.starts_with("10."))
        .expect("an IPv4 address");
    assert!(
        seen.trim_end().ends_with(&format!("::ffff:{own}")),
        "the server sees the client's own address: {seen}"
    );
}

#[test]
fn both_replicas_get_traffic_and_nothing_else_is_reachable() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(2, "", ""))
        .write("client.yaml", client())
        .up();
    let answers = mesh.shell("client", "for i in $(seq 40); do curl -sS http://web/; done");
    let mut pods: Vec<&str> = answers.lines().filter_map(|line| line.split(' ').next()).collect();
    pods.sort_unstable();
    pods.dedup();
    assert_eq!(pods.len(), 2, "{answers}");
    let fails = |script: &str, expected: &str| {
        let said = mesh.shell("client", script);
        assert!(said.contains(expected), "{script}: {said}");
    };
    // At once, not after a timeout: --max-time would say otherwise.
    fails("curl -sS --max-time 3 http://example.com/", "Could not resolve host");
    fails("curl -sS --max-time 3 http://10.78.77.77/", "curl: (7)");
    fails("curl -sS --max-time 3 http://192.0.2.1/", "curl: (7)");
}

#[test]
fn a_service_without_endpoints_refuses_and_recovers() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(0, "", ""))
        .write("client.yaml", client())
        .up();
    let refused = mesh.shell("client", "curl -sS --max-time 3 http://web/");
    assert!(refused.contains("curl: (7)"), "{refused}");
    mesh.sheer(&["scale", "deploy/web", "--replicas", "1"]);
    mesh.wait("the service answers", || {
        mesh.shell("client", "curl -sS --max-time 3 http://web/")
            .starts_with("web-")
            .then_some(())
    });
}

#[test]
fn a_published_port_leads_in_and_the_host_is_left_alone() {
    let before = host_network();
    let mesh = Mesh::new(User::Current);
    let port = free_port();
    mesh.write(
        "web.yaml",
        &web(1, "hello ", &format!(", sheer.dev/publish: \"{port}:8080\"")),
    )
    .up();
    let url = format!("http://127.0.0.1:{port}/");
    let get = || {
        std::process::Command::new("curl")
            .args(["-sS", "--max-time", "5", &url])
            .output()
            .expect("curl")
    };
    let answer = String::from_utf8_lossy(&get().stdout).into_owned();
    assert!(answer.starts_with("hello web-"), "{answer}");
    assert_eq!(host_network(), before, "the host has the links and rules that it had");
    mesh.sheer(&["down"]);
    assert!(!get().status.success(), "the port is closed with the mesh");
    mesh.assert_gone();
}

#[test]
fn exec_has_the_pods_environment_and_the_commands_exit_code() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(1, "hi", "")).up();
    let said = mesh.shell(
        "deploy/web",
        "echo $GREETING $HOSTNAME $(hostname); head -1 /etc/resolv.conf",
    );
    let pod = mesh.ready_pods("deploy/web").remove(0);
    assert_eq!(
        said,
        format!("hi {pod} {pod}\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n")
    );
    let code = |script: &str| {
        mesh.run(&["exec", "deploy/web", "--", "sh", "-c", script])
            .status
            .code()
    };
    assert_eq!((code("exit 7"), code("kill -9 $$")), (Some(7), Some(137)));
    assert_eq!(
        mesh.run(&["exec", "web", "--", "no-such-program"]).status.code(),
        Some(127)
    );
    let unknown = mesh.run(&["exec", "deploy/nothing", "--", "true"]);
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("the mesh has shop deploy/web"),
        "{unknown:?}"
    );
}

/// A bridge without a hardware address of its own changes it with its ports, and every pod loses the gateway (DNS, control plane) for
/// seconds.
#[test]
fn the_gateway_stays_reachable_while_pods_come_and_go() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &web(1, "", ""))
        .write("client.yaml", client())
        .up();
    let gateway = || mesh.shell("client", "getent hosts web; ip neigh show 10.77.0.1");
    let before = gateway();
    assert!(before.contains("lladdr 02:73:68:65:65:72"), "{before}");
    for replicas in ["5", "1", "5"] {
        mesh.sheer(&["scale", "deploy/web", "--replicas", replicas]);
        let count: usize = replicas.parse().expect("a number");
        mesh.wait("scaled", || {
            (mesh.ready_pods("deploy/web").len() == count).then_some(())
        });
        let after = gateway();
        assert!(after.contains("lladdr 02:73:68:65:65:72"), "{after}");
    }
}

//! From evidence to points: what is well, what is not, and what to do. Pure.

use sheer_api::v1::{Finding, finding::Severity};

use super::evidence::{Evidence, Mesh, Pod, Proxy};
use super::report::{Category, Mark, Point, Report};
use crate::certificate::{Certificate, moment};
use crate::words;

/// A certificate of the mesh's own that ends sooner than this should be renewed now: 60 days.
const RENEW_BEFORE: i64 = 60 * 24 * 3600;

/// Judges the evidence. Ends after a category without which the next make no sense.
pub(super) fn judge(evidence: &Evidence) -> Report {
    let mut categories = vec![machine(evidence)];
    match &evidence.mesh {
        Err(why) => categories.push(Category {
            name: "supervisor",
            points: vec![not_running(why)],
        }),
        Ok(mesh) => {
            categories.push(Category {
                name: "supervisor",
                points: vec![Point::new("the mesh runs", Mark::Pass, Vec::new(), "")],
            });
            categories.push(control_plane(mesh));
            categories.push(identity(evidence, mesh));
            categories.push(dns(mesh));
            categories.push(workloads(mesh));
            categories.push(data_plane(mesh));
            categories.push(traces(mesh));
        }
    }
    Report(categories)
}

fn machine(evidence: &Evidence) -> Category {
    let points = vec![
        Point::new(
            "the tools that the mesh is built with are installed",
            Mark::Fail,
            evidence.missing_tools.clone(),
            "install the named packages",
        ),
        Point::new(
            "the kernel offers namespaces to this user",
            Mark::Fail,
            evidence.namespaces.clone().err().into_iter().collect(),
            "run as root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)",
        ),
    ];
    Category {
        name: "machine",
        points,
    }
}

fn not_running(why: &str) -> Point {
    Point::new(
        "the mesh runs",
        Mark::Fail,
        vec![why.to_owned()],
        "start one with `sheer demo` or `sheer up -f DIR`",
    )
}

fn same_version<'a>(whose: &str, versions: impl IntoIterator<Item = (String, &'a str)>) -> Point {
    let ours = env!("CARGO_PKG_VERSION");
    let others = versions.into_iter().filter(|(_, version)| *version != ours);
    let details = others
        .map(|(who, version)| format!("{who} is {version}, this command is {ours}"))
        .collect();
    Point::new(
        format!("{whose} version is this command's"),
        Mark::Warn,
        details,
        "run `sheer down`, then start the mesh again",
    )
}

fn control_plane(mesh: &Mesh) -> Category {
    let control = match &mesh.control {
        Ok(control) => control,
        Err(why) => {
            let hint = "proxies keep serving from what they know; see `sheer logs control`";
            let point = Point::new("the control plane answers", Mark::Fail, vec![why.clone()], hint);
            return Category {
                name: "control-plane",
                points: vec![point],
            };
        }
    };
    let of = |severity: Severity| {
        let found = control.findings.iter().filter(|finding| finding.severity() == severity);
        found.map(describe).collect::<Vec<_>>()
    };
    let points = vec![
        Point::new("the control plane answers", Mark::Pass, Vec::new(), ""),
        same_version(
            "the control plane's",
            [("the control plane".to_owned(), control.version.as_str())],
        ),
        Point::new(
            "every manifest can be read",
            Mark::Fail,
            of(Severity::Error),
            "correct the file; until then its last good state is in force",
        ),
        Point::new(
            "every field of the manifests is honoured",
            Mark::Warn,
            of(Severity::Warning),
            "take out what is named, or live without it",
        ),
    ];
    Category {
        name: "control-plane",
        points,
    }
}

fn describe(finding: &Finding) -> String {
    let mut place = finding.file.clone();
    if finding.line > 0 {
        place.push_str(&format!(":{}", finding.line));
    }
    let parts = [
        place,
        finding.object.clone(),
        finding.field.clone(),
        finding.message.clone(),
    ];
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// The issuer signs every certificate of a workload: without it, none is renewed.
fn issuer(not_after: i64, now: i64) -> [Point; 2] {
    let left = not_after - now;
    let line = |wrong: bool| {
        wrong
            .then(|| format!("it ends at {}", moment(not_after)))
            .into_iter()
            .collect()
    };
    [
        Point::new(
            "the issuer's certificate is within its validity",
            Mark::Fail,
            line(left < 0),
            "start the mesh anew: it makes an issuer where the old one has expired",
        ),
        Point::new(
            "the issuer's certificate is valid for 60 days at least",
            Mark::Warn,
            line((0..RENEW_BEFORE).contains(&left)),
            "plan a new issuer",
        ),
    ]
}

fn identity(evidence: &Evidence, mesh: &Mesh) -> Category {
    let name = "identity";
    let anchors = match &mesh.anchors {
        Ok(anchors) => anchors,
        Err(why) => {
            let hint = "the trust anchors are in the state directory, identity/anchors.pem";
            return Category {
                name,
                points: vec![Point::new(
                    "the trust anchors can be read",
                    Mark::Fail,
                    vec![why.clone()],
                    hint,
                )],
            };
        }
    };
    let list = |wrong: &dyn Fn(&Certificate) -> bool| {
        let anchors = anchors.iter().filter(|anchor| wrong(anchor));
        anchors
            .map(|anchor| {
                format!(
                    "{}: {} to {}",
                    anchor.subject,
                    moment(anchor.not_before),
                    moment(anchor.not_after)
                )
            })
            .collect()
    };
    let now = evidence.now;
    let mut points = vec![
        Point::new(
            "the trust anchors are within their validity",
            Mark::Fail,
            list(&|anchor| !anchor.is_valid_at(now)),
            "remove the state directory's identity/ and start the mesh anew",
        ),
        Point::new(
            "the trust anchors are valid for 60 days at least",
            Mark::Warn,
            list(&|anchor| anchor.is_valid_at(now) && anchor.not_after - now < RENEW_BEFORE),
            "plan a new trust anchor",
        ),
    ];
    if let Ok(control) = &mesh.control {
        points.extend(issuer(control.issuer_not_after, now));
    }
    Category { name, points }
}

fn dns(mesh: &Mesh) -> Category {
    let details = mesh.dns.clone().err().into_iter().collect();
    let point = Point::new(
        "service names resolve",
        Mark::Fail,
        details,
        "see `sheer logs control` and the supervisor's log",
    );
    Category {
        name: "dns",
        points: vec![point],
    }
}

fn workloads(mesh: &Mesh) -> Category {
    let not_ready = mesh.pods.iter().filter(|pod| !pod.ready);
    let not_ready = not_ready
        .map(|pod| format!("{} is {}", pod.name(), pod.state))
        .collect();
    let restarted = mesh.pods.iter().filter(|pod| pod.restarts > 0);
    let restarted = restarted
        .map(|pod| {
            format!(
                "{} was started again {}",
                pod.name(),
                words::count(pod.restarts, "time")
            )
        })
        .collect();
    let points = vec![
        Point::new(
            "every workload is ready",
            Mark::Fail,
            not_ready,
            "`sheer logs WORKLOAD` says why",
        ),
        Point::new(
            "no workload had to be started again",
            Mark::Warn,
            restarted,
            "`sheer logs WORKLOAD` says why it ended",
        ),
    ];
    Category {
        name: "workloads",
        points,
    }
}

fn data_plane(mesh: &Mesh) -> Category {
    let proxies: Vec<(&Pod, &Proxy)> = mesh
        .pods
        .iter()
        .filter_map(|pod| Some((pod, pod.proxy.as_ref()?)))
        .collect();
    let each = |wrong: &dyn Fn(&Pod, &Proxy) -> Option<String>| -> Vec<String> {
        let found = proxies
            .iter()
            .filter_map(|(pod, proxy)| Some(format!("{}: {}", pod.name(), wrong(pod, proxy)?)));
        found.collect()
    };
    let versions = proxies
        .iter()
        .filter_map(|(pod, proxy)| Some((pod.name(), proxy.version.as_deref()?)));
    let points = vec![
        Point::new(
            "every proxy is ready",
            Mark::Fail,
            each(&|_, proxy| proxy.ready.clone().err()),
            "a proxy is ready once it has its identity and policy: `sheer logs -c sheer-proxy WORKLOAD` says what is missing",
        ),
        same_version("the proxies'", versions),
        Point::new(
            "traffic to the workloads goes through their proxies",
            Mark::Fail,
            each(&|_, proxy| proxy.redirected.clone().err()),
            "the redirect rules of the pod are gone: `sheer restart WORKLOAD` makes them anew",
        ),
        Point::new(
            "every proxy serves a certificate for its identity, signed by the trust anchor",
            Mark::Fail,
            each(&|_, proxy| proxy.certificate.clone().err()),
            "`sheer identity WORKLOAD` shows it; `sheer restart WORKLOAD` has a new one issued",
        ),
        Point::new(
            "every proxy is connected to the control plane",
            Mark::Fail,
            each(&|_, proxy| lost(proxy)),
            "a proxy keeps serving from what it knows and connects again by itself; see `sheer logs control`",
        ),
        Point::new(
            "no proxy had to survive a panic",
            Mark::Warn,
            each(&|_, proxy| (proxy.panics > 0.0).then(|| words::count(proxy.panics as u64, "panic"))),
            "`sheer logs -c sheer-proxy WORKLOAD` has the backtrace: please report it",
        ),
    ];
    Category {
        name: "data-plane",
        points,
    }
}

/// Traces break where an application does not pass on what it is given: nothing is wrong with its traffic.
fn traces(mesh: &Mesh) -> Category {
    let (findings, why_not) = match &mesh.propagation {
        Ok(findings) => (findings.clone(), Vec::new()),
        Err(why) => (Vec::new(), vec![why.clone()]),
    };
    let mut points = vec![Point::new(
        "applications pass on the trace contexts that they are given",
        Mark::Warn,
        findings,
        "`sheer trace list` shows what there is; docs/tracing.md says how an application passes a context on",
    )];
    if !why_not.is_empty() {
        points.push(Point::new(
            "the control plane says how traces do",
            Mark::Warn,
            why_not,
            "see `sheer logs control`",
        ));
    }
    Category { name: "traces", points }
}

fn lost(proxy: &Proxy) -> Option<String> {
    (!proxy.disconnected.is_empty()).then(|| format!("not connected: {}", proxy.disconnected.join(", ")))
}

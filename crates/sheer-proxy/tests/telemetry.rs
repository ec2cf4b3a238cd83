//! What a proxy tells a fake control plane of its traffic, also while that goes away, comes back, and does not take reports at all.

#[path = "support/run.rs"]
mod run;

use std::{collections::BTreeMap, net::SocketAddr, rc::Rc, time::Duration};

use sheer_api::v1::{SeriesKey, TelemetryPush, Tls};
use sheer_proxy::{addr::ClientAddr, inbound::Inbound, process::Control, settings};
use sheer_testkit::control::ControlPlane;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::spawn_local,
    time::timeout,
};

use run::run;

const NAME: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
/// Less than a whole test has, so that a failure says what was waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy before an application that answers every request with 200.
struct Proxy {
    inbound: Rc<Inbound>,
    app: SocketAddr,
    control: Control,
    _dir: tempfile::TempDir,
}

impl Proxy {
    async fn start(plane: &ControlPlane) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (settings, _) = settings::read(plane.environment(NAME, dir.path())).expect("settings");
        let control = Control::start(settings, None).await.expect("starts");
        timeout(PATIENCE, control.ready()).await.expect("ready in time");
        let parts = control.parts.clone();
        let shard = parts.registry.shard();
        let inbound = Inbound::new(parts.settings, parts.discovery, parts.identity, parts.life, shard);
        let app = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = app.local_addr().expect("bound");
        spawn_local(async move {
            while let Ok((client, _)) = app.accept().await {
                spawn_local(answer(client));
            }
        });
        Self {
            inbound,
            app: addr,
            control,
            _dir: dir,
        }
    }

    /// A client's connection through the proxy.
    async fn connect(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound"))
            .await
            .expect("connects");
        let (accepted, from) = listener.accept().await.expect("accepted");
        let inbound = Rc::clone(&self.inbound);
        spawn_local(inbound.serve_to(accepted, ClientAddr(from), Some(self.app)));
        client
    }

    /// So many requests, one after the other.
    async fn requests(&self, count: usize, path: &str) {
        let mut client = self.connect().await;
        for _ in 0..count {
            let request = format!("GET {path} HTTP/1.1\r\nhost: ledger\r\n\r\n");
            client.write_all(request.as_bytes()).await.expect("written");
            let mut answer = [0; 4096];
            let read = timeout(PATIENCE, client.read(&mut answer))
                .await
                .expect("in time")
                .expect("read");
            assert!(
                answer[..read].starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer[..read])
            );
        }
    }
}

async fn answer(mut client: TcpStream) {
    let mut request = [0; 4096];
    while let Ok(1..) = client.read(&mut request).await {
        let answered = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        if answered.is_err() {
            return;
        }
    }
}

/// Requests in all reports, each report once.
fn requests(reports: &[TelemetryPush]) -> u64 {
    let once: BTreeMap<u64, &TelemetryPush> = reports.iter().map(|report| (report.sequence, report)).collect();
    let series = once.values().flat_map(|report| &report.series);
    series
        .flat_map(|delta| &delta.statuses)
        .map(|status| status.count)
        .sum()
}

async fn wait(reports: &mut watch::Receiver<Vec<TelemetryPush>>, what: impl Fn(&[TelemetryPush]) -> bool) {
    let late = timeout(PATIENCE, reports.wait_for(|reports| what(reports)))
        .await
        .is_err();
    if late {
        panic!("not in time; reports so far: {:#?}", reports.borrow());
    }
}

fn keys(reports: &[TelemetryPush]) -> Vec<&SeriesKey> {
    reports.iter().flat_map(|report| &report.keys).collect()
}

#[test]
fn what_passes_is_told_within_seconds_by_peer() {
    run(async {
        let plane = ControlPlane::start();
        let proxy = Proxy::start(&plane).await;
        proxy.requests(5, "/").await;
        let mut reports = plane.reports();
        wait(&mut reports, |reports| requests(reports) == 5).await;
        let reports = reports.borrow();
        let reporter = reports[0].reporter.as_ref().expect("the first says who reports");
        assert_eq!(
            (reporter.identity.as_str(), reporter.workload.contains("test-0")),
            (NAME, true)
        );
        let key = keys(&reports)[0];
        let peer = key.peer.as_ref().expect("a client");
        assert_eq!((peer.address.as_str(), peer.tls()), ("127.0.0.1", Tls::Plain));
        let delta = &reports
            .iter()
            .find_map(|report| report.series.first())
            .expect("a series");
        let tcp = delta.tcp.as_ref().expect("a connection was opened");
        assert!(
            tcp.opened == 1 && tcp.read_bytes > 0 && tcp.written_bytes > 0,
            "{tcp:?}"
        );
        assert!(delta.latency.as_ref().is_some_and(|latency| latency.sum_micros > 0));
    });
}

#[test]
fn nothing_is_lost_or_counted_twice_while_the_control_plane_is_away() {
    run(async {
        let plane = ControlPlane::start();
        let proxy = Proxy::start(&plane).await;
        let mut reports = plane.reports();
        proxy.requests(3, "/").await;
        wait(&mut reports, |reports| requests(reports) == 3).await;
        // A report is sent and not acknowledged before everything is cut: it comes again. It may have been sent amid the requests, then it has a
        // part of them, and the rest comes later.
        plane.acknowledge(false);
        proxy.requests(4, "/").await;
        wait(&mut reports, |reports| requests(reports) > 3).await;
        plane.go_away();
        proxy.requests(5, "/").await;
        plane.acknowledge(true);
        plane.come_back().await;
        wait(&mut reports, |reports| requests(reports) == 12).await;
        let sequences: Vec<u64> = reports
            .borrow()
            .iter()
            .map(|report| report.sequence)
            .filter(|sequence| *sequence > 0)
            .collect();
        let again = sequences.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert_eq!(again, 1, "{sequences:?}");
        // On the new stream keys are named anew.
        let named = keys(&reports.borrow()).len();
        assert!(named >= 2, "{named}");
    });
}

#[test]
fn paths_are_told_while_somebody_asks() {
    run(async {
        let plane = ControlPlane::start();
        let proxy = Proxy::start(&plane).await;
        let mut reports = plane.reports();
        proxy.requests(1, "/quiet").await;
        wait(&mut reports, |reports| requests(reports) == 1).await;
        assert!(reports.borrow().iter().all(|report| report.paths.is_empty()));
        plane.want_paths(true);
        let mut sent = 1;
        let watched = async {
            loop {
                proxy.requests(1, "/accounts?secret=1").await;
                sent += 1;
                if reports
                    .borrow_and_update()
                    .iter()
                    .any(|report| !report.paths.is_empty())
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, watched).await.expect("told in time");
        let told = reports.borrow();
        let path = told.iter().find_map(|report| report.paths.first()).expect("a path");
        assert_eq!((path.method.as_str(), path.path.as_str()), ("GET", "/accounts"));
    });
}

#[test]
fn a_control_plane_that_takes_no_reports_changes_nothing() {
    run(async {
        let plane = ControlPlane::start_foreign();
        let proxy = Proxy::start(&plane).await;
        proxy.requests(50, "/").await;
        assert!(plane.reports().borrow().is_empty());
    });
}

#[test]
fn the_last_word_is_told_before_the_end() {
    run(async {
        let plane = ControlPlane::start();
        let proxy = Proxy::start(&plane).await;
        let mut reports = plane.reports();
        proxy.requests(1, "/").await;
        wait(&mut reports, |reports| requests(reports) == 1).await;
        proxy.requests(7, "/").await;
        timeout(PATIENCE, proxy.control.drain("the test is over"))
            .await
            .expect("in time");
        assert_eq!(requests(&reports.borrow()), 8);
    });
}

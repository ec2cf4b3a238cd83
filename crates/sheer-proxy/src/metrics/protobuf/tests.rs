//! Read by our own messages, and by Debian's Prometheus.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use super::*;
use crate::metrics::{LabelSet, Registry, Scrape, family::RESPONSE_LATENCY_MS};

/// Two workers that each saw latencies of 1 to 100 ms, with a label that has to be escaped in text. What came before somebody asked for native
/// buckets is known by its classic ones alone.
fn busy(asked_before: bool) -> Registry {
    let registry = Registry::new(Duration::from_secs(600));
    let labels = LabelSet::builder()
        .label("direction", "in\"bound")
        .label("tls", "true")
        .build();
    let histograms = [(); 2].map(|()| registry.shard().histogram(&RESPONSE_LATENCY_MS, &labels));
    if asked_before {
        registry.scrape(Scrape::Protobuf);
    }
    for histogram in histograms {
        (1..=100).for_each(|ms| histogram.record(Duration::from_millis(ms)));
    }
    registry
}

fn families(page: &[u8]) -> Vec<MetricFamily> {
    let (mut page, mut families) = (page, Vec::new());
    while !page.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut page).expect("a family"));
    }
    families
}

#[test]
fn buckets_of_both_kinds_hold_the_same() {
    let registry = busy(false);
    // What came before the first look, and what came after it.
    for (expected, quick) in [(200_u64, 20), (202, 21)] {
        let families = families(&registry.scrape(Scrape::Protobuf));
        let latency = families
            .iter()
            .find(|family| family.name == "response_latency_ms")
            .expect("it is there");
        assert_eq!(latency.kind(), MetricType::Histogram);
        let metric = &latency.metrics[0];
        assert_eq!(
            (metric.labels[0].name.as_str(), metric.labels[0].value.as_str()),
            ("direction", "in\"bound")
        );
        assert_eq!(metric.labels.len(), 2);
        let histogram = metric.histogram.as_ref().expect("a histogram");
        let mut count = 0;
        let native: i64 = histogram
            .positive_deltas
            .iter()
            .map(|delta| {
                count += delta;
                count
            })
            .sum();
        assert_eq!((histogram.sample_count, native), (expected, expected.cast_signed()));
        let spans: u32 = histogram.positive_spans.iter().map(|span| span.length).sum();
        assert_eq!(spans as usize, histogram.positive_deltas.len());
        assert_eq!(
            histogram.buckets.last().map(|last| last.cumulative_count),
            Some(expected)
        );
        let up_to_ten = histogram
            .buckets
            .iter()
            .find(|bucket| bucket.upper_bound.total_cmp(&10.0).is_eq());
        assert_eq!(up_to_ten.map(|bucket| bucket.cumulative_count), Some(quick));
        let labels = LabelSet::builder()
            .label("direction", "in\"bound")
            .label("tls", "true")
            .build();
        let shard = registry.shard();
        [3, 70].into_iter().for_each(|ms| {
            shard
                .histogram(&RESPONSE_LATENCY_MS, &labels)
                .record(Duration::from_millis(ms))
        });
    }
}

#[test]
fn runs_of_buckets_are_told_with_their_gaps() {
    let (spans, deltas) = spans([(-3, 5), (-2, 7), (4, 7), (5, 1)].into_iter());
    let told: Vec<_> = spans.iter().map(|span| (span.offset, span.length)).collect();
    assert_eq!(told, [(-3, 2), (5, 2)]);
    assert_eq!(deltas, [5, 2, 0, -6]);
}

/// Ends with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers every scrape as the admin server does.
fn serve(registry: Registry) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let lines = BufReader::new(connection.try_clone().expect("a socket")).lines();
            let head: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let accept = head.iter().find_map(|line| line.strip_prefix("Accept: "));
            let scrape = Scrape::from_accept(accept);
            let page = registry.scrape(scrape);
            let kind = scrape.content_type();
            let length = page.len();
            let _ = write!(
                connection,
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let _ = connection.write_all(&page);
        }
    });
    addr
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound")
}

fn query(addr: SocketAddr, query: &str) -> Option<Json> {
    let mut connection = TcpStream::connect(addr).ok()?;
    write!(
        connection,
        "GET /api/v1/query?query={query} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let body: Json = serde_json::from_str(body).ok()?;
    body["data"]["result"].get(0).cloned()
}

/// A Prometheus with native histograms asks for them, takes them, and finds quantiles in them that are as near as their buckets are narrow.
#[test]
fn debians_prometheus_takes_native_histograms() {
    let folder = tempfile::tempdir().expect("a folder");
    let (page, own) = (serve(busy(true)), free_port());
    let config = folder.path().join("prometheus.yml");
    let scrape = format!(
        "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
         scrape_configs: [{{ job_name: p, static_configs: [{{ targets: [\"{page}\"] }}] }}]\n"
    );
    fs::write(&config, scrape).expect("written");
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={own}"))
        .arg("--enable-feature=native-histograms")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _prometheus = Prometheus(prometheus.expect("prometheus, of Debian's package: `make setup-test` installs it"));
    let deadline = Instant::now() + Duration::from_secs(60);
    let histogram = loop {
        if let Some(sample) = query(own, "response_latency_ms") {
            break sample["histogram"][1].clone();
        }
        assert!(Instant::now() < deadline, "Prometheus has no histogram");
        std::thread::park_timeout(Duration::from_millis(50));
    };
    assert_eq!(
        (histogram["count"].as_str(), histogram["sum"].as_str()),
        (Some("200"), Some("10100"))
    );
    for (quantile, expected) in [("0.5", 50.0), ("0.95", 95.0), ("0.99", 99.0)] {
        let sample = query(own, &format!("histogram_quantile({quantile},response_latency_ms)")).expect("a number");
        let found: f64 = sample["value"][1]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a number");
        assert!(
            (found / expected).max(expected / found) < 1.091,
            "{quantile}: {found} for {expected}"
        );
    }
    // Everything else is there as ever.
    let build = query(own, "up").expect("it was scraped");
    assert_eq!(build["value"][1], "1");
}

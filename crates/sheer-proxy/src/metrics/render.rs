//! The text of a scrape.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use ahash::AHashMap;

use super::{
    cell::Exemplar,
    family::{self, Bounds, Kind},
    labels::LabelSet,
    process,
    registry::{Cell, Registry, by_family},
};

/// Which text a scraper asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a scraper's `Accept` asks for.
    pub fn from_accept(accept: Option<&str>) -> Self {
        let asked = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if asked { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of the text.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A series summed over the shards.
enum Sum {
    Count(u64),
    Level(i64),
    Buckets {
        bounds: &'static Bounds,
        buckets: Vec<u64>,
        micros: u64,
        /// By bucket, where any has one.
        exemplars: Vec<Option<Exemplar>>,
    },
}

impl Registry {
    /// Everything, as text. Forgets idle series first.
    pub fn render(&self, format: Format) -> String {
        self.sweep(Instant::now());
        let mut families: AHashMap<&str, BTreeMap<LabelSet, Sum>> = AHashMap::new();
        for (key, cell) in self.collect() {
            add(families.entry(key.family.name).or_default(), key.labels, &cell);
        }
        add_overflow(&mut families);
        for reading in self.readings() {
            let series = families.entry(reading.family.name).or_default();
            series.insert(reading.labels, Sum::Level(reading.value));
        }
        let mut page = Page {
            text: String::with_capacity(64 * 1024),
            format,
        };
        for family in family::ALL {
            let Some(series) = families.get(family.name) else {
                continue;
            };
            page.head(family.name, family.help, kind_name(family.kind));
            for (labels, sum) in series {
                page.series(family.name, labels.as_str(), sum);
            }
        }
        for sample in process::samples() {
            page.head(sample.name, sample.help, sample.kind);
            page.line(sample.name, "", &sample.value.to_string());
        }
        if format == Format::OpenMetrics {
            page.text.push_str("# EOF\n");
        }
        page.text
    }
}

/// Every family that can overflow says how often it did from the start: a counter that begins above zero has no increase that an alert could see.
fn add_overflow(families: &mut AHashMap<&str, BTreeMap<LabelSet, Sum>>) {
    let overflow = family::SHEER_METRICS_OVERFLOW_TOTAL.name;
    let named: Vec<&str> = families.keys().copied().filter(|name| *name != overflow).collect();
    let series = families.entry(overflow).or_default();
    for name in named {
        series.entry(by_family(name)).or_insert(Sum::Count(0));
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

fn add(series: &mut BTreeMap<LabelSet, Sum>, labels: LabelSet, cell: &Cell) {
    let sum = series.entry(labels).or_insert_with(|| match cell {
        Cell::Counter(_) => Sum::Count(0),
        Cell::Gauge(_) => Sum::Level(0),
        Cell::Histogram(histogram) => {
            let bounds = histogram.bounds();
            Sum::Buckets {
                bounds,
                buckets: vec![0; bounds.micros.len() + 1],
                micros: 0,
                exemplars: Vec::new(),
            }
        }
    });
    match (sum, cell) {
        (Sum::Count(sum), Cell::Counter(counter)) => *sum += counter.value(),
        (Sum::Level(sum), Cell::Gauge(gauge)) => *sum += gauge.value(),
        (
            Sum::Buckets {
                buckets,
                micros,
                exemplars,
                ..
            },
            Cell::Histogram(histogram),
        ) => {
            histogram.add_to(buckets, micros);
            histogram.add_exemplars_to(exemplars);
        }
        // A family has one kind.
        _ => {}
    }
}

struct Page {
    text: String,
    format: Format,
}

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // OpenMetrics names a counter's family without the suffix of its series.
        let name = match self.format {
            Format::OpenMetrics if kind == "counter" => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn series(&mut self, name: &str, labels: &str, sum: &Sum) {
        match sum {
            Sum::Count(count) => self.line(name, labels, itoa::Buffer::new().format(*count)),
            Sum::Level(level) => self.line(name, labels, itoa::Buffer::new().format(*level)),
            Sum::Buckets {
                bounds,
                buckets,
                micros,
                exemplars,
            } => self.histogram(name, labels, bounds, (buckets, *micros, exemplars)),
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        bounds: &Bounds,
        (buckets, micros, exemplars): (&[u64], u64, &[Option<Exemplar>]),
    ) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (index, bucket) in buckets.iter().enumerate() {
            count += bucket;
            let bound = match bounds.micros.get(index) {
                Some(bound) => in_unit(*bound, bounds),
                None => "+Inf".to_owned(),
            };
            let _ = write!(self.text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
            if let (Format::OpenMetrics, Some(Some(exemplar))) = (self.format, exemplars.get(index)) {
                let Exemplar { trace, micros, at } = exemplar;
                let trace = u128::from_be_bytes(*trace);
                let value = in_unit(*micros, bounds);
                let _ = write!(self.text, " # {{trace_id=\"{trace:032x}\"}} {value} {at:.3}");
            }
            self.text.push('\n');
        }
        self.line(&format!("{name}_sum"), labels, &in_unit(micros, bounds));
        self.line(&format!("{name}_count"), labels, itoa::Buffer::new().format(count));
    }

    fn line(&mut self, name: &str, labels: &str, value: &str) {
        self.text.push_str(name);
        if !labels.is_empty() {
            let _ = write!(self.text, "{{{labels}}}");
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn in_unit(micros: u64, bounds: &Bounds) -> String {
    (micros as f64 / bounds.unit_micros as f64).to_string()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
        time::Duration,
    };

    use sheer_api::Verdict;

    use super::*;
    use crate::{
        discovery::ObjectRef,
        error::Direction,
        exchange::Spoken,
        metrics::{
            BalancerMetrics, DetectMetrics, DetectResult, HttpAuthzMetrics, HttpMetrics, ResponseOutcome, TcpMetrics,
            Tls, describe_build, inbound_labels,
        },
    };

    /// Two workers that saw the same.
    fn busy() -> Registry {
        let registry = Registry::new(Duration::from_secs(600));
        describe_build(registry.control());
        for _ in 0..2 {
            let shard = registry.shard();
            let labels = inbound_labels(
                ([10, 0, 0, 1], 80).into(),
                &ObjectRef::default(),
                Tls::Mutual(Some("a\"b")),
            );
            let http = HttpMetrics::new(&shard, &labels);
            http.request();
            let latency = Duration::from_micros(1_500);
            http.response(&ResponseOutcome {
                status: 200,
                grpc_status: Some(0),
                success: true,
                error: None,
                latency,
                spoken: Spoken::Grpc,
                trace: None,
            });
            http.response(&ResponseOutcome {
                status: 504,
                grpc_status: None,
                success: false,
                error: Some("x"),
                latency,
                spoken: Spoken::Grpc,
                trace: None,
            });
            let mut open = TcpMetrics::new(&shard, &labels).open();
            open.read(5);
            open.wrote(7);
            open.failed("ECONNRESET");
            HttpAuthzMetrics::new(&shard, &labels).allow.inc();
            BalancerMetrics::http(&shard, &labels).ready.inc();
            DetectMetrics::new(&shard, Direction::Inbound, &labels)
                .record(DetectResult::Http2, Duration::from_millis(3));
            shard.http_error(Direction::Outbound, Verdict::Capacity, "failfast");
        }
        registry
    }

    #[test]
    fn shards_are_summed() {
        let page = busy().render(Format::Prometheus);
        let value = |start: &str| {
            let line = page
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_else(|| panic!("{start} in {page}"));
            line.rsplit_once(' ').expect("a value").1.to_owned()
        };
        assert_eq!(value("request_total{"), "2");
        assert_eq!(value("tcp_open_connections{"), "0");
        assert_eq!(value("response_latency_ms_sum{"), "3");
        assert_eq!(
            value(r#"sheer_errors_total{direction="outbound",verdict="capacity",reason="failfast"}"#),
            "2"
        );
        let buckets: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("response_latency_ms_bucket"))
            .collect();
        assert!(buckets[0].ends_with(r#"le="1"} 0"#), "{}", buckets[0]);
        assert!(buckets[1].ends_with(r#"le="2"} 2"#), "{}", buckets[1]);
        assert!(buckets[25].ends_with(r#"le="+Inf"} 2"#), "{}", buckets[25]);
    }

    /// A trace is shown beside the bucket that it explains, where the scraper understands that.
    #[test]
    fn exemplars_are_in_openmetrics_only() {
        let registry = Registry::new(Duration::from_secs(600));
        let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
        for _ in 0..2 {
            let histogram = registry
                .shard()
                .histogram(&family::RESPONSE_LATENCY_MS, &LabelSet::default());
            histogram.record_traced(Duration::from_micros(1_500), Some(trace));
            histogram.record_traced(Duration::from_micros(7_500), None);
        }
        let page = registry.render(Format::OpenMetrics);
        let with: Vec<_> = page.lines().filter(|line| line.contains(" # ")).collect();
        assert_eq!(with.len(), 1, "{page}");
        assert!(
            with[0].starts_with(
                "response_latency_ms_bucket{le=\"2\"} 2 # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 1.5 "
            ),
            "{}",
            with[0]
        );
        assert!(!registry.render(Format::Prometheus).contains("trace_id"));
    }

    #[test]
    fn openmetrics_names_counters_without_their_suffix() {
        let page = busy().render(Format::OpenMetrics);
        assert!(page.contains("# TYPE request counter\nrequest_total{"), "{page}");
        assert!(page.ends_with("# EOF\n"));
        assert_eq!(
            Format::from_accept(Some("application/openmetrics-text;version=1.0.0,*/*")),
            Format::OpenMetrics
        );
        assert_eq!(Format::from_accept(Some("text/plain")), Format::Prometheus);
    }

    /// What `promtool` still says is about names that are Linkerd's and have to stay.
    #[test]
    fn page_is_valid_for_promtool() {
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut promtool = promtool.expect("promtool, of Debian's package prometheus: `make setup-test` installs it");
        let page = busy().render(Format::Prometheus);
        promtool
            .stdin
            .take()
            .expect("piped")
            .write_all(page.as_bytes())
            .expect("promtool reads");
        let output = promtool.wait_with_output().expect("promtool ends");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        const LINKERDS: &str = "response_latency_ms metric names should not contain abbreviated units";
        let lines: Vec<_> = said.lines().filter(|line| *line != LINKERDS).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
}

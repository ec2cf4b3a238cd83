//! A scrape: what was asked for, the sums over the shards, and the text of it.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _, time::Instant};

use ahash::AHashMap;

use super::{
    cell::Exemplar,
    family::{self, Bounds, Kind},
    labels::LabelSet,
    native, process, protobuf,
    registry::{Cell, Registry, by_family},
};

/// What a scraper asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrape {
    /// Text.
    Text(Format),
    /// Messages of `io.prometheus.client`, which have native histograms: Prometheus asks for them where those are switched on.
    Protobuf,
}

impl Scrape {
    /// What a scraper's `Accept` likes best.
    pub fn from_accept(accept: Option<&str>) -> Self {
        let asked = accept.unwrap_or_default().split(',').enumerate();
        let wanted = asked.filter_map(|(at, range)| {
            let mut parts = range.split(';').map(str::trim);
            let scrape = match parts.next()? {
                "application/vnd.google.protobuf" if range.contains("encoding=delimited") => Self::Protobuf,
                "application/openmetrics-text" => Self::Text(Format::OpenMetrics),
                "text/plain" | "text/*" | "*/*" => Self::Text(Format::Prometheus),
                _ => return None,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            let thousandths = (weight.unwrap_or(1.0).clamp(0.0, 1.0) * 1_000.0) as u16;
            Some((thousandths, Reverse(at), scrape))
        });
        let best = wanted.max_by_key(|(weight, at, _)| (*weight, *at));
        best.map_or(Self::Text(Format::Prometheus), |(.., scrape)| scrape)
    }

    /// The `Content-Type` of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text(Format::Prometheus) => "text/plain; version=0.0.4; charset=utf-8",
            Self::Text(Format::OpenMetrics) => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Which text a scraper asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// A series summed over the shards.
pub(super) enum Sum {
    Count(u64),
    Level(i64),
    Buckets {
        bounds: &'static Bounds,
        buckets: Vec<u64>,
        micros: u64,
        /// By bucket, where any has one.
        exemplars: Vec<Option<Exemplar>>,
        /// Where they were asked for.
        native: Option<native::Reading>,
    },
}

/// Families by name, and their series by labels.
pub(super) type Sums = AHashMap<&'static str, BTreeMap<LabelSet, Sum>>;

impl Registry {
    /// Everything, as it was asked for.
    pub fn scrape(&self, scrape: Scrape) -> Vec<u8> {
        match scrape {
            Scrape::Text(format) => self.render(format).into_bytes(),
            Scrape::Protobuf => protobuf::page(&self.sums(true)),
        }
    }

    /// Everything, summed over the shards. Forgets idle series first.
    fn sums(&self, with_native: bool) -> Sums {
        self.sweep(Instant::now());
        let mut families = Sums::new();
        for (key, cell) in self.collect() {
            let series = families.entry(key.family.name).or_default();
            add(series, key.labels, &cell, with_native);
        }
        add_overflow(&mut families);
        for reading in self.readings() {
            let series = families.entry(reading.family.name).or_default();
            series.insert(reading.labels, Sum::Level(reading.value));
        }
        families
    }

    /// Everything, as text.
    pub fn render(&self, format: Format) -> String {
        let families = self.sums(false);
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
fn add_overflow(families: &mut Sums) {
    let overflow = family::SHEER_METRICS_OVERFLOW_TOTAL.name;
    let named: Vec<&'static str> = families.keys().copied().filter(|name| *name != overflow).collect();
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

fn add(series: &mut BTreeMap<LabelSet, Sum>, labels: LabelSet, cell: &Cell, with_native: bool) {
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
                native: with_native.then(native::Reading::default),
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
                native,
                ..
            },
            Cell::Histogram(histogram),
        ) => {
            histogram.add_to(buckets, micros);
            histogram.add_exemplars_to(exemplars);
            if let Some(native) = native {
                histogram.add_native_to(native);
            }
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
                ..
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
    }

    #[test]
    fn a_scraper_gets_what_it_likes_best() {
        let asked = |accept| Scrape::from_accept(Some(accept));
        assert_eq!(
            asked("application/openmetrics-text;version=1.0.0,*/*"),
            Scrape::Text(Format::OpenMetrics)
        );
        assert_eq!(asked("text/plain"), Scrape::Text(Format::Prometheus));
        assert_eq!(Scrape::from_accept(None), Scrape::Text(Format::Prometheus));
        // Prometheus 2.42 with native histograms, and without.
        assert_eq!(
            asked(
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                 application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            ),
            Scrape::Protobuf
        );
        assert_eq!(
            asked(
                "application/openmetrics-text;version=1.0.0,application/vnd.google.protobuf;encoding=delimited;q=0.3"
            ),
            Scrape::Text(Format::OpenMetrics)
        );
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

//! Counters of requests as a proxy shows them, and what they come to over a time: rates, quantiles, shares.

use super::Sample;

/// Which way traffic goes, seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// What the workload serves.
    Inbound,
    /// What the workload asks of others.
    Outbound,
}

impl Direction {
    const fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Responses in one direction, counted since a proxy began, or between two scrapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Traffic {
    succeeded: f64,
    failed: f64,
    /// Of requests that went to a peer: the others a proxy answered itself, and nothing crossed a connection.
    carried: f64,
    mutual_tls: f64,
    /// Upper bound in milliseconds → responses up to it, rising.
    latency: Vec<(f64, f64)>,
}

impl Traffic {
    /// Sums the series of one direction in a scrape.
    pub(crate) fn of(samples: &[Sample<'_>], direction: Direction) -> Self {
        let mut traffic = Self::default();
        for sample in samples
            .iter()
            .filter(|sample| sample.label("direction") == direction.label())
        {
            match sample.name {
                "response_total" => {
                    let failed = sample.label("classification") == "failure";
                    *(if failed {
                        &mut traffic.failed
                    } else {
                        &mut traffic.succeeded
                    }) += sample.value;
                    match sample.label("tls") {
                        "" => {}
                        tls => {
                            traffic.carried += sample.value;
                            if tls == "true" {
                                traffic.mutual_tls += sample.value;
                            }
                        }
                    }
                }
                "response_latency_ms_bucket" => {
                    if let Ok(bound) = sample.label("le").parse() {
                        traffic.add_bucket(bound, sample.value);
                    }
                }
                _ => {}
            }
        }
        traffic
    }

    fn add_bucket(&mut self, bound: f64, count: f64) {
        match self.latency.binary_search_by(|(known, _)| known.total_cmp(&bound)) {
            Ok(at) => self.latency[at].1 += count,
            Err(at) => self.latency.insert(at, (bound, count)),
        }
    }

    /// Adds what another proxy counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.carried += other.carried;
        self.mutual_tls += other.mutual_tls;
        for (bound, count) in &other.latency {
            self.add_bucket(*bound, *count);
        }
    }

    /// What came after an earlier scrape of the same proxy. A proxy that began anew in between counts from zero.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        if self.responses() < earlier.responses() {
            return self.clone();
        }
        let before = |bound: f64| {
            let at = earlier.latency.binary_search_by(|(known, _)| known.total_cmp(&bound));
            at.map_or(0.0, |at| earlier.latency[at].1)
        };
        Self {
            succeeded: (self.succeeded - earlier.succeeded).max(0.0),
            failed: (self.failed - earlier.failed).max(0.0),
            carried: (self.carried - earlier.carried).max(0.0),
            mutual_tls: (self.mutual_tls - earlier.mutual_tls).max(0.0),
            latency: self
                .latency
                .iter()
                .map(|(bound, count)| (*bound, (count - before(*bound)).max(0.0)))
                .collect(),
        }
    }

    /// Responses that ended.
    pub(crate) fn responses(&self) -> f64 {
        self.succeeded + self.failed
    }

    /// Share of responses that the proxy classified as a success, 0 to 1.
    pub(crate) fn success_rate(&self) -> Option<f64> {
        share(self.succeeded, self.responses())
    }

    /// Share of responses over mutual TLS among those that crossed a connection, 0 to 1.
    pub(crate) fn mtls_share(&self) -> Option<f64> {
        share(self.mutual_tls, self.carried)
    }

    /// The latency in milliseconds that a share of `quantile` does not exceed: linear within a bucket, as Prometheus'
    /// `histogram_quantile`, and the last bound where it lies beyond.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let total = self.latency.last()?.1;
        if total <= 0.0 {
            return None;
        }
        let rank = quantile * total;
        let at = self.latency.iter().position(|(_, count)| *count >= rank)?;
        let (low, below) = if at == 0 { (0.0, 0.0) } else { self.latency[at - 1] };
        let (high, up_to) = self.latency[at];
        if high.is_infinite() {
            return Some(low);
        }
        Some(if up_to > below {
            low + (high - low) * (rank - below) / (up_to - below)
        } else {
            high
        })
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::parse;

    const SCRAPE: &str = "\
response_total{direction=\"inbound\",tls=\"true\",classification=\"success\",status_code=\"200\"} 90
response_total{direction=\"inbound\",tls=\"true\",classification=\"failure\",status_code=\"200\",grpc_status=\"14\"} 5
response_total{direction=\"inbound\",tls=\"no_identity\",classification=\"success\"} 5
response_total{direction=\"outbound\",tls=\"true\",classification=\"failure\"} 7
response_latency_ms_bucket{direction=\"inbound\",tls=\"true\",le=\"1\"} 50
response_latency_ms_bucket{direction=\"inbound\",tls=\"true\",le=\"2\"} 90
response_latency_ms_bucket{direction=\"inbound\",tls=\"true\",le=\"+Inf\"} 95
response_latency_ms_bucket{direction=\"inbound\",tls=\"no_identity\",le=\"1\"} 0
response_latency_ms_bucket{direction=\"inbound\",tls=\"no_identity\",le=\"2\"} 5
response_latency_ms_bucket{direction=\"inbound\",tls=\"no_identity\",le=\"+Inf\"} 5
";

    #[test]
    fn a_direction_sums_its_series() {
        let samples = parse(SCRAPE).unwrap();
        let inbound = Traffic::of(&samples, Direction::Inbound);
        assert_eq!(inbound.responses(), 100.0);
        assert_eq!(inbound.success_rate(), Some(0.95));
        assert_eq!(inbound.mtls_share(), Some(0.95));
        assert_eq!(inbound.quantile(0.5), Some(1.0));
        assert_eq!(inbound.quantile(0.75), Some(1.0 + 25.0 / 45.0));
        assert_eq!(inbound.quantile(0.99), Some(2.0), "beyond the last bound");
        let outbound = Traffic::of(&samples, Direction::Outbound);
        assert_eq!(
            (outbound.responses(), outbound.success_rate(), outbound.quantile(0.5)),
            (7.0, Some(0.0), None)
        );
    }

    /// Fail-fast answers and the like: failures of the workload's requests, and no plaintext on any wire.
    #[test]
    fn what_a_proxy_answered_itself_fails_and_is_not_plaintext() {
        let text = "response_total{direction=\"outbound\",classification=\"failure\",error=\"failfast\"} 30\n\
                    response_total{direction=\"outbound\",tls=\"true\",classification=\"success\"} 10\n";
        let outbound = Traffic::of(&parse(text).unwrap(), Direction::Outbound);
        assert_eq!(
            (outbound.success_rate(), outbound.mtls_share()),
            (Some(0.25), Some(1.0))
        );
    }

    #[test]
    fn nothing_has_neither_rate_nor_quantile() {
        let nothing = Traffic::default();
        assert_eq!(
            (nothing.success_rate(), nothing.mtls_share(), nothing.quantile(0.99)),
            (None, None, None)
        );
    }

    #[test]
    fn between_two_scrapes_only_the_difference_counts() {
        let before = Traffic::of(&parse(SCRAPE).unwrap(), Direction::Inbound);
        let text = SCRAPE.replace("} 90\n", "} 190\n").replace("} 95\n", "} 195\n");
        let after = Traffic::of(&parse(&text).unwrap(), Direction::Inbound);
        let between = after.since(&before);
        assert_eq!((between.responses(), between.success_rate()), (100.0, Some(1.0)));
        assert_eq!(between.quantile(1.0), Some(2.0));
        assert_eq!(before.since(&after), before, "the proxy began anew");
    }

    #[test]
    fn replicas_add_up() {
        let one = Traffic::of(&parse(SCRAPE).unwrap(), Direction::Inbound);
        let mut both = one.clone();
        both.add(&one);
        assert_eq!((both.responses(), both.success_rate()), (200.0, Some(0.95)));
        assert_eq!(both.quantile(0.5), one.quantile(0.5));
    }
}

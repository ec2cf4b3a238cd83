//! Live rates: two scrapes of the proxies' metrics, a window apart. `authz` and `routes` use it.

use std::time::Duration;

use sheer_api::v1::ProxyDump;
use tokio::time::{Instant, sleep};

use crate::running::Mesh;
use crate::scrape::{Sample, parse};

/// What proxies counted at two times.
#[derive(Debug, Default)]
pub(crate) struct Scrapes {
    /// Before and after, of each proxy.
    pages: Vec<(String, String)>,
    window: Duration,
}

impl Scrapes {
    /// Scrapes the proxies that answered, waits, and scrapes again. One that does not answer counts nothing.
    pub(crate) async fn take(mesh: &Mesh, proxies: &[ProxyDump], window: Duration) -> anyhow::Result<Self> {
        let meant: Vec<_> = mesh
            .pods()
            .await?
            .into_iter()
            .filter(|pod| {
                let is =
                    |dump: &ProxyDump| dump.namespace == pod.namespace && dump.pod == pod.name && dump.state.is_some();
                proxies.iter().any(is)
            })
            .collect();
        let scrape = async || {
            let pages = meant.iter().map(|pod| mesh.proxy(pod, "/metrics"));
            let pages = futures::future::join_all(pages).await;
            pages
                .into_iter()
                .map(|page| page.map_or_else(|_| String::new(), |(_, text)| text))
                .collect::<Vec<_>>()
        };
        let before = scrape().await;
        let began = Instant::now();
        sleep(window).await;
        let after = scrape().await;
        Ok(Self {
            pages: before.into_iter().zip(after).collect(),
            window: began.elapsed(),
        })
    }

    /// Scrapes of a test.
    #[cfg(test)]
    pub(crate) fn of(pages: &[(&str, &str)], window: Duration) -> Self {
        Self {
            pages: pages.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            window,
        }
    }
}

/// How fast the counters that `is_meant` picks grew, over all proxies. One that began anew in between counts from zero.
pub(crate) fn per_second(scrapes: &Scrapes, is_meant: impl Fn(&Sample<'_>) -> bool) -> f64 {
    let sum = |page: &str| {
        let samples = parse(page).unwrap_or_default();
        let meant = samples.iter().filter(|sample| is_meant(sample));
        meant.map(|sample| sample.value).sum::<f64>()
    };
    let grown = scrapes.pages.iter().map(|(before, after)| {
        let (before, after) = (sum(before), sum(after));
        if after < before { after } else { after - before }
    });
    let seconds = scrapes.window.as_secs_f64();
    if seconds > 0.0 {
        grown.sum::<f64>() / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_grew() {
        let scrapes = Scrapes::of(
            &[("a 10\nb 1\n", "a 30\nb 9\n"), ("a 100\n", "a 4\n")],
            Duration::from_secs(4),
        );
        assert_eq!(
            per_second(&scrapes, |sample| sample.name == "a"),
            6.0,
            "20 and, after a restart, 4"
        );
        assert_eq!(per_second(&scrapes, |sample| sample.name == "c"), 0.0);
    }
}

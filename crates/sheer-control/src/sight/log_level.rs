//! What proxies log.
//!
//! What `debug` and `trace` log tells of what passes: a workload that nobody may look into logs neither.

use std::sync::Arc;

use sheer_api::v1;
use sheer_policy::log_directives::is_verbose;
use tonic::Status;

use super::{Sight, asker::Asker, dump::is_meshed, hidden::is_hidden, resolve, watch::refused};
use crate::{objects::Pod, store::Snapshot};

pub(super) async fn log_level(
    sight: &Sight,
    asked: v1::WorkloadLogLevelRequest,
    asker: &Asker,
) -> Result<v1::WorkloadLogLevelResponse, Status> {
    let snapshot = sight.snapshot();
    let mut pods = resolve::pods(&snapshot, &asked.workload, &asked.namespace)?;
    pods.retain(|pod| is_meshed(sight, &snapshot, pod));
    let change = asked.change.unwrap_or_default();
    let of = (asked.workload.as_str(), asked.namespace.as_str());
    let refusal = refusal(&snapshot, &pods, of.0, &change.filter);
    refusal.inspect_err(|why| refused(("log-level", ""), asker, of, why))?;
    if change.filter.is_empty() {
        tracing::info!(target: "audit", what = "log-level", caller = asker.caller(), workload = asked.workload, namespace = asked.namespace, "audit: what proxies log is looked at");
    } else {
        tracing::info!(target: "audit", what = "log-level", caller = asker.caller(), workload = asked.workload, namespace = asked.namespace, filter = change.filter, for_ms = change.for_ms, "audit: what proxies log is changed");
    }
    let proxies = pods.iter().map(async |pod| {
        let answer = async {
            if let Some(why) = why_not(&snapshot, pod, &change.filter) {
                return Err(why);
            }
            let mut proxy = sight.proxies.connect(&sight.config, pod).await?;
            proxy.log_level(change.clone()).await
        };
        let (level, error) = match answer.await {
            Ok(level) => (Some(level), String::new()),
            Err(why) => (None, why),
        };
        v1::ProxyLogLevel {
            namespace: pod.metadata.namespace.clone(),
            pod: pod.metadata.name.clone(),
            level,
            error,
        }
    });
    Ok(v1::WorkloadLogLevelResponse {
        proxies: futures::future::join_all(proxies).await,
    })
}

/// An error where none of the proxies may log this.
fn refusal(snapshot: &Snapshot, pods: &[Arc<Pod>], workload: &str, filter: &str) -> Result<(), Status> {
    let reasons: Option<Vec<_>> = pods.iter().map(|pod| why_not(snapshot, pod, filter)).collect();
    match reasons.unwrap_or_default().pop() {
        Some(why) => Err(Status::permission_denied(format!("{workload}: {why}"))),
        None => Ok(()),
    }
}

/// Why the proxy of a pod must not log this.
fn why_not(snapshot: &Snapshot, pod: &Pod, filter: &str) -> Option<String> {
    (is_verbose(filter) && is_hidden(snapshot, pod)).then(|| {
        "sight is disabled (annotation sheer.dev/sight: disabled of the pod, its workload or its namespace): debug and trace log what passes; info, warn, error and off may \
         be set"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sight::hidden::tests::shop_now;

    fn pods(snapshot: &Snapshot) -> Vec<Arc<Pod>> {
        resolve::pods(snapshot, "ns/shop", "").expect("they run")
    }

    #[test]
    fn a_hidden_workload_does_not_log_what_passes() {
        let snapshot = shop_now();
        let (quiet, web): (Vec<_>, Vec<_>) = pods(&snapshot)
            .into_iter()
            .partition(|pod| pod.metadata.name == "quiet-0");
        for verbose in ["debug", "warn,sheer_proxy::outbound=trace"] {
            let refused = refusal(&snapshot, &quiet, "deploy/quiet", verbose).expect_err("refused");
            assert_eq!(refused.code(), tonic::Code::PermissionDenied);
            assert!(
                refused.message().contains("deploy/quiet") && refused.message().contains("sheer.dev/sight: disabled")
            );
            assert!(refusal(&snapshot, &web, "deploy/web", verbose).is_ok());
            // Together with others, those alone.
            assert!(refusal(&snapshot, &pods(&snapshot), "ns/shop", verbose).is_ok());
            assert!(why_not(&snapshot, &quiet[0], verbose).is_some() && why_not(&snapshot, &web[0], verbose).is_none());
        }
        for quieter in ["", "info", "warn,sheer_proxy=error", "off"] {
            assert!(refusal(&snapshot, &quiet, "deploy/quiet", quieter).is_ok(), "{quieter}");
        }
    }

    #[test]
    fn nor_does_a_workload_of_a_hidden_namespace() {
        let namespace =
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {sheer.dev/sight: disabled}}\n";
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: shop}\nspec: {containers: [{name: a}]}\n\
                   status: {phase: Running, podIP: 10.77.0.4}\n";
        let snapshot = Snapshot::of(namespace, pod);
        assert!(refusal(&snapshot, &pods(&snapshot), "ns/shop", "debug").is_err());
        assert!(refusal(&snapshot, &pods(&snapshot), "ns/shop", "info").is_ok());
    }
}

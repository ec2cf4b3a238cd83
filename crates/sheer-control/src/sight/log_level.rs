//! What proxies log.

use sheer_api::v1;
use tonic::Status;

use super::{Sight, asker::Asker, dump::is_meshed, resolve};

pub(super) async fn log_level(
    sight: &Sight,
    asked: v1::WorkloadLogLevelRequest,
    asker: &Asker,
) -> Result<v1::WorkloadLogLevelResponse, Status> {
    let snapshot = sight.snapshot();
    let pods = resolve::pods(&snapshot, &asked.workload, &asked.namespace)?;
    let change = asked.change.unwrap_or_default();
    if change.filter.is_empty() {
        tracing::info!(target: "audit", what = "log-level", caller = asker.caller(), workload = asked.workload, namespace = asked.namespace, "audit: what proxies log is looked at");
    } else {
        tracing::info!(target: "audit", what = "log-level", caller = asker.caller(), workload = asked.workload, namespace = asked.namespace, filter = change.filter, for_ms = change.for_ms, "audit: what proxies log is changed");
    }
    let meshed = pods.iter().filter(|pod| is_meshed(sight, &snapshot, pod));
    let proxies = meshed.map(async |pod| {
        let answer = async {
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

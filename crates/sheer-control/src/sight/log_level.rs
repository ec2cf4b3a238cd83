//! What proxies log.

use sheer_api::v1;
use tonic::Status;

use super::{Sight, dump::is_meshed, resolve};

pub(super) async fn log_level(
    sight: &Sight,
    asked: v1::WorkloadLogLevelRequest,
) -> Result<v1::WorkloadLogLevelResponse, Status> {
    let snapshot = sight.snapshot();
    let pods = resolve::pods(&snapshot, &asked.workload, &asked.namespace)?;
    let change = asked.change.unwrap_or_default();
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

//! Connections of the proxies of a workload.

use sheer_api::v1;
use tonic::Status;

use super::{Asked, name, names, rights, select};
use crate::{
    sight::{
        Sight,
        asker::{Asker, Right},
        dump,
    },
    store::Snapshot,
};

pub(in crate::sight) async fn connections(
    sight: &Sight,
    asked: v1::WatchConnectionsRequest,
    asker: &Asker,
) -> Result<v1::WatchConnectionsResponse, Status> {
    let snapshot = sight.snapshot();
    let question = asked.asked.unwrap_or_default();
    let pods = select(sight, &snapshot, asked.of, (asker, Right::Tap, "connections"))?;
    let proxies = pods.iter().map(|pod| one(sight, &snapshot, pod, (&question, asker)));
    Ok(v1::WatchConnectionsResponse {
        proxies: futures::future::join_all(proxies).await,
    })
}

async fn one(
    sight: &Sight,
    snapshot: &Snapshot,
    asked: &Asked,
    (question, asker): (&v1::ConnectionsRequest, &Asker),
) -> v1::ProxyConnections {
    let pod = &asked.pod;
    let question = v1::ConnectionsRequest {
        rights: Some(rights(sight, snapshot, asker)),
        ..question.clone()
    };
    let answer = match &asked.why_not {
        Some(why) => Err(why.clone()),
        None => match sight.proxies.connect(&sight.config, pod).await {
            Ok(mut proxy) => proxy.connections(question).await,
            Err(why) => Err(why),
        },
    };
    let (own, workload) = (name(pod), dump::workload(snapshot, pod));
    let mut proxy = v1::ProxyConnections {
        pod: own.clone(),
        workload: workload.clone(),
        ..v1::ProxyConnections::default()
    };
    match answer {
        Ok(answer) => {
            let hidden = sight.hidden.of(snapshot);
            proxy.recorder = answer.recorder;
            proxy.connections = answer.connections;
            proxy
                .connections
                .retain_mut(|connection| names::fill(snapshot, &hidden, connection, (&own, &workload)));
        }
        Err(why) => proxy.error = why,
    }
    proxy
}

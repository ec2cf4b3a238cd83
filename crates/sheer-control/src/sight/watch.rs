//! What passed and passes on the wire, asked of the proxies: with the caller's rights, the mesh's key for what is redacted, and names in place of addresses.
//!
//! `sheer.dev/sight: disabled` on a workload or its namespace wins over every right: its own proxy is not asked, and what other proxies recorded of
//! connections with it is left out.

mod connections;
mod diff;
mod frames;
mod names;
mod peers;
mod reflect;
mod tap;

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use sheer_api::v1;
use tonic::Status;

use super::{
    Sight,
    asker::{Asker, Right},
    dump, resolve,
};
use crate::{
    objects::{Pod, annotation},
    store::Snapshot,
};

pub(super) use connections::connections;
pub(super) use diff::diff;
pub(super) use frames::frames;
pub(super) use tap::tap;

/// Bytes of the key under which proxies hash what they redact.
const KEY: usize = 32;

/// The key of this control plane, from its start to its end.
#[derive(Clone)]
pub(super) struct RedactionKey([u8; KEY]);

impl RedactionKey {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut key = [0; KEY];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        Ok(Self(key))
    }
}

/// What the caller may see of a pod, and what is hidden of it.
fn rights(sight: &Sight, snapshot: &Snapshot, pod: &Pod, asker: &Asker) -> v1::Rights {
    redacted(&sight.redaction, snapshot, pod, asker)
}

fn redacted(key: &RedactionKey, snapshot: &Snapshot, pod: &Pod, asker: &Asker) -> v1::Rights {
    let names = |name| {
        let names = setting(snapshot, pod, name).unwrap_or_default().split(',');
        let names = names.map(|name| name.trim().to_owned());
        names.filter(|name| !name.is_empty()).collect()
    };
    asker.rights(v1::Redaction {
        key: key.0.to_vec(),
        headers: names("redact-headers"),
        fields: names("redact-fields"),
    })
}

/// An annotation of sight on a pod, or else on its workload, or else on its namespace.
fn setting<'a>(snapshot: &'a Snapshot, pod: &'a Pod, name: &str) -> Option<&'a str> {
    let workload = || {
        let (kind, owner) = snapshot.owner_of(pod)?;
        let is = |id: &crate::objects::ObjectId| {
            id.kind == *kind && id.name == *owner && id.namespace == pod.metadata.namespace
        };
        let written = snapshot.written().iter().find(|manifest| is(&manifest.object.id()))?;
        annotation(&written.object.metadata().annotations, "", name)
    };
    let namespace = || {
        annotation(
            &snapshot.find_namespace(&pod.metadata.namespace)?.metadata.annotations,
            "",
            name,
        )
    };
    annotation(&pod.metadata.annotations, "", name)
        .or_else(workload)
        .or_else(namespace)
}

/// Whether nobody may look at a pod's traffic. Any of the three places is enough: what one hides no other shows.
pub(super) fn is_hidden(snapshot: &Snapshot, pod: &Pod) -> bool {
    let says = |annotations: &crate::objects::Labels| annotation(annotations, "", "sight") == Some("disabled");
    let namespace = snapshot.find_namespace(&pod.metadata.namespace);
    let owner = snapshot.owner_of(pod);
    says(&pod.metadata.annotations)
        || namespace.is_some_and(|namespace| says(&namespace.metadata.annotations))
        || owner.is_some_and(|(kind, name)| {
            snapshot.written().iter().any(|manifest| {
                let id = manifest.object.id();
                id.kind == *kind
                    && id.name == *name
                    && id.namespace == pod.metadata.namespace
                    && says(&manifest.object.metadata().annotations)
            })
        })
}

/// A pod that was asked after, and why its proxy cannot be asked.
struct Asked {
    pod: Arc<Pod>,
    why_not: Option<String>,
}

/// The pods that a selection means. An error where all of them are hidden.
fn select(
    sight: &Sight,
    snapshot: &Snapshot,
    of: Option<v1::Selection>,
    (asker, right, what): (&Asker, Right, &str),
) -> Result<Vec<Asked>, Status> {
    let v1::Selection { workload, namespace } = of.unwrap_or_default();
    // Who looked at what, and when: the log is the record.
    tracing::info!(target: "audit", what, right = right.name(), caller = asker.caller(), workload, namespace, "audit: traffic is looked at");
    if workload.is_empty() {
        return Err(Status::invalid_argument(
            "name a workload, as deploy/web, sts/db or pod/web-0, or a namespace, as ns/bank",
        ));
    }
    let pods = resolve::pods(snapshot, &workload, &namespace)?;
    let (hidden, shown): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| is_hidden(snapshot, pod));
    if shown.is_empty() && !hidden.is_empty() {
        return Err(Status::permission_denied(format!(
            "sight is disabled for {workload} (annotation sheer.dev/sight of the workload or its namespace)"
        )));
    }
    for pod in &shown {
        asker.must(snapshot, pod, right).inspect_err(|refused| {
            tracing::warn!(target: "audit", what, right = right.name(), caller = asker.caller(), workload, namespace, why = refused.message(), "audit: refused");
        })?;
    }
    let meshed = |pod: Arc<Pod>| Asked {
        why_not: (!dump::is_meshed(sight, snapshot, &pod)).then(|| "it has no sidecar".to_owned()),
        pod,
    };
    Ok(shown.into_iter().map(meshed).collect())
}

/// A pod as answers name it.
pub(super) fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.metadata.namespace, pod.metadata.name)
}

/// Ends with the token of the caller, and says so.
fn until_revoked<T: Send + 'static>(
    asker: &Asker,
    lines: BoxStream<'static, Result<T, Status>>,
) -> BoxStream<'static, Result<T, Status>> {
    const EXPIRED: &str = "the token has expired: ask the mesh's owner for a new one (`sheer token`)";
    let Some(left) = asker.left() else { return lines };
    let end = Box::pin(tokio::time::sleep(left));
    let until = stream::unfold((lines, Some(end)), async |(mut lines, end)| {
        let mut end = end?;
        tokio::select! {
            biased; // nothing is shown after the end
            () = &mut end => Some((Err(Status::unauthenticated(EXPIRED)), (lines, None))),
            line = lines.next() => Some((line?, (lines, Some(end)))),
        }
    });
    until.boxed()
}

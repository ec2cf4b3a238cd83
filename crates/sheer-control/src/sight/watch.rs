//! What passed and passes on the wire, asked of the proxies: with the caller's rights, the mesh's key for what is redacted, and names in place of addresses.
//!
//! `sheer.dev/sight: disabled` on a workload or its namespace wins over every right: its own proxy is not asked, and what other proxies recorded of
//! connections with it, or on the way to it, is left out ([`super::hidden`]).

mod connections;
mod diff;
mod frames;
mod judge;
mod names;
mod peers;
mod plaintext;
mod reflect;
mod tap;
mod together;

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use sheer_api::v1;
use tonic::{Code, Status};

use super::{
    Sight,
    asker::{Asker, Right},
    dump,
    hidden::{Hidden, is_hidden},
    resolve,
};
use crate::{objects::Pod, store::Snapshot};

pub(super) use connections::connections;
pub(super) use diff::diff;
pub(super) use frames::frames;
pub(super) use plaintext::plaintext;
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

/// What the caller may see, and what is hidden of it: the same for every proxy, as a request passes several.
fn rights(sight: &Sight, snapshot: &Snapshot, asker: &Asker) -> v1::Rights {
    redacted(&sight.redaction, &sight.hidden.of(snapshot), asker)
}

fn redacted(key: &RedactionKey, hidden: &Hidden, asker: &Asker) -> v1::Rights {
    asker.rights(redaction_of(key, hidden))
}

/// What every proxy hides.
pub(super) fn redaction(sight: &Sight, snapshot: &Snapshot) -> v1::Redaction {
    redaction_of(&sight.redaction, &sight.hidden.of(snapshot))
}

fn redaction_of(key: &RedactionKey, hidden: &Hidden) -> v1::Redaction {
    let [headers, fields] = hidden.redacted();
    v1::Redaction {
        key: key.0.to_vec(),
        headers,
        fields,
    }
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
    let of = of.unwrap_or_default();
    let named = (of.workload.as_str(), of.namespace.as_str());
    let selected = selected(sight, snapshot, &of, (asker, right));
    // Who looked at what, and when, and who may not: the log is the record.
    match &selected {
        Ok(_) => looked((what, right.name()), asker, named),
        Err(why) => refused((what, right.name()), asker, named, why),
    }
    selected
}

fn selected(
    sight: &Sight,
    snapshot: &Snapshot,
    v1::Selection { workload, namespace }: &v1::Selection,
    (asker, right): (&Asker, Right),
) -> Result<Vec<Asked>, Status> {
    if workload.is_empty() {
        return Err(Status::invalid_argument(
            "name a workload, as deploy/web, sts/db or pod/web-0, or a namespace, as ns/bank",
        ));
    }
    let pods = resolve::pods(snapshot, workload, namespace)?;
    let (hidden, shown): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| is_hidden(snapshot, pod));
    if shown.is_empty() && !hidden.is_empty() {
        return Err(disabled(workload));
    }
    for pod in &shown {
        asker.must(snapshot, pod, right)?;
    }
    let meshed = |pod: Arc<Pod>| Asked {
        why_not: (!dump::is_meshed(sight, snapshot, &pod)).then(|| "it has no sidecar".to_owned()),
        pod,
    };
    Ok(shown.into_iter().map(meshed).collect())
}

/// What is said of a workload that nobody may look at.
pub(super) fn disabled(workload: &str) -> Status {
    Status::permission_denied(format!(
        "sight is disabled for {workload} (annotation sheer.dev/sight: disabled of the workload or its namespace); the annotation wins over every right"
    ))
}

fn looked((what, right): (&str, &str), asker: &Asker, (workload, namespace): (&str, &str)) {
    tracing::info!(target: "audit", what, right, caller = asker.caller(), workload, namespace, "audit: traffic is looked at");
}

/// For the audit record: somebody asked for what they may not have. Mistakes are none.
pub(crate) fn refused((what, right): (&str, &str), asker: &Asker, (workload, namespace): (&str, &str), why: &Status) {
    if why.code() == Code::PermissionDenied {
        tracing::warn!(target: "audit", what, right, caller = asker.caller(), workload, namespace, why = why.message(), "audit: refused");
    }
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

//! Who enters the network of a workload with tools of the machine: noted, and refused where nobody may look.
//!
//! The command line enters by itself, as the user that started the mesh may; it asks here first.

use sheer_api::v1;
use tonic::Status;

use super::{
    Sight,
    asker::Asker,
    hidden::is_hidden,
    resolve,
    watch::{disabled, refused},
};

pub(super) fn enter(sight: &Sight, asked: &v1::EnterRequest, asker: &Asker) -> Result<v1::EnterResponse, Status> {
    let of = (asked.workload.as_str(), asked.namespace.as_str());
    let allowed = || {
        asker.must_own("to enter the network of a workload")?;
        let snapshot = sight.snapshot();
        let pods = resolve::pods(&snapshot, of.0, of.1)?;
        match pods.iter().find(|pod| is_hidden(&snapshot, pod)) {
            Some(_) => Err(disabled(of.0)),
            None => Ok(()),
        }
    };
    allowed().inspect_err(|why| refused(("debug", ""), asker, of, why))?;
    tracing::info!(target: "audit", what = "debug", caller = asker.caller(), workload = of.0, namespace = of.1, command = asked.command, "audit: the network of a workload is entered");
    Ok(v1::EnterResponse {})
}

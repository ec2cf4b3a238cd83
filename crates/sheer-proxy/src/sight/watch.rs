//! What passed and passes: connections, frames and requests, as the recorder has them. Decoded and redacted here, on the control runtime: a worker only
//! copies what it holds.

mod bodies;
mod connections;
mod exchanges;
mod frames;
mod reflect;
mod show;
mod tap;

pub(super) use connections::connections;
pub(super) use exchanges::exchanges;
pub(super) use frames::frames;
pub(super) use reflect::reflect;
pub(super) use tap::tap;

use sheer_api::v1;
use tonic::Status;

use super::service::Sight;
use crate::{record::Peer, redact::Redactor};

/// What the caller may do, in one word for people.
#[derive(Clone, Copy, Debug)]
enum Right {
    Tap,
    Frames,
}

/// The rights of the caller, which must hold this one.
fn allowed(rights: Option<v1::Rights>, right: Right) -> Result<v1::Rights, Status> {
    let rights = rights.unwrap_or_default();
    let (holds, name) = match right {
        Right::Tap => (rights.tap || rights.frames, "tap"),
        Right::Frames => (rights.frames, "frames"),
    };
    if holds {
        Ok(rights)
    } else {
        Err(Status::permission_denied(format!(
            "the caller has not the right `{name}`"
        )))
    }
}

/// What hides secrets from this caller.
fn redactor(sight: &Sight, rights: &v1::Rights) -> Redactor {
    redactor_of(sight, &rights.redaction.clone().unwrap_or_default())
}

/// What hides secrets as the mesh wants it, and this proxy's settings.
pub(super) fn redactor_of(sight: &Sight, redaction: &v1::Redaction) -> Redactor {
    let own = &sight.settings().sight;
    let headers = own.redact.iter().chain(&redaction.headers);
    let fields = own.redact_fields.iter().chain(&redaction.fields);
    Redactor::new(&redaction.key, headers).with_fields(fields)
}

fn peer(name: &str) -> Result<Option<Peer>, Status> {
    match name {
        "" => Ok(None),
        "app" => Ok(Some(Peer::App)),
        "mesh" => Ok(Some(Peer::Mesh)),
        "outside" => Ok(Some(Peer::Outside)),
        _ => Err(Status::invalid_argument(format!(
            "{name:?} is no peer: app, mesh or outside"
        ))),
    }
}

//! How long a message's body is (RFC 9112, 6.3).

use super::{Answering, Rule, Start, survey::Survey};

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing.
    None,
    /// So many bytes.
    Length(u64),
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
    /// No HTTP any more.
    Tunnel,
}

/// What follows the head that was surveyed. `answering` is what a response answers.
pub(super) fn framing(start: Start<'_>, answering: Answering, said: &mut Survey) -> Framing {
    match start {
        Start::Request { method: b"CONNECT", .. } => Framing::Tunnel,
        Start::Request { .. } => match (said.has_coding, said.length) {
            (true, _) if said.is_chunked => Framing::Chunked,
            (true, _) => {
                said.rules.add(Rule::NotChunkedLast);
                Framing::None
            }
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        },
        Start::Response { status, .. } => response(status, answering, said),
    }
}

fn response(status: u16, answering: Answering, said: &mut Survey) -> Framing {
    let is_tunnel = status == 101 || (answering == Answering::Connect && (200..300).contains(&status));
    let is_empty = matches!(status, 100..200 | 204);
    let has_none = is_empty || is_tunnel;
    said.rules.add_if(has_none && said.has_coding, Rule::CodingForbidden);
    said.rules
        .add_if(has_none && said.length.is_some(), Rule::LengthForbidden);
    match (said.has_coding, said.length) {
        _ if is_tunnel => Framing::Tunnel,
        _ if is_empty || status == 304 || answering == Answering::Head => Framing::None,
        (true, _) if said.is_chunked => Framing::Chunked,
        (true, _) => Framing::UntilClose,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    }
}

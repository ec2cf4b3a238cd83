//! Payloads that are read whole: everything but DATA.

use super::{FrameHeader, Kind, Payload, Priority, Rule, Sender, Setting, flags};

/// A payload as read, and what it breaks.
pub(super) struct Read<'a> {
    pub(super) payload: Payload<'a>,
    pub(super) padding: Option<u8>,
    pub(super) broken: Option<Rule>,
}

impl<'a> Read<'a> {
    fn raw(bytes: &'a [u8], rule: Rule) -> Self {
        Self {
            payload: Payload::Raw(bytes),
            padding: None,
            broken: Some(rule),
        }
    }
}

impl<'a> From<Payload<'a>> for Read<'a> {
    fn from(payload: Payload<'a>) -> Self {
        Self {
            payload,
            padding: None,
            broken: None,
        }
    }
}

/// Reads a payload. It may have been cut off at the end where it is longer than the lens keeps.
pub(super) fn read<'a>(header: &FrameHeader, bytes: &'a [u8], sender: Sender) -> Read<'a> {
    match header.kind {
        Kind::Headers | Kind::PushPromise => padded(header, bytes),
        Kind::Priority => match (header.length, priority(bytes)) {
            (5, Some((priority, _))) => Payload::Priority(priority).into(),
            _ => Read::raw(bytes, Rule::PriorityLength),
        },
        Kind::RstStream => match (header.length, number(bytes)) {
            (4, Some((code, _))) => Payload::RstStream { code }.into(),
            _ => Read::raw(bytes, Rule::RstStreamLength),
        },
        Kind::Settings => settings(header, bytes, sender),
        Kind::Ping => match (header.length, bytes.first_chunk()) {
            (8, Some(opaque)) => Payload::Ping(*opaque).into(),
            _ => Read::raw(bytes, Rule::PingLength),
        },
        Kind::GoAway => match number(bytes).and_then(|(last, rest)| Some((last, number(rest)?))) {
            Some((last, (code, debug))) => Payload::GoAway {
                last: last & 0x7fff_ffff,
                code,
                debug,
            }
            .into(),
            None => Read::raw(bytes, Rule::PayloadTooShort),
        },
        Kind::WindowUpdate => match (header.length, number(bytes)) {
            (4, Some((increment, _))) => {
                let increment = increment & 0x7fff_ffff;
                let broken = (increment == 0).then_some(Rule::WindowUpdateZero);
                Read {
                    payload: Payload::WindowUpdate { increment },
                    padding: None,
                    broken,
                }
            }
            _ => Read::raw(bytes, Rule::WindowUpdateLength),
        },
        Kind::Continuation => Payload::Continuation { fragment: bytes }.into(),
        Kind::AltSvc => match alt_svc(bytes) {
            Some(payload) => payload.into(),
            None => Read::raw(bytes, Rule::PayloadTooShort),
        },
        Kind::PriorityUpdate => match number(bytes) {
            Some((stream, value)) => Payload::PriorityUpdate {
                stream: stream & 0x7fff_ffff,
                value,
            }
            .into(),
            None => Read::raw(bytes, Rule::PayloadTooShort),
        },
        Kind::Data | Kind::Origin | Kind::Unknown(_) => Payload::Raw(bytes).into(),
    }
}

/// Types that may be padded and carry the beginning of a header block.
fn padded<'a>(header: &FrameHeader, bytes: &'a [u8]) -> Read<'a> {
    let (padding, rest) = match (header.has(flags::PADDED), bytes.split_first()) {
        (false, _) => (None, bytes),
        (true, Some((padding, rest))) => (Some(*padding), rest),
        (true, None) => return Read::raw(bytes, Rule::PayloadTooShort),
    };
    let mut fields = match header.kind {
        Kind::PushPromise => number(rest).map(|(promised, fragment)| {
            (
                Payload::PushPromise {
                    promised: promised & 0x7fff_ffff,
                    fragment: &[],
                },
                fragment,
            )
        }),
        _ if header.has(flags::PRIORITY) => priority(rest).map(|(priority, fragment)| {
            (
                Payload::Headers {
                    priority: Some(priority),
                    fragment: &[],
                },
                fragment,
            )
        }),
        _ => Some((
            Payload::Headers {
                priority: None,
                fragment: &[],
            },
            rest,
        )),
    };
    let Some((payload, whole)) = &mut fields else {
        return Read {
            padding,
            ..Read::raw(bytes, Rule::PayloadTooShort)
        };
    };
    // Padding that was cut off with the end of a long payload is not there to be taken off.
    let dropped = header.length as usize - bytes.len();
    let Some(unpadded) = (whole.len() + dropped).checked_sub(padding.unwrap_or(0).into()) else {
        return Read {
            padding,
            ..Read::raw(bytes, Rule::PaddingTooLong)
        };
    };
    let text = &whole[..unpadded.min(whole.len())];
    if let Payload::Headers { fragment, .. } | Payload::PushPromise { fragment, .. } = payload {
        *fragment = text;
    }
    Read {
        payload: *payload,
        padding,
        broken: None,
    }
}

fn settings<'a>(header: &FrameHeader, bytes: &'a [u8], sender: Sender) -> Read<'a> {
    let is_ack = header.has(flags::ACK);
    let rule = match header.length {
        1.. if is_ack => Some(Rule::SettingsAckPayload),
        length if !length.is_multiple_of(6) => Some(Rule::SettingsLength),
        _ => None,
    };
    match rule {
        Some(rule) => Read::raw(bytes, rule),
        None => {
            let broken = Setting::list(bytes).find_map(|setting| value(setting, sender));
            Read {
                payload: Payload::Settings(bytes),
                padding: None,
                broken,
            }
        }
    }
}

/// The rule that a setting's value breaks (RFC 9113, 6.5.2).
fn value(setting: Setting, sender: Sender) -> Option<Rule> {
    match (setting.id, setting.value) {
        (2, 2..) => Some(Rule::EnablePush),
        (2, 1) if sender == Sender::Server => Some(Rule::EnablePush),
        (4, 0x8000_0000..) => Some(Rule::InitialWindowSize),
        (5, ..0x4000 | 0x0100_0000..) => Some(Rule::MaxFrameSize),
        _ => None,
    }
}

/// RFC 7838, 4: the length of the origin, the origin, the value.
fn alt_svc(bytes: &[u8]) -> Option<Payload<'_>> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (origin, value) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some(Payload::AltSvc { origin, value })
}

fn priority(bytes: &[u8]) -> Option<(Priority, &[u8])> {
    let (dependency, rest) = number(bytes)?;
    let (weight, rest) = rest.split_first()?;
    Some((
        Priority {
            dependency: dependency & 0x7fff_ffff,
            exclusive: dependency >> 31 == 1,
            weight: *weight,
        },
        rest,
    ))
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

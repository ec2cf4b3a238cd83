//! Names of flags, error codes and settings, as the RFCs spell them.

use super::{Kind, flags};

/// The flags that are set, by the names that they have on this type; unnamed ones are left out.
pub fn flag_names(kind: Kind, set: u8) -> impl Iterator<Item = &'static str> + use<> {
    let named: &'static [(u8, &'static str)] = match kind {
        Kind::Data => &[(flags::END_STREAM, "END_STREAM"), (flags::PADDED, "PADDED")],
        Kind::Headers => &[
            (flags::END_STREAM, "END_STREAM"),
            (flags::END_HEADERS, "END_HEADERS"),
            (flags::PADDED, "PADDED"),
            (flags::PRIORITY, "PRIORITY"),
        ],
        Kind::Settings | Kind::Ping => &[(flags::ACK, "ACK")],
        Kind::PushPromise => &[(flags::END_HEADERS, "END_HEADERS"), (flags::PADDED, "PADDED")],
        Kind::Continuation => &[(flags::END_HEADERS, "END_HEADERS")],
        Kind::Priority
        | Kind::RstStream
        | Kind::GoAway
        | Kind::WindowUpdate
        | Kind::AltSvc
        | Kind::Origin
        | Kind::PriorityUpdate
        | Kind::Unknown(_) => &[],
    };
    named
        .iter()
        .filter(move |(flag, _)| set & flag != 0)
        .map(|(_, name)| *name)
}

/// The name of an error code of RST_STREAM or GOAWAY (RFC 9113, 7); `None` where the registry has none.
pub fn error_code_name(code: u32) -> Option<&'static str> {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code as usize).copied()
}

/// The name of a setting (RFC 9113, 6.5.2; RFC 8441, 3; RFC 9218, 2.1), without `SETTINGS_`.
pub fn setting_name(id: u16) -> Option<&'static str> {
    Some(match id {
        1 => "HEADER_TABLE_SIZE",
        2 => "ENABLE_PUSH",
        3 => "MAX_CONCURRENT_STREAMS",
        4 => "INITIAL_WINDOW_SIZE",
        5 => "MAX_FRAME_SIZE",
        6 => "MAX_HEADER_LIST_SIZE",
        8 => "ENABLE_CONNECT_PROTOCOL",
        9 => "NO_RFC7540_PRIORITIES",
        _ => return None,
    })
}

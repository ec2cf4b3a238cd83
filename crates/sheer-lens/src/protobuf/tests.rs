//! Beside `prost-reflect`, which writes the same JSON from the same bytes, and alone where bytes are not as they should be.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value as Parsed, json};

use super::*;

fn everything() -> MessageDescriptor {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proto");
    let files = protox::compile(["everything.proto"], [folder]).expect("the schema compiles");
    let pool = DescriptorPool::from_file_descriptor_set(files).expect("a whole set");
    pool.get_message_by_name("lens.Everything").expect("a message of it")
}

fn nothing(_: &Place<'_>) -> Option<String> {
    None
}

fn described(message: &[u8], redact: &mut dyn Redact) -> Json {
    by_descriptor(&everything(), message, Limits::default(), redact)
}

fn parsed(json: &Json) -> Parsed {
    serde_json::from_str(&json.text).unwrap_or_else(|error| panic!("{error}: {}", json.text))
}

/// Bytes of a message, from its JSON, by the other implementation.
fn encoded(json: &Parsed) -> Vec<u8> {
    DynamicMessage::deserialize(everything(), json)
        .expect("JSON of the schema")
        .encode_to_vec()
}

#[test]
fn every_kind_as_the_other_implementation_writes_it() {
    for document in [
        json!({"aDouble": 1.5, "aFloat": 0.5, "anInt32": -7, "anInt64": "-9007199254740993", "aUint32": 4_000_000_000u32, "aUint64": "18446744073709551615"}),
        json!({"aSint32": -2_000_000_000, "aSint64": "-9223372036854775808", "aFixed32": 9, "aFixed64": "9", "aSfixed32": -9, "aSfixed64": "-9"}),
        json!({"aBool": true, "aString": "a \"quote\", a \\ and\n\u{1} 日本", "someBytes": "AP8Q", "colour": "BLUE"}),
        json!({"nested": {"nested": {"nested": {"aBool": true}}}, "messages": [{}, {"aString": "x"}], "strings": ["", "b"]}),
        json!({"packed": [1, -1, 1_000_000], "unpacked": [-1, 2, 0], "doubles": [0.5, "NaN", "Infinity", "-Infinity"], "colours": ["RED", "NONE", 77]}),
        json!({"byName": {"a": 1, "b": 0}, "byNumber": {"-3": {"aBool": true}, "4": {}}, "byTruth": {"true": "yes", "false": "no"}}),
        json!({"left": "", "present": 0, "maybe": "", "big": "5"}),
        json!({"time": "2026-08-01T12:34:56.789Z", "duration": "-1.000000500s", "mask": "aB,c.dE"}),
        json!({"time": "0001-01-01T00:00:00Z", "duration": "315576000000s"}),
        json!({"time": "9999-12-31T23:59:59.999999999Z"}),
        json!({"time": "2024-02-29T00:00:00Z"}),
        json!({"structure": {"a": null, "b": [1.5, "x", {"c": true}], "d": {}}, "value": [[], {"x": null}]}),
        json!({"value": null}),
        json!({"any": {"@type": "type.googleapis.com/lens.Everything", "aString": "within"}}),
        json!({"any": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"}}),
    ] {
        let bytes = encoded(&document);
        let other = DynamicMessage::decode(everything(), bytes.as_slice()).expect("its own bytes");
        let ours = described(&bytes, &mut nothing);
        assert_eq!(parsed(&ours), serde_json::to_value(&other).expect("JSON"), "{document}");
        assert_eq!((ours.is_cut, ours.fault), (false, None));
    }
}

#[test]
fn singular_fields_count_last_and_messages_merge() {
    let bytes = [
        encoded(&json!({"anInt32": 1, "nested": {"anInt32": 1, "strings": ["a"]}})),
        encoded(&json!({"anInt32": 2, "nested": {"anInt32": 3, "strings": ["b"]}})),
    ]
    .concat();
    assert_eq!(
        described(&bytes, &mut nothing).text,
        r#"{"anInt32":2,"nested":{"anInt32":3,"strings":["a","b"]}}"#
    );
}

#[test]
fn what_the_descriptor_does_not_say_is_shown() {
    // Field 999 is unknown, field 14 is a number where text should be, field 14 again is no UTF-8.
    let json = described(&[0xba, 0x3e, 2, b'h', b'i', 0x70, 5], &mut nothing);
    assert_eq!(json.text, r#"{"aString":"BQAAAAAAAAA=","@unknown":{"999":"hi"}}"#);
    assert_eq!(json.fault, Some(Fault::Type { number: 14 }));
    let json = described(&[0x72, 1, 0xff], &mut nothing);
    assert_eq!(
        (json.text.as_str(), json.fault),
        ("{\"aString\":\"\u{fffd}\"}", Some(Fault::Utf8 { number: 14 }))
    );
    let json = described(&[0x18, 7, 0x72, 9, b'x'], &mut nothing);
    assert_eq!(
        (json.text.as_str(), json.fault),
        (r#"{"anInt32":7}"#, Some(Fault::Truncated))
    );
}

#[test]
fn a_float_has_as_many_digits_as_it_needs() {
    let json = described(&[0x15, 0xcd, 0xcc, 0xcc, 0x3d], &mut nothing);
    assert_eq!(json.text, r#"{"aFloat":0.1}"#);
}

/// By name, by path, within lists, maps, `Struct` and `Any`: the value is nowhere in the JSON.
#[test]
fn what_is_redacted_is_never_written() {
    let secret = "hunter2";
    let bytes = encoded(&json!({
        "aString": secret, "nested": {"aString": secret, "left": "seen"}, "messages": [{"aString": secret}], "strings": [secret],
        "labels": {"token": secret, "other": "seen"}, "structure": {"token": secret, "deep": {"token": [secret]}},
        "any": {"@type": "x/lens.Everything", "aString": secret}, "byNumber": {"1": {"aString": secret}}, "maybe": secret,
    }));
    let mut redact =
        |place: &Place<'_>| matches!(place.name, "aString" | "strings" | "token" | "maybe").then(|| "***".to_owned());
    let json = described(&bytes, &mut redact);
    assert!(!json.text.contains(secret), "{}", json.text);
    let expected = json!({
        "aString": "***", "nested": {"aString": "***", "left": "seen"}, "messages": [{"aString": "***"}], "strings": ["***"],
        "labels": {"token": "***", "other": "seen"}, "structure": {"token": "***", "deep": {"token": "***"}},
        "any": {"@type": "x/lens.Everything", "aString": "***"}, "byNumber": {"1": {"aString": "***"}}, "maybe": "***",
    });
    assert_eq!(parsed(&json), expected);
    let mut paths = Vec::new();
    described(&bytes, &mut |place: &Place<'_>| {
        paths.extend((place.raw == secret.as_bytes()).then(|| place.path.to_owned()));
        None
    });
    // An entry of a map is asked for by the field's name and by its key.
    paths.dedup();
    let expected = [
        "aString",
        "nested.aString",
        "strings",
        "messages.aString",
        "byNumber.1.aString",
        "structure.token",
        "any.aString",
        "labels",
        "labels.token",
    ];
    assert_eq!(paths, expected, "the same bytes in every place");
}

/// Text and bytes are nobody's to see, and neither is what is marked.
struct Nameless(BTreeSet<String>);

impl Redact for Nameless {
    fn redact(&mut self, place: &Place<'_>) -> Option<String> {
        let field = place.field?.full_name().to_owned();
        self.0.contains(&field).then(|| "***".to_owned())
    }
    fn redact_nameless(&mut self, _: &Place<'_>) -> Option<String> {
        Some("***".to_owned())
    }
}

/// In maps that are hidden keys are secrets, too.
#[test]
fn keys_of_a_hidden_map_are_hidden() {
    let bytes = encoded(&json!({"labels": {"hunter2": "seen"}, "byNumber": {"4711": {"aString": "hunter2"}}}));
    let mut redact = |place: &Place<'_>| matches!(place.name, "labels" | "byNumber").then(|| "***".to_owned());
    let json = described(&bytes, &mut redact);
    assert_eq!(
        parsed(&json),
        json!({"labels": {"***": "***"}, "byNumber": {"***": "***"}})
    );
    let shown = described(&super::redacted(Some(&everything()), &bytes, &mut redact), &mut nothing);
    assert_eq!(parsed(&shown), json!({"labels": {"***": "***"}, "byNumber": {"0": {}}}));
}

/// Bytes of which nobody can say what they are stay hidden: nested too deep, or of another type than the descriptor has.
#[test]
fn what_cannot_be_read_is_not_shown_as_bytes() {
    let mut redact = Nameless(BTreeSet::new());
    let mut message = encoded(&json!({"aString": "hunter2"}));
    for depth in 0..MAX_DEPTH + 3 {
        let described = described(&message, &mut redact).text;
        let guessed = by_structure(&message, Limits::default(), &mut redact).text;
        let base64 = BASE64_STANDARD.encode(&message);
        let inner = &base64[base64.len() - 12..base64.len() - 4];
        for text in [described, guessed] {
            assert!(!text.contains(inner), "{depth}: {text}");
        }
        let length = u8::try_from(message.len()).ok().filter(|length| *length < 0x80);
        let length = length.map_or_else(
            || vec![message.len() as u8 & 0x7f | 0x80, (message.len() >> 7) as u8],
            |length| vec![length],
        );
        message = [&[0x8a, 1][..], &length, &message].concat();
    }
    // Field 3 is a number.
    let json = described(&[0x1a, 7, b'h', b'u', b'n', b't', b'e', b'r', b'2'], &mut redact);
    assert_eq!(
        (json.text.as_str(), json.fault),
        (r#"{"anInt32":"***"}"#, Some(Fault::Type { number: 3 }))
    );
}

#[test]
fn what_a_schema_marks_is_known_by_its_full_name() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proto");
    let files = protox::Compiler::new([folder])
        .expect("a folder")
        .open_file("marked.proto")
        .expect("it compiles")
        .encode_file_descriptor_set();
    let names = marked(&files);
    let expected = ["lens.Marked.Inner.note", "lens.Marked.pin", "lens.Marked.secrets"];
    assert!(names.iter().eq(expected), "{names:?}");
    let pool = DescriptorPool::decode(&files[..]).expect("a set");
    let descriptor = pool.get_message_by_name("lens.Marked").expect("a message of it");
    let document =
        json!({"pin": 4711, "seen": "yes", "secrets": {"a": "b"}, "inner": {"note": "hunter2", "left": true}});
    let bytes = DynamicMessage::deserialize(descriptor.clone(), &document)
        .expect("of the schema")
        .encode_to_vec();
    let json = by_descriptor(&descriptor, &bytes, Limits::default(), &mut Nameless(names));
    let expected =
        json!({"pin": "***", "seen": "yes", "secrets": {"***": "***"}, "inner": {"note": "***", "left": true}});
    assert_eq!(parsed(&json), expected);
    assert!(marked(&files[..files.len() / 2]).len() < 4 && marked(b"no descriptors").is_empty());
}

/// The same as a message: readers of protobuf see what readers of JSON see.
#[test]
fn a_redacted_message_holds_no_secret_either() {
    let secret = "hunter2";
    let document = json!({
        "aString": secret, "anInt32": 7, "nested": {"aString": secret, "left": "seen"}, "messages": [{"aString": secret}], "strings": [secret, secret],
        "labels": {"token": secret, "other": "seen"}, "structure": {"token": secret, "deep": {"token": [secret], "x": "seen"}},
        "any": {"@type": "x/lens.Everything", "aString": secret, "left": "seen"}, "byNumber": {"1": {"aString": secret}}, "maybe": secret,
        "byTruth": {"true": secret}, "doubles": [0.5, 1.5], "packed": [1, -1], "big": "5",
    });
    let bytes = encoded(&document);
    let mut redact = |place: &Place<'_>| {
        let names = ["aString", "strings", "token", "maybe", "byTruth", "big", "packed"];
        names.contains(&place.name).then(|| "***".to_owned())
    };
    let shown = redacted(Some(&everything()), &bytes, &mut redact);
    assert!(!shown.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
    let expected = json!({
        "aString": "***", "anInt32": 7, "nested": {"aString": "***", "left": "seen"}, "messages": [{"aString": "***"}], "strings": ["***", "***"],
        "labels": {"token": "***", "other": "seen"}, "structure": {"token": null, "deep": {"token": null, "x": "seen"}},
        "any": {"@type": "x/lens.Everything", "aString": "***", "left": "seen"}, "byNumber": {"1": {"aString": "***"}},
        "byTruth": {"false": "***"}, "doubles": [0.5, 1.5],
    });
    assert_eq!(parsed(&described(&shown, &mut nothing)), expected);
    assert_eq!(
        redacted(Some(&everything()), &bytes, &mut nothing),
        bytes,
        "nothing is hidden, nothing is changed"
    );

    // Without descriptors text and bytes are nameless, numbers are not.
    let message = [
        &[0x08, 5, 0x12, 7][..],
        secret.as_bytes(),
        &[0x1a, 2, 0x08, 1, 0x22, 2, 0xff, 0],
    ]
    .concat();
    let shown = by_structure(
        &redacted(None, &message, &mut Nameless(BTreeSet::new())),
        Limits::default(),
        &mut nothing,
    );
    assert_eq!(parsed(&shown), json!({"1": 5, "2": "***", "3": {"1": 1}, "4": "***"}));
    // What comes behind a fault is nobody's to read.
    assert_eq!(
        redacted(None, &[0x08, 5, 0x12, 9, b'h'], &mut Nameless(BTreeSet::new())),
        [0x08, 5]
    );
}

#[test]
fn structure_is_guessed() {
    let bytes = [
        &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..],
        &[0x12, 0x00, 0x12, 0x02, 0x08, 0x07],
        &[0x1d, 0, 0, 0x80, 0x3f],
        &[0x22, 0x02, 0xff, 0x00],
        &[0x2b, 0x08, 0x01, 0x2c],
    ]
    .concat();
    let json = by_structure(&bytes, Limits::default(), &mut nothing);
    let expected = json!({
        "1": "18446744073709551615", "2": ["", {"1": 7}], "3": {"@fixed32": 1_065_353_216, "@float": 1.0}, "4": {"@bytes": "/wA="}, "5": {"1": 1},
    });
    assert_eq!(parsed(&json), expected);
    for (bytes, fault) in [
        (&[0x08][..], Fault::Truncated),
        (&[0x08, 1, 0x12, 5], Fault::Truncated),
        (&[0x00, 1], Fault::Number),
        (&[0x0f], Fault::WireType),
        (&[0x0b, 0x08, 1], Fault::Truncated),
        (&[0x0b, 0x14], Fault::WireType),
        (
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            Fault::Varint,
        ),
    ] {
        assert_eq!(
            by_structure(bytes, Limits::default(), &mut nothing).fault,
            Some(fault),
            "{bytes:02x?}"
        );
    }
}

#[test]
fn limits_hold() {
    // Nested a thousand times.
    let deep = (0..1000).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut outer = vec![0x8a, 0x01];
        outer.extend(length(inner.len()));
        outer.extend(inner);
        outer
    });
    for json in [
        by_structure(&deep, Limits::default(), &mut nothing),
        described(&deep, &mut nothing),
    ] {
        assert!(json.is_cut && parsed(&json).is_object());
    }
    let long = encoded(&json!({"aString": "x".repeat(10_000), "strings": vec!["y"; 1000]}));
    let json = by_descriptor(
        &everything(),
        &long,
        Limits {
            size: 100,
            ..Limits::default()
        },
        &mut nothing,
    );
    assert!(
        json.is_cut && json.text.len() < 130 && json.text.starts_with(r#"{"aString":"xxx"#),
        "{}",
        json.text
    );
    parsed(&json);
}

fn length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length > 0x7f {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the bytes: valid JSON within its limit.
    #[test]
    fn any_bytes_give_json(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..40], 0..300), size in 0usize..2000, depth in 0usize..5) {
        let limits = Limits { size, depth };
        for json in [by_structure(&bytes, limits, &mut nothing), by_descriptor(&everything(), &bytes, limits, &mut nothing)] {
            parsed(&json);
            prop_assert!(json.text.len() <= size + 600, "{} for {size}", json.text.len());
        }
    }

    /// Whatever the bytes: what is left of them is a message.
    #[test]
    fn any_bytes_give_a_message(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..40], 0..300)) {
        for shown in [redacted(None, &bytes, &mut nothing), redacted(Some(&everything()), &bytes, &mut nothing)] {
            prop_assert!(Fields::new(&shown).all(|field| field.is_ok()), "{shown:02x?}");
        }
    }
}

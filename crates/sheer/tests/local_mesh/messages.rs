//! Messages of gRPC: read by descriptors, those that a server offers too. Secrets in fields of protobuf: hidden by name, by where they stand, and by the mark of
//! their schema, with descriptors and without.

use serde_json::Value;

use crate::{
    grpc_routes::{self, ledger},
    harness::{Mesh, User, meshed_client, pause},
    odd::{SECRET, call, odd},
};

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("a short one");
    let mut bytes = vec![number << 3 | 2, length & 0x7f];
    if length > 0x7f {
        bytes = vec![number << 3 | 2, length, 1];
    }
    [bytes, content.to_vec()].concat()
}

/// A field of a message: `options` are those of its descriptor, encoded.
fn of_message(name: &str, number: u8, kind: u8, type_name: &str, options: &[u8]) -> Vec<u8> {
    let mut bytes = [field(1, name.as_bytes()), vec![3 << 3, number, 4 << 3, 1, 5 << 3, kind]].concat();
    if !type_name.is_empty() {
        bytes.extend(field(6, type_name.as_bytes()));
    }
    if !options.is_empty() {
        bytes.extend(field(8, options));
    }
    field(2, &bytes)
}

/// A `FileDescriptorSet` of: `package bank; message Card { string holder = 1; string number = 2; int32 pin = 3; string cvv = 4 [debug_redact = true]; }`,
/// `message Order { Card card = 1; string note = 2; }`, `service Secret { rpc Tell(Order) returns (Order); }`.
fn descriptors() -> Vec<u8> {
    const TEXT: u8 = 9;
    const NUMBER: u8 = 5;
    const MESSAGE: u8 = 11;
    const REDACTED: [u8; 3] = [0x80, 1, 1];
    let card = [
        field(1, b"Card"),
        of_message("holder", 1, TEXT, "", b""),
        of_message("number", 2, TEXT, "", b""),
        of_message("pin", 3, NUMBER, "", b""),
        of_message("cvv", 4, TEXT, "", &REDACTED),
    ];
    let order = [
        field(1, b"Order"),
        of_message("card", 1, MESSAGE, ".bank.Card", b""),
        of_message("note", 2, TEXT, "", b""),
    ];
    let method = [field(1, b"Tell"), field(2, b".bank.Order"), field(3, b".bank.Order")];
    let service = [field(1, b"Secret"), field(2, &method.concat())];
    let file = [
        field(1, b"bank.proto"),
        field(2, b"bank"),
        field(4, &card.concat()),
        field(4, &order.concat()),
        field(6, &service.concat()),
        field(12, b"proto3"),
    ];
    let file = file.concat();
    let length = [file.len() as u8 & 0x7f | 0x80, (file.len() >> 7) as u8];
    [&[1 << 3 | 2], &length[..], &file].concat()
}

/// A call with an order, as `printf` and curl make it.
fn order() -> String {
    let card = [
        field(1, b"ada"),
        field(2, b"planted-number"),
        vec![3 << 3, 0xe7, 0x24],
        field(4, b"planted-cvv"),
    ];
    let message = [field(1, &card.concat()), field(2, b"planted-note")].concat();
    let length = u8::try_from(message.len()).expect("a short one");
    let bytes = [&[0, 0, 0, 0, length], &message[..]].concat();
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let call = call(SECRET, "bank.Secret/Tell", "--data-binary @-");
    format!("printf '{escaped}' | {call} >/dev/null")
}

fn is_hash(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("hash:"))
}

/// The body of the request, as a workload's tap shows it.
fn body(mesh: &Mesh, workload: &str, more: &[&str]) -> Value {
    let arguments = [&[workload, "--path", "/bank.Secret/Tell", "--body"], more].concat();
    let line = mesh.tap(
        &arguments,
        || {
            mesh.shell("client", &order());
        },
        |line| line["kind"] == "body" && line["of"] == "request",
    );
    let text = line.to_string();
    for secret in ["planted-number", "planted-cvv", "4711"] {
        assert!(!text.contains(secret), "{arguments:?} shows {secret}: {line:#}");
    }
    line["body"].clone()
}

#[test]
fn secrets_in_fields_of_protobuf_do_not_show() {
    let mesh = Mesh::new(User::Current);
    // By the end of a path of names; and of numbers, where nobody knows names.
    let client = meshed_client().replace(
        "annotations: {",
        "annotations: { sheer.dev/redact-fields: 'card.number, card.pin, 1.3',",
    );
    assert_ne!(client, meshed_client());
    mesh.write("odd.yaml", &odd()).write("client.yaml", &client).up();
    let file = mesh.folder().join("bank.pb");
    std::fs::write(&file, descriptors()).expect("written");
    let file = file.display().to_string();
    for workload in ["pod/client", "deploy/odd"] {
        let known = body(&mesh, workload, &["--descriptors", &file]);
        assert_eq!(
            (&known["card"]["holder"], &known["note"]),
            (&"ada".into(), &"planted-note".into()),
            "{known:#}"
        );
        for hidden in ["number", "pin", "cvv"] {
            assert!(is_hash(&known["card"][hidden]), "{hidden}: {known:#}");
        }
        // Without descriptors no text shows, and a number only where nobody hides its place.
        let guessed = body(&mesh, workload, &[]);
        let text = guessed.to_string();
        assert!(!text.contains("ada") && !text.contains("planted"), "{guessed:#}");
        assert!(is_hash(&guessed["1"]["3"]) && is_hash(&guessed["2"]), "{guessed:#}");
    }
    for (name, more) in [("known", &["--descriptors", &*file][..]), ("guessed", &[])] {
        let path = mesh.folder().join(name).with_extension("pcapng");
        let to = path.display().to_string();
        let arguments = [
            "capture",
            "-n",
            "shop",
            "pod/client",
            "--plaintext",
            "--for",
            "6s",
            "-o",
            &to,
        ];
        let mut capturing = mesh.command(&[&arguments, more].concat()).spawn().expect("sheer runs");
        while capturing.try_wait().expect("a child").is_none() {
            mesh.shell("client", &order());
            pause();
        }
        let bytes = std::fs::read(&path).expect("the file");
        let has = |text: &[u8]| bytes.windows(text.len()).any(|seen| seen == text);
        assert!(has(b"/bank.Secret/Tell"), "something was seen");
        assert_eq!(
            (has(b"\x0a\x03ada"), has(b"planted-note")),
            (name == "known", name == "known"),
            "{name}"
        );
        // Field 3 with the number 4711 is nowhere.
        assert!(
            !has(b"planted-number") && !has(b"planted-cvv") && !has(&[3 << 3, 0xe7, 0x24]),
            "{name}"
        );
    }
}

/// Of the ledger of the sample, which offers its descriptors by server reflection.
#[test]
fn messages_are_read_as_their_server_describes_them_and_calls_found_by_their_status() {
    let mesh = Mesh::new(User::Current);
    mesh.write("blue.yaml", &ledger("blue"))
        .write("client.yaml", &meshed_client())
        .up();
    // One message of no bytes.
    std::fs::write(mesh.folder().join("empty"), [0; 5]).expect("written");
    let calls = || {
        let shown = grpc_routes::call(&mesh, "client", "bank.v1.Faults/Show", "");
        assert!(shown.contains("grpc-status: 0"), "{shown}");
        let unknown = grpc_routes::call(&mesh, "client", "bank.v1.Faults/Nothing", "");
        assert!(unknown.contains("grpc-status: 12"), "{unknown}");
    };
    for workload in ["pod/client", "deploy/blue"] {
        let path = ["--path", "/bank.v1.Faults/Show", "--body"];
        let body = mesh.tap(&[&[workload][..], &path].concat(), calls, |line| {
            line["kind"] == "body" && line["of"] == "response"
        });
        assert_eq!(body["type"], "bank.v1.FaultState", "{body:#}");
        let instance = body["body"]["instance"].as_str().expect("a replica");
        assert!(instance.starts_with("blue-"), "{body:#}");
        for (code, path, status) in [
            ("UNIMPLEMENTED", "/bank.v1.Faults/Nothing", 12),
            ("12", "/bank.v1.Faults/Nothing", 12),
            ("0", "/bank.v1.Faults/Show", 0),
        ] {
            let end = mesh.tap(&[workload, "--grpc-code", code], calls, |line| {
                assert_eq!(line["path"], path, "{code}: {line:#}");
                line["kind"] == "end"
            });
            assert_eq!(end["grpc_status"], status, "{code}: {end:#}");
        }
    }
}

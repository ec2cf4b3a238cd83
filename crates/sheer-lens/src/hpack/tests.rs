//! The examples of RFC 7541, appendix C, and what a block may not do.

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Everything that a block says, owned.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    fields: Vec<(String, String, Representation)>,
    evicted: Vec<u32>,
    updates: Vec<(u32, u32)>,
    violations: Vec<Violation>,
}

impl Visitor for Seen {
    fn field(&mut self, field: &Field<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.fields
            .push((text(field.name), text(field.value), field.representation));
        self.evicted.push(field.evicted);
    }

    fn size_update(&mut self, update: SizeUpdate) {
        self.updates.push((update.before.maximum, update.after.maximum));
    }

    fn violation(&mut self, violation: Violation) {
        self.violations.push(violation);
    }
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    decoder.decode(block, &mut seen)?;
    Ok(seen)
}

fn list(decoder: &mut Decoder, block: &str) -> Vec<String> {
    let seen = decode(decoder, &hex(block)).expect("a valid block");
    seen.fields
        .iter()
        .map(|(name, value, _)| format!("{name}: {value}"))
        .collect()
}

/// Size, then the entries, newest first.
fn table(decoder: &Decoder) -> (u32, Vec<String>) {
    let text = |(name, value): &(Vec<u8>, Vec<u8>)| {
        format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
    };
    let snapshot = decoder.snapshot();
    (snapshot.state.size, snapshot.entries.iter().map(text).collect())
}

#[test]
fn c2_each_representation() {
    let literal = |indexing, name| Representation::Literal {
        indexing,
        name,
        huffman: false,
    };
    let spelled = NameSource::Literal { huffman: false };
    for (block, field, representation, kept) in [
        (
            "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
            ("custom-key", "custom-header"),
            literal(Indexing::Incremental, spelled),
            55,
        ),
        (
            "040c2f73616d706c652f70617468",
            (":path", "/sample/path"),
            literal(Indexing::Without, NameSource::Index(4)),
            0,
        ),
        (
            "100870617373776f726406736563726574",
            ("password", "secret"),
            literal(Indexing::Never, spelled),
            0,
        ),
        ("82", (":method", "GET"), Representation::Indexed { index: 2 }, 0),
    ] {
        let mut decoder = Decoder::new();
        let seen = decode(&mut decoder, &hex(block)).unwrap();
        assert_eq!(seen.fields, [(field.0.to_owned(), field.1.to_owned(), representation)]);
        assert_eq!(decoder.state().size, kept);
    }
}

#[test]
fn c3_and_c4_requests() {
    for blocks in [
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
    ] {
        let mut decoder = Decoder::new();
        assert_eq!(
            list(&mut decoder, blocks[0]),
            [
                ":method: GET",
                ":scheme: http",
                ":path: /",
                ":authority: www.example.com"
            ]
        );
        assert_eq!(table(&decoder), (57, vec![":authority: www.example.com".to_owned()]));
        let second = [
            ":method: GET",
            ":scheme: http",
            ":path: /",
            ":authority: www.example.com",
            "cache-control: no-cache",
        ];
        assert_eq!(list(&mut decoder, blocks[1]), second);
        assert_eq!(table(&decoder).0, 110);
        let third = [
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ];
        assert_eq!(list(&mut decoder, blocks[2]), third);
        let entries = [
            "custom-key: custom-value",
            "cache-control: no-cache",
            ":authority: www.example.com",
        ];
        assert_eq!(table(&decoder), (164, entries.map(str::to_owned).to_vec()));
    }
}

#[test]
fn c5_and_c6_responses_with_eviction() {
    let plain = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
         6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a\
         4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ];
    let huffman = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af\
         27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new();
        decoder.set_allowed(256);
        decoder.table.resize(256);
        decoder.owed = None;
        let (date, place) = (
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com",
        );
        assert_eq!(
            list(&mut decoder, blocks[0]),
            [":status: 302", "cache-control: private", date, place]
        );
        assert_eq!(table(&decoder).0, 222);
        assert_eq!(
            list(&mut decoder, blocks[1]),
            [":status: 307", "cache-control: private", date, place]
        );
        let entries = [":status: 307", place, date, "cache-control: private"];
        assert_eq!(table(&decoder), (222, entries.map(str::to_owned).to_vec()));
        let seen = decode(&mut decoder, &hex(blocks[2])).unwrap();
        let date = "date: Mon, 21 Oct 2013 20:13:22 GMT";
        let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        let lines: Vec<_> = seen
            .fields
            .iter()
            .map(|(name, value, _)| format!("{name}: {value}"))
            .collect();
        assert_eq!(
            lines,
            [
                ":status: 200",
                "cache-control: private",
                date,
                place,
                "content-encoding: gzip",
                cookie
            ]
        );
        assert_eq!(seen.evicted, [0, 0, 1, 0, 1, 2], "who threw out how many");
        let entries = [cookie, "content-encoding: gzip", date];
        assert_eq!(table(&decoder), (215, entries.map(str::to_owned).to_vec()));
    }
}

/// The second fault of h2 0.1.18 was an index that named an evicted entry: that is told with the index and the number of entries.
#[test]
fn an_evicted_entry_cannot_be_named() {
    let mut decoder = Decoder::new();
    // A table of 64 bytes holds one small entry: the second evicts the first.
    decode(&mut decoder, &hex("3f21 40 01 61 01 62 40 01 63 01 64")).unwrap();
    assert_eq!(table(&decoder), (34, vec!["c: d".to_owned()]));
    assert_eq!(decode(&mut decoder.clone(), &hex("be")).unwrap().fields[0].0, "c");
    let error = decode(&mut decoder, &hex("82 bf")).unwrap_err();
    assert_eq!(
        error,
        Error {
            at: 1,
            kind: ErrorKind::IndexBeyondTable { index: 63, entries: 62 }
        }
    );
    assert_eq!(
        error.to_string(),
        "index 63 is beyond the 62 entries of the tables, at byte 1 (RFC 7541, 2.3.3)"
    );
    // Nothing is known of the table from here on.
    assert_eq!(
        decode(&mut decoder, &hex("82")).unwrap_err().kind,
        ErrorKind::TableUnknown
    );
}

/// RFC 7541, 4.4: the name may come from the very entry that the new one evicts.
#[test]
fn a_name_of_the_entry_that_it_evicts() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &hex("3f21 40 03 616263 03 646566")).unwrap();
    let seen = decode(&mut decoder, &hex("7e 03 676869")).unwrap();
    assert_eq!(
        (seen.fields[0].0.as_str(), seen.fields[0].1.as_str(), seen.evicted[0]),
        ("abc", "ghi", 1)
    );
    assert_eq!(table(&decoder).1, ["abc: ghi"]);
}

/// RFC 7541, 4.4: an entry larger than the table empties it, and that is no error.
#[test]
fn an_entry_larger_than_the_table() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &hex("3f01 40 01 61 00")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        decoder.state(),
        TableState {
            inserted: 1,
            entries: 0,
            size: 0,
            maximum: 32
        }
    );
    let seen = decode(&mut decoder, &hex("40 01 61 01 62")).unwrap();
    assert_eq!((seen.fields[0].0.as_str(), seen.fields[0].1.as_str()), ("a", "b"));
    assert_eq!(decoder.state().entries, 0);
}

#[test]
fn size_updates_have_rules() {
    // Not beyond what is allowed: the encoder does it all the same, and is followed. Not after a field.
    let seen = decode(&mut Decoder::new(), &hex("3fe21f82")).unwrap();
    let violation = Violation::SizeUpdateTooLarge {
        size: 4097,
        allowed: 4096,
    };
    assert_eq!((seen.violations, seen.updates), (vec![violation], vec![(4096, 4097)]));
    let kind = decode(&mut Decoder::new(), &hex("8220")).unwrap_err().kind;
    assert_eq!(kind, ErrorKind::SizeUpdateAfterField);
    // What is allowed may be more than the lens follows.
    let mut decoder = Decoder::with_table_limit(8192);
    decoder.set_allowed(1 << 20);
    assert!(decode(&mut decoder, &hex("3fe13f82")).is_ok(), "8192");
    let kind = decode(&mut decoder, &hex("3fe23f")).unwrap_err().kind;
    assert_eq!(
        (kind, kind.section()),
        (
            ErrorKind::TableBeyondLimit {
                size: 8193,
                limit: 8192
            },
            None
        )
    );

    // A lowered size has to be signalled, once.
    let mut decoder = Decoder::new();
    decoder.set_allowed(100);
    decoder.set_allowed(200);
    let seen = decode(&mut decoder.clone(), &hex("3f453f a901 82")).unwrap();
    assert_eq!((seen.updates, seen.violations), (vec![(4096, 100), (100, 200)], vec![]));
    let seen = decode(&mut decoder, &hex("82")).unwrap();
    assert_eq!(
        seen.violations,
        [Violation::SizeUpdateMissing {
            allowed: 100,
            size: 4096
        }]
    );
    assert_eq!(decode(&mut decoder, &hex("82")).unwrap().violations, []);
    let seen = decode(&mut Decoder::new(), &hex("20212282")).unwrap();
    assert_eq!(seen.violations, [Violation::SizeUpdatesTooMany]);
}

#[test]
fn what_is_malformed_is_named() {
    let error = |block: &str| decode(&mut Decoder::new(), &hex(block)).unwrap_err();
    for (block, at, kind) in [
        ("80", 0, ErrorKind::IndexZero),
        ("82ff", 1, ErrorKind::Truncated),
        ("8240", 1, ErrorKind::Truncated),
        ("400161", 0, ErrorKind::Truncated),
        ("40016105ff", 0, ErrorKind::Truncated),
        ("0f8080808080808001", 0, ErrorKind::IntegerTooLarge),
        ("ffffffffff7f", 0, ErrorKind::IntegerTooLarge),
        ("ff8080808010", 0, ErrorKind::IntegerTooLarge),
        ("ff80808080808080", 0, ErrorKind::IntegerTooLarge),
        ("4084ffffffff00", 0, ErrorKind::HuffmanEos),
        ("400161 8100", 0, ErrorKind::HuffmanPaddingNotOnes),
        ("400161 81ff", 0, ErrorKind::HuffmanPaddingTooLong),
        ("be", 0, ErrorKind::IndexBeyondTable { index: 62, entries: 61 }),
        ("0fff00", 0, ErrorKind::Truncated),
    ] {
        assert_eq!(error(block), Error { at, kind }, "{block}");
    }
    // A zero that takes more bytes than it needs is still an integer.
    assert_eq!(
        decode(&mut Decoder::new(), &hex("1f8000 00")).unwrap().fields[0].0,
        "accept-charset"
    );
    assert_eq!(
        decode(&mut Decoder::new(), &hex("0f8000 00")).unwrap().fields[0].0,
        "accept-charset"
    );
}

#[test]
fn fields_know_their_bytes_and_the_list_its_size() {
    let mut wires = Vec::new();
    let block = hex("8286 4103 616263 84");
    let done = Decoder::new()
        .decode(&block, &mut |field: &Field<'_>| wires.push(field.wire.clone()))
        .unwrap();
    assert_eq!(wires, [0..1, 1..2, 2..7, 7..8]);
    assert_eq!((done.fields, done.list_size), (4, (10 + 11 + 13 + 6) + 4 * 32));
}

/// A block of valid representations, from a model that knows nothing of the table.
fn blocks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let text = || {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
            let mut text = vec![bytes.len() as u8];
            text.extend(bytes);
            text
        })
    };
    let field = prop_oneof![
        3 => (1u8..70).prop_map(|index| vec![0x80 | index]),
        3 => (prop_oneof![Just(0x40u8), Just(0), Just(0x10)], text(), text()).prop_map(|(kind, name, value)| [vec![kind], name, value].concat()),
        2 => (0x41u8..0x7f, text()).prop_map(|(index, value)| [vec![index], value].concat()),
        1 => (0u8..31).prop_map(|size| vec![0x20 | size]),
        1 => (0u8..=255).prop_map(|size| vec![0x3f, size & 0x7f]),
    ];
    let block = proptest::collection::vec(field, 0..12).prop_map(|fields| {
        // Size updates come first.
        let (mut updates, fields): (Vec<_>, Vec<_>) = fields.into_iter().partition(|field| field[0] & 0xe0 == 0x20);
        updates.extend(fields);
        updates.concat()
    });
    proptest::collection::vec(block, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Both speeds leave the same table, a restored decoder sees what the original sees, and the table keeps its bounds.
    #[test]
    fn both_speeds_agree(blocks in blocks()) {
        let (mut shown, mut skipped) = (Decoder::new(), Decoder::new());
        for block in &blocks {
            let mut restored = Decoder::restore(&shown.snapshot());
            let seen = decode(&mut shown, block);
            prop_assert_eq!(&decode(&mut restored, block), &seen);
            prop_assert_eq!(restored.snapshot(), shown.snapshot());
            let advanced = skipped.advance(block);
            prop_assert_eq!(advanced.is_ok(), seen.is_ok());
            if seen.is_err() {
                break;
            }
            prop_assert_eq!(shown.snapshot(), skipped.snapshot());
            let state = shown.state();
            prop_assert!(state.size <= state.maximum && state.maximum <= 4096 + 127);
            prop_assert!(shown.memory() < 40 * 1024, "{}", shown.memory());
        }
    }

    /// What a ring of raw blocks shows later is what was seen at once.
    #[test]
    fn history_shows_what_was_seen(blocks in blocks(), kept in 0usize..8, bytes in 0usize..600, lowered in 0usize..12) {
        let mut decoder = Decoder::new();
        let mut history = History::new(decoder.clone(), kept, bytes);
        let mut seen = Vec::new();
        for (i, block) in blocks.iter().enumerate() {
            if i == lowered {
                decoder.set_allowed(100);
                history.set_allowed(100);
            }
            seen.push(decode(&mut decoder, block));
            history.push(i, block);
            prop_assert!(history.len() <= kept && history.memory() < 100_000);
        }
        let mut shown = Vec::new();
        history.replay(|entry, decoder| {
            assert_eq!(entry.block, blocks[*entry.tag]);
            // Every other one is left to the ring.
            shown.push((*entry.tag, (entry.tag % 2 == 0).then(|| decode(decoder, entry.block))));
        });
        prop_assert_eq!(shown.len(), history.len());
        for (i, (tag, block)) in shown.into_iter().enumerate() {
            prop_assert_eq!(tag, blocks.len() - history.len() + i);
            let Some(block) = block else { continue };
            prop_assert_eq!(block, seen[tag].clone());
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..6)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let mut fields = 0;
            let done = decoder.decode(&block, &mut |field: &Field<'_>| {
                fields += 1;
                assert!(field.wire.end as usize <= block.len() && field.after.size <= field.after.maximum);
            });
            prop_assert!(done.is_err() || done.unwrap().fields == fields);
        }
    }
}

proptest! {
    /// The digest of a block, from hashes that the table kept, is that of the list that it says.
    #[test]
    fn a_digest_is_that_of_the_list(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..20)) {
        let (mut shown, mut digested) = (Decoder::new(), Decoder::new());
        for block in blocks {
            let mut expected = Digester::new();
            let of_list = shown.decode(&block, &mut |field: &Field<'_>| expected.field(field.name, field.value));
            let mut digester = Digester::new();
            let of_hashes = digested.digest(&block, &mut digester);
            prop_assert_eq!(of_list.map(|done| done.table), of_hashes.map(|done| done.table));
            prop_assert!(digester.digest().agrees(&expected.digest()));
            prop_assert_eq!(digester.digest().fields(), expected.digest().fields());
            if of_hashes.is_err() {
                (shown, digested) = (Decoder::new(), Decoder::new());
            }
        }
    }
}

proptest! {
    /// Blocks that come again are digested as if they came for the first time, also where the table has changed or its size is owed.
    #[test]
    fn a_repeated_block_says_what_it_said_over_this_table(
        order in proptest::collection::vec((0..10_usize, 0..40_u32), 1..60),
    ) {
        let blocks: [&[u8]; 10] = [
            // The newest entries.
            &[0xbe],
            &[0xbf],
            &[0xbe, 0xbf, 0x82],
            // Fields that enter the table, and one that does not.
            &[0x40, 1, b'a', 1, b'x'],
            &[0x40, 1, b'a', 1, b'y'],
            &[0x40, 1, b'b', 1, b'x'],
            &[0x00, 1, b'a', 1, b'z'],
            // Sizes of the table: none, 64, 4096.
            &[0x20, 0x82],
            &[0x3f, 33, 0x82],
            &[0x3f, 0xe1, 0x1f, 0x82],
        ];
        let (mut plain, mut repeating, mut repeats) = (Decoder::new(), Decoder::new(), Repeats::default());
        let mut places = [None; REMEMBERED];
        for (nth, size) in order {
            let block = blocks[nth];
            if size < 4 {
                plain.set_allowed(size * 1024);
                repeating.set_allowed(size * 1024);
            }
            let (mut expected, mut found) = (Digester::new(), Digester::new());
            let first = plain.digest(block, &mut expected);
            let again = repeating.digest_repeated(block, &mut repeats, &mut found);
            let of = |done: Done| (done.fields, done.table);
            prop_assert_eq!(first.map(of), again.map(|again| of(again.done)));
            // Whoever keeps blocks by their places is told all that becomes of a place.
            if let Ok(Repeated { place: Some(place), again, .. }) = again {
                prop_assert!(place < REMEMBERED);
                prop_assert!(!again || places[place] == Some(block));
                places[place] = Some(block);
            }
            prop_assert!(found.digest().agrees(&expected.digest()));
            prop_assert_eq!(found.digest().kind(), expected.digest().kind());
            prop_assert_eq!((plain.blocks(), plain.snapshot()), (repeating.blocks(), repeating.snapshot()));
            if first.is_err() {
                (plain, repeating, repeats) = (Decoder::new(), Decoder::new(), Repeats::default());
            }
        }
    }
}

#[test]
fn a_block_means_something_else_once_the_table_has_changed() {
    let mut decoder = Decoder::new();
    let mut repeats = Repeats::default();
    let mut digest = |block: &[u8]| {
        let mut digester = Digester::new();
        decoder
            .digest_repeated(block, &mut repeats, &mut digester)
            .expect("a valid block");
        digester.digest()
    };
    let list = |value: &[u8]| {
        let mut digester = Digester::new();
        digester.field(b"a", value);
        digester.digest()
    };
    // `a: x` enters the table; index 62 is it, until `a: y` is.
    digest(&[0x40, 1, b'a', 1, b'x']);
    assert!(digest(&[0xbe]).agrees(&list(b"x")) && digest(&[0xbe]).agrees(&list(b"x")));
    digest(&[0x40, 1, b'a', 1, b'y']);
    assert!(digest(&[0xbe]).agrees(&list(b"y")) && !digest(&[0xbe]).agrees(&list(b"x")));
}

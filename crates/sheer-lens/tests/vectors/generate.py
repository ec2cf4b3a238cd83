#!/usr/bin/env python3
"""Header blocks by an HPACK encoder that nobody here wrote, with the lists that went into it.

    pip install hpack==4.2.0 && tests/vectors/generate.py > tests/vectors/python-hpack.txt

One line an item: `story` begins a connection, `size N` is an acknowledged SETTINGS_HEADER_TABLE_SIZE, `block HEX` a header block, and after it its fields,
`f NAME VALUE` in hex, `s` instead of `f` for one that must never be indexed. The same seed gives the same file.
"""
import random
import sys

from hpack import Encoder, HeaderTuple, NeverIndexedHeaderTuple

STORIES, BLOCKS = 32, 10
random.seed(7541)

NAMES = [b":method", b":path", b":status", b"content-type", b"user-agent", b"grpc-timeout", b"te", b"cookie", b"set-cookie", b"x-request-id",
         b"x-b3-traceid", b"grpc-status", b"grpc-message", b"authorization", b"x-empty", b"traceparent"]
VALUES = [b"GET", b"POST", b"/", b"/bank.v1.Ledger/Transfer", b"200", b"application/grpc", b"trailers", b"grpc-rust/0.14", b"", b"0", b"1S", b"no-cache"]


def text(length, alphabet):
    return bytes(random.choice(alphabet) for _ in range(length))


def value():
    kind = random.random()
    if kind < 0.5:
        return random.choice(VALUES)
    if kind < 0.8:
        return text(random.randrange(1, 40), b"abcdefghijklmnopqrstuvwxyz0123456789-_=/+. ")
    if kind < 0.97:
        return text(random.randrange(1, 60), bytes(range(32, 256)))
    return text(random.randrange(60, 260), bytes(range(256)))


def name():
    return random.choice(NAMES) if random.random() < 0.8 else b"x-" + text(random.randrange(1, 12), b"abcdefghij-0123")


def story():
    encoder = Encoder()
    print("story")
    fields = [(name(), value()) for _ in range(20)]
    for _ in range(BLOCKS):
        if random.random() < 0.15:
            for _ in range(random.choice([1, 1, 2])):
                size = random.choice([0, 40, 64, 100, 256, 1000, 4096, 8192, 65536])
                encoder.header_table_size = size
                print("size", size)
        chosen = [random.choice(fields) if random.random() < 0.7 else (name(), value()) for _ in range(random.randrange(0, 14))]
        # Repeated names, and the same field twice in a row.
        chosen += [(b"set-cookie", value()) for _ in range(random.choice([0, 0, 0, 3]))]
        chosen += chosen[-1:] * random.choice([0, 0, 2])
        kinds = [NeverIndexedHeaderTuple if random.random() < 0.1 else HeaderTuple for _ in chosen]
        block = encoder.encode([kind(*field) for kind, field in zip(kinds, chosen)], huffman=random.random() < 0.7)
        print("block", block.hex())
        for kind, (field, content) in zip(kinds, chosen):
            print("s" if kind is NeverIndexedHeaderTuple else "f", field.hex(), content.hex())


def main():
    for _ in range(STORIES):
        story()


sys.exit(main())

"""A gRPC peer on grpcio: `grpc_peer.py serve PORT` or `grpc_peer.py call HOST:PORT [METADATA_KIB]`.

Messages are bytes, so that no generated code is needed. The client exits with 1 and says what differed. The peer in Node
(grpc_peer.mjs) speaks the same protocol; keep them in step.
"""

import hashlib
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "interop.Echo"
OPTIONS = [("grpc.max_metadata_size", 256 * 1024), ("grpc.absolute_max_metadata_size", 256 * 1024)]
BINARY = bytes(range(256))


def echoed(context):
    """The metadata that a client wants back."""
    return [(k, v) for k, v in context.invocation_metadata() if k.startswith("x-echo")]


class Service(grpc.GenericRpcHandler):
    """Echoes messages and metadata in every kind of call, fails, or hangs."""

    def __init__(self):
        self.cancelled = 0

    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "ServerStream": grpc.unary_stream_rpc_method_handler(self.server_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),
            "Bidi": grpc.stream_stream_rpc_method_handler(self.bidi),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "Cancelled": grpc.unary_unary_rpc_method_handler(lambda _, __: str(self.cancelled).encode()),
        }
        return kinds.get(name)

    def head(self, context):
        context.send_initial_metadata(echoed(context))
        context.set_trailing_metadata(echoed(context) + [("x-end", "yes")])

    def unary(self, request, context):
        self.head(context)
        return request

    def server_stream(self, request, context):
        self.head(context)
        for n in range(int(request)):
            yield str(n).encode()

    def client_stream(self, requests, context):
        self.head(context)
        digest = hashlib.sha256()
        for request in requests:
            digest.update(request)
        return digest.hexdigest().encode()

    def bidi(self, requests, context):
        self.head(context)
        for request in requests:
            yield request

    def fail(self, _, context):
        context.set_trailing_metadata([("x-end", "yes"), ("x-why-bin", BINARY)])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no good: 100 % ünfit")

    def hang(self, _, context):
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(30)
        self.cancelled += 1
        return b""


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(64), options=OPTIONS)
    server.add_generic_rpc_handlers([Service()])
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def same(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r:.300} where {wanted!r:.300} was sent")


def metadata_of(pairs):
    """Values of each name, joined: Node folds repeated fields into one."""
    out = {}
    for key, value in pairs:
        if key.startswith("x-"):
            out.setdefault(key, []).append(value)
    return {k: v[0] if k.endswith("-bin") else ", ".join(v) for k, v in out.items()}


def call(target, kib):
    channel = grpc.insecure_channel(target, options=OPTIONS)
    method = {
        "Unary": channel.unary_unary, "Fail": channel.unary_unary, "Hang": channel.unary_unary,
        "Cancelled": channel.unary_unary, "ServerStream": channel.unary_stream,
        "ClientStream": channel.stream_unary, "Bidi": channel.stream_stream,
    }
    rpc = {name: make(f"/{SERVICE}/{name}") for name, make in method.items()}
    sent = [("x-echo-a", "1"), ("x-echo-a", "2"), ("x-echo-a", "3"), ("x-echo-bin", BINARY), ("x-echo-token", "t" * 6144)]
    wanted = metadata_of(sent)
    end = {**wanted, "x-end": "yes"}
    wait = {"timeout": 20, "metadata": sent, "wait_for_ready": True}

    def check(kind, done):
        same(f"{kind}: initial metadata", metadata_of(done.initial_metadata()), wanted)
        same(f"{kind}: trailing metadata", metadata_of(done.trailing_metadata()), end)

    payload = hashlib.sha512(b"seed").digest() * 4096
    answer, done = rpc["Unary"].with_call(payload, **wait)
    same("unary: message", hashlib.sha256(answer).digest(), hashlib.sha256(payload).digest())
    check("unary", done)

    stream = rpc["ServerStream"](b"500", **wait)
    same("server stream", [int(m) for m in stream], list(range(500)))
    check("server stream", stream)

    pieces = [bytes([n % 256]) * 1000 for n in range(500)]
    answer, done = rpc["ClientStream"].with_call(iter(pieces), **wait)
    same("client stream", answer.decode(), hashlib.sha256(b"".join(pieces)).hexdigest())
    check("client stream", done)

    # Each message is sent only when the one before it has come back: nothing on the way may hold messages up.
    turn = threading.Semaphore(1)

    def in_turn():
        for piece in pieces[:100]:
            turn.acquire()
            yield piece

    stream = rpc["Bidi"](in_turn(), **wait)
    for piece in pieces[:100]:
        same("bidirectional", next(stream), piece)
        turn.release()
    same("bidirectional: end", list(stream), [])
    check("bidirectional", stream)

    try:
        rpc["Fail"](b"", timeout=20)
        sys.exit("the failing call succeeded")
    except grpc.RpcError as error:
        same("failure: status", error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        same("failure: message", error.details(), "no good: 100 % ünfit")
        same("failure: metadata", metadata_of(error.trailing_metadata()), {"x-end": "yes", "x-why-bin": BINARY})

    if kib:
        big = [(f"x-echo-{n:02}", chr(97 + n % 26) * 1024) for n in range(kib)]
        _, done = rpc["Unary"].with_call(b"", timeout=20, metadata=big)
        same(f"{kib} KiB of metadata", metadata_of(done.initial_metadata()), metadata_of(big))
        same(f"{kib} KiB of trailers", metadata_of(done.trailing_metadata()), {**metadata_of(big), "x-end": "yes"})

    before = int(rpc["Cancelled"](b"", timeout=20))
    hanging = rpc["Hang"].future(b"", timeout=20)
    time.sleep(0.3)
    hanging.cancel()
    try:
        rpc["Hang"](b"", timeout=0.5)
        sys.exit("the hanging call ended")
    except grpc.RpcError as error:
        same("deadline: status", error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    until = time.time() + 5
    while int(rpc["Cancelled"](b"", timeout=20)) < before + 2:
        if time.time() > until:
            sys.exit("the server did not learn of the cancellation and the deadline")
        time.sleep(0.05)
    print("ok")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        call(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0)

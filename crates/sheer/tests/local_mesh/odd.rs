//! An application that does what goes wrong in real ones, a port each, and one that is quick.

/// Plain TCP and hand-made HTTP/2 frames, so that it can break rules. Ports say what it does: see [`odd`].
const SERVER: &str = r#"
import socket, socketserver, struct, threading
def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
def text(said):
    said = said.encode()
    if len(said) < 127: return bytes([len(said)]) + said
    left, out = len(said) - 127, [127]
    while left >= 128: out.append(left % 128 + 128); left //= 128
    return bytes(out + [left]) + said
def block(stream, end, fields):
    whole = b"".join(b"\0" + text(name) + text(value) for name, value in fields)
    parts = [whole[at:at + 16000] for at in range(0, len(whole), 16000)]
    kinds = [(1, end)] + [(9, 0)] * (len(parts) - 1)
    last = len(parts) - 1
    return b"".join(frame(kind, flags | (4 if i == last else 0), stream, part) for i, ((kind, flags), part) in enumerate(zip(kinds, parts)))
def http2(answer, waits=False):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            if not self.rfile.read(24).startswith(b"PRI "): return
            self.wfile.write(frame(4, 0, 0, struct.pack(">HI", 6, 1 << 20)))
            while True:
                head = self.rfile.read(9)
                if len(head) < 9: return
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                self.rfile.read(int.from_bytes(head[:3], "big"))
                if kind == 4 and not flags & 1: self.wfile.write(frame(4, 1, 0))
                is_due = kind < 2 and flags & 1 if waits else kind == 1
                if is_due and answer(self.wfile.write, stream): return
    return Handler
GRPC = [(":status", "200"), ("content-type", "application/grpc")]
def large(write, stream): write(block(stream, 0, GRPC) + block(stream, 1, [("grpc-status", "3"), ("grpc-message", "m" * 40000)]))
def broken(write, stream): write(frame(8, 0, stream, struct.pack(">I", 0)))
def calm(write, stream): write(frame(7, 0, 0, struct.pack(">II", stream, 11) + b"too_many_pings")); return True
PLANTED = "-".join(["planted", ""])
def secret(write, stream):
    head = GRPC + [("set-cookie", "s=" + PLANTED + "set-cookie"), ("x-session-token", PLANTED + "answer")]
    write(block(stream, 0, head) + block(stream, 1, [("grpc-status", "0"), ("x-refresh-token", PLANTED + "trailer")]))
class Greets(socketserver.StreamRequestHandler):
    def handle(self): self.wfile.write(b"220 ready\r\n"); self.rfile.readline(); self.wfile.write(b"221 bye\r\n")
class Closes(socketserver.StreamRequestHandler):
    def handle(self): self.rfile.readline()
class Resets(socketserver.StreamRequestHandler):
    def handle(self): self.rfile.readline(); self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); self.finish(); self.request.close()
class Quick(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline():
            while self.rfile.readline() > b"\r\n": pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6; allow_reuse_address = True; daemon_threads = True; request_queue_size = 64
for port, handler in [(9001, http2(large)), (9002, http2(broken)), (9003, http2(calm)), (9004, Greets), (9005, Closes), (9006, http2(secret, waits=True)), (9007, Quick), (9008, Resets)]:
    threading.Thread(target=Server(("::", port), handler).serve_forever).start()
print("listening", flush=True)
"#;

/// Answers every call with status 3 and a message of 40,000 bytes in trailers.
pub(crate) const LARGE: u16 = 9001;
/// Answers with a frame that no HTTP/2 peer may send: a WINDOW_UPDATE that adds nothing.
pub(crate) const BROKEN: u16 = 9002;
/// Sends GOAWAY with ENHANCE_YOUR_CALM and `too_many_pings`, and closes without an answer.
pub(crate) const CALM: u16 = 9003;
/// Speaks first, as servers of mail and of databases do.
pub(crate) const GREETS: u16 = 9004;
/// Closes without an answer.
pub(crate) const CLOSES: u16 = 9005;
/// Answers with secrets in header and trailers, once it has the whole request; its manifest does not spell them.
pub(crate) const SECRET: u16 = 9006;
/// Answers at once, with HTTP/1.
pub(crate) const QUICK: u16 = 9007;

/// Resets the connection after a line.
pub(crate) const RESETS: u16 = 9008;
/// Nothing listens there.
pub(crate) const NOBODY: u16 = 9009;

/// A gRPC call of one of its ports by curl, which prints headers and trailers.
pub(crate) fn call(port: u16, path: &str, more: &str) -> String {
    format!(
        "curl -sS --http2-prior-knowledge --max-time 10 -D - -o /dev/null -X POST -H content-type:application/grpc -H te:trailers {more} \
         http://odd:{port}/{path}"
    )
}

/// Its Deployment and Service, with a sidecar.
pub(crate) fn odd() -> String {
    let server = serde_json::to_string(SERVER).expect("a string");
    let ports = [LARGE, BROKEN, CALM, GREETS, CLOSES, SECRET, QUICK, RESETS, NOBODY];
    let of_service = ports
        .map(|port| format!("{{ name: p{port}, port: {port} }}"))
        .join(", ");
    let of_container = ports.map(|port| format!("{{ containerPort: {port} }}")).join(", ");
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{ name: odd, namespace: shop }}
spec: {{ selector: {{ app: odd }}, ports: [{of_service}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: odd, namespace: shop }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: odd }} }}
  template:
    metadata: {{ labels: {{ app: odd }} }}
    spec:
      containers:
        - name: app
          command: [/usr/bin/python3, -c, {server}]
          ports: [{of_container}]
          readinessProbe: {{ tcpSocket: {{ port: {QUICK} }}, periodSeconds: 1 }}
"#
    )
}

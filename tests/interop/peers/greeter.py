"""A protocol in which the server speaks first, as SMTP has it: `greeter.py serve PORT`, `greeter.py call HOST PORT`."""

import socket
import socketserver
import sys
import time


class Greeter(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 ready\r\n")
        lines = 0
        for line in self.rfile:
            lines += 1
            self.wfile.write(b"250 " + line)
        # The client has closed its half; this half still speaks.
        self.wfile.write(b"221 %d lines\r\n" % lines)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True


def call(host, port):
    started = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        reader = connection.makefile("rb")
        banner = reader.readline()
        took = time.monotonic() - started
        if banner != b"220 ready\r\n":
            sys.exit(f"banner {banner!r}")
        if took >= 1.0:
            sys.exit(f"the banner took {took:.3f} s")
        for n in range(100):
            connection.sendall(b"line %d\r\n" % n)
            if reader.readline() != b"250 line %d\r\n" % n:
                sys.exit(f"line {n} came back changed")
        connection.shutdown(socket.SHUT_WR)
        rest = reader.read()
        if rest != b"221 100 lines\r\n":
            sys.exit(f"after half-close: {rest!r}")
    print(f"banner after {took * 1000:.0f} ms")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        Server(("::", int(sys.argv[2])), Greeter).serve_forever()
    call(*sys.argv[2:])

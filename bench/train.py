#!/usr/bin/env python3
"""Runs sheer-proxy under traffic and writes down what the compiler and the linker should know of it.

hot-code: which functions run while traffic passes. A page of code counts as memory as soon as one function on it ran. Spread over the whole binary,
the functions of the data path map nearly all of it; side by side they map a third. Valgrind's callgrind says which functions ran in a proxy that is
starts and carries HTTP/1, HTTP/2 and opaque TCP; crates/sheer-proxy/hot-code.ld names them, and crates/sheer-proxy/build.rs gives it to the linker. A
name that no longer exists does no harm, a new function that is missing costs a page: run it again when the mark for memory in `make bench` comes near.

profile: which way branches go and what calls what how often (profile-guided optimisation), from a proxy that was built to count it, under the same
traffic and under the sample's. crates/sheer-proxy/proxy.profdata has it, and `make release` gives it to the compiler. A function that has changed
since is compiled without: run it again when the marks for CPU in `make bench` come near.

usage: make hot-code    (as root; valgrind, a release, two minutes beside the build)
       make profile     (as root; llvm-profdata of rustc's LLVM, a build of its own, two minutes beside it)
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable

HOST = pathlib.Path(__file__).resolve().parent
MESH = HOST / "mesh.yaml"
PROXY = HOST.parent / "crates" / "sheer-proxy"
HOT_CODE = PROXY / "hot-code.ld"
PROFILE = PROXY / "proxy.profdata"
# What legacy mangling puts behind a function's path: a hash that changes with the compiler.
HASH = re.compile(r"17h[0-9a-f]{16}E(?:\.llvm\.\d+)?$")
# Valgrind has no newer instructions than AVX2, and assembly no section a function: what the machine itself takes for keys and handshakes, by object file.
ASSEMBLY = ["*mlkem_*_asm.o", "*curve25519_*.o", "*bignum_*p256*.o", "*p256*asm.o", "*aesni-x86_64.o", "*rdrand-x86_64.o", "*sha3_keccak*.o"]
NAME = re.compile(r"^c?fn=\(\d+\) (\S+)")


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("what", choices=["hot-code", "profile"])
    args.add_argument("--bin", type=pathlib.Path, required=True, help="folder of sheer, sheer-bench, bank, and for hot-code of sheer-proxy")
    args.add_argument("--instrumented", type=pathlib.Path, help="for profile: a sheer-proxy built with -Cprofile-generate=FOLDER")
    args.add_argument("--raw", type=pathlib.Path, help="for profile: that folder")
    args.add_argument("--profdata", default="llvm-profdata", help="for profile: llvm-profdata of the LLVM that rustc has")
    args = args.parse_args()
    with tempfile.TemporaryDirectory(prefix="sheer-train-") as work:
        if args.what == "hot-code":
            hot_code(args.bin.resolve(), pathlib.Path(work))
        else:
            profile(args, pathlib.Path(work))


def hot_code(bin_: pathlib.Path, work: pathlib.Path) -> None:
    start, traffic = record(bin_, work)
    exist = sections(bin_ / "sheer-proxy")
    patterns = patterns_of(traffic, exist)
    if len(patterns) < 500:
        sys.exit(f"only {len(patterns)} functions ran: traffic did not pass; nothing was written")
    # The allocator whole: which of its functions run depends on the hour. Behind the traffic's functions those of the start: what still runs of
    # them later stands together as well.
    patterns += ["mi_*", "_mi_*"]
    patterns += [name for name in patterns_of(start | traffic, exist) if name not in set(patterns)]
    lines = "\n".join([f"    *(.text.hot.{name} .text.{name} .text.unlikely.{name})" for name in patterns] + [f"    {name}(.text)" for name in ASSEMBLY])
    HOT_CODE.write_text(f"/* Functions that run while traffic passes, then those of the start; written by bench/train.py. */\nSECTIONS {{\n  .text.hot : {{\n{lines}\n  }}\n}} INSERT BEFORE .text;\n")
    print(f"{len(patterns)} functions: {HOT_CODE}")


def profile(args: argparse.Namespace, work: pathlib.Path) -> None:
    """Proxies count while they carry traffic, and write it down at their end."""
    bins = work / "bin"
    bins.mkdir()
    work.chmod(0o755)
    # Copies: `sheer` takes the proxy that stands beside it.
    for name, program in {"sheer": args.bin / "sheer", "bank": args.bin / "bank", "sheer-proxy": args.instrumented}.items():
        shutil.copy(program, bins / name)
    for old in args.raw.glob("*.profraw"):
        old.unlink()
    args.raw.chmod(0o1777)  # sidecars have a user of their own
    (work / "www").mkdir()
    (work / "www" / "128").write_text("x" * 128)
    (work / "www" / "big").write_bytes(os.urandom(3_000_000))
    mesh = MESH.read_text().replace("@SELF@", str(args.bin.resolve() / "sheer-bench")).replace("@WORK@", str(work))
    (work / "mesh.yaml").write_text(mesh)
    (work / "state").mkdir()
    env = dict(os.environ, XDG_STATE_HOME=str(work / "state"))
    sheer = str(bins / "sheer")
    up = subprocess.Popen([sheer, "up", "-f", str(work / "mesh.yaml")], env=env)
    try:
        wait_ready(sheer, env)
        traffic(env, sheer, args.bin.resolve() / "sheer-bench", scale=20)
        run(env, sheer, "exec", "deploy/load", "--", "h2load", "-n", "200", "-c", "2", "-m", "4", "http://web.bench:9000/big")
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)
    run(env, sheer, "demo", "--for", "30s", "-o", "json", "--port", "0")
    raw = sorted(str(path) for path in args.raw.glob("*.profraw"))
    if not raw:
        sys.exit(f"no proxy wrote into {args.raw}; nothing was written")
    run(env, args.profdata, "merge", "--sparse", "-o", str(PROFILE), *raw)
    print(f"{PROFILE.stat().st_size} bytes: {PROFILE}")


def traffic(env: dict[str, str], sheer: str, bench: pathlib.Path, scale: int) -> None:
    """HTTP/2 on few and on many connections, HTTP/1, and opaque TCP."""
    inside = [sheer, "exec", "deploy/load", "--"]
    run(env, *inside, "h2load", "-n", str(3000 * scale), "-c", "4", "-m", "25", "http://web.bench:9000/128")
    run(env, *inside, "h2load", "-n", str(3000 * scale if scale > 1 else 500), "-c", "16", "-m", "1", "http://web.bench:9000/128")
    run(env, *inside, "h2load", "--h1", "-n", str(200 * scale), "-c", "2", "http://web.bench:9000/128")
    address = subprocess.run([*inside, "getent", "ahostsv4", "tcp.bench"], env=env, check=True, capture_output=True, text=True).stdout.split()[0]
    run(env, *inside, str(bench), "tcp-connect", "--addr", f"{address}:9100", "--seconds", "2", "--concurrency", "2")


def record(bin_: pathlib.Path, work: pathlib.Path) -> tuple[set[str], set[str]]:
    """Runs a mesh whose proxies run in valgrind, sends traffic, and gives the mangled names of what ran until they were ready, and since then."""
    work.chmod(0o755)
    (work / "www").mkdir()
    (work / "www" / "128").write_text("x" * 128)
    out = work / "out"
    out.mkdir()
    out.chmod(0o777)  # sidecars have a user of their own
    proxy = work / "sheer-proxy"
    proxy.write_bytes((bin_ / "sheer-proxy").read_bytes())
    proxy.chmod(0o755)
    wrapper = work / "in-valgrind"
    wrapper.write_text(
        f"#!/bin/sh\ncd {out}\nexec valgrind --tool=callgrind --demangle=no --vgdb-prefix={out}/vgdb"
        f' --callgrind-out-file={out}/run.%p {proxy} "$@"\n'
    )
    wrapper.chmod(0o755)
    mesh = MESH.read_text().replace("@SELF@", str(bin_ / "sheer-bench")).replace("@WORK@", str(work))
    annotation = f"config.sheer.dev/proxy-binary: {wrapper}"
    mesh = re.sub(r"labels: \{ app: (load|web) \} \}", rf"labels: {{ app: \1 }}, annotations: {{ {annotation} }} }}", mesh)
    mesh = mesh.replace('annotations: { config.sheer.dev/opaque-ports: "9100" }\n    spec', f'annotations: {{ config.sheer.dev/opaque-ports: "9100", {annotation} }}\n    spec')
    (work / "mesh.yaml").write_text(mesh)
    state = work / "state"
    state.mkdir()
    env = dict(os.environ, XDG_STATE_HOME=str(state))
    sheer = str(bin_ / "sheer")
    up = subprocess.Popen([sheer, "up", "-f", str(work / "mesh.yaml")], env=env)
    try:
        wait_ready(sheer, env)
        proxies = running(proxy)
        for pid in proxies:
            vgdb(pid, out, "dump")
        traffic(env, sheer, bin_ / "sheer-bench", scale=1)
        time.sleep(3)  # what comes by the second: numbers to the control plane
        for pid in proxies:
            vgdb(pid, out, "dump")
        return ran(out.glob("run.*.1")), ran(out.glob("run.*.2"))
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)


def ran(dumps: Iterable[pathlib.Path]) -> set[str]:
    """Names of the functions that callgrind saw running."""
    return {name.split("'")[0] for path in dumps for line in path.read_text().splitlines() for name in NAME.findall(line)}


def run(env: dict[str, str], *command: str) -> None:
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


def wait_ready(sheer: str, env: dict[str, str]) -> None:
    for _ in range(120):
        time.sleep(1)
        told = subprocess.run([sheer, "ps"], env=env, capture_output=True, text=True).stdout
        if told.count(" 2/2 ") == 3:
            return
    sys.exit(f"the mesh is not ready after two minutes:\n{told}")


def running(program: pathlib.Path) -> list[int]:
    """The processes in valgrind that run this program."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(program) in (line := (entry / "cmdline").read_text()) and "callgrind" in line:
                found.append(int(entry.name))
        except OSError:
            continue  # gone meanwhile
    return found


def vgdb(pid: int, out: pathlib.Path, *command: str) -> None:
    """Tells one valgrind something, from within its namespaces and as its user, without which it does not listen."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    inner = re.search(r"^NSpid:.*\s(\d+)$", status, re.M)[1]
    user = re.search(r"^Uid:\s+(\d+)", status, re.M)[1]
    host = subprocess.run(["nsenter", "-t", str(pid), "-u", "hostname"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(
        ["nsenter", "-t", str(pid), "-p", "-n", "-u", "setpriv", "--reuid", user, "--clear-groups", "env", "-u", "USER", "-u", "LOGNAME", f"HOST={host}"]
        + ["vgdb", f"--vgdb-prefix={out}/vgdb", f"--pid={inner}", *command],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def sections(program: pathlib.Path) -> set[str]:
    """Names of the program's functions: what callgrind names besides is of other libraries."""
    told = subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout
    return {line.split(" ", 2)[2] for line in told.splitlines() if line[17:18] in "tTwW"}


def patterns_of(ran: set[str], exist: set[str]) -> list[str]:
    """One pattern a path that holds for every compiler; of a generic function of which only some instances ran, those by their whole names."""
    instances: dict[str, set[str]] = {}
    for name in exist:
        instances.setdefault(HASH.sub("17h*", name), set()).add(name)
    found: set[str] = set()
    for path, names in instances.items():
        if names <= ran:
            found.add(path)
        else:
            found |= names & ran
    return sorted(found)


if __name__ == "__main__":
    main()

//! HTTP by curl, nghttp and `ws` against servers of Node and nghttp2.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::setup::Bench;

const GIB: u64 = 1 << 30;

/// What the server saw of a request, as it answers on `/echo`.
fn echo(bench: &Bench, from: &str, curl: &str) -> Result<Value> {
    let body = bench.shell(from, &format!("curl --silent --show-error --fail --max-time 20 {curl}"))?;
    serde_json::from_str(&body).with_context(|| format!("not what the server sends: {body:.200}"))
}

/// Values of a field as it is spelt, in order.
fn values<'a>(seen: &'a Value, name: &str) -> Vec<&'a str> {
    let fields: Vec<&str> = seen["fields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    fields
        .chunks(2)
        .filter(|pair| pair[0] == name)
        .map(|pair| pair[1])
        .collect()
}

pub(crate) fn curl_http1(bench: &mut Bench) -> Result<String> {
    let url = "http://web.interop:8080/echo?a=%20b&c";
    let seen = echo(
        bench,
        "client",
        &format!("-H 'X-Case: One' -H 'X-Case: Two' -H 'x-empty;' --data-binary abc '{url}'"),
    )?;
    ensure!(
        seen["method"] == "POST" && seen["url"] == "/echo?a=%20b&c" && seen["version"] == "1.1",
        "{seen}"
    );
    ensure!(
        values(&seen, "X-Case") == ["One", "Two"],
        "repeated fields or their case: {seen}"
    );
    ensure!(values(&seen, "x-empty") == [""], "empty value: {seen}");
    ensure!(values(&seen, "Host") == ["web.interop:8080"], "host: {seen}");
    ensure!(seen["length"] == 3, "{seen}");
    let chunked = echo(
        bench,
        "client",
        &format!("-H 'Transfer-Encoding: chunked' --data-binary @@WORK@/www/big '{url}'"),
    )?;
    let wanted = bench.shell("client", "sha256sum < @WORK@/www/big")?;
    ensure!(
        chunked["sha256"].as_str() == wanted.split(' ').next(),
        "chunked upload: {chunked}"
    );
    ensure!(values(&chunked, "Transfer-Encoding") == ["chunked"], "{chunked}");
    // Two requests on one connection, and one that waits for 100 Continue.
    let script = format!(
        "curl -sS --max-time 20 -o @WORK@/one -o @WORK@/two -w '%{{num_connects}} %{{http_code}}\\n' '{url}' '{url}'"
    );
    let reused = bench.shell("client", &script)?;
    ensure!(reused.trim() == "1 200\n0 200", "keep-alive: {reused}");
    let script = format!(
        "curl -sS --max-time 20 -v -H 'Expect: 100-continue' --data-binary @@WORK@/www/big '{url}' 2>&1 >@WORK@/three"
    );
    let talk = bench.shell("client", &script)?;
    ensure!(
        talk.contains("< HTTP/1.1 100 Continue") && talk.contains("< HTTP/1.1 200"),
        "100-continue: {talk}"
    );
    Ok("case, repeats, chunks, keep-alive, 100-continue".into())
}

pub(crate) fn curl_http2(bench: &mut Bench) -> Result<String> {
    let seen = echo(
        bench,
        "client",
        "--http2-prior-knowledge -H 'x-case: One' -H 'x-case: Two' --data-binary @@WORK@/www/big http://web.interop:8082/echo",
    )?;
    ensure!(
        seen["version"] == "2.0" && seen["length"].as_u64() > Some(1_000_000),
        "{seen}"
    );
    ensure!(values(&seen, "x-case").join(", ") == "One, Two", "{seen}");
    ensure!(values(&seen, ":authority") == ["web.interop:8082"], "{seen}");
    let head = bench.shell(
        "client",
        "curl -sS --max-time 20 --http2-prior-knowledge -D - -o @WORK@/body http://web.interop:8082/echo",
    )?;
    ensure!(
        head.starts_with("HTTP/2 200") && head.matches("set-cookie: ").count() == 2,
        "{head}"
    );
    Ok("prior knowledge, upload, repeats".into())
}

pub(crate) fn nghttp(bench: &mut Bench) -> Result<String> {
    let got = bench.shell("client", "nghttp --no-dep http://nghttpd.interop:8083/big | cmp - @WORK@/www/big && nghttp -v -m 20 http://nghttpd.interop:8083/small")?;
    let answers = got.matches(":status: 200").count();
    ensure!(answers == 20, "{answers} of 20 answers:\n{got}");
    let load = bench.shell("client", "h2load -n 2000 -c 4 -m 10 http://nghttpd.interop:8083/small")?;
    ensure!(load.contains("status codes: 2000 2xx"), "{load}");
    Ok("20 at once, 2000 by h2load".into())
}

pub(crate) fn interim_and_trailers(bench: &mut Bench) -> Result<String> {
    let got = bench.shell("client", "curl -sS --max-time 20 -i http://web.interop:8080/hints")?;
    ensure!(
        got.starts_with("HTTP/1.1 103") && got.contains("rel=preload"),
        "103 is missing: {got:.300}"
    );
    ensure!(got.contains("HTTP/1.1 200"), "{got:.300}");
    ensure!(
        got.contains("X-Mixed-Case: yes"),
        "case of a response's field: {got:.600}"
    );
    // curl hands trailer fields to its header callback: they come after the body's own.
    let got = bench.shell(
        "client",
        "curl -sS --max-time 20 -D @WORK@/head http://web.interop:8080/trailers && cat @WORK@/head",
    )?;
    ensure!(got.starts_with("first second"), "{got}");
    ensure!(
        got.trim_end().to_lowercase().ends_with("x-sum: done"),
        "trailers: {got}"
    );
    let got = bench.shell("client", "nghttp -v http://web.interop:8082/trailers")?;
    ensure!(got.contains("x-sum: done"), "HTTP/2 trailers: {got}");
    Ok("103, chunked trailers, HTTP/2 trailers".into())
}

pub(crate) fn http10_and_head(bench: &mut Bench) -> Result<String> {
    let seen = echo(bench, "client", "--http1.0 http://web.interop:8080/echo")?;
    ensure!(seen["version"] == "1.0", "the version is the client's: {seen}");
    let head = bench.shell(
        "client",
        "curl -sS --max-time 20 -I 'http://web.interop:8080/bytes?n=12345'",
    )?;
    ensure!(
        head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("content-length: 12345"),
        "{head}"
    );
    Ok(String::new())
}

pub(crate) fn web_socket(bench: &mut Bench) -> Result<String> {
    for from in ["client", "plain-client"] {
        let got = bench.run(
            from,
            &["node", "@PEERS@/http_peer.mjs", "ws", "ws://web.interop:8080/ws"],
        )?;
        ensure!(got.trim() == "ok", "from {from}: {got}");
    }
    Ok("text, binary up to 4 MiB, ping, close code".into())
}

pub(crate) fn unmeshed(bench: &mut Bench) -> Result<String> {
    for (from, to) in [
        ("plain-client", "web.interop:8080"),
        ("client", "plain-web.interop:8085"),
    ] {
        let seen = echo(bench, from, &format!("-H 'X-Case: One' http://{to}/echo"))?;
        ensure!(values(&seen, "X-Case") == ["One"], "{from} to {to}: {seen}");
    }
    for (from, to) in [
        ("plain-client", "web.interop:8082"),
        ("client", "plain-web.interop:8086"),
    ] {
        let seen = echo(bench, from, &format!("--http2-prior-knowledge http://{to}/echo"))?;
        ensure!(seen["version"] == "2.0", "{from} to {to}: {seen}");
    }
    Ok("HTTP/1 and HTTP/2, both directions".into())
}

pub(crate) fn gigabyte_down(bench: &mut Bench) -> Result<String> {
    let fetch = |options: &str, port: u16| -> Result<(String, f64)> {
        let url = format!("http://web.interop:{port}/bytes?n={GIB}");
        let script = format!(
            "curl -sS --fail --max-time 100 {options} -w '%{{stderr}}%{{time_total}}' '{url}' 2>@WORK@/time | sha256sum; cat @WORK@/time"
        );
        let got = bench.shell("client", &script)?;
        let (sum, time) = got.split_once("-\n").with_context(|| got.clone())?;
        Ok((sum.trim().to_owned(), time.trim().parse().with_context(|| got.clone())?))
    };
    let wanted = bench.shell(
        "web",
        &format!("curl -sS --fail 'http://127.0.0.1:8080/bytes?n={GIB}' | sha256sum"),
    )?;
    let wanted = wanted.split(' ').next().unwrap_or_default();
    let (one, one_time) = fetch("", 8080)?;
    let (two, two_time) = fetch("--http2-prior-knowledge", 8082)?;
    ensure!(one == wanted, "HTTP/1: {one} where {wanted} was sent");
    ensure!(two == wanted, "HTTP/2: {two} where {wanted} was sent");
    let gbit = |time: f64| GIB as f64 * 8.0 / 1e9 / time;
    Ok(format!(
        "HTTP/1 {:.1} Gbit/s, HTTP/2 {:.1} Gbit/s",
        gbit(one_time),
        gbit(two_time)
    ))
}

pub(crate) fn gigabyte_up(bench: &mut Bench) -> Result<String> {
    // AES in counter mode makes bytes that do not repeat, the same each time.
    let bytes =
        format!("head -c {GIB} /dev/zero | openssl enc -aes-128-ctr -nosalt -K 5368656572 -iv 0 2>@WORK@/warning");
    let wanted = bench.shell("client", &format!("{bytes} | sha256sum"))?;
    for (options, port) in [("", 8080), ("--http2-prior-knowledge", 8082)] {
        let script = format!("{bytes} | curl -sS --fail --max-time 100 {options} -T - http://web.interop:{port}/echo");
        let seen: Value = serde_json::from_str(&bench.shell("client", &script)?)?;
        ensure!(
            seen["length"].as_u64() == Some(GIB),
            "{} of {GIB} bytes arrived",
            seen["length"]
        );
        ensure!(
            seen["sha256"].as_str() == wanted.split(' ').next(),
            "port {port}: the checksum differs: {seen}"
        );
    }
    Ok("HTTP/1 and HTTP/2".into())
}

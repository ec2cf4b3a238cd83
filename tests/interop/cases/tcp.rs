//! Opaque TCP: Redis and PostgreSQL as Debian has them, and a protocol in which the server speaks first.

use anyhow::{Result, ensure};

use crate::setup::Bench;

pub(crate) fn redis(bench: &mut Bench) -> Result<String> {
    for from in ["client", "plain-client"] {
        let got = bench.run(from, &["@PEERS@/redis.sh", "check", "redis.interop"])?;
        ensure!(got.trim().ends_with("ok"), "from {from}: {got}");
    }
    Ok("20000 keys and 8 MiB compared".into())
}

pub(crate) fn postgres(bench: &mut Bench) -> Result<String> {
    for from in ["client", "plain-client"] {
        let got = bench.run(from, &["@PEERS@/postgres.sh", "check", "postgres.interop"])?;
        ensure!(got.trim().ends_with("ok"), "from {from}: {got}");
    }
    Ok("200000 rows in and out compared".into())
}

pub(crate) fn server_first(bench: &mut Bench) -> Result<String> {
    let call = ["python3", "@PEERS@/greeter.py", "call", "greeter.interop", "2525"];
    let meshed = bench.run("client", &call)?;
    let unmeshed = bench.run("plain-client", &call)?;
    Ok(format!("{}; unmeshed client: {}", meshed.trim(), unmeshed.trim()))
}

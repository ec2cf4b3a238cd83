//! TCP measurements: bulk throughput, short connections, and idle connections. The first byte says what a connection wants.

use std::{
    io::Read as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinSet, spawn_local},
    time::timeout,
};

/// The server counts what follows and answers with the count (u64) once the client has closed its half.
const SINK: u8 = b's';
/// The server sends the byte back and keeps the connection.
const ECHO: u8 = b'e';
/// Size of one write.
const CHUNK: usize = 256 * 1024;
/// A measurement that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Server of the TCP measurements.
#[derive(Args)]
pub(crate) struct Server {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
}

impl Server {
    pub(crate) async fn run(self) -> Result<()> {
        let listener = TcpListener::bind(self.listen).await.context("listen")?;
        loop {
            let (stream, _) = listener.accept().await?;
            spawn_local(serve(stream));
        }
    }
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    match stream.read_u8().await? {
        SINK => {
            let mut buffer = vec![0; CHUNK];
            let mut total = 0_u64;
            loop {
                match stream.read(&mut buffer).await? {
                    0 => break,
                    n => total += n as u64,
                }
            }
            stream.write_u64(total).await?;
        }
        _ => {
            stream.write_u8(ECHO).await?;
            // Held until the client goes.
            let _ = stream.read_u8().await;
        }
    }
    Ok(())
}

/// Bulk throughput.
#[derive(Args)]
pub(crate) struct Bulk {
    /// The path's entrance.
    #[arg(long)]
    addr: SocketAddr,
    /// How many bytes.
    #[arg(long)]
    bytes: u64,
}

impl Bulk {
    pub(crate) async fn run(self) -> Result<()> {
        let mut stream = open(self.addr, SINK).await?;
        let chunk = vec![0x5a; CHUNK];
        let started = Instant::now();
        let mut left = self.bytes;
        while left > 0 {
            let n = left.min(CHUNK as u64) as usize;
            timeout(PATIENCE, stream.write_all(&chunk[..n]))
                .await
                .context("stalled")??;
            left -= n as u64;
        }
        stream.shutdown().await?;
        let arrived = timeout(PATIENCE, stream.read_u64())
            .await
            .context("no count from the server")??;
        ensure!(arrived == self.bytes, "{arrived} of {} bytes arrived", self.bytes);
        println!("{}", self.bytes as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e9);
        Ok(())
    }
}

/// Short connections: connect, one byte there and back, close.
#[derive(Args)]
pub(crate) struct Connect {
    /// The path's entrance.
    #[arg(long)]
    addr: SocketAddr,
    /// For how long.
    #[arg(long)]
    seconds: f64,
    /// How many at once.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
}

impl Connect {
    pub(crate) async fn run(self) -> Result<()> {
        let started = Instant::now();
        let end = started + Duration::from_secs_f64(self.seconds);
        let mut tasks = JoinSet::new();
        for _ in 0..self.concurrency {
            tasks.spawn_local(async move {
                let mut done = 0_u64;
                while Instant::now() < end {
                    drop(open(self.addr, ECHO).await?);
                    done += 1;
                }
                anyhow::Ok(done)
            });
        }
        let mut total = 0;
        while let Some(done) = tasks.join_next().await {
            total += done??;
        }
        println!("{}", total as f64 / started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Idle connections.
#[derive(Args)]
pub(crate) struct Idle {
    /// The path's entrance.
    #[arg(long)]
    addr: SocketAddr,
    /// How many.
    #[arg(long)]
    count: usize,
}

impl Idle {
    pub(crate) async fn run(self) -> Result<()> {
        let mut held = Vec::with_capacity(self.count);
        while held.len() < self.count {
            let mut batch = JoinSet::new();
            for _ in 0..32.min(self.count - held.len()) {
                batch.spawn_local(open(self.addr, ECHO));
            }
            while let Some(stream) = batch.join_next().await {
                held.push(stream?.with_context(|| format!("after {} connections", held.len()))?);
            }
        }
        println!("{}", held.len());
        // The runner reads the memory of the proxies now, and closes our stdin when it has.
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1])).await??;
        Ok(())
    }
}

/// A connection whose first byte was sent and, for an echo, answered: it then reaches through the whole path.
async fn open(addr: SocketAddr, wanted: u8) -> Result<TcpStream> {
    let mut stream = timeout(PATIENCE, TcpStream::connect(addr))
        .await
        .context("connect: timeout")??;
    stream.set_nodelay(true)?;
    stream.write_u8(wanted).await?;
    if wanted == ECHO {
        timeout(PATIENCE, stream.read_u8()).await.context("no echo")??;
    }
    Ok(stream)
}

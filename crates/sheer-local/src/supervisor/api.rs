//! Serves the supervisor's unix socket: lines of JSON in, lines of JSON out. What is asked is answered by the fleet's task.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use crate::protocol::{Request, Response};

/// Longest request.
const LONGEST: u64 = 64 * 1024;

/// A request and where its answer goes.
pub(super) type Asked = (Request, oneshot::Sender<Response>);

/// Serves connections until the runtime ends.
pub(super) async fn serve(listener: UnixListener, fleet: mpsc::Sender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let fleet = fleet.clone();
                tokio::spawn(async move { answer(stream, fleet).await });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answer(stream: UnixStream, fleet: mpsc::Sender<Asked>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    loop {
        line.clear();
        if (&mut reader).take(LONGEST).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let response = match serde_json::from_str(&line) {
            Ok(request) => ask(request, &fleet).await,
            Err(error) => Response::Refused {
                text: format!(
                    "the request is not understood ({error}): command line and mesh are of different versions"
                ),
            },
        };
        let mut text = serde_json::to_vec(&response).map_err(io::Error::from)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
    }
}

async fn ask(request: Request, fleet: &mpsc::Sender<Asked>) -> Response {
    let (sender, receiver) = oneshot::channel();
    let ending = Response::Refused {
        text: "the mesh is ending".to_owned(),
    };
    if fleet.send((request, sender)).await.is_err() {
        return ending;
    }
    receiver.await.unwrap_or(ending)
}

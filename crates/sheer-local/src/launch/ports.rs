//! Published ports on the host: opened as they are wanted, tried again where somebody else has them, and led into the mesh. Owned by the outer
//! process.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, TcpListener as StdTcpListener},
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use super::{Event, Refusals};
use crate::{dial, state::State};

/// How often a port that somebody else has is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The ports of 127.0.0.1 that the mesh wants; closed when dropped.
pub(super) struct Ports {
    state: State,
    wanted: Vec<u16>,
    open: BTreeMap<u16, JoinHandle<()>>,
    refusals: Refusals,
}

impl Ports {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            wanted: Vec::new(),
            open: BTreeMap::new(),
            refusals: Refusals::default(),
        }
    }

    /// Closes what is not wanted any more; [`Self::open`] opens what is.
    pub(super) fn want(&mut self, ports: Vec<u16>) {
        self.open.retain(|port, listener| {
            let stays = ports.contains(port);
            if !stays {
                listener.abort();
            }
            stays
        });
        self.refusals.0.retain(|port, _| ports.contains(port));
        self.wanted = ports;
    }

    /// Tries every port that is wanted and not open. What there is to say of it: a port that is refused as before needs no word.
    pub(super) fn open(&mut self) -> Vec<Event> {
        let mut news = Vec::new();
        for port in self.wanted.clone() {
            if self.open.contains_key(&port) {
                continue;
            }
            match listen(port) {
                Ok(listener) => {
                    let task = tokio::spawn(forward(listener, port, self.state.clone()));
                    self.open.insert(port, task);
                    if self.refusals.0.remove(&port).is_some() {
                        news.push(Event::Recovered {
                            text: format!("127.0.0.1:{port} is published now"),
                        });
                    }
                }
                Err(error) => {
                    let known = self.refusals.0.insert(port, error.to_string());
                    news.extend(known.is_none().then(|| refused(port, &error)));
                }
            }
        }
        news
    }

    /// Ports that are wanted and cannot be had now.
    pub(super) const fn refusals(&self) -> &Refusals {
        &self.refusals
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.open.values().for_each(JoinHandle::abort);
    }
}

fn refused(port: u16, error: &io::Error) -> Event {
    let text = format!(
        "127.0.0.1:{port} cannot be published: {error}. Free the port (it is tried again every second), or change its annotation sheer.dev/publish."
    );
    Event::Warning { text }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Passes connections on to the mesh, over its unix socket.
async fn forward(listener: TcpListener, port: u16, state: State) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = state.clone();
                tokio::spawn(async move { pass(stream, port, &state).await });
            }
            // Out of descriptors: connections that are open must end first.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn pass(mut stream: TcpStream, port: u16, state: &State) -> io::Result<()> {
    let Ok(mut mesh) = dial::publication(state, port).await else {
        // Closing resets the client, as a closed port would.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        return Ok(());
    };
    stream.set_nodelay(true)?;
    copy_bidirectional(&mut stream, &mut mesh).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_was_taken_is_had_once_it_is_free_and_said_once_each() {
        let other = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = other.local_addr().expect("its address").port();
        let mut ports = Ports::new(State::locate(Some("/nowhere".into())).expect("a state"));
        ports.want(vec![port]);
        let news = ports.open();
        assert!(
            matches!(&news[..], [Event::Warning { text }] if text.contains("tried again")),
            "{news:?}"
        );
        assert!(ports.refusals().0.contains_key(&port));
        assert_eq!(ports.open(), [], "it is known");
        drop(other);
        let news = ports.open();
        assert!(matches!(&news[..], [Event::Recovered { .. }]), "{news:?}");
        assert_eq!(*ports.refusals(), Refusals::default());
        assert_eq!(ports.open(), []);
        ports.want(Vec::new());
        assert!(ports.open.is_empty());
    }
}

//! HTTP/2 connections: how the codec is set up, who drives a connection, and how it ends. Streams are the exchange's.
//!
//! The codec's own limits are there against abuse; where honest traffic can meet one, it is raised here, with the reason, and the
//! limit that users know is enforced by the path with an answer that says so.

mod client;
mod keep_alive;
mod server;

use h2::{client::Builder as ClientBuilder, server::Builder as ServerBuilder};

pub use client::connect;
pub use keep_alive::KeepAlive;
pub use server::{ServeError, Service, serve};

/// Header lists that the codec takes before it ends the stream by itself. Far above ours ([`crate::settings::Http`]), because the
/// codec's answer has no reason in it; and because it derives from this how many CONTINUATION frames it takes (a quarter more
/// than full frames would need), which has to let 60 KiB pass in frames of 64 bytes.
const CODEC_HEADER_LIST: u32 = 16 * 1024 * 1024;

/// Streams that the peer reset before the path saw them. The codec's 20 are met by any client that cancels a batch; thousands
/// at once are an attack (CVE-2023-44487).
const PENDING_ACCEPT_RESETS: usize = 4096;

/// Streams that this side reset, remembered so that late frames for them are ignored.
const REMEMBERED_RESETS: usize = 1024;

/// How the connections of one kind are set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes that a peer may send on a stream before this side takes them.
    pub stream_window: u32,
    /// Bytes that a peer may send on all streams of a connection before this side takes them.
    pub connection_window: u32,
    /// Streams that a peer may have open.
    pub max_concurrent_streams: Option<u32>,
    /// Largest frame that a peer may send.
    pub max_frame_size: Option<u32>,
    /// Bytes of a stream that wait in the codec for the peer's window or the socket.
    pub max_send_buffer: Option<usize>,
    /// Streams reset before they were accepted, see [`PENDING_ACCEPT_RESETS`].
    pub max_pending_accept_resets: Option<usize>,
    /// Open no stream before the peer's SETTINGS say how many it takes (`current_max_send_streams` is 0 until then).
    pub await_settings: bool,
    /// PING towards the peer. Only for proxies of the mesh: applications may count PINGs as abuse.
    pub keep_alive: Option<KeepAlive>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A stream of one window a round trip: 1 MiB is 800 Mbit/s over 10 ms.
            stream_window: 1024 * 1024,
            connection_window: 4 * 1024 * 1024,
            max_concurrent_streams: None,
            max_frame_size: None,
            max_send_buffer: None,
            max_pending_accept_resets: None,
            await_settings: false,
            keep_alive: None,
        }
    }
}

impl Config {
    fn server(&self) -> ServerBuilder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_header_list_size(CODEC_HEADER_LIST)
            .max_pending_accept_reset_streams(self.max_pending_accept_resets.unwrap_or(PENDING_ACCEPT_RESETS))
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            // One peer's malformed requests come from many applications: they must not end the connection of all.
            .max_local_error_reset_streams(None)
            // Bidirectional streams of small messages are honest.
            .data_frame_budget(usize::MAX)
            .enable_connect_protocol();
        if let Some(streams) = self.max_concurrent_streams {
            builder.max_concurrent_streams(streams);
        }
        if let Some(size) = self.max_frame_size {
            builder.max_frame_size(size);
        }
        if let Some(size) = self.max_send_buffer {
            builder.max_send_buffer_size(size);
        }
        builder
    }

    fn client(&self) -> ClientBuilder {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_header_list_size(CODEC_HEADER_LIST)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .max_local_error_reset_streams(None)
            .data_frame_budget(usize::MAX)
            .enable_push(false);
        if self.await_settings {
            builder.initial_max_send_streams(0);
        }
        if let Some(size) = self.max_frame_size {
            builder.max_frame_size(size);
        }
        if let Some(size) = self.max_send_buffer {
            builder.max_send_buffer_size(size);
        }
        builder
    }
}

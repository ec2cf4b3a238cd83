//! HTTP/2 connections: how the codec is set up, who drives a connection, and how it ends. Streams are the exchange's.
//!
//! The codec's own limits are there against abuse; where honest traffic can meet one, it is raised here, with the reason, and the
//! limit that users know is enforced by the path with an answer that says so.

mod client;
mod frames;
mod keep_alive;
mod server;

use h2::{client::Builder as ClientBuilder, server::Builder as ServerBuilder};

pub use client::connect;
pub use frames::FrameMetrics;
pub use keep_alive::KeepAlive;
pub use server::{Refused, ServeError, Service, serve};

/// Smallest CONTINUATION frames in which every header list within the limit passes.
const SMALLEST_CONTINUATION: usize = 64;
/// What a header block holds besides the list that the limit counts: its pseudo fields.
const PSEUDO_FIELDS: usize = 64 * 1024;
/// Largest frame without a setting, and the least that there is (RFC 9113 6.5.2).
const DEFAULT_FRAME: u32 = 16_384;
/// What the codec's limit of header lists is allowed to become for the sake of larger frames: a hostile peer can make it keep as much.
const MOST_FOR_FRAMES: usize = 256 * 1024 * 1024;

/// Streams that the peer reset before the path saw them. The codec's 20 are met by any client that cancels a batch; thousands
/// at once are an attack (CVE-2023-44487).
const PENDING_ACCEPT_RESETS: usize = 4096;

/// Streams that this side reset, remembered so that late frames for them are ignored.
const REMEMBERED_RESETS: usize = 1024;

/// How the connections of one kind are set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Limit of a header list, in bytes, as [`crate::settings::Http`] has it. The path enforces it; the codec has to let such lists pass.
    pub header_limit: usize,
    /// Bytes that a peer may send on a stream before this side takes them.
    pub stream_window: u32,
    /// Bytes that a peer may send on all streams of a connection before this side takes them.
    pub connection_window: u32,
    /// Streams that a peer may have open.
    pub max_concurrent_streams: Option<u32>,
    /// Largest frame that a peer may send; see [`Config::largest_frame`] for what is made of it.
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
            header_limit: 256 * 1024,
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
    /// Full frames for which the codec must take a header block. It takes a quarter more CONTINUATION frames than full frames would
    /// be needed for its own limit, so that is how many more small ones there may be.
    fn header_frames(&self) -> usize {
        let small = self
            .header_limit
            .saturating_add(PSEUDO_FIELDS)
            .div_ceil(SMALLEST_CONTINUATION);
        (small * 4).div_ceil(5)
    }

    /// The largest frame that a peer may send: the setting, but no larger than leaves room for [`Self::codec_header_list`].
    pub fn largest_frame(&self) -> u32 {
        let most = u32::try_from(MOST_FOR_FRAMES / self.header_frames()).unwrap_or(u32::MAX);
        let wanted = self.max_frame_size.unwrap_or(DEFAULT_FRAME);
        wanted.min(most).max(DEFAULT_FRAME)
    }

    /// Header lists that the codec takes before it ends the stream by itself. Far above our limit, because the codec's answer has no
    /// reason in it, and because it derives from this and the size of frames how many CONTINUATION frames it takes.
    fn codec_header_list(&self) -> u32 {
        let frames = u64::try_from(self.header_frames()).unwrap_or(u64::MAX);
        u32::try_from(frames.saturating_mul(self.largest_frame().into())).unwrap_or(u32::MAX)
    }

    fn server(&self) -> ServerBuilder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_header_list_size(self.codec_header_list())
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
        if self.max_frame_size.is_some() {
            builder.max_frame_size(self.largest_frame());
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
            .max_header_list_size(self.codec_header_list())
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .max_local_error_reset_streams(None)
            .data_frame_budget(usize::MAX)
            .enable_push(false);
        if self.await_settings {
            builder.initial_max_send_streams(0);
        }
        if self.max_frame_size.is_some() {
            builder.max_frame_size(self.largest_frame());
        }
        if let Some(size) = self.max_send_buffer {
            builder.max_send_buffer_size(size);
        }
        builder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the codec computes it.
    fn continuation_frames(config: &Config) -> usize {
        let full = config.codec_header_list() as usize / config.largest_frame() as usize;
        full + full / 4
    }

    #[test]
    fn every_list_within_the_limit_passes_in_frames_of_64_bytes() {
        for header_limit in [4096, 60 * 1024, 256 * 1024, 1024 * 1024, 16 * 1024 * 1024] {
            for max_frame_size in [None, Some(16_384), Some(65_536), Some(1 << 20), Some(16_777_215)] {
                let config = Config {
                    header_limit,
                    max_frame_size,
                    ..Config::default()
                };
                let frames = continuation_frames(&config);
                assert!(
                    frames * 64 >= header_limit + PSEUDO_FIELDS,
                    "{config:?}: {frames} frames"
                );
                assert!(config.largest_frame() >= DEFAULT_FRAME, "{config:?}");
            }
        }
    }

    #[test]
    fn larger_frames_are_taken_as_far_as_the_memory_for_headers_allows() {
        let largest = |header_limit, frame| {
            let config = Config {
                header_limit,
                max_frame_size: frame,
                ..Config::default()
            };
            config.largest_frame()
        };
        assert_eq!(largest(256 * 1024, None), 16_384);
        assert_eq!(largest(256 * 1024, Some(40_000)), 40_000);
        assert_eq!(largest(256 * 1024, Some(16_777_215)), 65_536);
        assert_eq!(largest(16 * 1024 * 1024, Some(65_536)), 16_384);
    }
}

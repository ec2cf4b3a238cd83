//! What both sides of the applications' own TLS say in the clear, before it hides the rest: what is offered, what is chosen, and why one of them does not go on.
//!
//! Read from bytes that a relay moves anyway: nothing waits for it, and nothing is decided by it.

use std::sync::OnceLock;

use sheer_lens::tls::{
    Alert, ClientHello, Record, Records, ServerHello, Visitor, alert_name, cipher_name, group_name, version_name,
};

use super::Side;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// A direction of a handshake has no more: chains of certificates are some KiB, in messages of at most this.
const LONGEST: u64 = 64 * 1024;
/// Bytes that are held of a message which is not whole yet.
const MOST_HELD: usize = 17 * 1024;
/// Protocols of a hello that are shown.
const MOST_PROTOCOLS: usize = 16;
/// An extension's or a version's number that means nothing, as some clients add (GREASE, RFC 8701).
const GREASE: u16 = 0x0a0a;

/// What was seen; each is set once, by its side.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    offer: OnceLock<Offer>,
    choice: OnceLock<Choice>,
    alert: OnceLock<(Side, u8)>,
}

#[derive(Debug)]
struct Offer {
    versions: Vec<u16>,
    protocols: Vec<String>,
}

#[derive(Debug)]
struct Choice {
    version: u16,
    cipher: u16,
    group: Option<u16>,
    protocol: String,
}

/// The same in names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PassedTls {
    /// In the client's order.
    pub(crate) offered_versions: Vec<String>,
    /// Protocols of its ALPN, in its order.
    pub(crate) offered_alpn: Vec<String>,
    /// As "TLS 1.3"; empty where the server has chosen nothing, as the rest.
    pub(crate) version: String,
    pub(crate) cipher: String,
    pub(crate) group: String,
    /// Before TLS 1.3; after that it is encrypted.
    pub(crate) alpn: String,
    /// Who ended it with which alert, where that was in the clear.
    pub(crate) alert: Option<(Side, String)>,
}

impl Handshake {
    /// None where nothing was seen.
    pub(super) fn in_names(&self) -> Option<PassedTls> {
        let mut shown = PassedTls::default();
        if let Some(offer) = self.offer.get() {
            shown.offered_versions = offer
                .versions
                .iter()
                .map(|version| named(*version, version_name))
                .collect();
            shown.offered_alpn.clone_from(&offer.protocols);
        }
        if let Some(choice) = self.choice.get() {
            shown.version = named(choice.version, version_name);
            shown.cipher = named(choice.cipher, cipher_name);
            shown.group = choice.group.map_or_else(String::new, |group| named(group, group_name));
            shown.alpn.clone_from(&choice.protocol);
        }
        shown.alert = self.alert.get().map(|(by, alert)| (*by, alert_named(*alert)));
        (shown != PassedTls::default()).then_some(shown)
    }
}

/// A number by its name, or as it is.
fn named(number: u16, name: fn(u16) -> Option<&'static str>) -> String {
    name(number).map_or_else(|| format!("0x{number:04x}"), str::to_owned)
}

fn alert_named(alert: u8) -> String {
    alert_name(alert).map_or_else(|| alert.to_string(), str::to_owned)
}

/// Follows one direction from its first byte.
#[derive(Debug, Default)]
pub(super) enum Follower {
    /// Nothing has passed.
    #[default]
    First,
    Following(Box<Records>),
    /// It is no TLS, or what follows is encrypted.
    Done,
}

impl Follower {
    /// Bytes pass, the first ones or those behind what has passed.
    #[inline]
    pub(super) fn follow(&mut self, bytes: &[u8], from: Side, seen: &Handshake) {
        if !matches!(self, Self::Done) && !bytes.is_empty() {
            self.read(bytes, from, seen);
        }
    }

    /// Bytes pass that it does not see.
    pub(super) fn miss(&mut self) {
        *self = Self::Done;
    }

    #[cold]
    fn read(&mut self, bytes: &[u8], from: Side, seen: &Handshake) {
        if matches!(self, Self::First) {
            if !matches!(bytes[0], ALERT | HANDSHAKE) {
                return self.miss();
            }
            *self = Self::Following(Box::default());
        }
        let Self::Following(records) = self else { return };
        let mut look = Look {
            from,
            seen,
            is_over: false,
        };
        records.feed(bytes, &mut look);
        if look.is_over || records.is_lost() || records.offset() > LONGEST || records.memory() > MOST_HELD {
            self.miss();
        }
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        !matches!(self, Self::Following(_))
    }
}

struct Look<'a> {
    from: Side,
    seen: &'a Handshake,
    is_over: bool,
}

impl Visitor for Look<'_> {
    fn record(&mut self, record: &Record) {
        self.is_over |= record.kind == APPLICATION_DATA;
    }

    fn client_hello(&mut self, hello: &ClientHello) {
        if self.from != Side::Client {
            return;
        }
        let versions = if hello.versions.is_empty() {
            &[hello.legacy_version][..]
        } else {
            &hello.versions
        };
        let versions = versions.iter().filter(|version| *version & 0x0f0f != GREASE).copied();
        let is_known = |protocol: &&Vec<u8>| !matches!(***protocol, [one, other] if one == other && one & 0x0f == 0x0a);
        let protocols = hello.alpn.iter().filter(is_known).take(MOST_PROTOCOLS);
        // A second one, after a HelloRetryRequest, offers the same.
        let _ = self.seen.offer.set(Offer {
            versions: versions.take(MOST_PROTOCOLS).collect(),
            protocols: protocols.map(|protocol| protocol.escape_ascii().to_string()).collect(),
        });
    }

    fn server_hello(&mut self, hello: &ServerHello) {
        if self.from != Side::Server || hello.is_retry {
            return;
        }
        let protocol = hello
            .alpn
            .as_deref()
            .map(|protocol| protocol.escape_ascii().to_string());
        let _ = self.seen.choice.set(Choice {
            version: hello.version,
            cipher: hello.cipher_suite,
            group: hello.group,
            protocol: protocol.unwrap_or_default(),
        });
    }

    fn alert(&mut self, alert: Alert) {
        if alert.is_fatal {
            let _ = self.seen.alert.set((self.from, alert.description));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

    const AES: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
    const CHACHA: CipherSuite = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;

    /// Moves what one side says to the other, in pieces, until neither says more.
    fn shake(mut client: ClientConnection, mut server: ServerConnection, piece: usize) -> Handshake {
        let seen = Handshake::default();
        let mut followers = [Follower::default(), Follower::default()];
        for _ in 0..8 {
            let mut said = Vec::new();
            client.write_tls(&mut said).expect("memory");
            for piece in said.chunks(piece) {
                followers[0].follow(piece, Side::Client, &seen);
            }
            server.read_tls(&mut &*said).expect("memory");
            let _ = server.process_new_packets();
            let mut said = Vec::new();
            server.write_tls(&mut said).expect("memory");
            for piece in said.chunks(piece) {
                followers[1].follow(piece, Side::Server, &seen);
            }
            client.read_tls(&mut &*said).expect("memory");
            let _ = client.process_new_packets();
        }
        seen
    }

    /// A client that takes these ciphers, and a server that takes those.
    fn sides(of_client: CipherSuite, of_server: &[CipherSuite]) -> (ClientConnection, ServerConnection) {
        let with = |ciphers: &[CipherSuite]| {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.cipher_suites.retain(|one| ciphers.contains(&one.suite()));
            Arc::new(provider)
        };
        let key = rcgen::generate_simple_self_signed(["ledger".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(key.cert.der().clone()).expect("a root");
        let mut client = ClientConfig::builder_with_provider(with(&[of_client]))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let server = ServerConfig::builder_with_provider(with(of_server))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private.into())
            .expect("a server");
        let name = "ledger".try_into().expect("a name");
        (
            ClientConnection::new(Arc::new(client), name).expect("a client"),
            ServerConnection::new(Arc::new(server)).expect("a server"),
        )
    }

    #[test]
    fn what_a_handshake_offers_and_chooses_is_named_in_whatever_pieces_it_comes() {
        for piece in [1, 7, 100_000] {
            let (client, server) = sides(AES, &[CHACHA, AES]);
            let shown = shake(client, server, piece).in_names().expect("something");
            assert_eq!(shown.offered_versions, ["TLS 1.3"]);
            assert_eq!(shown.offered_alpn, ["h2", "http/1.1"]);
            assert_eq!((&*shown.version, &shown.alert), ("TLS 1.3", &None), "{shown:?}");
            assert!(
                shown.cipher == "TLS_AES_128_GCM_SHA256" && !shown.group.is_empty(),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn an_alert_in_the_clear_says_who_would_not_go_on() {
        let (client, server) = sides(AES, &[CHACHA]);
        let shown = shake(client, server, 5).in_names().expect("something");
        assert_eq!(shown.offered_versions, ["TLS 1.3"]);
        let (by, alert) = shown.alert.expect("an alert");
        assert_eq!((by, &*alert), (Side::Server, "handshake_failure"));
        assert!(shown.version.is_empty());
    }

    #[test]
    fn what_is_no_tls_or_never_ends_is_not_followed() {
        let seen = Handshake::default();
        for first in [&b"GET / HTTP/1.1\r\n"[..], &[22, 9, 9, 0, 4, 1], &[23, 3, 3, 0, 1, 0]] {
            let mut follower = Follower::default();
            follower.follow(first, Side::Client, &seen);
            assert!(matches!(follower, Follower::Done), "{first:?}");
        }
        // One message after the other, whole or never whole.
        let whole = [&[22, 3, 3, 0x10, 4, 11, 0, 0x10, 0][..], &[0; 4096]].concat();
        let begun = [&[22, 3, 3, 0x10, 4, 11, 0, 0xff, 0][..], &[0; 4096]].concat();
        let more = [&[22, 3, 3, 0x10, 4][..], &[0; 4100]].concat();
        for (first, then, records) in [(&whole, &whole, 16), (&begun, &more, 5)] {
            let mut follower = Follower::default();
            follower.follow(first, Side::Server, &seen);
            assert!(matches!(follower, Follower::Following(_)));
            for _ in 1..records {
                follower.follow(then, Side::Server, &seen);
            }
            assert!(matches!(follower, Follower::Done));
        }
        assert_eq!(seen.in_names(), None);
    }
}

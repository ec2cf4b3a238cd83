//! Which values are nobody's business, and what is shown instead: a keyed hash, so that equal values are still seen to be equal, and nothing else can be
//! learnt of them. Applied before anything leaves the proxy: to what sight shows, and to logs.

mod within;

use std::{borrow::Cow, sync::OnceLock};

use aws_lc_rs::{digest, hmac};

/// Fields whose values are always replaced, beside those that end in [`ENDINGS`].
const FIELDS: [&str; 6] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "api-key",
    "apikey",
];
/// Endings of names of such fields.
const ENDINGS: [&str; 4] = ["-token", "-secret", "-password", "-api-key"];
/// Ends the name of gRPC metadata that is bytes: a secret is one in either form.
const BINARY: &[u8] = b"-bin";
/// Endings of names of fields of JSON, forms, queries and protobuf whose values are replaced; case, `_` and `-` do not count.
const BODY_FIELDS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "cookie",
    "apikey",
    "privatekey",
    "credential",
    "credentials",
];
/// Names of such fields that may end others, which are no secrets.
const WHOLE_FIELDS: [&str; 4] = ["pwd", "pin", "cvv", "cvc"];
/// Shorter keys are not taken: they could be guessed.
const SHORTEST_KEY: usize = 16;

/// What may be kept of a secret in its place: its hash is made of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; 16]);

impl Digest {
    /// Of a value.
    pub(crate) fn of(value: &[u8]) -> Self {
        let whole = digest::digest(&digest::SHA256, value);
        Self(whole.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// As it was kept; none where the length is wrong.
    pub(crate) fn kept(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Replaces values. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Redactor {
    key: std::sync::Arc<hmac::Key>,
    /// Beside those that are built in: names, or endings as `*-key`, in lower case.
    more: std::sync::Arc<[String]>,
    /// The same of fields of bodies: a name, or the last names of a path, letters and digits only.
    fields: std::sync::Arc<[Vec<String>]>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor")
            .field("more", &self.more)
            .finish_non_exhaustive()
    }
}

impl Redactor {
    /// With a key of the mesh, where there is one, and fields to replace beside those that are built in.
    pub(crate) fn new<'a>(key: &[u8], more: impl IntoIterator<Item = &'a String>) -> Self {
        let key = if key.len() < SHORTEST_KEY { own_key() } else { key };
        let more = more.into_iter().map(|name| name.trim().to_ascii_lowercase());
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key).into(),
            more: more.filter(|name| !name.is_empty()).collect(),
            fields: std::sync::Arc::default(),
        }
    }

    /// With fields of bodies to replace beside those that are built in: by name, or by the end of a path, as `card.number`. In messages of protobuf that
    /// nobody describes the numbers of fields are their names: `3.1`.
    pub(crate) fn with_fields<'a>(mut self, fields: impl IntoIterator<Item = &'a String>) -> Self {
        let path =
            |field: &String| -> Vec<String> { field.split('.').map(plain).filter(|name| !name.is_empty()).collect() };
        let fields = fields.into_iter().map(path);
        self.fields = fields.filter(|path| !path.is_empty()).collect();
        self
    }

    /// Whether the value of a field of a body is replaced. `path` is its name, behind those that it stands within. A name may have dots itself, so that
    /// `api.key` is both a field of something and a key by its name.
    pub(crate) fn is_sensitive_field(&self, path: &str) -> bool {
        let (name, whole) = (plain(path.rsplit('.').next().unwrap_or_default()), plain(path));
        let ends = |wanted: &Vec<String>| {
            let mut names = path.rsplit('.').map(plain);
            wanted.iter().rev().all(|wanted| names.next().as_ref() == Some(wanted))
        };
        let is = |wanted: &Vec<String>| [&name, &whole].contains(&&wanted.concat());
        BODY_FIELDS.iter().any(|field| whole.ends_with(field))
            || WHOLE_FIELDS.contains(&&*name)
            || self.fields.iter().any(|wanted| ends(wanted) || is(wanted))
    }

    /// With a key that nobody but this process has.
    pub(crate) fn own() -> &'static Self {
        static OWN: OnceLock<Redactor> = OnceLock::new();
        OWN.get_or_init(|| Self::new(&[], []))
    }

    /// Whether a field's value is replaced.
    pub(crate) fn is_sensitive(&self, name: &[u8]) -> bool {
        let text = name
            .len()
            .checked_sub(BINARY.len())
            .filter(|at| name[*at..].eq_ignore_ascii_case(BINARY));
        self.is_secret_name(name) || text.is_some_and(|at| self.is_secret_name(&name[..at]))
    }

    fn is_secret_name(&self, name: &[u8]) -> bool {
        let is = |field: &str| name.eq_ignore_ascii_case(field.as_bytes());
        let ends = |ending: &str| {
            let at = name.len().checked_sub(ending.len());
            at.is_some_and(|at| name[at..].eq_ignore_ascii_case(ending.as_bytes()))
        };
        FIELDS.iter().any(|field| is(field))
            || ENDINGS.iter().any(|ending| ends(ending))
            || self.more.iter().any(|name| match name.strip_prefix('*') {
                Some(ending) => ends(ending),
                None => is(name),
            })
    }

    /// The value to show, without the secrets of URLs and documents in it; whether anything is replaced.
    pub(crate) fn value<'a>(&self, name: &[u8], value: &'a [u8]) -> (Cow<'a, [u8]>, bool) {
        if self.is_sensitive(name) {
            return (Cow::Owned(self.hashed(value).into_bytes()), true);
        }
        let is_path = [&b":path"[..], b"sheer-h1-target"].contains(&name) && within::has_parameters(value);
        let is_host = (name == b":authority" || name.eq_ignore_ascii_case(b"host")) && value.contains(&b'@');
        if !is_path && !is_host && !within::may_carry(value) {
            return (Cow::Borrowed(value), false);
        }
        let text = String::from_utf8_lossy(value);
        let shown = match (is_path, is_host) {
            (true, _) => Cow::Owned(self.path(&text)),
            (_, true) => self.authority(&text),
            _ => self.text(&text),
        };
        if *shown == *text {
            (Cow::Borrowed(value), false)
        } else {
            (Cow::Owned(shown.into_owned().into_bytes()), true)
        }
    }

    /// An authority without what stands before its host, which may be a password (RFC 3986, section 3.2.1).
    pub(crate) fn authority<'a>(&self, authority: &'a str) -> Cow<'a, str> {
        match authority.rsplit_once('@') {
            Some((user, host)) => Cow::Owned(format!("{}@{host}", self.hashed(user.as_bytes()))),
            None => Cow::Borrowed(authority),
        }
    }

    /// The same for equal values under one key, and for nobody else.
    pub(crate) fn hashed(&self, value: &[u8]) -> String {
        self.hashed_digest(&Digest::of(value))
    }

    /// The same of a value that was not kept itself.
    pub(crate) fn hashed_digest(&self, digest: &Digest) -> String {
        let tag = hmac::sign(&self.key, digest.bytes());
        let first = tag.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
        format!("hash:{first:016x}")
    }
}

/// A name by its letters and digits, in lower case: `api_key`, `apiKey` and `API-Key` are one name.
fn plain(name: &str) -> String {
    let kept = name.chars().filter(|letter| letter.is_alphanumeric());
    kept.flat_map(char::to_lowercase).collect()
}

fn own_key() -> &'static [u8] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    KEY.get_or_init(rand::random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(redactor: &Redactor, name: &str, value: &str) -> String {
        let (shown, replaced) = redactor.value(name.as_bytes(), value.as_bytes());
        assert_eq!(replaced, shown != value.as_bytes());
        String::from_utf8(shown.into_owned()).expect("text")
    }

    #[test]
    fn secrets_become_hashes_and_equal_ones_stay_equal() {
        let redactor = Redactor::new(&[7; 32], [&"X-Account".to_owned(), &"*-key".to_owned()]);
        let bearer = shown(&redactor, "authorization", "Bearer x");
        assert!(bearer.starts_with("hash:") && bearer.len() == 21, "{bearer}");
        for name in [
            "x-api-token",
            "X-Account",
            "api-KEY",
            "Set-Cookie",
            "cookie",
            "x-secret",
            "x-secret-bin",
            "x-account-BIN",
        ] {
            assert_eq!(shown(&redactor, name, "Bearer x"), bearer, "{name}");
        }
        assert_ne!(shown(&redactor, "authorization", "Bearer y"), bearer);
        assert_eq!(shown(&redactor, "x-tenant", "acme"), "acme");
        assert_eq!(shown(&redactor, "tokens", "acme"), "acme");
        assert_eq!(shown(&redactor, "x-tenant-bin", "acme"), "acme");
        assert_eq!(shown(&redactor, "-bin", "acme"), "acme");
        // Another process of the mesh, with the same key.
        assert_eq!(shown(&Redactor::new(&[7; 32], []), "cookie", "Bearer x"), bearer);
        assert_ne!(shown(&Redactor::new(&[8; 32], []), "cookie", "Bearer x"), bearer);
        // A key that could be guessed is no key.
        assert_ne!(
            shown(&Redactor::new(b"short", []), "cookie", "x"),
            shown(&Redactor::new(&[0; 16], []), "cookie", "x")
        );
    }

    #[test]
    fn fields_of_bodies_are_known_however_they_are_spelled() {
        let redactor = Redactor::new(&[7; 32], []).with_fields(&["card_number".to_owned()]);
        for name in [
            "password",
            "apiToken",
            "API_KEY",
            "cardNumber",
            "card-number",
            "clientSecret",
            "PrivateKey",
            "api.key",
            "private.key",
            "password.",
            "card.number",
        ] {
            assert!(redactor.is_sensitive_field(name), "{name}");
        }
        for name in ["payer", "tokens", "card", "secretary", ""] {
            assert!(!redactor.is_sensitive_field(name), "{name}");
        }
    }

    #[test]
    fn fields_of_bodies_are_known_by_where_they_stand() {
        let fields = ["card.number", "3.1", " account_id "].map(str::to_owned);
        let redactor = Redactor::new(&[7; 32], []).with_fields(&fields);
        for path in [
            "card.number",
            "payer.Card.number",
            "card_number",
            "form.cardNumber",
            "3.1",
            "2.3.1",
            "a.accountId",
            "payer.password",
        ] {
            assert!(redactor.is_sensitive_field(path), "{path}");
        }
        for path in [
            "number",
            "card",
            "phone.number",
            "card.number.kind",
            "1",
            "3",
            "1.3",
            "13.1",
            "3.11",
        ] {
            assert!(!redactor.is_sensitive_field(path), "{path}");
        }
    }

    #[test]
    fn secrets_in_a_query_are_replaced_and_the_rest_stays() {
        let path = shown(Redactor::own(), ":path", "/x?page=2&access_token=abc&Password=&z");
        assert!(
            path.starts_with("/x?page=2&access_token=hash:") && path.ends_with("&z"),
            "{path}"
        );
        assert!(!path.contains("abc"), "{path}");
        assert_eq!(shown(Redactor::own(), ":path", "/x?page=2"), "/x?page=2");
        let target = shown(Redactor::own(), "sheer-h1-target", "/a<b;jsessionid=abc");
        assert!(target.starts_with("/a<b;jsessionid=hash:"), "{target}");
        // However much of it is encoded.
        let hashed = |path: &str| shown(Redactor::own(), ":path", path);
        assert_eq!(hashed("/x?token=a<b"), hashed("/x?token=a%3Cb"));
    }

    #[test]
    fn what_stands_before_a_host_is_replaced() {
        for name in [":authority", "Host"] {
            let host = shown(Redactor::own(), name, "ada:planted@bank:443");
            assert!(host.starts_with("hash:") && host.ends_with("@bank:443"), "{host}");
            assert_eq!(shown(Redactor::own(), name, "bank:443"), "bank:443");
        }
    }
}

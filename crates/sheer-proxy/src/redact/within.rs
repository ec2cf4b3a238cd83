//! Secrets within a text: in queries, in what stands before the host of a URL, and in JSON or another query that a value carries.

use std::borrow::Cow;

use memchr::{memchr2, memchr3, memmem};
use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{Redactor, plain};

/// Endings of names of query parameters and of fields of forms whose values are replaced, beside those of fields of bodies. Spelled as [`plain`] does.
const PARAMETERS: [&str; 3] = ["signature", "sessionid", "sessid"];
/// A name that is one, without anything before it: of a signed URL of Azure.
const PARAMETER: &str = "sig";
/// What separates the parts of a URI that have names and values.
const SEPARATORS: [char; 4] = ['?', '#', '&', ';'];
/// Texts within texts are looked into so deep; what is deeper is replaced as a whole.
const DEEPEST: u8 = 4;

impl Redactor {
    /// A path, or a whole URI, with the values of secret parameters replaced.
    pub(crate) fn path(&self, uri: &str) -> String {
        self.uri(uri, 0)
    }

    /// A text without the secrets that it carries: those of a URL, and of JSON.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.within(text, 0)
    }

    /// Replaces the values of secret names in a document. Says whether there were any.
    pub(crate) fn document(&self, document: &mut Value) -> bool {
        self.hide(document, &mut String::new(), 0)
    }

    /// A name and value of a query or form, neither of them decoded.
    pub(crate) fn pair(&self, name: &str, value: &str) -> String {
        self.parameter(name, value, 0)
    }

    fn within<'a>(&self, text: &'a str, depth: u8) -> Cow<'a, str> {
        if !may_carry(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        if depth > DEEPEST {
            return Cow::Owned(self.hashed(text.as_bytes()));
        }
        if is_document(text.as_bytes())
            && let Ok(mut document) = serde_json::from_str(text)
        {
            return match self.hide(&mut document, &mut String::new(), depth + 1) {
                true => Cow::Owned(document.to_string()),
                false => Cow::Borrowed(text),
            };
        }
        match self.uri(text, depth) {
            same if same == text => Cow::Borrowed(text),
            shown => Cow::Owned(shown),
        }
    }

    fn uri(&self, uri: &str, depth: u8) -> String {
        let end = uri.find(SEPARATORS).unwrap_or(uri.len());
        let (place, parameters) = uri.split_at(end);
        let mut shown = self.place(place);
        for part in parameters.split_inclusive(SEPARATORS) {
            let pair = part.trim_end_matches(SEPARATORS);
            match pair.split_once('=') {
                Some((name, value)) => shown.push_str(&self.parameter(name, value, depth)),
                None => shown.push_str(pair),
            }
            shown.push_str(&part[pair.len()..]);
        }
        shown
    }

    /// A URI up to its query, without what stands before its host (RFC 3986, section 3.2.1).
    fn place(&self, place: &str) -> String {
        let Some(begin) = place.find("://").map(|at| at + 3) else {
            return place.to_owned();
        };
        let end = place[begin..].find('/').map_or(place.len(), |at| begin + at);
        let authority = self.authority(&place[begin..end]);
        format!("{}{authority}{}", &place[..begin], &place[end..])
    }

    fn parameter(&self, name: &str, value: &str, depth: u8) -> String {
        if self.is_secret_parameter(&decoded(name)) || self.carries_secret(value, depth + 1) {
            // One value has one hash, however much of it is encoded.
            let value: Vec<u8> = percent_decode_str(value).collect();
            format!("{name}={}", self.hashed(&value))
        } else {
            format!("{name}={value}")
        }
    }

    fn is_secret_parameter(&self, name: &str) -> bool {
        let name = name.trim();
        let whole = plain(name);
        self.is_sensitive_field(name) || whole == PARAMETER || PARAMETERS.iter().any(|end| whole.ends_with(end))
    }

    /// Whether a value that is not decoded yet is JSON, a URL, or a query by itself that has a secret. What begins as an object of JSON and is none may have one.
    fn carries_secret(&self, value: &str, depth: u8) -> bool {
        let value = decoded(value);
        if value.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(&value).is_err() {
            return true;
        }
        let is_query = value.contains('=') && !value.contains(['?', '#']);
        matches!(self.within(&value, depth), Cow::Owned(_))
            || (is_query && (depth > DEEPEST || self.uri(&format!("?{value}"), depth)[1..] != value))
    }

    /// `path` is where the value stands. Parsers bound the depth of a document, `depth` counts texts within texts.
    fn hide(&self, value: &mut Value, path: &mut String, depth: u8) -> bool {
        match value {
            Value::Object(members) => {
                let mut any = false;
                for (name, member) in members {
                    let before = path.len();
                    if before > 0 {
                        path.push('.');
                    }
                    path.push_str(name);
                    if self.is_sensitive_field(path) || self.is_sensitive_field(name) {
                        let hash = match &*member {
                            Value::String(text) => self.hashed(text.as_bytes()),
                            other => self.hashed(other.to_string().as_bytes()),
                        };
                        *member = Value::String(hash);
                        any = true;
                    } else {
                        any |= self.hide(member, path, depth);
                    }
                    path.truncate(before);
                }
                any
            }
            Value::Array(elements) => elements
                .iter_mut()
                .fold(false, |any, element| self.hide(element, path, depth) | any),
            Value::String(text) => match self.within(text, depth) {
                Cow::Owned(shown) => {
                    *text = shown;
                    true
                }
                Cow::Borrowed(_) => false,
            },
            _ => false,
        }
    }
}

/// Whether a path has more than its place.
pub(super) fn has_parameters(path: &[u8]) -> bool {
    memchr3(b'?', b'#', b';', path).is_some()
}

/// Whether a value may be a URL or JSON.
pub(super) fn may_carry(value: &[u8]) -> bool {
    is_document(value) || memchr2(b'?', b'#', value).is_some() || memmem::find(value, b"://").is_some()
}

fn is_document(value: &[u8]) -> bool {
    matches!(value.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// Of a query or form (WHATWG URL, application/x-www-form-urlencoded parsing).
fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(&[7; 32], [])
    }

    #[test]
    fn secrets_in_a_uri_are_found_however_they_are_spelled() {
        for uri in [
            "/x?api_key=planted",
            "/x?apiKey=planted&page=2",
            "/x?user[password]=planted",
            "/x?user%5Bpassword%5D=planted",
            "/x?p%61ssword=planted",
            "/x?access_token=planted#part",
            "/callback#access_token=planted&state=1",
            "/x;jsessionid=planted/y",
            "/blob?sv=2&sig=planted",
            "/blob?X-Amz-Signature=planted",
            "https://ada:planted@bank/x",
            "https://planted@bank",
            "/go?to=https%3A%2F%2Fbank%2Fx%3Ftoken%3Dplanted",
            "/go?state=token%3Dplanted%26page%3D2",
            "/x?payload=%7B%22password%22%3A%22planted%22%7D",
            "/x?payload=%7B%22password%22%3A%22planted",
            "/x?a=%7B%22b%22%3A%22%7B%5C%22secret%5C%22%3A%5C%22planted%5C%22%7D%22%7D",
        ] {
            let shown = redactor().path(uri);
            assert!(!shown.contains("planted") && shown.contains("hash:"), "{uri}: {shown}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for uri in [
            "/x",
            "/x?page=2&design=config&q=a%20b+c",
            "/x?a&b=&=c",
            "/x?to=https%3A%2F%2Fbank%2Fx%3Fpage%3D2",
            "/x?filter=%7B%22page%22%3A2%7D",
            "/x;v=1/y#part",
            "https://bank:8080/x?mail=ada@bank",
            "*",
            "",
        ] {
            assert_eq!(redactor().path(uri), uri);
            assert!(matches!(redactor().text(uri), Cow::Borrowed(_)), "{uri}");
        }
    }

    #[test]
    fn secrets_in_texts_of_a_document_are_replaced() {
        let mut document = serde_json::json!({
            "url": "http://a:planted@h/?token=planted",
            "inner": r#"{"password":"planted","page":2}"#,
            "deep": [r#"{"a":"{\"apiKey\":\"planted\"}"}"#],
            "pin": 1234,
            "page": "what is it?",
        });
        assert!(redactor().document(&mut document));
        let shown = document.to_string();
        assert!(!shown.contains("planted") && !shown.contains("1234"), "{shown}");
        assert!(
            shown.contains(r#""page":"what is it?""#) && shown.contains(r#"\"page\":2"#),
            "{shown}"
        );
        let mut document = serde_json::json!({ "spinning": 1, "list": [1, "a"] });
        assert!(!redactor().document(&mut document));
    }

    #[test]
    fn texts_within_texts_come_to_an_end() {
        let mut text = r#"{"password":"planted"}"#.to_owned();
        for _ in 0..8 {
            text = serde_json::json!({ "a": text }).to_string();
        }
        let shown = redactor().text(&text);
        assert!(!shown.contains("planted") && shown.contains("hash:"), "{shown}");
    }
}

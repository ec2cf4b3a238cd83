//! Request heads that were refused, as far as they can be shown. Pure: bytes in, what they surely say out.
//!
//! What breaks the rules cannot be taken apart with certainty, and so secrets in it cannot be found: a line that is folded goes on with the value of
//! another, and what begins in the middle of a body is no head at all. Only lines that are right by themselves are kept, and fields only behind a line
//! that is a request line.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::HOST};
use memchr::{memchr, memmem};

use super::{Target, TargetForm, parse};

/// Bytes of a head that are kept.
const KEPT: usize = 1024;
/// Where what cannot be shown of a target that is cut begins: parameters, and what stands before the host of a URL.
const CUT_AT: [&[u8]; 4] = [b"?", b"#", b";", b"://"];

/// A request head that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// The method, where it surely is one.
    pub method: Option<Method>,
    /// The path with its query; empty where it is not known.
    pub path: String,
    /// The authority; empty where it is not known, or there are several.
    pub authority: String,
    /// Fields that could be read.
    pub headers: HeaderMap,
    /// The lines that all this is from.
    pub text: Vec<u8>,
    /// Bytes of the head, as far as it was read.
    pub length: usize,
}

impl Unread {
    /// Of what was read: the head, and perhaps more behind it.
    pub(super) fn of(read: &[u8]) -> Self {
        let length = match parse::scan(read, 0) {
            parse::Scan::Ends(end) => end,
            parse::Scan::From(_) => read.len(),
        };
        let head = &read[..length];
        let mut unread = Self {
            length,
            ..Self::default()
        };
        match memchr(b'\n', head) {
            Some(lf) if lf <= KEPT => unread.request_line(parse::strip_cr(&head[..lf]), &head[lf + 1..]),
            // The beginning of a line may be that of a target, and has no end.
            _ => unread.cut_line(&head[..length.min(KEPT)]),
        }
        unread
    }

    fn request_line(&mut self, line: &[u8], fields: &[u8]) {
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target, version) = (words.next(), words.next(), words.next());
        let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
            self.method = method.and_then(standard);
            return self.write_line(b"", b"");
        };
        let known = Method::from_bytes(method).ok().and_then(|method| {
            let target = Target::parse(Bytes::copy_from_slice(target), &method).ok()?;
            Some((method, target))
        });
        let Some((known_method, known_target)) = known.filter(|_| is_version(version)) else {
            self.method = standard(method);
            return self.write_line(b"", b"");
        };
        self.method = Some(known_method);
        self.target(&known_target);
        self.write_line(target, version);
        self.fields(fields);
    }

    fn target(&mut self, target: &Target) {
        let text = || String::from_utf8_lossy(target.as_bytes()).into_owned();
        let uri = target.uri().unwrap_or_default();
        match target.form() {
            TargetForm::Origin | TargetForm::Asterisk => self.path = text(),
            TargetForm::Authority => self.authority = text(),
            TargetForm::Absolute => {
                self.path = uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
                self.authority = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
            }
        }
    }

    /// A first line whose end is not known: the path up to its parameters.
    fn cut_line(&mut self, line: &[u8]) {
        let space = memchr(b' ', line).unwrap_or(line.len());
        let Some(method) = standard(&line[..space]) else {
            return self.write_line(b"", b"");
        };
        self.method = Some(method);
        let target = line.get(space + 1..).unwrap_or_default();
        let end = CUT_AT.iter().filter_map(|cut| memmem::find(target, cut)).min();
        let place = &target[..end.unwrap_or(target.len())];
        if place.first() == Some(&b'/') && place.iter().all(u8::is_ascii_graphic) {
            self.path = String::from_utf8_lossy(place).into_owned();
        }
        let path = self.path.clone();
        self.write_line(path.as_bytes(), b"");
    }

    /// Three words, whatever is known of them.
    fn write_line(&mut self, target: &[u8], version: &[u8]) {
        let method = self.method.as_ref().map_or("", |method| method.as_str());
        self.text = [method.as_bytes(), b" ", target, b" ", version, b"\r\n"].concat();
    }

    /// Fields that are right by themselves, as long as there is room.
    fn fields(&mut self, section: &[u8]) {
        let mut room = KEPT.saturating_sub(self.text.len());
        let mut rest = section;
        while let Some(lf) = memchr(b'\n', rest) {
            let (line, next) = (parse::strip_cr(&rest[..lf]), &rest[lf + 1..]);
            // Of the last line nobody knows whether it goes on.
            let goes_on = matches!(next.first(), None | Some(b' ' | b'\t'));
            if let (false, true, Some((name, value))) = (goes_on, line.len() + 2 <= room, field(line)) {
                room -= line.len() + 2;
                self.headers.append(name, value);
                self.text.extend_from_slice(line);
                self.text.extend_from_slice(b"\r\n");
            }
            rest = next;
        }
        let mut hosts = self.headers.get_all(HOST).iter();
        if let (true, Some(host), None) = (self.authority.is_empty(), hosts.next(), hosts.next()) {
            self.authority = String::from_utf8_lossy(host.as_bytes()).into_owned();
        }
    }
}

/// A field line that is right by itself.
fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = memchr(b':', line)?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(parse::trim(&line[colon + 1..])).ok()?;
    Some((name, value))
}

/// A method that everybody knows: any other word may be something else.
fn standard(word: &[u8]) -> Option<Method> {
    const STANDARD: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    STANDARD.into_iter().find(|method| method.as_str().as_bytes() == word)
}

/// `HTTP/` and a number, whichever.
fn is_version(word: &[u8]) -> bool {
    let number = word.strip_prefix(b"HTTP/").unwrap_or_default();
    (1..=8).contains(&number.len()) && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(head: &str) -> String {
        String::from_utf8(Unread::of(head.as_bytes()).text).expect("text")
    }

    #[test]
    fn what_is_right_by_itself_is_known() {
        let head = "POST /pay?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
        let unread = Unread::of(format!("{head}GET /behind HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!(unread.method, Some(Method::POST));
        assert_eq!((&*unread.path, &*unread.authority), ("/pay?x=1", "a"));
        assert_eq!(unread.headers.get_all("content-length").iter().count(), 2);
        assert_eq!(unread.length, head.len());
        assert_eq!(unread.text, &head.as_bytes()[..head.len() - 2]);
    }

    #[test]
    fn lines_that_are_not_right_are_left_out_with_what_they_belong_to() {
        let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\nX-Last: z\r\n\r\n");
        let right = "GET / HTTP/1.1\r\nHost: a\r\nX-Last: z\r\n";
        for fields in [
            "Authorization:\r\n Bearer planted: x",
            "X-Long: {\"password\":\r\n\t\"planted\"}",
            "X-A: b\rAuthorization: planted",
            "Authorization : planted",
            "Authori\0zation: planted",
            "Authorization Bearer planted",
            "Authorization Bearer: planted",
            "X-A: planted\x0b",
        ] {
            assert_eq!(shown(&head(fields)), right, "{fields:?}");
        }
        let several = Unread::of(head("Host: b").as_bytes());
        assert_eq!(several.authority, "");
    }

    #[test]
    fn without_a_request_line_there_are_no_fields() {
        for (line, kept) in [
            ("password=planted", "  "),
            ("planted", "  "),
            ("planted is the password", "  "),
            ("planted / HTTP/x", "  "),
            ("GET  /planted HTTP/1.1", "GET  "),
            ("GET /planted", "GET  "),
            ("GET /planted HTTP/1.1 ", "GET  "),
            ("GET planted HTTP/1.1", "GET  "),
            ("{\"password\": \"planted\"}", "  "),
        ] {
            let head = format!("{line}\r\npassword: planted\r\n\r\n");
            assert_eq!(shown(&head), format!("{kept}\r\n"), "{line:?}");
        }
        assert_eq!(shown("GET /x HTTP/2.0\r\nA: b\r\n\r\n"), "GET /x HTTP/2.0\r\nA: b\r\n");
    }

    #[test]
    fn of_what_is_too_long_the_beginning_is_known() {
        let long = "a".repeat(100_000);
        let path = Unread::of(format!("GET /x/{long}").as_bytes());
        assert_eq!((path.method, path.path.len()), (Some(Method::GET), KEPT - "GET ".len()));
        assert_eq!(path.length, "GET /x/".len() + long.len());
        for target in ["/x?token=planted", "/x#planted", "/x;sig=planted", "/x://planted@"] {
            let cut = Unread::of(format!("GET {target}{long}").as_bytes());
            assert_eq!(cut.path, "/x", "{target}");
        }
        for line in [format!("GET https://planted{long}"), format!("planted{long}")] {
            assert_eq!(Unread::of(line.as_bytes()).path, "");
        }
        let fields = format!("GET /x HTTP/1.1\r\nX-Big: {long}\r\nX-Small: s\r\nCookie: {long}");
        assert_eq!(shown(&fields), "GET /x HTTP/1.1\r\nX-Small: s\r\n");
        let many = Unread::of(format!("GET /x HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000)).as_bytes());
        assert!(many.text.len() <= KEPT && many.headers.len() > 100);
    }

    #[test]
    fn the_authority_is_the_targets_or_the_hosts() {
        let absolute = Unread::of(b"GET http://b/x HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n");
        assert_eq!((&*absolute.path, &*absolute.authority), ("/x", "b"));
        let connect = Unread::of(b"CONNECT b:1 HTTP/1.1\r\nA : b\r\n\r\n");
        assert_eq!((&*connect.path, &*connect.authority), ("", "b:1"));
    }
}

//! The head of a message: its start line and fields, as sent (RFC 9112, 3 to 5).

use memchr::memchr;

use super::Rule;

/// A whole head. Everything points into its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// As sent, the empty line at its end included.
    pub raw: &'a [u8],
    /// Where it begins, counted from the direction's first byte.
    pub offset: u64,
    /// Its first line.
    pub start: Start<'a>,
    /// The lines after that.
    lines: &'a [u8],
}

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// Of a request.
    Request {
        /// As `GET`.
        method: &'a [u8],
        /// As `/path?query`.
        target: &'a [u8],
        /// As `HTTP/1.1`.
        version: &'a [u8],
    },
    /// Of a response.
    Response {
        /// As `HTTP/1.1`.
        version: &'a [u8],
        /// As 200.
        status: u16,
        /// As `OK`; often empty.
        reason: &'a [u8],
    },
}

impl Start<'_> {
    /// As `HTTP/1.1`.
    pub fn version(&self) -> &[u8] {
        match self {
            Self::Request { version, .. } | Self::Response { version, .. } => version,
        }
    }
}

/// A field of a head or of trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As sent, white space before the colon left out.
    pub name: &'a [u8],
    /// As sent, white space at its ends left out. A folded one has its line breaks inside.
    pub value: &'a [u8],
    /// Its lines, without the last line break.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// `None` where there is no colon.
    fn parse(raw: &'a [u8]) -> Option<Self> {
        let colon = memchr(b':', raw)?;
        Some(Self {
            name: trim(&raw[..colon]),
            value: trim(&raw[colon + 1..]),
            raw,
        })
    }

    /// Whether it has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

fn trim(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let begin = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(begin, |last| last + 1);
    &text[begin..end]
}

/// The first line, its line break left out, and what follows it.
pub(super) fn first_line(lines: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'\n', lines) {
        Some(end) => (
            lines[..end].strip_suffix(b"\r").unwrap_or(&lines[..end]),
            &lines[end + 1..],
        ),
        None => (lines, &[]),
    }
}

/// Fields one by one; lines without a colon are left out.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    lines: &'a [u8],
}

impl<'a> Fields<'a> {
    /// White space before the first field makes its line none (RFC 9112, 2.2).
    pub(super) fn new(mut lines: &'a [u8]) -> Self {
        while let [b' ' | b'\t', ..] = lines {
            lines = first_line(lines).1;
        }
        Self { lines }
    }

    /// The next field's lines; `None` at the empty line.
    fn next_raw(&mut self) -> Option<&'a [u8]> {
        let whole = self.lines;
        let (line, mut rest) = first_line(whole);
        if line.is_empty() {
            return None;
        }
        let mut end = line.len();
        while let [b' ' | b'\t', ..] = rest {
            let (more, after) = first_line(rest);
            end = whole.len() - rest.len() + more.len();
            rest = after;
        }
        self.lines = rest;
        Some(&whole[..end])
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            if let Some(field) = Field::parse(self.next_raw()?) {
                return Some(field);
            }
        }
    }
}

/// `tchar` of RFC 9110 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl<'a> Head<'a> {
    pub(super) fn request(raw: &'a [u8], offset: u64) -> Result<Self, Rule> {
        let (line, lines) = first_line(raw);
        let mut parts = words(line);
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Rule::RequestLine);
        };
        if !method.iter().all(|byte| is_token(*byte)) || !version.starts_with(b"HTTP/") {
            return Err(Rule::RequestLine);
        }
        Ok(Self {
            raw,
            offset,
            start: Start::Request {
                method,
                target,
                version,
            },
            lines,
        })
    }

    pub(super) fn response(raw: &'a [u8], offset: u64) -> Result<Self, Rule> {
        let (line, lines) = first_line(raw);
        let mut parts = words(line);
        let (Some(version), Some(code)) = (parts.next(), parts.next()) else {
            return Err(Rule::StatusLine);
        };
        let digits: [u8; 3] = code.try_into().map_err(|_| Rule::StatusLine)?;
        if !version.starts_with(b"HTTP/") || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Rule::StatusLine);
        }
        let status = digits
            .iter()
            .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        // The reason is whatever follows the status, spaces included.
        let after = line.len() - parts.rest.len();
        let reason = trim(&line[after..]);
        Ok(Self {
            raw,
            offset,
            start: Start::Response {
                version,
                status,
                reason,
            },
            lines,
        })
    }

    /// The fields, in order.
    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.lines)
    }

    /// The first value of a field, by its name in any case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|field| field.is(name)).map(|field| field.value)
    }

    /// The lines after the first.
    pub(super) fn lines(&self) -> &'a [u8] {
        self.lines
    }
}

/// Words between spaces and tabs.
struct Words<'a> {
    rest: &'a [u8],
}

fn words(line: &[u8]) -> Words<'_> {
    Words { rest: line }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let begin = self.rest.iter().position(|byte| !is_space(byte))?;
        let word = &self.rest[begin..];
        let length = word.iter().position(is_space).unwrap_or(word.len());
        self.rest = &word[length..];
        Some(&word[..length])
    }
}

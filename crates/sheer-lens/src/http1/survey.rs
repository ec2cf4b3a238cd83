//! One pass over the lines of a head or of trailers: what is wrong with them, and what they say of the body's length.

use memchr::memchr;

use super::{
    Head, Rule, Start,
    head::{first_line, is_token},
    violation::Rules,
};

/// What the lines say that matters for framing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survey {
    pub(super) rules: Rules,
    pub(super) length: Option<u64>,
    pub(super) has_coding: bool,
    /// Whether the last coding is chunked.
    pub(super) is_chunked: bool,
    hosts: u32,
    /// Whether a field is among those that trailers may not have.
    frames: bool,
}

impl Survey {
    /// Of a head.
    pub(super) fn of(head: &Head<'_>) -> Self {
        let mut survey = Self::default();
        survey.start(head);
        survey.lines(head.lines());
        let rules = &mut survey.rules;
        if let Start::Request { version, .. } = head.start {
            rules.add_if(survey.hosts == 0 && version == b"HTTP/1.1", Rule::HostMissing);
            rules.add_if(survey.hosts > 1, Rule::HostRepeated);
        }
        rules.add_if(survey.has_coding && survey.length.is_some(), Rule::TwoLengths);
        rules.add_if(
            survey.has_coding && head.start.version() == b"HTTP/1.0",
            Rule::CodingInOldVersion,
        );
        survey
    }

    /// Of trailers, which frame nothing.
    pub(super) fn of_trailers(lines: &[u8]) -> Rules {
        let mut survey = Self::default();
        survey.lines(lines);
        survey.rules.add_if(survey.frames, Rule::TrailerForbidden);
        survey.rules
    }

    fn start(&mut self, head: &Head<'_>) {
        let whole = &head.raw[..head.raw.len() - head.lines().len()];
        self.line_end(whole);
        let (line, _) = first_line(whole);
        self.rules.add_if(line.contains(&b'\r'), Rule::BareCarriageReturn);
        // A reason may have any spaces; a response without one may end in a space.
        let parts = match head.start {
            Start::Request { .. } => line,
            Start::Response { reason, .. } => line[..line.len() - reason.len()].trim_ascii_end(),
        };
        let is_uneven = parts.windows(2).any(|pair| pair == b"  ") || parts.contains(&b'\t');
        let has_ends = parts.first() == Some(&b' ') || parts.last() == Some(&b' ');
        self.rules.add_if(is_uneven || has_ends, Rule::StartSpaces);
        let is_known = matches!(head.start.version(), b"HTTP/1.1" | b"HTTP/1.0");
        self.rules.add_if(!is_known, Rule::Version);
    }

    /// Lines end with CRLF.
    fn line_end(&mut self, line: &[u8]) {
        let is_bare = line.last() == Some(&b'\n') && !line.ends_with(b"\r\n");
        self.rules.add_if(is_bare, Rule::BareLineFeed);
    }

    fn lines(&mut self, mut lines: &[u8]) {
        let mut is_first = true;
        while !lines.is_empty() {
            let (whole, rest) = lines.split_at(memchr(b'\n', lines).map_or(lines.len(), |end| end + 1));
            self.line_end(whole);
            let (line, _) = first_line(whole);
            match line.first() {
                None => return,
                Some(b' ' | b'\t') => {
                    self.rules.add(if is_first { Rule::LeadingSpace } else { Rule::Folded });
                    self.value(line);
                }
                Some(_) => self.field(line, rest),
            }
            (is_first, lines) = (false, rest);
        }
    }

    fn field(&mut self, line: &[u8], rest: &[u8]) {
        let Some(colon) = memchr(b':', line) else {
            self.value(line);
            return self.rules.add(Rule::NoColon);
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        self.value(value);
        let trimmed = name.trim_ascii_end();
        self.rules.add_if(trimmed.len() < name.len(), Rule::SpaceBeforeColon);
        let is_valid = !trimmed.is_empty() && trimmed.iter().all(|byte| is_token(*byte));
        self.rules.add_if(!is_valid, Rule::FieldName);
        let is = |known: &str| trimmed.eq_ignore_ascii_case(known.as_bytes());
        match trimmed.len() {
            2 | 7 => self.frames |= is("te") || is("trailer"),
            4 if is("host") => (self.hosts, self.frames) = (self.hosts + 1, true),
            14 if is("content-length") => {
                self.frames = true;
                with_folds(value, rest, |value| self.content_length(value));
            }
            17 if is("transfer-encoding") => {
                (self.has_coding, self.frames) = (true, true);
                with_folds(value, rest, |value| self.codings(value));
            }
            _ => {}
        }
    }

    /// No control characters. Without an early end, so that the compiler looks at many bytes at once.
    fn value(&mut self, value: &[u8]) {
        let has_control = value.iter().fold(false, |has, byte| {
            has | (*byte < b' ') & (*byte != b'\t') | (*byte == 0x7f)
        });
        if has_control {
            let is_other = |byte: &u8| *byte != b'\r' && *byte != b'\t' && (*byte < b' ' || *byte == 0x7f);
            self.rules.add_if(value.contains(&b'\r'), Rule::BareCarriageReturn);
            self.rules.add_if(value.iter().any(is_other), Rule::FieldValue);
        }
    }

    /// A value may be a list: recipients joined repeated fields.
    fn content_length(&mut self, value: &[u8]) {
        for value in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let digits = std::str::from_utf8(value).ok().filter(|_| is_number);
            match (digits.and_then(|digits| digits.parse().ok()), self.length) {
                (None, _) => self.rules.add(Rule::ContentLength),
                (Some(length), Some(before)) if length != before => self.rules.add(Rule::ContentLengthsDiffer),
                (Some(_), Some(_)) => self.rules.add(Rule::ContentLengthRepeated),
                (Some(length), None) => self.length = Some(length),
            }
        }
    }

    fn codings(&mut self, value: &[u8]) {
        for coding in value
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|coding| !coding.is_empty())
        {
            self.rules.add_if(self.is_chunked, Rule::ChunkedTwice);
            self.is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        }
    }
}

/// A value with the lines that it goes on in.
fn with_folds(value: &[u8], mut rest: &[u8], read: impl FnOnce(&[u8])) {
    if !matches!(rest.first(), Some(b' ' | b'\t')) {
        return read(value);
    }
    let mut whole = value.to_vec();
    while let Some(b' ' | b'\t') = rest.first() {
        let (line, after) = first_line(rest);
        whole.extend_from_slice(line);
        rest = after;
    }
    read(&whole);
}

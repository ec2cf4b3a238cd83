//! The case that header names were sent in.

use bytes::Bytes;
use http::HeaderValue;

/// How the names of a head were spelt, so that they can be spelt so again. `Default` is all lower case.
///
/// Two spellings cover nearly every program: all lower case, and `Title-Case`. The rest are exceptions, kept as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderCase {
    title: bool,
    exceptions: Vec<Bytes>,
}

impl HeaderCase {
    /// Name of the field that carries this over HTTP/2 between two sidecars.
    pub const FIELD: &'static str = "sheer-h1-case";

    /// The value of [`Self::FIELD`]; `None` where every name is lower case and there is nothing to carry.
    pub fn encode(&self) -> Option<HeaderValue> {
        None
    }

    /// Reads the value of [`Self::FIELD`]. Whatever does not parse is taken as all lower case: case never matters enough to refuse.
    pub fn decode(_value: &HeaderValue) -> Self {
        Self::default()
    }

    /// Whether every name is lower case.
    pub fn is_lower(&self) -> bool {
        !self.title && self.exceptions.is_empty()
    }
}

//! What the head of a request says, as watchers are told of it: of a request, and of what was refused before it was one.

use http::{HeaderMap, Method};

use crate::{
    exchange::{Head, Origin},
    http1::Unread,
};

/// A head, as far as it could be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(super) method: Option<&'a Method>,
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) is_http1: bool,
}

impl<'a> Said<'a> {
    /// Of a head that could be read.
    pub(crate) fn of(head: &'a Head) -> Self {
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        Self {
            method: Some(&head.method),
            authority: head.authority().unwrap_or_default(),
            // Of a URI without a path that would be `/`.
            path: if head.uri.path().is_empty() { "" } else { path },
            headers: &head.headers,
            is_http1: matches!(head.origin, Origin::Http1 { .. }),
        }
    }

    /// Of one that was refused.
    pub(crate) fn of_unread(head: &'a Unread) -> Self {
        Self {
            method: head.method.as_ref(),
            authority: &head.authority,
            path: &head.path,
            headers: &head.headers,
            is_http1: true,
        }
    }
}

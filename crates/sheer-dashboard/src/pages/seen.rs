//! Requests that a page has shown lately, as the tap had them. A proxy's recorder forgets what went well within seconds where it is busy; who clicks on a line
//! later still gets what the line was made of. Asked only after the control plane has let the caller look at the same request.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

/// Requests that are kept: as many as a page shows, several times over. Some kilobytes each.
const KEPT: usize = 2_000;

/// Pages of requests, and lists of frames, that were opened lately: a link that somebody sends shows the same when the proxies have forgotten the request.
const OPENED: usize = 64;

/// The last requests, as JSON of the tap.
#[derive(Default)]
pub(super) struct Seen {
    lines: VecDeque<Value>,
    opened: VecDeque<(String, Arc<Value>)>,
}

impl Seen {
    pub(super) fn push(&mut self, request: Value) {
        if self.lines.len() >= KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(request);
    }

    /// A request of a namespace by its id. The latest counts: a pod's proxy that starts anew counts its requests from 1.
    pub(super) fn find(&self, namespace: &str, id: &str) -> Option<Value> {
        let found = self.lines.iter().rev();
        let mut found = found.filter(|one| one["id"] == id && one["namespace"] == namespace);
        found.next().cloned()
    }

    /// Keeps what a page was given, in the place of what it was given before.
    pub(super) fn opened(&mut self, key: &str, page: Arc<Value>) {
        self.opened.retain(|(known, _)| known != key);
        if self.opened.len() >= OPENED {
            self.opened.pop_front();
        }
        self.opened.push_back((key.to_owned(), page));
    }

    /// What a page was given before.
    pub(super) fn find_opened(&self, key: &str) -> Option<Arc<Value>> {
        let found = self.opened.iter().find(|(known, _)| known == key);
        found.map(|(_, page)| Arc::clone(page))
    }
}

/// The namespace of the pod whose proxy counted a request.
pub(super) fn namespace_of(id: &str, ends: [&str; 2]) -> String {
    let pod = id.rsplit_once('/').map_or(id, |(pod, _)| pod);
    let of = |end: &&str| end.split_once('/').is_some_and(|(_, name)| name == pod);
    let end = ends.into_iter().find(|end| of(end));
    end.and_then(|end| end.split_once('/'))
        .map_or_else(String::new, |(namespace, _)| namespace.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_latest_of_an_id_is_found_and_old_ones_are_let_go() {
        let mut seen = Seen::default();
        for nth in 0..KEPT + 10 {
            seen.push(json!({"namespace": "bank", "id": format!("web-0/{nth}"), "turn": 1}));
        }
        seen.push(json!({"namespace": "bank", "id": "web-0/1000", "turn": 2}));
        assert_eq!(seen.find("bank", "web-0/1000").unwrap()["turn"], 2);
        assert_eq!(seen.find("bank", "web-0/3"), None);
        assert_eq!(seen.find("shop", "web-0/1000"), None);
        assert_eq!(seen.lines.len(), KEPT);
    }

    #[test]
    fn the_last_pages_that_were_opened_stay() {
        let mut seen = Seen::default();
        for nth in 0..=OPENED {
            seen.opened(&nth.to_string(), Arc::new(json!(nth)));
        }
        seen.opened("1", Arc::new(json!("again")));
        assert_eq!(seen.find_opened("0"), None);
        assert_eq!(*seen.find_opened("1").unwrap(), json!("again"));
        assert_eq!(seen.opened.len(), OPENED);
    }

    #[test]
    fn an_id_is_of_the_pod_that_it_names() {
        assert_eq!(namespace_of("web-0/41", ["shop/web-1", "bank/web-0"]), "bank");
        assert_eq!(namespace_of("web-0/41", ["10.0.0.1:80", "api.example:443"]), "");
    }
}

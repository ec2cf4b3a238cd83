//! One event instead of three, where a request is over before anybody was told that it began.

use std::collections::HashMap;

use super::event::{Event, Stage};

/// Heads of a request that its end has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Untold {
    pub(crate) request: bool,
    pub(crate) response: bool,
}

/// Leaves out the heads of requests whose ends are here too. Most requests are short: one event tells of them, and not three.
pub(crate) fn fold(taken: &mut Vec<Event>) -> HashMap<u64, Untold> {
    let ended = |event: &Event| match event {
        Event::Request(event) if event.stage == Stage::End => Some((event.id, Untold::default())),
        _ => None,
    };
    let mut untold: HashMap<_, _> = taken.iter().filter_map(ended).collect();
    taken.retain(|event| {
        let Event::Request(event) = event else { return true };
        let Some(untold) = untold.get_mut(&event.id) else {
            return true;
        };
        match event.stage {
            Stage::Request => untold.request = true,
            Stage::Response => untold.response = true,
            Stage::End => return true,
        }
        false
    });
    untold
}

//! For whom the streams of a connection to the application are: it carries requests of everybody, and what of it may be shown depends on who asks.

use std::{collections::VecDeque, net::IpAddr};

/// Streams whose caller is remembered: more than a connection's log has frames of.
const KEPT: usize = 1024;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) ip: IpAddr,
    /// It came on a connection of mutual TLS.
    pub(crate) mesh: bool,
}

/// Callers of the last streams, which may have begun out of their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers(VecDeque<(u32, Caller)>);

impl Callers {
    pub(super) fn note(&mut self, stream: u32, caller: Caller) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((stream, caller));
    }

    /// Whose stream it is, where that is remembered.
    pub(crate) fn find(&self, stream: u32) -> Option<Caller> {
        let found = self.0.iter().rfind(|(noted, _)| *noted == stream);
        found.map(|(_, caller)| *caller)
    }

    pub(super) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<(u32, Caller)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_streams_are_remembered() {
        let caller = |last| Caller {
            ip: IpAddr::from([10, 0, 0, last]),
            mesh: true,
        };
        let mut callers = Callers::default();
        for stream in (1..=2 * KEPT as u32 + 1).step_by(2) {
            callers.note(stream, caller((stream % 4) as u8));
        }
        assert_eq!(callers.find(1), None, "the first is forgotten");
        assert_eq!((callers.find(3), callers.find(5)), (Some(caller(3)), Some(caller(1))));
        assert_eq!(callers.find(4), None);
        assert!(callers.memory() <= 2 * KEPT * size_of::<(u32, Caller)>());
    }
}

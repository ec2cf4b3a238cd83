//! Who wants to know that an endpoint became usable or ceased to be: the services that balance over it.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

/// What is told of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Something changed; who hears it looks for himself what it is.
    Changed,
    /// All its streams were taken, and one is free.
    Freed,
}

/// Told the news of an endpoint.
pub(super) type Watcher = Rc<Told>;
type Told = dyn Fn(News);

/// The watchers of one endpoint. Gone ones are dropped as they are met.
#[derive(Default)]
pub(super) struct Watchers(RefCell<Vec<Weak<Told>>>);

impl Watchers {
    /// From now on tells `watcher`, for as long as somebody holds it.
    pub(super) fn add(&self, watcher: &Watcher) {
        self.0.borrow_mut().push(Rc::downgrade(watcher));
    }

    /// Tells everybody. A watcher may add others, and may drop the endpoint.
    pub(super) fn tell(&self, news: News) {
        let mut live = Vec::new();
        self.0
            .borrow_mut()
            .retain(|watcher| watcher.upgrade().map(|watcher| live.push(watcher)).is_some());
        for watcher in live {
            watcher(news);
        }
    }
}

impl std::fmt::Debug for Watchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} watchers", self.0.borrow().len())
    }
}

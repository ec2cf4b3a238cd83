//! Subscriptions by key: made when they are first wanted, ended when nobody wanted them for a while.

use std::{future::Future, hash::Hash, sync::Arc, time::Duration};

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};

use super::Lookup;

/// Publishes what a subscription hears.
pub(super) type Publisher<T> = watch::Sender<Lookup<T>>;

/// Subscriptions of one kind.
#[derive(Debug)]
pub(super) struct Cache<K, T>(Arc<Inner<K, T>>);

#[derive(Debug)]
struct Inner<K, T> {
    entries: Mutex<AHashMap<K, Publisher<T>>>,
    idle: Duration,
    runtime: Handle,
}

impl<K, T> Clone for Cache<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, T> Cache<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// Subscriptions run on `runtime` and end after `idle` without a receiver.
    pub(super) fn new(idle: Duration, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            entries: Mutex::default(),
            idle,
            runtime,
        }))
    }

    /// The subscription of a key. `follow` runs until it is ended; it makes what it hears public.
    pub(super) fn subscribe<F>(&self, key: &K, follow: impl FnOnce(Publisher<T>) -> F) -> watch::Receiver<Lookup<T>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut entries = self.0.entries.lock();
        if let Some(publisher) = entries.get(key) {
            return publisher.subscribe();
        }
        let (publisher, receiver) = watch::channel(Lookup::Pending);
        entries.insert(key.clone(), publisher.clone());
        let (cache, key, following) = (self.clone(), key.clone(), follow(publisher.clone()));
        self.0.runtime.spawn(async move {
            tokio::select! {
                biased; // in this order so that an idle subscription ends even if its stream is busy
                () = cache.forget_when_idle(&key, &publisher) => {}
                () = following => {}
            }
        });
        receiver
    }

    /// Every subscription and what it heard last. Keeps none of them alive.
    pub(super) fn entries(&self) -> Vec<(K, Lookup<T>)>
    where
        T: Clone,
    {
        let entries = self.0.entries.lock();
        entries
            .iter()
            .map(|(key, publisher)| (key.clone(), publisher.borrow().clone()))
            .collect()
    }

    /// Subscriptions that are open.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.entries.lock().len()
    }

    async fn forget_when_idle(&self, key: &K, publisher: &Publisher<T>) {
        loop {
            publisher.closed().await;
            tokio::time::sleep(self.0.idle).await;
            // Under the lock, so that nobody subscribes between the look and the removal.
            let mut entries = self.0.entries.lock();
            if publisher.is_closed() {
                entries.remove(key);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn subscriptions_outlive_their_receivers_by_the_idle_time() {
        let cache = Cache::<u16, u16>::new(IDLE, Handle::current());
        let follow = |publisher: Publisher<u16>| async move {
            publisher.send_replace(Lookup::Known(Arc::new(7)));
            std::future::pending().await
        };
        let mut first = cache.subscribe(&1, follow);
        first.changed().await.expect("published");
        let second = cache.subscribe(&1, |_| async { panic!("subscribed already") });
        assert!(matches!(&*second.borrow(), Lookup::Known(seven) if **seven == 7));
        drop((first, second));
        tokio::time::sleep(IDLE / 2).await;
        let third = cache.subscribe(&1, |_| async { panic!("not forgotten yet") });
        tokio::time::sleep(IDLE * 2).await;
        assert_eq!(cache.len(), 1);
        drop(third);
        tokio::time::sleep(IDLE + Duration::from_millis(1)).await;
        assert_eq!(cache.len(), 0);
    }
}

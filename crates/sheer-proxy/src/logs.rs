//! Logs: to stderr, as text or JSON, with a filter that can be changed while the proxy runs.
//!
//! `main` sets them up; the admin server reads and changes the filter.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sheer_policy::log_directives::{parse, read};
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::settings::{LogFormat, Logs};

/// Handle to the filter of what is logged. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
    now: Arc<Mutex<Now>>,
}

/// Which filter holds.
#[derive(Debug)]
struct Now {
    filter: String,
    /// Where that one was lent: the filter that comes back.
    lasting: String,
    /// Counts changes, so that a loan that something else has ended does not end that.
    changes: u64,
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogLevel").field(&*self.now.lock()).finish()
    }
}

impl LogLevel {
    /// The filter now, as it was written.
    pub fn filter(&self) -> String {
        self.now.lock().filter.clone()
    }

    /// Replaces the filter, or says what is wrong with the new one.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        self.replace(parse(filter)?, filter)
    }

    fn replace(&self, parsed: EnvFilter, filter: &str) -> Result<(), String> {
        self.handle.reload(parsed).map_err(|error| error.to_string())?;
        let mut now = self.now.lock();
        filter.trim().clone_into(&mut now.filter);
        filter.trim().clone_into(&mut now.lasting);
        now.changes += 1;
        Ok(())
    }

    /// Replaces the filter for a while; then the last one that was set comes back by itself, whatever becomes of who asked. Within a runtime
    /// of tokio.
    pub fn lend(&self, filter: &str, lasting: Duration) -> Result<(), String> {
        let parsed = parse(filter)?;
        self.handle.reload(parsed).map_err(|error| error.to_string())?;
        let mut now = self.now.lock();
        filter.trim().clone_into(&mut now.filter);
        now.changes += 1;
        let (lent, level) = (now.changes, self.clone());
        tokio::spawn(async move {
            tokio::time::sleep(lasting).await;
            level.take_back(lent);
        });
        Ok(())
    }

    fn take_back(&self, lent: u64) {
        let (lasting, changes) = {
            let now = self.now.lock();
            (now.lasting.clone(), now.changes)
        };
        if changes != lent {
            return;
        }
        match read(&lasting).and_then(|parsed| self.replace(parsed, &lasting)) {
            Ok(()) => tracing::info!(filter = lasting, "log filter is back"),
            Err(error) => tracing::warn!(filter = lasting, error, "log filter cannot come back"),
        }
    }
}

/// Begins to log. Once a process.
pub fn start(logs: &Logs) -> Result<LogLevel, String> {
    let (filter, handle) = reload::Layer::new(read(&logs.filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match logs.format {
        LogFormat::Plain => registry
            .with(fmt::layer().with_writer(std::io::stderr).with_ansi(false))
            .try_init(),
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init(),
    };
    started.map_err(|error| error.to_string())?;
    Ok(LogLevel {
        handle,
        now: Arc::new(Mutex::new(Now {
            filter: logs.filter.trim().to_owned(),
            lasting: logs.filter.trim().to_owned(),
            changes: 0,
        })),
    })
}

/// Says what is wrong with the filter that the environment has.
pub(crate) fn check_filter(filter: &str) -> Result<(), String> {
    read(filter).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lent_filter_gives_way_by_itself_but_not_to_an_older_loan() {
        let (layer, handle) = reload::Layer::new(parse("warn").expect("a filter"));
        let level = LogLevel {
            handle,
            now: Arc::new(Mutex::new(Now {
                filter: "warn".to_owned(),
                lasting: "warn".to_owned(),
                changes: 0,
            })),
        };
        let _held: reload::Layer<EnvFilter, Registry> = layer;
        level.lend("debug", Duration::from_secs(60)).expect("lent");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(level.filter(), "debug");
        level.lend("trace", Duration::from_secs(60)).expect("lent");
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert_eq!(level.filter(), "trace", "the first loan is over, the second is not");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(level.filter(), "warn");
        assert!(level.lend("sheer_proxy=loud", Duration::from_secs(1)).is_err());
    }
}

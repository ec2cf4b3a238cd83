//! Logs: to stderr, as text or JSON, with a filter that can be changed while the proxy runs.
//!
//! `main` sets them up; the admin server reads and changes the filter.

use std::{borrow::Cow, sync::Arc};

use parking_lot::Mutex;
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::settings::{LogFormat, Logs};

/// Handle to the filter of what is logged. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
    text: Arc<Mutex<String>>,
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogLevel").field(&*self.text.lock()).finish()
    }
}

impl LogLevel {
    /// The filter now, as it was written.
    pub fn filter(&self) -> String {
        self.text.lock().clone()
    }

    /// Replaces the filter, or says what is wrong with the new one.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let parsed = parse(filter)?;
        self.handle.reload(parsed).map_err(|error| error.to_string())?;
        filter.trim().clone_into(&mut self.text.lock());
        Ok(())
    }
}

/// Begins to log. Once a process.
pub fn start(logs: &Logs) -> Result<LogLevel, String> {
    let (filter, handle) = reload::Layer::new(parse(&logs.filter)?);
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
        text: Arc::new(Mutex::new(logs.filter.trim().to_owned())),
    })
}

/// Says what is wrong with a filter.
pub(crate) fn check_filter(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(own_targets(filter))
        .map_err(|error| format!("is not a filter: {error}"))
}

/// Manifests for Linkerd name Linkerd's modules: they mean ours.
fn own_targets(filter: &str) -> String {
    let own = |directive: &str| match directive.trim().strip_prefix("linkerd") {
        Some(rest) => {
            let level = rest.find(['=', '[']).map_or("", |at| &rest[at..]);
            Cow::Owned(format!("sheer_proxy{level}"))
        }
        None => Cow::Owned(directive.trim().to_owned()),
    };
    filter
        .split(',')
        .filter(|directive| !directive.trim().is_empty())
        .map(own)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_for_linkerd_mean_our_modules() {
        assert_eq!(
            own_targets("warn,linkerd=info,hickory=error"),
            "warn,sheer_proxy=info,hickory=error"
        );
        assert_eq!(own_targets("linkerd_app_outbound=debug, "), "sheer_proxy=debug");
        assert!(check_filter("warn,linkerd=info,[{headers}]=off,[{request}]=off").is_ok());
        assert!(check_filter("sheer_proxy=loud").is_err());
    }
}

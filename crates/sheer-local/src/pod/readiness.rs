//! When a program may get traffic, and the one loop that keeps that up to date while it runs.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{listening, probe::Check, program::ProgramCell};
use crate::namespaces::Namespaces;

/// A container without a probe that does not listen by then counts as ready all the same: its manifest may name the wrong port.
const PATIENCE: Duration = Duration::from_secs(10);
/// From one look at its ports to the next until then.
const EAGER: Duration = Duration::from_millis(50);
/// The same afterwards, for the warning's sake.
const LAZY: Duration = Duration::from_secs(1);

/// When a program may get traffic.
#[derive(Clone, Debug)]
pub(crate) enum Readiness {
    /// As soon as it runs.
    Running,
    /// Once something listens on these ports; after [`PATIENCE`] all the same.
    Listening(Vec<u16>),
    /// As its probe says.
    Probed(Check),
}

impl Readiness {
    /// Keeps a program's readiness up to date; never returns.
    pub(super) async fn keep(&self, namespaces: Option<&Arc<Namespaces>>, cell: &ProgramCell) {
        match (self, namespaces) {
            (Self::Probed(check), Some(namespaces)) => probe(check, namespaces, cell).await,
            (Self::Listening(ports), Some(namespaces)) => {
                listen(ports, cell, || listening::silent(namespaces, ports)).await;
            }
            _ => {}
        }
        std::future::pending().await
    }
}

/// Never returns.
async fn probe(check: &Check, namespaces: &Arc<Namespaces>, cell: &ProgramCell) {
    sleep(check.initial_delay).await;
    let (mut good, mut bad) = (0, 0);
    loop {
        let next = Instant::now();
        let result = timeout(check.timeout, check.action.run(namespaces)).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer within {:?}", check.timeout)));
        match result {
            Ok(()) => (good, bad) = (good + 1, 0),
            Err(_) => (good, bad) = (0, bad + 1),
        }
        cell.update(|state| {
            state.ready = good >= check.success || (state.ready && bad < check.failure);
            state.unready = result.err().filter(|_| !state.ready);
        });
        sleep_until(next + check.pause(cell.state().ready)).await;
    }
}

/// Returns once something has listened on every port. Ready is ready: what a program does with its ports later is its own affair.
async fn listen<Silent>(ports: &[u16], cell: &ProgramCell, silent: impl Fn() -> Silent)
where
    Silent: Future<Output = std::io::Result<Vec<u16>>>,
{
    let patience = Instant::now() + PATIENCE;
    loop {
        // Where the kernel cannot be asked, nothing is known of any port.
        let silent = silent().await.unwrap_or_else(|_| ports.to_vec());
        let late = Instant::now() >= patience;
        cell.update(|state| {
            state.ready = silent.is_empty() || late;
            state.unready = (!state.ready).then(|| format!("nothing listens on port {} yet", list(&silent)));
            state.silent_ports = if late { silent.clone() } else { Vec::new() };
        });
        if silent.is_empty() {
            return;
        }
        sleep(if late { LAZY } else { EAGER }).await;
    }
}

/// `8080, 9090`.
pub(crate) fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::sync::Notify;

    use super::*;

    fn cell() -> Arc<ProgramCell> {
        ProgramCell::new("app", Arc::new(Notify::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_without_a_probe_is_ready_once_it_listens() {
        let (cell, silent) = (cell(), RefCell::new(vec![80, 81]));
        let look = || std::future::ready(Ok(silent.borrow().clone()));
        let listening = listen(&[80, 81], &cell, look);
        tokio::pin!(listening);
        assert!(timeout(Duration::from_secs(1), &mut listening).await.is_err());
        let state = cell.state();
        assert_eq!(
            (state.ready, state.unready.as_deref(), state.silent_ports.len()),
            (false, Some("nothing listens on port 80, 81 yet"), 0)
        );
        *silent.borrow_mut() = vec![81];
        assert!(timeout(Duration::from_secs(1), &mut listening).await.is_err());
        assert!(!cell.state().ready, "one port of two is not all");
        silent.borrow_mut().clear();
        timeout(EAGER, listening).await.expect("it is seen at the next look");
        assert_eq!((cell.state().ready, cell.state().unready), (true, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_port_costs_ten_seconds_and_is_named() {
        let (cell, silent) = (cell(), RefCell::new(vec![9999]));
        let look = || std::future::ready(Ok(silent.borrow().clone()));
        let listening = listen(&[8080, 9999], &cell, look);
        tokio::pin!(listening);
        assert!(timeout(PATIENCE - EAGER * 2, &mut listening).await.is_err());
        assert!(!cell.state().ready);
        assert!(timeout(EAGER * 4, &mut listening).await.is_err());
        let state = cell.state();
        assert_eq!(
            (state.ready, state.unready, state.silent_ports),
            (true, None, vec![9999])
        );
        // It listens in the end: nothing is left to warn of.
        silent.borrow_mut().clear();
        timeout(LAZY * 2, listening).await.expect("it is seen");
        assert_eq!((cell.state().ready, cell.state().silent_ports.len()), (true, 0));
    }
}

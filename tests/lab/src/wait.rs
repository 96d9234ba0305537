//! Waiting, with a bound, and giving up early when the lab is told to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How often a condition without an event is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every wait of this process end with [`Error::Interrupted`], so that the rack is dropped and cleaned up
/// in order. For the signal handler of a program that owns a rack.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Begins to listen for SIGINT, SIGTERM and SIGHUP in a thread of its own. Each of them is an [`interrupt`], and then
/// `and_then` is called.
pub fn interrupt_on_signals(mut and_then: impl FnMut() + Send + 'static) {
    std::thread::spawn(move || {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut interrupted), Ok(mut terminated), Ok(mut hung_up)] = kinds.map(signal) else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupted.recv() => {}
                    _ = terminated.recv() => {}
                    _ = hung_up.recv() => {}
                }
                interrupt();
                and_then();
            }
        });
    });
}

/// Whether [`interrupt`] was called.
///
/// # Errors
/// [`Error::Interrupted`] if it was.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Looks at a condition every 5 ms until it gives a value.
///
/// Only for what sends no event: the state of a foreign daemon behind `vtysh`, or a socket file of one. Kernel
/// state has events, see [`Netns::await_routes`](crate::Netns::await_routes).
///
/// # Errors
/// [`Error::Timeout`] after `limit`, [`Error::Interrupted`], or what the condition fails with.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        check_interrupt()?;
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(Error::Timeout { what: what.to_owned(), limit });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_tried_at_least_once_and_the_wait_is_bounded() {
        let found = eventually("at once", Duration::ZERO, || Ok(Some(1))).unwrap();
        assert_eq!(found, 1);
        let error = eventually::<()>("never", Duration::from_millis(1), || Ok(None)).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
    }
}

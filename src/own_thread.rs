//! A thread of its own for work that nothing else may hold up, or that may hold up others. It ends with the work, or with
//! the future that waits for it.
//!
//! In: a name, and what makes the work's future there. Out: how it ended.

use std::{io, panic, thread};

use tokio::sync::oneshot;

/// Does the work on a thread of this name (`ps -L` and profiles show it) with a runtime of its own, in the network
/// namespace of this thread.
///
/// # Errors
/// The work's, or when there is no thread or no runtime to be had.
///
/// # Panics
/// As the work does.
pub(crate) async fn run<W: Future<Output = io::Result<()>>>(
    name: &str,
    work: impl FnOnce() -> W + Send + 'static,
) -> io::Result<()> {
    let (result, ended) = oneshot::channel();
    // Held here, and gone when this future is dropped.
    let (_wanted, unwanted) = oneshot::channel();
    // A thread begins in the network namespace of the one that started it.
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody waits for the result of a dropped future.
        let _ = result.send(stay(work, unwanted));
    })?;
    let result = ended.await;
    match (thread.join(), result) {
        (Err(panic), _) => panic::resume_unwind(panic),
        (Ok(()), Ok(result)) => result,
        // It sends before it ends.
        (Ok(()), Err(_)) => Ok(()),
    }
}

/// The thread.
fn stay<W: Future<Output = io::Result<()>>>(
    work: impl FnOnce() -> W,
    unwanted: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            result = work() => result,
            _ = unwanted => Ok(()),
        }
    })
}

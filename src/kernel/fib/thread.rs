//! The FIB's own thread. A change can hold it for long (a group that a million routes use grows in one system call
//! of most of a second), and no keepalive and no BFD packet is to wait behind that.
//!
//! In: what the FIB task is to be told. Out: how it ended. The thread ends with the future that waits for it.

use std::{io, panic, thread};

use tokio::sync::oneshot;

use super::task::Task;
use super::{Inputs, Settings};

/// What `ps -L` and profiles call it.
const NAME: &str = "fib";

/// Netlink is unusable, or there is no thread to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the FIB")]
pub struct StartError(#[from] io::Error);

/// Keeps the kernel's routes as they are wanted, in the network namespace of this thread, until
/// `inputs.batches` is closed. The routes stay.
///
/// # Errors
/// When there is no thread to be had, or netlink cannot be used at all.
///
/// # Panics
/// As the thread does.
pub async fn run(settings: Settings, inputs: Inputs) -> Result<(), StartError> {
    let (result, ended) = oneshot::channel();
    // Held here, and gone when this future is dropped.
    let (_wanted, unwanted) = oneshot::channel();
    // A thread begins in the network namespace of the one that started it.
    let thread = thread::Builder::new().name(NAME.to_owned()).spawn(move || {
        // Nobody waits for the result of a dropped future.
        let _ = result.send(stay(settings, inputs, unwanted));
    })?;
    let result = ended.await;
    match (thread.join(), result) {
        (Err(panic), _) => panic::resume_unwind(panic),
        (Ok(()), Ok(result)) => Ok(result?),
        // It sends before it ends.
        (Ok(()), Err(_)) => Ok(()),
    }
}

/// The thread.
fn stay(settings: Settings, inputs: Inputs, unwanted: oneshot::Receiver<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let task = Task::start(settings)?;
        tokio::select! {
            () = task.run(inputs) => {}
            // A write may be under way; whoever comes next reads the table anyway.
            _ = unwanted => {}
        }
        Ok(())
    })
}

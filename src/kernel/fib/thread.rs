//! The FIB's own thread. A change can hold it for long (a group that a million routes use grows in one system call
//! of most of a second), and no keepalive and no BFD packet is to wait behind that.
//!
//! In: what the FIB task is to be told. Out: how it ended. The thread ends with the future that waits for it.

use std::io;

use super::task::Task;
use super::{Inputs, Settings};
use crate::own_thread;

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
    let work = || async {
        // Where it is not wanted any more a write may be under way; whoever comes next reads the table anyway.
        Task::start(settings)?.run(inputs).await;
        Ok(())
    };
    Ok(own_thread::run(NAME, work).await?)
}

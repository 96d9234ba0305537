//! BFD's own thread. Three packets in 150 ms have to come and go whatever the rest of the agent does: its tasks share
//! a few workers with a RIB that takes in a million routes, and its threads the cores with each other.
//!
//! While nothing changes it takes no memory and gives none back: the allocator has one arena (`crate::memory`), and whoever
//! holds its lock may have been sent to sleep by a thread with as little priority as its own, for as long as there are others.
//! The rest of the agent must not decide by that when a packet leaves.
//!
//! In: what the BFD task is to be told. Out: how it ended. The thread ends with the future that waits for it.

use std::io;

use super::task::{Inputs, Task};
use crate::own_thread;

/// What `ps -L` and profiles call it.
const NAME: &str = "bfd";
/// The least of the real-time priorities: before everything that is not real-time, behind everything that is.
const PRIORITY: libc::c_int = 1;

/// There is no thread to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot start BFD")]
pub struct StartError(#[from] io::Error);

/// Watches neighbors, in the network namespace of this thread, until `inputs.peers` is closed.
///
/// # Errors
/// When there is no thread to be had.
///
/// # Panics
/// As the thread does.
pub async fn run(inputs: Inputs) -> Result<(), StartError> {
    let work = || async {
        match go_first() {
            Ok(()) => tracing::debug!("BFD runs with real-time priority"),
            // It needs CAP_SYS_NICE, or a limit above 0; most machines are not so busy as to show a difference.
            Err(error) => tracing::debug!(%error, "BFD runs without real-time priority"),
        }
        // Where it is not wanted any more, the packets that are due are of no use to anybody.
        Task::new(inputs).run().await;
        Ok(())
    };
    Ok(own_thread::run(NAME, work).await?)
}

/// Has the scheduler prefer this thread to all that have no such priority. By the system call itself, since musl's
/// function of that name refuses: it acts on a thread where POSIX means a process.
fn go_first() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    let this_thread: libc::pid_t = 0;
    // SAFETY: the structure outlives the call, which only reads it (sched_setscheduler(2)).
    let status =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, this_thread, policy, &raw const parameters) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

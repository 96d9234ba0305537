//! A daemon that the lab started: inside a namespace, in a process group of its own so that Ctrl-C at the terminal
//! reaches only the lab, with its output in a file. Killed and reaped when dropped.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Doing, Error, Result};
use crate::wait::eventually;

/// How long a daemon may take to end when it is asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How much of a log goes into an error.
const LOG_LINES: usize = 20;

/// A running daemon.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Process {
    /// Starts it. What it writes is appended to `log`.
    ///
    /// # Errors
    /// The program or the log file cannot be had.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .doing(|| format!("open {}", log.display()))?;
        let errors = output.try_clone().doing(|| format!("open {}", log.display()))?;
        let program = command.get_program().to_owned();
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .doing(|| format!("start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), started })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Just before it was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// All that it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has been reaped.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The process is our child and not yet reaped while `self` is borrowed, so the id is still its own.
        let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
        let pid = pid.map_err(|_overflow| Error::Missing(format!("{} has no process id", self.name)))?;
        kill(pid, signal).doing(|| format!("send {signal} to {}", self.name))
    }

    /// Ends it at once, as a crash or the kernel's OOM killer does, and reaps it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().doing(|| format!("kill {}", self.name))?;
        self.child.wait().doing(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// It has not ended 10 s later.
    pub fn terminate(self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.await_end(STOP_LIMIT)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It has not ended by then.
    pub fn await_end(mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        eventually(&what, limit, || self.child.try_wait().doing(|| format!("wait for {}", self.name)))
    }

    /// Waits until the daemon is ready, as the condition says, and notices when it ends instead.
    ///
    /// # Errors
    /// [`Error::DaemonEnded`] with the end of its log, or [`Error::Timeout`].
    pub fn await_ready(
        &mut self,
        limit: Duration,
        mut condition: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let what = format!("{} is ready", self.name);
        eventually(&what, limit, || {
            self.check_running()?;
            Ok(condition()?.then_some(()))
        })
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// [`Error::DaemonEnded`] with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait().doing(|| format!("wait for {}", self.name))? {
            None => Ok(()),
            Some(status) => {
                let log = self.log();
                let skip = log.lines().count().saturating_sub(LOG_LINES);
                let log = log.lines().skip(skip).collect::<Vec<_>>().join("\n");
                Err(Error::DaemonEnded { name: self.name.clone(), status, log })
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended and been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a tool to its end and gives its standard output.
///
/// # Errors
/// It cannot be started, or it fails.
pub fn output_of(mut command: Command) -> Result<String> {
    let line = line_of(&command);
    let output = command.stdin(Stdio::null()).output().doing(|| format!("run {line}"))?;
    said(line, output)
}

/// The same for a tool that reads its standard input.
///
/// # Errors
/// As [`output_of`].
pub(crate) fn output_of_fed(mut command: Command, input: &str) -> Result<String> {
    let line = line_of(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().doing(|| format!("run {line}"))?;
    let stdin = child.stdin.take();
    // Both at once: it may write more than a pipe holds before it has read everything.
    let output = thread::scope(|scope| {
        // A tool that does not read to the end says itself why.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    said(line.clone(), output.doing(|| format!("run {line}"))?)
}

fn line_of(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn said(command: String, output: Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if let Some(signal) = output.status.signal() {
        text.push_str(&format!(" (signal {signal})"));
    }
    Err(Error::ToolFailed { command, status: output.status, output: text.trim_end().to_owned() })
}

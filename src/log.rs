//! Where the log goes: standard error, and never at the price of the daemon.
//!
//! In: lines of `tracing`. Out: standard error, as far as it takes them at once. A collector that has stopped reading
//! would otherwise hold up every task that has something to say, sessions included; one that has gone away, or a
//! file on a full disk, must not end anything. What is lost is counted, and said when there is room again.

use std::io::{self, StderrLock, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::fmt::MakeWriter;

/// What is written in one go. A pipe that poll(2) calls writable has room for as much (PIPE_BUF, pipe(7)), so that the
/// write does not wait.
const PIECE: usize = 4096;

/// Lines that were cut short or left out since it was last said.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Makes a writer for each line.
pub(crate) struct Log;

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<StderrLock<'static>>;

    fn make_writer(&'a self) -> Self::Writer {
        // Held for the line: whoever comes next finds out by himself whether there is room, and the lines stay whole.
        Line::new(io::stderr().lock(), &LOST)
    }
}

/// One line on its way to a file that may not take it.
pub(crate) struct Line<W> {
    output: W,
    lost: &'static AtomicU64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// The rest of the line goes nowhere.
    Lost,
}

impl<W: Write + AsFd> Line<W> {
    fn new(output: W, lost: &'static AtomicU64) -> Self {
        let mut line = Self { output, lost, state: State::Whole };
        line.say_what_was_lost();
        line
    }

    fn say_what_was_lost(&mut self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && is_writable(&self.output) {
            let note = format!("({lost} lines of the log were lost: nobody took them)\n");
            if self.output.write_all(note.as_bytes()).is_ok() {
                // Not to zero: under another lock somebody may have lost one since.
                self.lost.fetch_sub(lost, Ordering::Relaxed);
            }
        }
    }

    fn lose(&mut self) {
        if self.state == State::Whole {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.state = State::Lost;
    }
}

impl<W: Write + AsFd> Write for Line<W> {
    /// Never fails and never waits: what is not taken is lost.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.state == State::Lost || !is_writable(&self.output) {
            self.lose();
            return Ok(bytes.len());
        }
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        match self.output.write(piece) {
            Ok(written) if written > 0 => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            // A full disk, a reader that is gone.
            Ok(_) | Err(_) => {
                self.lose();
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a write would be taken, or refused, without waiting.
fn is_writable(file: &impl AsFd) -> bool {
    let mut poll = libc::pollfd { fd: file.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: the one element is alive until the call returns, which does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    // What poll(2) cannot tell is found out by writing.
    ready != 0
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    fn counter() -> &'static AtomicU64 {
        Box::leak(Box::default())
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_no_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lost = counter();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        // A pipe holds 64 KiB.
        for _ in 0..200 {
            Line::new(&writer, lost).write_all(&line).unwrap();
        }
        let first = lost.load(Ordering::Relaxed);
        assert!((100..200).contains(&first), "{first}");

        let mut taken = vec![0; 40_000];
        reader.read_exact(&mut taken).unwrap();
        Line::new(&writer, lost).write_all(b"here again\n").unwrap();
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(lost.load(Ordering::Relaxed), 0);
        let end = format!("({first} lines of the log were lost: nobody took them)\nhere again\n");
        assert!(rest.ends_with(&end), "{}", rest.lines().last().unwrap_or_default());
    }

    #[test]
    fn a_line_longer_than_the_room_is_cut() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lost = counter();
        Line::new(&writer, lost).write_all(&[b'x'; 1 << 20]).unwrap();
        assert_eq!(lost.load(Ordering::Relaxed), 1);
        drop(writer);
        let mut taken = Vec::new();
        assert!(reader.read_to_end(&mut taken).unwrap() >= PIECE);
    }

    #[test]
    fn a_full_disk_and_a_reader_that_is_gone_are_no_errors() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let lost = counter();
        Line::new(&full, lost).write_all(b"no room\n").unwrap();
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        Line::new(&writer, lost).write_all(b"nobody\n").unwrap();
        assert_eq!(lost.load(Ordering::Relaxed), 2);
    }
}

//! Watching the FIB of the agent's namespace while the agent fills it.
//!
//! Waits are done by looking, every [`GATHER`], at what has come since: to wake for each message would take time from
//! the agent, and more from a fast one than from a slow one. So times are good to that.

use std::thread;
use std::time::{Duration, Instant};

use lab::{Error, Netns, Result, check_interrupt};

use super::fib::{Change, Fib};
use super::netlink::{Connection, Heard};

/// Between two looks.
const GATHER: Duration = Duration::from_micros(500);

/// The FIB of a namespace, as up to date as the last look.
#[derive(Debug)]
pub(super) struct Watch {
    events: Connection,
    requests: Connection,
    fib: Fib,
    messages: usize,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Watch {
    /// Begins to watch, with what is there already.
    pub(super) fn start(netns: &Netns) -> Result<Self> {
        let events = Connection::listen(netns)?;
        let requests = Connection::open(netns)?;
        let mut watch = Self { events, requests, fib: Fib::default(), messages: 0, first: None, last: None };
        watch.read_all()?;
        Ok(watch)
    }

    /// Takes in what has come.
    pub(super) fn look(&mut self) -> Result<&Fib> {
        let now = Instant::now();
        let Self { events, fib, messages, first, last, .. } = self;
        let heard = events.drain(|change| {
            if matches!(change, Change::Route(..) | Change::NoRoute(_)) {
                *messages += 1;
                first.get_or_insert(now);
                *last = Some(now);
            }
            fib.apply(change);
        })?;
        match heard {
            Heard::Everything => {}
            // Messages are lost and so not counted, but the table is right again.
            Heard::Overrun => drop(self.read_all()?),
        }
        Ok(&self.fib)
    }

    /// Looks until the condition holds; when that was.
    ///
    /// # Errors
    /// [`Error::Timeout`] with what there is instead.
    pub(super) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Fib) -> bool,
    ) -> Result<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            if condition(self.look()?) {
                return Ok(Instant::now());
            }
            if Instant::now() >= deadline {
                let [one, two] = [1, 2].map(|hops| self.fib.with_next_hops(hops));
                let what = format!("{what} ({one} routes in the kernel, {two} of them with two next hops)");
                return Err(Error::Timeout { what, limit });
            }
            check_interrupt()?;
            thread::sleep(GATHER);
        }
    }

    /// The same with the nexthop objects read anew each time: the kernel takes a next hop whose link lost its carrier
    /// out of the groups without an event.
    pub(super) fn until_with_objects(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Fib) -> bool,
    ) -> Result<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            self.look()?;
            self.read_nexthops()?;
            if condition(&self.fib) {
                return Ok(Instant::now());
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout { what: what.to_owned(), limit });
            }
            check_interrupt()?;
            thread::sleep(GATHER);
        }
    }

    /// Counts messages about routes from here on.
    pub(super) fn forget_messages(&mut self) -> Result<()> {
        self.look()?;
        self.messages = 0;
        self.first = None;
        self.last = None;
        Ok(())
    }

    /// Messages about routes since [`Watch::forget_messages`].
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// When the first of them was seen.
    pub(super) fn first_message(&self) -> Option<Instant> {
        self.first
    }

    /// When the last of them was seen.
    pub(super) fn last_message(&self) -> Option<Instant> {
        self.last
    }

    /// Reads the whole table, and does not go by what the events said.
    pub(super) fn read_all(&mut self) -> Result<&Fib> {
        self.fib = Fib::default();
        let Self { requests, fib, .. } = self;
        requests.dump_nexthops(|change| fib.apply(change))?;
        requests.dump_routes(|change| fib.apply(change))?;
        Ok(&self.fib)
    }

    fn read_nexthops(&mut self) -> Result<()> {
        self.fib.forget_nexthops();
        let Self { requests, fib, .. } = self;
        requests.dump_nexthops(|change| fib.apply(change))
    }
}

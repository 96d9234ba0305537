//! What is measured, step by step; each run has a site, ToRs and daemons of its own.

use std::fmt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use lab::{Error, Ping, Result, check_interrupt};

use super::daemon::{Agent, Candidate, GracefulRestart};
use super::result::{Figure, Sample};
use super::site::{LOOPBACK, Site, TOR_PORT, uplinks};
use super::tor::{Announcing, Event, Manner, Tor, What};
use super::usage::{cpu_time, forget_peak, memory};
use super::watch::Watch;

/// For sessions; FRR may take the 10 s of an advertisement interval.
const SESSION_LIMIT: Duration = Duration::from_secs(60);
/// For routes; FRR and BIRD take about 20 and 40 s for a million on two cores.
const LIMIT: Duration = Duration::from_secs(300);
/// The daemons are idle when they use less than [`IDLE_SHARE`] of a core for this long.
const IDLE_WINDOW: Duration = Duration::from_millis(500);
/// Ten times what keepalives and timers take.
const IDLE_SHARE: f64 = 0.01;
/// Between two looks while something is waited for.
const SLICE: Duration = Duration::from_millis(5);
/// Between two Router Advertisements, so that no agent waits for one.
const ADVERTISEMENTS: Duration = Duration::from_secs(1);
/// The same as ToRs do it (FRR's default for unnumbered neighbors).
const USUAL_ADVERTISEMENTS: Duration = Duration::from_secs(10);
/// Long enough that no run ends it.
const RESTART_TIME: Duration = Duration::from_secs(120);
/// How long a crashed agent is away, as a supervisor would have it.
const DOWN: Duration = Duration::from_secs(1);
/// How long an agent that is idle again may still sweep what it takes for stale.
const LINGER: Duration = Duration::from_secs(3);
/// Between two echo requests.
const PING_INTERVAL: Duration = Duration::from_millis(10);

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Two ToRs announce the same routes, until all are in the kernel with both next hops
    Load,
    /// Then the link to one ToR loses its carrier
    Failover,
    /// The agent is killed and starts again, under ping, with graceful restart
    Restart,
    /// From process start to the first route at a ToR
    Start,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Load => "load",
            Self::Failover => "failover",
            Self::Restart => "restart",
            Self::Start => "start",
        })
    }
}

/// One run of a scenario with one candidate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    /// Who is measured.
    pub(super) candidate: Candidate,
    /// Selvedge's daemon.
    pub(super) program: &'a Path,
    /// How many routes each ToR announces.
    pub(super) routes: u32,
    /// Which of all runs this is, from 0, and of how many.
    pub(super) turn: (u32, u32),
}

impl Run<'_> {
    /// Does it.
    pub(super) fn measure(self, scenario: Scenario) -> Result<Sample> {
        match scenario {
            Scenario::Load => self.load(),
            Scenario::Failover => self.failover(),
            Scenario::Restart => self.restart(),
            Scenario::Start => self.start(),
        }
    }

    fn load(self) -> Result<Sample> {
        let mut bench = Bench::build(self.manner())?;
        let mut agent = bench.establish(self, GracefulRestart::Off)?;
        bench.converge(&mut agent, self.routes)
    }

    fn failover(self) -> Result<Sample> {
        let mut bench = Bench::build(self.manner())?;
        let mut agent = bench.establish(self, GracefulRestart::Off)?;
        bench.converge(&mut agent, self.routes)?;
        let [_, uplink] = uplinks();
        let [_, tor] = &bench.site.tors;
        let dead = bench.site.dut.index(uplink.interface)?;
        bench.watch.forget_messages()?;
        let before = cpu_time(&agent.ids())?;
        let cut = Instant::now();
        tor.set_down(TOR_PORT)?;
        let what = "no route over the dead link";
        let clear = bench.watch.until_with_objects(what, LIMIT, |fib| fib.over(dead) == 0)?;
        bench.settle(&mut agent)?;
        let quiet = bench.watch.last_message().map_or(Duration::ZERO, |last| last.duration_since(cut));
        let messages = bench.watch.messages();
        // What the events said is not taken on trust.
        let fib = bench.watch.read_all()?;
        let (left, routes) = (fib.over(dead), fib.len());
        if left > 0 || routes != wanted(self.routes) {
            return Err(Error::Missing(format!("{left} routes of {routes} go over the dead link")));
        }
        Ok(Sample::from([
            (Figure::DeadClear, clear.duration_since(cut).as_secs_f64() * 1000.0),
            (Figure::FibQuiet, quiet.as_secs_f64()),
            (Figure::FailoverCpu, (cpu_time(&agent.ids())? - before).as_secs_f64()),
            (Figure::FibMessages, count(messages)),
        ]))
    }

    fn restart(self) -> Result<Sample> {
        let manner =
            Manner { announcing: Announcing::AtOnce, graceful_restart: Some(RESTART_TIME), ..self.manner() };
        let mut bench = Bench::build(manner)?;
        // Both ToRs answer for the first /32 of the table, and know the way back.
        let target = std::net::Ipv4Addr::new(10, 0, 0, 0);
        for tor in &bench.site.tors {
            tor.add_address("lo", target.into(), 32)?;
            tor.add_host_route(LOOPBACK.into(), TOR_PORT)?;
        }
        let mut agent = bench.establish(self, GracefulRestart::On(RESTART_TIME))?;
        bench.await_all(self.routes)?;
        bench.settle(&mut agent)?;

        let pings = Ping::new(target).from(LOOPBACK).start(&bench.site.dut, PING_INTERVAL)?;
        thread::sleep(DOWN);
        bench.watch.forget_messages()?;
        agent.kill()?;
        thread::sleep(DOWN);
        agent.start_again(&bench.site)?;
        let started = agent.started();
        let established =
            bench.await_each(&mut agent, "session after the restart", &What::Established, started)?;
        bench.settle(&mut agent)?;
        bench.linger(&mut agent)?;
        bench.await_all(self.routes)?;
        let train = pings.stop()?;
        Ok(Sample::from([
            (Figure::Established, established.duration_since(started).as_secs_f64()),
            (Figure::FibMessages, count(bench.watch.messages())),
            (Figure::PingsLost, count(train.lost.len())),
        ]))
    }

    /// The start falls into another part of the ToRs' advertisement interval in each run, all parts in all runs.
    fn start(self) -> Result<Sample> {
        let manner = Manner { routes: 0, advertisement_interval: USUAL_ADVERTISEMENTS, ..self.manner() };
        let mut bench = Bench::build(manner)?;
        let (turn, of) = self.turn;
        thread::sleep(USUAL_ADVERTISEMENTS.mul_f64((f64::from(turn) + 0.5) / f64::from(of.max(1))));
        let mut agent = Agent::start(self.candidate, self.program, GracefulRestart::Off, &bench.site)?;
        let started = agent.started();
        let established = bench.await_first(&mut agent, "session", &What::Established, started)?;
        let learned = bench.await_first(&mut agent, "route at a ToR", &What::Learned, started)?;
        Ok(Sample::from([
            (Figure::Established, established.duration_since(started).as_secs_f64()),
            (Figure::RouteAtTor, learned.duration_since(started).as_secs_f64()),
        ]))
    }

    fn manner(self) -> Manner {
        Manner {
            routes: self.routes,
            announcing: Announcing::WhenTold,
            graceful_restart: None,
            advertisement_interval: ADVERTISEMENTS,
        }
    }
}

/// A site with its ToRs and its observer. Dropped in this order.
struct Bench {
    tors: Vec<Tor>,
    events: Receiver<Event>,
    happened: Vec<Event>,
    watch: Watch,
    site: Site,
}

impl Bench {
    fn build(manner: Manner) -> Result<Self> {
        let site = Site::build()?;
        let watch = Watch::start(&site.dut)?;
        let (sender, events) = mpsc::channel();
        let sides = site.tors.iter().zip(uplinks()).enumerate();
        let tors = sides
            .map(|(number, (netns, uplink))| Tor::start(netns, number, &uplink, manner, sender.clone()))
            .collect::<Result<_>>()?;
        Ok(Self { tors, events, happened: Vec::new(), watch, site })
    }

    /// Starts the agent; returns when its sessions with both ToRs are up and it is idle.
    fn establish(&mut self, run: Run<'_>, graceful_restart: GracefulRestart) -> Result<Agent> {
        let mut agent = Agent::start(run.candidate, run.program, graceful_restart, &self.site)?;
        let started = agent.started();
        self.await_each(&mut agent, "session", &What::Established, started)?;
        self.settle(&mut agent)?;
        Ok(agent)
    }

    /// Both ToRs announce everything; returns when every route is in the kernel with both next hops and the agent is
    /// idle again.
    fn converge(&mut self, agent: &mut Agent, routes: u32) -> Result<Sample> {
        let ids = agent.ids();
        let (before, started) = (memory(&ids)?, cpu_time(&ids)?);
        forget_peak(&ids)?;
        self.watch.forget_messages()?;
        let told = Instant::now();
        self.tors.iter().try_for_each(Tor::announce)?;
        let all = self.await_all(routes)?;
        let begun = self.await_first(agent, "announcement", &What::Announcing, told)?;
        self.settle(agent)?;
        let cpu = cpu_time(&ids)? - started;
        let after = memory(&ids)?;
        let messages = self.watch.messages();
        let first = self.watch.first_message().unwrap_or(all);
        // What the events said is not taken on trust.
        let in_kernel = self.watch.read_all()?.with_next_hops(2);
        if in_kernel != wanted(routes) {
            let what = format!("{in_kernel} routes with two next hops are in the kernel, not {routes}");
            return Err(Error::Missing(what));
        }
        let idle = before.resident_kib;
        Ok(Sample::from([
            (Figure::FirstRoute, first.duration_since(begun).as_secs_f64()),
            (Figure::AllRoutes, all.duration_since(begun).as_secs_f64()),
            (Figure::Cpu, cpu.as_secs_f64()),
            (Figure::IdleMemory, mebibytes(idle)),
            // The peak of before may be that of the start.
            (Figure::PeakMemory, mebibytes(after.peak_kib.max(before.peak_kib))),
            (Figure::MemoryGrowth, mebibytes(after.peak_kib.saturating_sub(idle))),
            (Figure::FibMessages, count(messages)),
        ]))
    }

    fn await_all(&mut self, routes: u32) -> Result<Instant> {
        let what = format!("{routes} routes with two next hops in the kernel");
        self.watch.until(&what, LIMIT, |fib| fib.with_next_hops(2) >= wanted(routes))
    }

    /// Waits until the agent uses no more than its timers do. The FIB is watched on.
    fn settle(&mut self, agent: &mut Agent) -> Result<()> {
        let ids = agent.ids();
        let deadline = Instant::now() + LIMIT;
        let mut window = (Instant::now(), cpu_time(&ids)?);
        loop {
            thread::sleep(SLICE);
            check_interrupt()?;
            agent.check_running()?;
            self.watch.look()?;
            let (begun, before) = window;
            let elapsed = begun.elapsed();
            if elapsed < IDLE_WINDOW {
                continue;
            }
            let used = cpu_time(&ids)? - before;
            if used < elapsed.mul_f64(IDLE_SHARE) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout { what: "the agent is idle".to_owned(), limit: LIMIT });
            }
            window = (Instant::now(), before + used);
        }
    }

    /// Watches on for as long as timers of the agent may change routes.
    fn linger(&mut self, agent: &mut Agent) -> Result<()> {
        let end = Instant::now() + LINGER;
        while Instant::now() < end {
            thread::sleep(SLICE);
            check_interrupt()?;
            agent.check_running()?;
            self.watch.look()?;
        }
        Ok(())
    }

    /// Waits until it happened at each ToR since then; when it did at the last.
    fn await_each(&mut self, agent: &mut Agent, name: &str, what: &What, since: Instant) -> Result<Instant> {
        let times = (0..self.tors.len())
            .map(|tor| {
                self.await_event(agent, name, |event| {
                    event.tor == tor && event.what == *what && event.at >= since
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(times.into_iter().max().unwrap_or(since))
    }

    /// Waits until it happened at a ToR since then; when it did at the first.
    fn await_first(&mut self, agent: &mut Agent, name: &str, what: &What, since: Instant) -> Result<Instant> {
        self.await_event(agent, name, |event| event.what == *what && event.at >= since)
    }

    fn await_event(
        &mut self,
        agent: &mut Agent,
        name: &str,
        is_wanted: impl Fn(&Event) -> bool,
    ) -> Result<Instant> {
        let deadline = Instant::now() + SESSION_LIMIT;
        loop {
            // All that happened so far, so that the first is the first.
            self.happened.extend(self.events.try_iter());
            if let Some(at) =
                self.happened.iter().filter(|event| is_wanted(event)).map(|event| event.at).min()
            {
                return Ok(at);
            }
            check_interrupt()?;
            agent.check_running()?;
            self.watch.look()?;
            match self.events.recv_timeout(SLICE) {
                Ok(event) => self.happened.push(event),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let closed: Vec<_> = self
                        .happened
                        .iter()
                        .filter_map(|event| match &event.what {
                            What::Closed(why) => Some(why.as_str()),
                            What::Established | What::Announcing | What::Learned => None,
                        })
                        .collect();
                    let what = format!("{name}; sessions ended with: {closed:?}");
                    return Err(Error::Timeout { what, limit: SESSION_LIMIT });
                }
            }
        }
    }
}

fn wanted(routes: u32) -> usize {
    usize::try_from(routes).unwrap_or(usize::MAX)
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

#[expect(clippy::cast_precision_loss, reason = "no process has 2^53 KiB")]
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

//! The agent's own end: killed, restarted, upgraded, stopped for a while.

use std::time::{Duration, Instant};

use lab::{Error, Result, eventually};
use nix::sys::signal::Signal;

use crate::fault::{Fate, Fault, Loss, Number};
use crate::site::{BOTH, Session, Site};

/// A successor has all its sessions and has made every route its own within this time.
const TAKE_OVER: Duration = Duration::from_secs(20);

/// What becomes of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sessions {
    Stay,
    AreLost,
}

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(1),
        name: "the agent is killed (SIGKILL) and started again",
        expected: "routes stay in the kernel and at the ToRs; the successor takes them over",
        fate: Fate::Replaced,
        make: killed,
        ..Fault::USUAL
    },
    Fault {
        number: Number(2),
        name: "the agent is stopped (SIGTERM) and started again",
        expected: "silent end of the sessions; routes stay in the kernel and at the ToRs",
        fate: Fate::Replaced,
        make: terminated,
        ..Fault::USUAL
    },
    Fault {
        number: Number(14),
        name: "SIGSTOP for 5 s, less than the hold time",
        expected: "no session is lost",
        make: |site| suspended(site, Duration::from_secs(5), Sessions::Stay),
        ..Fault::USUAL
    },
    Fault {
        number: Number(14),
        name: "SIGSTOP for 12 s, more than the hold time of 9 s",
        expected: "the ToRs end the sessions; a clean new start of them, and no panic over the lost time",
        loss: Loss::Any,
        heals_within: Duration::from_secs(10),
        make: |site| suspended(site, Duration::from_secs(12), Sessions::AreLost),
        ..Fault::USUAL
    },
];

fn killed(site: &mut Site) -> Result<()> {
    let before = site.victim()?.netns.routes()?;
    site.agent_mut()?.0.kill()?;
    let after = site.victim()?.netns.routes()?;
    site.demand(after == before, || "the crash changed the kernel's routes".to_owned());
    start_again(site)
}

fn terminated(site: &mut Site) -> Result<()> {
    let before = site.victim()?.netns.routes()?;
    let status = site.agent_mut()?.0.terminate()?;
    site.demand(status.success(), || format!("the agent ended with {status}"));
    let after = site.victim()?.netns.routes()?;
    site.demand(after == before, || "the stop changed the kernel's routes".to_owned());
    start_again(site)
}

/// Starts the agent and waits until it has taken over.
fn start_again(site: &mut Site) -> Result<()> {
    let (agent, netns) = site.agent_mut()?;
    agent.start_again(netns)?;
    let started = agent.started().ok_or_else(|| Error::Missing("a start".to_owned()))?;
    let took = await_taken_over(site, started)?;
    site.note(format!("both sessions and all routes are the successor's after {:.1} s", took.as_secs_f64()));
    Ok(())
}

/// Both sessions are there, and no route is only inherited any more.
fn await_taken_over(site: &Site, since: Instant) -> Result<Duration> {
    for uplink in BOTH {
        site.await_session(uplink, Session::Up, since, TAKE_OVER)?;
    }
    eventually("no inherited route is left to be confirmed", TAKE_OVER, || {
        let fib = site.agent()?.bgpctl_json(&["show", "fib"])?;
        let is_stale =
            |route: &serde_json::Value| route.pointer("/status/is").is_some_and(|is| is == "stale");
        let routes = fib.as_array().ok_or_else(|| Error::Missing("a list of routes".to_owned()))?;
        Ok((!routes.iter().any(is_stale)).then(|| since.elapsed()))
    })
}

/// The agent sleeps, its kernel does not: packets pass, and TCP takes what the ToRs send.
fn suspended(site: &mut Site, time: Duration, expected: Sessions) -> Result<()> {
    let mark = site.mark_log()?;
    site.agent()?.signal(Signal::SIGSTOP)?;
    std::thread::sleep(time);
    site.agent()?.signal(Signal::SIGCONT)?;
    let awake = Instant::now();
    match expected {
        Sessions::Stay => {
            // Asked after whatever it has to do about the lost time.
            BOTH.iter()
                .try_for_each(|uplink| site.await_session(uplink, Session::Up, awake, TAKE_OVER).map(drop))?;
            let lost = site.logged_since(mark)?.matches("session down").count();
            site.demand(lost == 0, || format!("{lost} sessions were lost"));
        }
        Sessions::AreLost => {
            site.await_log("session down", mark, TAKE_OVER)?;
            let mut took = Duration::ZERO;
            for uplink in BOTH {
                took = took.max(site.await_session(uplink, Session::Up, awake, TAKE_OVER)?);
            }
            site.note(format!("both sessions are back {:.1} s after it", took.as_secs_f64()));
        }
    }
    Ok(())
}

//! The agent's own end: killed, restarted, upgraded, stopped for a while.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{Error, Programs, Result, eventually};
use nix::sys::signal::Signal;

use crate::fault::{Fate, Fault, Length, Loss, Number};
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
        make: |site| noted(killed, site),
        ..Fault::USUAL
    },
    Fault {
        number: Number(2),
        name: "the agent is stopped (SIGTERM) and started again",
        expected: "silent end of the sessions; routes stay in the kernel and at the ToRs",
        fate: Fate::Replaced,
        make: |site| noted(terminated, site),
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
    Fault {
        number: Number(1),
        name: "the agent is killed and started again, 50 times",
        expected: "as once; nothing is withdrawn",
        length: Length::Long,
        fate: Fate::Replaced,
        limit: Duration::from_secs(300),
        make: killed_often,
        ..Fault::USUAL
    },
    Fault {
        number: Number(2),
        name: "upgrade to another program and back, while a ToR announces and withdraws 2,000 routes",
        expected: "as a restart",
        fate: Fate::Replaced,
        limit: Duration::from_secs(60),
        make: upgraded,
        ..Fault::USUAL
    },
    Fault {
        number: Number(14),
        name: "the wall clock jumps by a day, forwards and backwards",
        expected: "no session is lost, and none of the agent's times is one of the wall clock",
        fate: Fate::Replaced,
        limit: Duration::from_secs(60),
        make: clock_jumps,
        ..Fault::USUAL
    },
    Fault {
        number: Number(31),
        name: "the agent is started twice",
        expected: "the second one ends at once and says why; the first does not notice",
        make: started_twice,
        ..Fault::USUAL
    },
];

fn noted(end: impl Fn(&mut Site) -> Result<Duration>, site: &mut Site) -> Result<()> {
    let took = end(site)?;
    site.note(format!("both sessions and all routes are the successor's after {:.1} s", took.as_secs_f64()));
    Ok(())
}

fn killed_often(site: &mut Site) -> Result<()> {
    let longest =
        (0..50).try_fold(Duration::ZERO, |longest, _| killed(site).map(|took| took.max(longest)))?;
    site.note(format!(
        "both sessions and all routes are the successor's after {:.1} s at most",
        longest.as_secs_f64()
    ));
    Ok(())
}

fn killed(site: &mut Site) -> Result<Duration> {
    let before = site.victim()?.netns.routes()?;
    site.agent_mut()?.0.kill()?;
    let after = site.victim()?.netns.routes()?;
    site.demand(after == before, || "the crash changed the kernel's routes".to_owned());
    start_again(site)
}

fn terminated(site: &mut Site) -> Result<Duration> {
    let before = site.victim()?.netns.routes()?;
    let status = site.agent_mut()?.0.terminate()?;
    site.demand(status.success(), || format!("the agent ended with {status}"));
    let after = site.victim()?.netns.routes()?;
    site.demand(after == before, || "the stop changed the kernel's routes".to_owned());
    start_again(site)
}

/// Starts the agent and waits until it has taken over; says how long that took.
pub(super) fn start_again(site: &mut Site) -> Result<Duration> {
    let (agent, netns) = site.agent_mut()?;
    agent.start_again(netns)?;
    let started = agent.started().ok_or_else(|| Error::Missing("a start".to_owned()))?;
    await_taken_over(site, started)
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
    sleep(time);
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

/// A copy of the program under another name is another program to everything but its own code.
fn upgraded(site: &mut Site) -> Result<()> {
    let old = site.agent()?.programs().clone();
    let new = directory(site)?.join("selvedge-of-tomorrow");
    let doing = format!("copy {}", old.daemon.display());
    fs::copy(&old.daemon, &new).map_err(|source| Error::Io { doing, source })?;
    let new = Programs { daemon: new, ..old.clone() };
    for (program, routes) in [(new, Many::Announced), (old, Many::Withdrawn)] {
        // What the ToR says while the agent is away, the next one has to hear.
        match routes {
            Many::Announced => site.announce(2_000)?,
            Many::Withdrawn => site.withdraw(2_000)?,
        }
        noted(|site| restarted_as(site, program.clone()), site)?;
        let runs = site.agent()?.id().and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
        let wanted = program.daemon;
        site.demand(runs.as_ref() == Some(&wanted), || format!("{runs:?} runs, not {}", wanted.display()));
        match routes {
            Many::Announced => site.await_many(2_000)?,
            Many::Withdrawn => site.await_many(0)?,
        };
    }
    site.stop_announcing()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Many {
    Announced,
    Withdrawn,
}

/// Where the victim's agent has its files.
fn directory(site: &Site) -> Result<PathBuf> {
    let socket = site.agent()?.socket();
    let none = || Error::Missing("the agent's directory".to_owned());
    Ok(socket.parent().ok_or_else(none)?.to_owned())
}

/// Debian's libfaketime shows the process another CLOCK_REALTIME, as a file says, and leaves CLOCK_MONOTONIC alone: what
/// settimeofday does, without doing it to the machine.
fn clock_jumps(site: &mut Site) -> Result<()> {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    if !Path::new(&library).exists() {
        site.note("NOT TRIED: apt-get install libfaketime");
        return Ok(());
    }
    let clock = directory(site)?.join("clock");
    let set = |words: &str| {
        fs::write(&clock, words).map_err(|source| Error::Io { doing: "set the clock".to_owned(), source })
    };
    set("+0d\n")?;
    let before = site.agent()?.programs().clone();
    let arguments = [
        format!("LD_PRELOAD={library}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        // Read again at each look at the clock.
        "FAKETIME_NO_CACHE=1".to_owned(),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        before.daemon.display().to_string(),
    ];
    let faked = Programs {
        daemon: "/usr/bin/env".into(),
        arguments: arguments.into_iter().map(Into::into).collect(),
        ..before.clone()
    };
    restarted_as(site, faked)?;
    let mark = site.mark_log()?;
    for jump in ["+1d\n", "-1d\n", "+0d\n"] {
        set(jump)?;
        // Longer than the hold time in all, so that every timer of a session runs over a jump.
        sleep(Duration::from_secs(4));
    }
    let log = site.logged_since(mark)?;
    site.demand(!log.contains("session down"), || "a session was lost".to_owned());
    let up = site.agent()?.bgpctl_json(&["show", "neighbor", "tor1"])?;
    let up = up.get("up_down_s").and_then(serde_json::Value::as_u64);
    site.demand(up.is_some_and(|seconds| seconds < 60), || format!("the session is {up:?} s old"));
    // That the jump arrived is seen by the stamps of the log, which nobody decides by.
    set("+1d\n")?;
    restarted_as(site, before)?;
    let log = site.logged_since(mark)?;
    site.demand(log.contains(&tomorrow()), || "the jump did not reach the agent".to_owned());
    site.note("the log is of tomorrow, the sessions are untouched");
    Ok(())
}

/// The day after this one, as a log of the agent has it.
fn tomorrow() -> String {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    later.to_string().split('T').next().unwrap_or_default().to_owned()
}

fn restarted_as(site: &mut Site, programs: Programs) -> Result<Duration> {
    let (agent, _) = site.agent_mut()?;
    let status = agent.terminate()?;
    agent.replace_programs(programs);
    site.demand(status.success(), || format!("the agent ended with {status}"));
    start_again(site)
}

fn started_twice(site: &mut Site) -> Result<()> {
    let config = directory(site)?.join("selvedge.toml");
    let programs = site.agent()?.programs().clone();
    let account = programs.account.ok_or_else(|| Error::Missing("an account of the agent".to_owned()))?;
    // By the service manager, and by hand: as root without its privileges, which may not even look.
    let ways = [
        (vec!["--user".to_owned(), format!("{}:{}", account.uid, account.gid)], "another daemon"),
        (Vec::new(), "belongs to user"),
    ];
    for (words, reason) in ways {
        let begun = Instant::now();
        // By timeout(1): what goes on is to be seen, not waited for.
        let mut second = site.victim()?.netns.command(Path::new("timeout"));
        second.args(["--signal=KILL", "5"]).arg(&programs.daemon).arg("--config").arg(&config).args(words);
        let output = second
            .output()
            .map_err(|source| Error::Io { doing: "start a second agent".to_owned(), source })?;
        let took = begun.elapsed();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = words.lines().last().unwrap_or_default().to_owned();
        site.demand(!output.status.success(), || "the second one ended well".to_owned());
        site.demand(took < Duration::from_secs(2), || format!("it ran for {took:?}"));
        site.demand(words.contains(reason), || format!("it said: {last}"));
        site.note(last);
    }
    Ok(())
}

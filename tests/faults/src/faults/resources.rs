//! What the machine may run out of: room on its disks, memory, processor time, file descriptors, threads. And the
//! configuration in every state that an editor, or a full disk, can leave it in.

mod configuration;
mod disk;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{Account, Error, Result, eventually, output_of};

use super::peers::{Sharing, portion, processor_ticks};
use super::restart::start_again;
use crate::cgroup::{Cgroup, Limit};
use crate::fault::{Fate, Fault, Length, Number};
use crate::site::{BOTH, Session, Site};
use crate::stranger::{Outcome, PATIENCE, Room, Stranger};

/// Memory that the agent may take beyond what it has.
const LITTLE_MEMORY: u64 = 24 << 20;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(15),
        name: "a full and a read-only disk, a missing directory, a log that nobody takes",
        expected: "the daemon runs and says so once; its control socket is there when it can be",
        make: disk::all,
        ..Fault::USUAL
    },
    Fault {
        number: Number(19),
        name: "the configuration half-written, not UTF-8, of 10 MB, gone, a pipe, swapped",
        expected: "a reload that is refused changes nothing and says where; no session notices",
        make: configuration::all,
        ..Fault::USUAL
    },
    Fault {
        number: Number(24),
        name: "a leak in a control group with 24 MiB of memory to spare: the kernel kills the agent",
        expected: "routes stay in the kernel and at the ToRs; the successor takes them over",
        fate: Fate::Replaced,
        limit: Duration::from_secs(60),
        make: out_of_memory,
        ..Fault::USUAL
    },
    Fault {
        number: Number(25),
        name: "5 % of a processor for 20 s",
        expected: "the sessions with hold time 9 s stay; a reload and questions are answered, if late",
        length: Length::Long,
        limit: Duration::from_secs(60),
        make: starved,
        ..Fault::USUAL
    },
    Fault {
        number: Number(27),
        name: "no file descriptor is left",
        expected: "sessions stay; nothing spins; connections are accepted when there are some again",
        make: out_of_descriptors,
        ..Fault::USUAL
    },
    Fault {
        number: Number(27),
        name: "no thread is left to be had",
        expected: "sessions stay; routes come and go; all answers are there again when there are threads",
        make: out_of_threads,
        ..Fault::USUAL
    },
];

/// A machine without such groups has its say in the table.
fn skipped(site: &mut Site) -> Result<()> {
    site.note("SKIPPED: this machine has no control groups with that controller");
    Ok(())
}

fn pid(site: &Site) -> Result<u32> {
    site.agent()?.id().ok_or_else(|| Error::Missing("a running agent".to_owned()))
}

/// Does something, and demands that no session ended meanwhile.
fn without_a_session_lost(site: &mut Site, make: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
    let mark = site.mark_log()?;
    let outcome = make(site);
    let log = site.logged_since(mark)?;
    let lost = log.lines().filter(|line| line.contains("session down") && line.contains("name=tor")).count();
    site.demand(lost == 0, || format!("{lost} sessions with ToRs were lost"));
    outcome
}

fn out_of_memory(site: &mut Site) -> Result<()> {
    let stranger = Stranger::lay(site, "max-prefixes = 4000000")?;
    let fabric = site.victim()?.netns.routes()?;
    let Some(group) = Cgroup::around(pid(site)?, Limit::Memory(LITTLE_MEMORY))? else {
        stranger.remove(site)?;
        return skipped(site);
    };
    let mut speaker = stranger.establish()?;
    let mut routes = 0;
    let begun = Instant::now();
    while site.agent_mut()?.0.check_running().is_ok() && begun.elapsed() < Duration::from_secs(30) {
        // An agent that dies meanwhile takes no more.
        let _ = speaker.send(&portion(routes, routes + 5_000, Sharing::None));
        routes += 5_000;
    }
    let killed = site.agent_mut()?.0.check_running().is_err();
    site.demand(killed, || format!("the agent outlived {routes} routes"));
    let now = site.victim()?.netns.routes()?;
    let lost = fabric.iter().filter(|route| !now.contains(route)).count();
    site.demand(lost == 0, || format!("{lost} routes of others went with the agent"));
    site.note(format!("killed by the kernel after {routes} routes"));
    drop((group, speaker));
    // The successor need not wait for somebody who does not come.
    stranger.take_out_of_the_file(site)?;
    start_again(site)?;
    stranger.remove(site)
}

fn starved(site: &mut Site) -> Result<()> {
    const TIME: Duration = Duration::from_secs(20);
    let Some(group) = Cgroup::around(pid(site)?, Limit::ProcessorPercent(5))? else { return skipped(site) };
    without_a_session_lost(site, |site| {
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        let mut answers = 0;
        while begun.elapsed() < TIME {
            let asked = Instant::now();
            site.agent()?.bgpctl(&["reload"])?;
            site.agent()?.bgpctl(&["show", "rib"])?;
            slowest = slowest.max(asked.elapsed());
            answers += 2;
        }
        site.note(format!("{answers} answers, two of them in {} ms at most", slowest.as_millis()));
        Ok(())
    })?;
    drop(group);
    Ok(())
}

/// The smallest number that no open file has: no file can be opened where that is the limit.
fn lowest_free_descriptor(pid: u32) -> Result<usize> {
    let list = fs::read_dir(format!("/proc/{pid}/fd")).map_err(super::io("list the agent's files"))?;
    let used: BTreeSet<usize> =
        list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    Ok((0..).find(|number| !used.contains(number)).unwrap_or_default())
}

fn out_of_descriptors(site: &mut Site) -> Result<()> {
    const TIME: Duration = Duration::from_secs(3);
    let stranger = Stranger::lay(site, "")?;
    let (pid, mark) = (pid(site)?, site.mark_log()?);
    let limits = limit_of_descriptors(pid)?;
    without_a_session_lost(site, |site| {
        set_limit_of_descriptors(pid, &lowest_free_descriptor(pid)?.to_string())?;
        let used = processor_ticks(site)?;
        let begun = Instant::now();
        // The kernel takes them; the agent cannot.
        let waiting = (0..20).map(|_| stranger.connect_unheard(Room::Usual)).collect::<Result<Vec<_>>>();
        let unanswered = std::os::unix::net::UnixStream::connect(site.agent()?.socket());
        std::thread::sleep(TIME);
        let used = processor_ticks(site)?.saturating_sub(used);
        set_limit_of_descriptors(pid, &limits)?;
        drop((waiting?, unanswered));
        // A tick is 10 ms (USER_HZ).
        site.demand(used < 30, || format!("{used} ticks of a processor were used in {TIME:?}"));
        let warnings = site.logged_since(mark)?.matches("cannot accept").count();
        site.demand(warnings <= 2, || format!("{warnings} warnings"));
        site.agent()?.bgpctl(&["show", "summary"])?;
        let speaker = stranger.establish()?;
        site.note(format!(
            "{} ms of a processor used; a connection is accepted again {:.1} s later",
            used * 10,
            begun.elapsed().saturating_sub(TIME).as_secs_f64(),
        ));
        speaker.end()
    })?;
    stranger.remove(site)
}

/// `SOFT:HARD`, as prlimit(1) takes it.
fn limit_of_descriptors(pid: u32) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).map_err(super::io("read limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut fields = line.unwrap_or_default().split_ascii_whitespace();
    match (fields.next(), fields.next()) {
        (Some(soft), Some(hard)) => Ok(format!("{soft}:{hard}")),
        _ => Err(Error::Missing("a limit of open files".to_owned())),
    }
}

fn set_limit_of_descriptors(pid: u32, limit: &str) -> Result<()> {
    // The soft limit alone, or both.
    let limit = if limit.contains(':') { limit.to_owned() } else { format!("{limit}:") };
    // As the agent itself: where root is without CAP_SYS_RESOURCE it may not do this to other users.
    let Account { uid, gid } = Account::OF_AGENTS;
    let mut prlimit = Command::new("prlimit");
    prlimit.uid(uid).gid(gid).args(["--pid", &pid.to_string(), &format!("--nofile={limit}")]);
    output_of(prlimit).map(drop)
}

fn out_of_threads(site: &mut Site) -> Result<()> {
    let stranger = Stranger::lay(site, "")?;
    let pid = pid(site)?;
    let Some(group) = Cgroup::around(pid, Limit::Threads(1))? else {
        stranger.remove(site)?;
        return skipped(site);
    };
    without_a_session_lost(site, |site| {
        let mut speaker = stranger.establish()?;
        // Work, after which memory is to be given back.
        for _ in 0..5 {
            speaker.send_patiently(&portion(0, 20_000, Sharing::None))?;
            let outcome = speaker.outcome()?;
            site.demand(outcome == Outcome::Stays, || format!("routes without threads: {outcome:?}"));
        }
        speaker.end()?;
        // It needs a thread, and must not take the agent with it where there is none.
        let memory = site.agent()?.bgpctl(&["show", "memory"]).is_ok();
        site.agent()?.bgpctl(&["show", "summary"])?;
        group.set(Limit::Threads(1_000))?;
        eventually("an answer that needs a thread", PATIENCE, || {
            Ok(site.agent()?.bgpctl(&["show", "memory"]).ok())
        })?;
        for uplink in BOTH {
            site.await_session(uplink, Session::Up, Instant::now(), PATIENCE)?;
        }
        let answered = if memory { "answered" } else { "not answered" };
        site.note(format!("with the threads that it had, `show memory` was {answered}"));
        Ok(())
    })?;
    drop(group);
    stranger.remove(site)
}

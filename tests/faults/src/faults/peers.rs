//! Neighbors, and others, that take more than their share: routes by the million, a window that stays shut, a word a
//! second, connections by the thousand.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use lab::route::PROTOCOL_BGP;
use lab::{Result, check_interrupt, eventually};
use serde_json::Value;

use super::flood::Flood;
use super::messages::undisturbed;
use crate::checker::peak_kib;
use crate::fault::{Fault, Length, Loss, Number};
use crate::site::Site;
use crate::stranger::{
    Heard, Outcome, PATIENCE, Room, STRANGER, STRANGER_V4, Speaker, Stranger, await_received, open,
};
use crate::wire::{self, KEEPALIVE};

/// The hold time of the stranger's OPEN.
const HOLD_TIME: Duration = Duration::from_secs(9);
/// RFC 9687 with that hold time, and RFC 4271 section 8.2.2 before there is one.
const SEND_HOLD_TIME: Duration = Duration::from_secs(480);
const OPEN_DEADLINE: Duration = Duration::from_secs(240);
/// What the agent may take to answer a question while it is busy.
const ANSWER: Duration = Duration::from_secs(2);
/// For the kernel's work on a hundred thousand routes.
const MINUTE: Duration = Duration::from_secs(60);
/// Routes in a write.
const PORTION: u32 = 5_000;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(20),
        name: "a leak of 100,000 routes over max-prefixes = 10,000",
        expected: "10,000 are kept, the rest is refused; routes of others stay; the next session is as any other",
        limit: Duration::from_secs(60),
        make: |site| leak(site, Leak { routes: 100_000, limit: 10_000, attributes: Sharing::All }),
        ..Fault::USUAL
    },
    Fault {
        number: Number(20),
        name: "a leak of 1,000,000 routes",
        expected: "as many as max-prefixes are kept, the rest is refused; routes of others stay",
        length: Length::Long,
        limit: Duration::from_secs(300),
        heals_within: Duration::from_secs(30),
        make: |site| leak(site, Leak { routes: 1_000_000, limit: 100_000, attributes: Sharing::All }),
        ..Fault::USUAL
    },
    Fault {
        number: Number(20),
        name: "a leak of 1,000,000 routes, each with attributes of its own",
        expected: "as many as max-prefixes are kept, the rest is refused; routes of others stay",
        length: Length::Long,
        limit: Duration::from_secs(600),
        heals_within: Duration::from_secs(30),
        make: |site| leak(site, Leak { routes: 1_000_000, limit: 100_000, attributes: Sharing::None }),
        ..Fault::USUAL
    },
    Fault {
        number: Number(21),
        name: "a peer that never reads (zero window)",
        expected: "what waits for it is bounded; the session goes on when it reads again",
        limit: Duration::from_secs(60),
        make: |site| undisturbed(site, |site, stranger| zero_window(site, stranger, Window::Opens)),
        ..Fault::USUAL
    },
    Fault {
        number: Number(21),
        name: "a peer that never reads, until the send hold timer expires",
        expected: "RFC 9687: the session ends after 8 minutes; others do not notice",
        length: Length::Long,
        limit: Duration::from_secs(600),
        make: |site| undisturbed(site, |site, stranger| zero_window(site, stranger, Window::StaysShut)),
        ..Fault::USUAL
    },
    Fault {
        number: Number(22),
        name: "connections that say nothing, half an OPEN, one octet a second",
        expected: "none is in the way of a good one; octets that are no message do not restart the hold timer",
        make: |site| undisturbed(site, slow),
        ..Fault::USUAL
    },
    Fault {
        number: Number(22),
        name: "one octet of an OPEN a second",
        expected: "the hold timer of OpenSent ends it after 4 minutes",
        length: Length::Long,
        limit: Duration::from_secs(300),
        make: |site| undisturbed(site, slow_open),
        ..Fault::USUAL
    },
    Fault {
        number: Number(23),
        name: "a pod floods port 179 with SYNs and connections, and 3784 with datagrams",
        expected: "dropped by the kernel; sessions stay, and a new one comes up meanwhile",
        // The processors have more to do than to forward pings in time.
        loss: Loss::Row(Duration::from_millis(100)),
        make: |site| undisturbed(site, flooded),
        ..Fault::USUAL
    },
];

struct Leak {
    routes: u32,
    limit: u32,
    attributes: Sharing,
}

/// Who has the same attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    All,
    None,
}

fn leak(site: &mut Site, leak: Leak) -> Result<()> {
    let fabric = site.victim()?.netns.routes()?;
    // 5: the peak is counted anew (proc_pid_clear_refs(5)).
    let pid = site.agent()?.id().unwrap_or_default();
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").map_err(super::io("reset the peak of memory"))?;
    let before = peak_kib(site.agent()?)?;
    undisturbed(site, |site, stranger| {
        stranger.configure(site, &format!("max-prefixes = {}", leak.limit))?;
        let mut speaker = stranger.establish()?;
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        for first in (0..leak.routes).step_by(usize::try_from(PORTION).unwrap_or(usize::MAX)) {
            check_interrupt()?;
            speaker.send_patiently(&portion(first, leak.routes.min(first + PORTION), leak.attributes))?;
            let asked = Instant::now();
            site.agent()?.bgpctl(&["show", "summary"])?;
            slowest = slowest.max(asked.elapsed());
        }
        let stays = speaker.outcome()?;
        site.demand(stays == Outcome::Stays, || format!("the session of the leak ended: {stays:?}"));
        await_received(site, leak.limit.into(), PATIENCE)?;
        let took = begun.elapsed();
        let peak = peak_kib(site.agent()?)?;
        let now = site.victim()?.netns.routes()?;
        let lost = fabric.iter().filter(|route| !now.contains(route)).count();
        site.demand(lost == 0, || format!("{lost} routes of others were changed"));
        site.demand(slowest <= ANSWER, || format!("the agent took {slowest:?} to answer a question"));
        // A kilobyte for each route that may be kept, with all its attributes, is generous; those over the limit cost
        // nothing.
        let grown = peak.saturating_sub(before);
        site.demand(grown <= u64::from(leak.limit) + 16 * 1024, || format!("the agent grew by {grown} KiB"));
        speaker.end()?;
        await_received(site, 0, PATIENCE)?;
        // It recovers without anybody's help.
        let mut speaker = stranger.establish()?;
        speaker.send(&portion(0, 100, Sharing::All))?;
        await_received(site, 100, PATIENCE)?;
        speaker.end()?;
        // The leak is over when the kernel has let go of what was kept of it.
        let fabric = u64::try_from(fabric.iter().filter(|route| route.protocol == PROTOCOL_BGP).count());
        eventually("a kernel without routes of the leak", MINUTE, || {
            let summary = site.agent()?.bgpctl_json(&["show", "summary"])?;
            let routes = summary.get("fib_routes").and_then(Value::as_u64);
            Ok((routes.is_some() && routes == fabric.as_ref().ok().copied()).then_some(()))
        })?;
        site.note(format!(
            "{} routes in {:.1} s, {} kept; {} MiB more at most; a question answered in {} ms at most",
            leak.routes,
            took.as_secs_f64(),
            leak.limit,
            grown / 1024,
            slowest.as_millis(),
        ));
        Ok(())
    })
}

/// UPDATEs for 11.0.0.0/24, 11.0.1.0/24 and so on.
pub(super) fn portion(first: u32, end: u32, sharing: Sharing) -> Vec<u8> {
    /// As many as fit a message.
    const TOGETHER: usize = 900;
    let numbers: Vec<u32> = (first..end).collect();
    let chunks = match sharing {
        Sharing::All => numbers.chunks(TOGETHER),
        Sharing::None => numbers.chunks(1),
    };
    let mut stream = Vec::new();
    for chunk in chunks {
        let [_, high, middle, low] = chunk.first().copied().unwrap_or_default().to_be_bytes();
        let mut attributes = wire::octets("40 01 01 00 40 02 06 02 01 0000fe4b 40 03 04");
        attributes.extend(STRANGER_V4.octets());
        if sharing == Sharing::None {
            // MED, and a community of the route's own.
            attributes.extend([0x80, 4, 4, 0, high, middle, low, 0xc0, 8, 4, 0xfe, high, middle, low]);
        }
        let nlri: Vec<u8> = chunk.iter().flat_map(|number| network(*number)).collect();
        stream.extend(wire::update(&[], &attributes, &nlri));
    }
    stream
}

/// As NLRI.
pub(super) fn network(number: u32) -> [u8; 4] {
    let network = u32::from(Ipv4Addr::new(11, 0, 0, 0)).wrapping_add(number.wrapping_mul(256));
    let [a, b, c, _] = network.to_be_bytes();
    [24, a, b, c]
}

/// What becomes of the peer's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Opens,
    StaysShut,
}

/// A peer that asks for the routes again and again, and takes none.
fn zero_window(site: &mut Site, stranger: &Stranger, window: Window) -> Result<()> {
    let mark = site.mark_log()?;
    let mut speaker = stranger.establish_with(Room::Little)?;
    let begun = Instant::now();
    // The timer runs from the last octet that the peer took.
    let stuck = eventually("nothing is taken for three seconds", Duration::from_secs(50), || {
        for _ in 0..100 {
            speaker.send(&wire::refresh(0))?;
            // Questions that come together are answered together.
            std::thread::sleep(Duration::from_millis(1));
        }
        speaker.send(&wire::message(KEEPALIVE, &[]))?;
        let left = timer(&neighbor(site)?, "SendHoldTimer");
        Ok(left.filter(|left| *left + Duration::from_secs(3) < SEND_HOLD_TIME).map(|_| begun.elapsed()))
    })?;
    let memory = site.agent()?.bgpctl_json(&["show", "memory"])?;
    let parts = memory.get("parts").and_then(Value::as_array).into_iter().flatten();
    let buffers = parts
        .filter(|part| part.get("user").and_then(Value::as_str).is_some_and(|user| user.contains("buffers")))
        .filter_map(|part| part.get("octets").and_then(Value::as_u64))
        .max();
    site.demand(buffers.is_some_and(|octets| octets < 1 << 20), || {
        format!("{buffers:?} octets wait for a peer that takes none")
    });
    site.note(format!(
        "shut after {:.0} s; {} octets wait",
        stuck.as_secs_f64(),
        buffers.unwrap_or_default()
    ));
    match window {
        Window::Opens => {
            let outcome = speaker.outcome()?;
            site.demand(outcome == Outcome::Stays, || format!("then it reads again: {outcome:?}"));
            speaker.end()
        }
        Window::StaysShut => {
            let keepalive = wire::message(KEEPALIVE, &[]);
            let mut told = Instant::now();
            let took = eventually("the send hold timer expires", SEND_HOLD_TIME + PATIENCE, || {
                if told.elapsed() > HOLD_TIME / 3 {
                    told = Instant::now();
                    // By then the agent may have closed.
                    let _ = speaker.stream.write_all(&keepalive);
                }
                let log = site.logged_since(mark)?;
                Ok(log.contains("took no data for the send hold time").then(|| begun.elapsed()))
            })?;
            site.note(format!("the session ended after {:.0} s", took.as_secs_f64()));
            Ok(())
        }
    }
}

fn neighbor(site: &Site) -> Result<Value> {
    site.agent()?.bgpctl_json(&["show", "neighbor", &STRANGER.to_string()])
}

/// What is left of a timer that runs.
fn timer(neighbor: &Value, name: &str) -> Option<Duration> {
    let timers = neighbor.get("timers")?.as_array()?;
    let timer = timers.iter().find(|timer| timer.get("name").and_then(Value::as_str) == Some(name))?;
    timer.get("remaining_ms")?.as_u64().map(Duration::from_millis)
}

fn slow(site: &mut Site, stranger: &Stranger) -> Result<()> {
    let mut idle = Vec::new();
    for number in 0..20 {
        let mut speaker = stranger.connect_unheard(Room::Usual)?;
        if number % 2 == 1 {
            let open = open();
            speaker.send(open.get(..open.len() / 2).unwrap_or_default())?;
        }
        idle.push(speaker);
    }
    let begun = Instant::now();
    let mut speaker = stranger.establish()?;
    let took = begun.elapsed();
    site.demand(took <= ANSWER, || format!("a good connection took {took:?} to become a session"));
    // A message of 4096 octets that never gets whole, an octet a second.
    let begun = Instant::now();
    let mut update = wire::message(wire::UPDATE, &[0; 4077]).into_iter();
    let heard = loop {
        speaker.send(&update.by_ref().take(1).collect::<Vec<_>>())?;
        speaker.stream.set_read_timeout(Some(Duration::from_secs(1))).map_err(super::io("wait a second"))?;
        match speaker.hear()? {
            Heard::Message(KEEPALIVE, _) | Heard::Message(wire::UPDATE, _) | Heard::Silence
                if begun.elapsed() < HOLD_TIME * 3 => {}
            other => break other,
        }
    };
    let took = begun.elapsed();
    let expired = Heard::Message(wire::NOTIFICATION, vec![4, 0]);
    site.demand(heard == expired, || format!("octets that are no message: {heard:?}"));
    site.demand(took >= HOLD_TIME / 2, || format!("the hold timer expired after {took:?}"));
    site.note(format!("an octet a second is no sign of life: hold timer after {:.0} s", took.as_secs_f64()));
    drop(idle);
    Ok(())
}

fn slow_open(site: &mut Site, stranger: &Stranger) -> Result<()> {
    let mut speaker = stranger.connect()?;
    let begun = Instant::now();
    let open = wire::message(wire::OPEN, &[4; 1024]);
    let mut octets = open.into_iter();
    let heard = loop {
        speaker.send(&octets.by_ref().take(1).collect::<Vec<_>>())?;
        speaker.stream.set_read_timeout(Some(Duration::from_secs(1))).map_err(super::io("wait a second"))?;
        match speaker.hear()? {
            Heard::Silence if begun.elapsed() < OPEN_DEADLINE + PATIENCE => {}
            other => break other,
        }
    };
    let took = begun.elapsed();
    let expired = Heard::Message(wire::NOTIFICATION, vec![4, 0]);
    site.demand(heard == expired, || format!("after {took:?}: {heard:?}"));
    site.note(format!("ended after {:.0} s", took.as_secs_f64()));
    Ok(())
}

/// As long as it takes for a few thousand connections, and for sessions that come up beside them.
fn flooded(site: &mut Site, stranger: &Stranger) -> Result<()> {
    const SESSIONS: u32 = 10;
    let victim = site.victim()?;
    let loopbacks = victim.router.loopbacks();
    let pod = victim.pods.first().ok_or_else(|| lab::Error::Missing("a node with pods".to_owned()))?;
    let target = loopbacks.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let target = target.ok_or_else(|| lab::Error::Missing("a node with a loopback address".to_owned()))?;
    let used = processor_ticks(site)?;
    let begun = Instant::now();
    let flood = Flood::start(&pod.netns, target)?;
    let mut slowest = Duration::ZERO;
    for _ in 0..SESSIONS {
        let begun = Instant::now();
        let speaker: Speaker = stranger.establish()?;
        slowest = slowest.max(begun.elapsed());
        speaker.end()?;
    }
    flood.await_sent(100_000, Duration::from_secs(20))?;
    let reached = pod.netns.run(|| {
        std::net::TcpStream::connect_timeout(&SocketAddr::from((target, 179)), Duration::from_millis(200))
            .is_ok()
    })?;
    site.demand(!reached, || "a pod can connect to port 179".to_owned());
    let sent = flood.stop();
    let took = begun.elapsed();
    let used = processor_ticks(site)?.saturating_sub(used);
    // A tick is 10 ms (USER_HZ): in percent of one processor.
    let share = f64::from(u32::try_from(used).unwrap_or(u32::MAX)) / took.as_secs_f64();
    site.demand(share < 20.0, || format!("the agent used {share:.0} % of a processor"));
    site.demand(slowest <= ANSWER, || format!("a session took {slowest:?} to come up"));
    site.note(format!(
        "{sent} packets in {:.1} s; {SESSIONS} sessions came up meanwhile, in {} ms at most; {share:.0} % of a processor used",
        took.as_secs_f64(),
        slowest.as_millis(),
    ));
    Ok(())
}

/// User and system time of the victim's agent: fields 14 and 15 of proc_pid_stat(5).
pub(super) fn processor_ticks(site: &Site) -> Result<u64> {
    let none = || lab::Error::Missing("the agent's processor time".to_owned());
    let pid = site.agent()?.id().ok_or_else(none)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(super::io("read its time"))?;
    let fields = stat.rsplit(')').next().ok_or_else(none)?.split_ascii_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().map_err(|_| none())).sum()
}

//! What others do to the kernel's tables: delete, change and flush what is ours, write what stands in its way, and more
//! than the agent can hear of.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bgp::Prefix;
use lab::route::PROTOCOL_BGP;
use lab::{Error, Host, Result, Route};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fault::{Fault, Loss, Number};
use crate::site::{BOTH, Site, tool, tool_with_input};

/// RELIABILITY.md F7: what somebody broke is repaired this soon.
const REPAIR: Duration = Duration::from_secs(1);
/// While a route is missing, packets that need it are lost.
const MISSING: Duration = Duration::from_millis(100);
/// More than the receive buffer holds, which the kernel makes twice 8 MiB, at some 500 octets for each.
const EVENTS: u32 = 80_000;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(6),
        name: "the kernel's events overrun the agent's socket (ENOBUFS)",
        expected: "the table is read again; what was deleted in the noise is back",
        loss: Loss::Any,
        heals_within: Duration::from_secs(10),
        limit: Duration::from_secs(60),
        make: overrun,
        ..Fault::USUAL
    },
    Fault {
        number: Number(7),
        name: "each of our routes is deleted by another program",
        expected: "each is back within 1 s",
        loss: Loss::Row(MISSING),
        make: |site| meddled(site, "del"),
        ..Fault::USUAL
    },
    Fault {
        number: Number(7),
        name: "each of our routes is changed to a blackhole by another program",
        expected: "each is as it was within 1 s",
        loss: Loss::Row(MISSING),
        make: |site| meddled(site, "replace blackhole"),
        ..Fault::USUAL
    },
    Fault {
        number: Number(7),
        name: "all our routes are flushed by another program, five times",
        expected: "all are back within 1 s",
        loss: Loss::Row(MISSING),
        make: flushed,
        ..Fault::USUAL
    },
    Fault {
        number: Number(7),
        name: "our nexthop objects are deleted by another program, and the routes with them",
        expected: "objects and routes are back within 1 s",
        loss: Loss::Row(REPAIR),
        make: objects_deleted,
        ..Fault::USUAL
    },
    Fault {
        number: Number(7),
        name: "another program deletes one route every 20 ms for 3 s",
        expected: "the fight is damped and said, and ends with the route there",
        loss: Loss::Any,
        heals_within: Duration::from_secs(35),
        make: fight,
        ..Fault::USUAL
    },
    Fault {
        number: Number(8),
        name: "a foreign route of lower metric covers one of ours",
        expected: "both stay",
        make: |site| in_the_way(site, 5),
        ..Fault::USUAL
    },
    Fault {
        number: Number(8),
        name: "a foreign route takes the place of one of ours, with its metric",
        expected: "it is left alone and shown; ours is back within 1 s of its end",
        loss: Loss::Row(MISSING),
        make: |site| in_the_way(site, 20),
        ..Fault::USUAL
    },
    Fault {
        number: Number(9),
        name: "the loopback address goes, which is our routes' source, and comes back",
        expected: "the kernel drops those routes and refuses the source: they are written without it, and with it again",
        loss: Loss::Row(Duration::from_millis(300)),
        heals_within: Duration::from_secs(5),
        make: no_loopback,
        ..Fault::USUAL
    },
];

/// The agent's routes of the victim.
fn ours(node: &Host) -> Result<Vec<Route>> {
    Ok(node.netns.routes()?.into_iter().filter(|route| route.protocol == PROTOCOL_BGP).collect())
}

fn ip(prefix: Prefix) -> &'static str {
    if prefix.address().is_ipv4() { "ip" } else { "ip -6" }
}

/// Waits until the kernel has these routes again.
fn await_again(site: &Site, wanted: &[Route]) -> Result<Duration> {
    let begun = Instant::now();
    let node = site.victim()?;
    let again = |routes: &[Route]| wanted.iter().all(|route| routes.contains(route));
    node.netns.await_routes("our routes as they were", Duration::from_secs(10), again)?;
    Ok(begun.elapsed())
}

fn meddled(site: &mut Site, how: &str) -> Result<()> {
    let mut longest = Duration::ZERO;
    for route in ours(site.victim()?)? {
        let (ip, prefix, metric) = (ip(route.prefix), route.prefix, route.metric);
        tool(&site.victim()?.netns, &format!("{ip} route {how} {prefix} proto bgp metric {metric}"))?;
        longest = longest.max(await_again(site, &[route])?);
    }
    repaired(site, longest);
    Ok(())
}

fn repaired(site: &mut Site, longest: Duration) {
    site.note(format!("repaired in {} ms at most", longest.as_millis()));
    site.demand(longest <= REPAIR, || format!("a repair took {longest:?}"));
}

/// Deletes all that are the agent's.
pub(super) fn flush(node: &Host) {
    for family in ["-4", "-6"] {
        // It gives up halfway where the agent is back with a route before its turn has come.
        let _ = tool(&node.netns, &format!("ip {family} route flush proto bgp"));
    }
}

fn flushed(site: &mut Site) -> Result<()> {
    let before = ours(site.victim()?)?;
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        flush(site.victim()?);
        longest = longest.max(await_again(site, &before)?);
    }
    repaired(site, longest);
    Ok(())
}

fn objects_deleted(site: &mut Site) -> Result<()> {
    let node = site.victim()?;
    let shape = |routes: Vec<Route>| -> Vec<Route> {
        routes.into_iter().map(|route| Route { object: None, ..route }).collect()
    };
    let before = shape(ours(node)?);
    let deleted = delete_objects(node)?;
    let begun = Instant::now();
    node.netns.await_routes("our routes, by other objects", Duration::from_secs(10), |routes| {
        let routes = shape(routes.to_vec());
        before.iter().all(|route| routes.contains(route))
    })?;
    let took = begun.elapsed();
    site.note(format!("{deleted} objects deleted"));
    repaired(site, took);
    Ok(())
}

/// Deletes the nexthop objects that are the agent's, one by one. Gives how many there were.
pub(super) fn delete_objects(node: &Host) -> Result<usize> {
    let text = tool(&node.netns, "ip -j nexthop show")?;
    let list: Vec<Value> = serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text })
        .map_err(|source| Error::Json { command: "ip nexthop".to_owned(), source })?;
    let is_ours = |object: &&Value| object.get("protocol").is_some_and(|protocol| protocol == "bgp");
    let ids: Vec<_> = list.iter().filter(is_ours).filter_map(|object| object.get("id")?.as_u64()).collect();
    for id in &ids {
        // A group goes with its last member.
        let _ = tool(&node.netns, &format!("ip nexthop del id {id}"));
    }
    Ok(ids.len())
}

fn fight(site: &mut Site) -> Result<()> {
    let mark = site.mark_log()?;
    let block = site.remote_block()?;
    let begun = Instant::now();
    let mut deleted = 0_u32;
    while begun.elapsed() < Duration::from_secs(3) {
        // Where it is not there, it is not repaired yet.
        if tool(&site.victim()?.netns, &format!("ip route del {block} proto bgp")).is_ok() {
            deleted += 1;
        }
        sleep(Duration::from_millis(20));
    }
    let lines = site.logged_since(mark)?.lines().count();
    site.note(format!("deleted {deleted} times, {lines} lines in the log"));
    site.demand(deleted < 30, || format!("repaired {deleted} times in 3 s"));
    site.demand((1..30).contains(&lines), || format!("{lines} lines in the log"));
    let back = site.await_over(&BOTH, Instant::now())?;
    site.note(format!("back {:.1} s after the last", back.as_secs_f64()));
    Ok(())
}

/// The foreign route leads where ours does, over one uplink, so that packets pass either way.
fn in_the_way(site: &mut Site, metric: u32) -> Result<()> {
    let (block, via) = (site.remote_block()?, site.hop_over("tor2")?);
    let wanted: Vec<_> = ours(site.victim()?)?.into_iter().filter(|route| route.prefix == block).collect();
    let node = site.victim()?;
    let what = format!("{block} via inet6 {via} dev tor2 proto static metric {metric}");
    tool(&node.netns, &format!("ip route replace {what}"))?;
    // For longer than any repair takes.
    sleep(Duration::from_millis(1_500));
    let there = node.netns.routes()?;
    let foreign = |route: &&Route| route.prefix == block && route.metric == metric && route.protocol == 4;
    let stays = there.iter().filter(foreign).count();
    let fib = site.agent()?.bgpctl_json(&["show", "fib"])?;
    let of_block = |entry: &&Value| entry.get("prefix").is_some_and(|prefix| *prefix == block.to_string());
    let entry = fib.as_array().into_iter().flatten().find(of_block);
    let status =
        entry.and_then(|entry| entry.pointer("/status/is")?.as_str()).unwrap_or("nothing").to_owned();
    site.demand(stays == 1, || "the foreign route is not there any more".to_owned());
    let expected = if metric == 20 { "blocked" } else { "installed" };
    site.demand(status == expected, || format!("show fib says {status} rather than {expected}"));
    site.note(format!("show fib says {status}"));
    tool(&site.victim()?.netns, &format!("ip route del {what}"))?;
    let took = await_again(site, &wanted)?;
    repaired(site, took);
    Ok(())
}

fn no_loopback(site: &mut Site) -> Result<()> {
    let before = ours(site.victim()?)?;
    let block = site.remote_block()?;
    tool(&site.victim()?.netns, "ip address del 1.1.1.1/32 dev lo")?;
    let gone = Instant::now();
    let without = |routes: &[Route]| {
        routes.iter().any(|route| route.prefix == block && route.source.is_none() && route.devices() == BOTH)
    };
    site.victim()?.netns.await_routes("routes without the source", Duration::from_secs(10), without)?;
    site.note(format!("routes without it after {} ms", gone.elapsed().as_millis()));
    // As withdrawn as the block's routes are: the ToRs are asked when it is back, and had better not be asked too soon.
    tool(&site.victim()?.netns, "ip address add 1.1.1.1/32 dev lo")?;
    let took = await_again(site, &before)?;
    site.note(format!("with it {} ms after it is back", took.as_millis()));
    Ok(())
}

/// The agent sleeps while more happens than its socket holds, some of it to its own routes.
fn overrun(site: &mut Site) -> Result<()> {
    let before = ours(site.victim()?)?;
    let block = site.remote_block()?;
    let mark = site.mark_log()?;
    let mut noise = String::new();
    for (verb, numbers) in [("add", 0..EVENTS / 2), ("del", 0..EVENTS / 2)] {
        for number in numbers {
            let (high, low) = (number / 256, number % 256);
            // Writing into a String cannot fail.
            let _ = writeln!(noise, "route {verb} blackhole 172.20.{high}.{low}/32 proto 99 metric 77");
        }
    }
    site.agent()?.signal(Signal::SIGSTOP)?;
    let outcome = tool_with_input(&site.victim()?.netns, "ip -batch -", &noise);
    let deleted = tool(&site.victim()?.netns, &format!("ip route del {block} proto bgp"));
    site.agent()?.signal(Signal::SIGCONT)?;
    outcome?;
    deleted?;
    site.await_log("route events were lost", mark, Duration::from_secs(10))?;
    let took = await_again(site, &before)?;
    site.note(format!("{EVENTS} events; all as it was {} ms after it woke up", took.as_millis()));
    Ok(())
}

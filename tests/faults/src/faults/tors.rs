//! What a ToR may do: its bgpd dies, hangs, comes back, says the same as the other one, or something else.

use std::thread::sleep;
use std::time::{Duration, Instant};

use bgp::Prefix;
use lab::{Error, Frr, Host, Result, Route};
use nix::sys::signal::Signal;

use crate::fault::{Fault, Length, Loss, Number};
use crate::pings::Pings;
use crate::site::{BOTH, Session, Site};

/// RELIABILITY.md F4: the session is back this soon after the ToR is.
const BACK: Duration = Duration::from_secs(5);
/// For what depends on FRR's own timers.
const PATIENCE: Duration = Duration::from_secs(20);
/// The ToR's own part of its routes goes with its bgpd, and the far nodes go on to send to it until they know.
const TOLD: Duration = Duration::from_millis(300);

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(4),
        name: "a ToR's bgpd is killed for 3 s",
        expected: "the other uplink carries everything; the session is back 5 s after bgpd at the latest",
        loss: Loss::Row(TOLD),
        heals_within: Duration::from_secs(10),
        make: |site| bgpd_killed(site, 1),
        ..Fault::USUAL
    },
    Fault {
        number: Number(4),
        name: "a ToR's bgpd is killed 20 times, for a second each",
        expected: "no back-off above 10 s",
        length: Length::Long,
        loss: Loss::Row(TOLD),
        heals_within: Duration::from_secs(10),
        limit: Duration::from_secs(400),
        make: |site| bgpd_killed(site, 20),
        ..Fault::USUAL
    },
    Fault {
        number: Number(13),
        name: "both ToRs have the same BGP identifier",
        expected: "both sessions are up and ECMP is kept (RFC 6286: it is unique within an AS)",
        loss: Loss::Row(TOLD),
        heals_within: Duration::from_secs(10),
        make: |site| same_identifier(site, "4.4.4.4"),
        ..Fault::USUAL
    },
    Fault {
        number: Number(13),
        name: "a ToR has the node's own BGP identifier",
        expected: "both sessions are up and ECMP is kept: the ASes differ",
        loss: Loss::Row(TOLD),
        heals_within: Duration::from_secs(10),
        make: |site| same_identifier(site, "1.1.1.1"),
        ..Fault::USUAL
    },
    Fault {
        number: Number(13),
        name: "both ToRs are in the same AS",
        expected: "both sessions are up and ECMP is kept",
        loss: Loss::Row(TOLD),
        heals_within: Duration::from_secs(10),
        make: same_as,
        ..Fault::USUAL
    },
    Fault {
        number: Number(29),
        name: "a ToR's bgpd hangs (SIGSTOP) while its kernel forwards",
        expected: "the hold time of 9 s finds out; no packet is lost while it hangs",
        loss: Loss::Row(TOLD),
        heals_within: Duration::from_secs(15),
        limit: Duration::from_secs(60),
        make: bgpd_hangs,
        ..Fault::USUAL
    },
    Fault {
        number: Number(30),
        name: "the ToRs say different things, and one of them resets its sessions hard",
        expected: "the longest match goes where it was announced; no path leads through a node",
        loss: Loss::Row(TOLD),
        heals_within: Duration::from_secs(15),
        limit: Duration::from_secs(60),
        make: conflicting,
        ..Fault::USUAL
    },
];

fn bgpd_killed(site: &mut Site, times: u32) -> Result<()> {
    let (mut slowest_left, mut slowest_back) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..times {
        let (frr, _) = site.frr_mut()?;
        frr.kill_bgpd()?;
        let killed = Instant::now();
        slowest_left = slowest_left.max(site.await_over(&["tor2"], killed)?);
        sleep(Duration::from_secs(if times == 1 { 3 } else { 1 }).saturating_sub(killed.elapsed()));
        let (frr, netns) = site.frr_mut()?;
        frr.start_bgpd(netns)?;
        let started = Instant::now();
        slowest_back = slowest_back.max(site.await_session("tor1", Session::Up, started, PATIENCE)?);
        site.await_over(&BOTH, started)?;
    }
    let bound = if times == 1 { BACK } else { Duration::from_secs(10) + BACK };
    site.demand(slowest_back <= bound, || format!("the session is back only after {slowest_back:?}"));
    site.note(format!(
        "no route over it after {} ms, session {:.1} s after bgpd",
        slowest_left.as_millis(),
        slowest_back.as_secs_f64()
    ));
    Ok(())
}

/// tor2 and its FRR; tor1 stays as it is.
fn second(site: &Site) -> Result<(&Host, &Frr)> {
    let tor =
        site.rack.tors.get(1).ok_or_else(|| Error::Missing("a rack without a second ToR".to_owned()))?;
    Ok((tor, tor.frr()?))
}

/// Changes tor2's configuration, which resets its sessions, and waits for both uplinks to be used again.
fn reconfigured(site: &Site, lines: &str) -> Result<()> {
    let before = established(site)?;
    second(site)?.1.configure(lines)?;
    let changed = Instant::now();
    lab::eventually("tor2's session has been reset", PATIENCE, || {
        Ok((established(site)? > before).then_some(()))
    })?;
    site.await_session("tor2", Session::Up, changed, PATIENCE)?;
    site.await_over(&BOTH, changed).map(drop)
}

/// How often the victim's session with tor2 came up.
fn established(site: &Site) -> Result<u64> {
    let neighbor = site.agent()?.bgpctl_json(&["show", "neighbor", "tor2"])?;
    let times = neighbor.get("times_established").and_then(serde_json::Value::as_u64);
    times.ok_or_else(|| Error::Missing("times_established".to_owned()))
}

fn same_identifier(site: &mut Site, identifier: &str) -> Result<()> {
    reconfigured(site, &format!("router bgp 65005\nbgp router-id {identifier}"))?;
    site.note(format!("both sessions up with {identifier}, ECMP over both"));
    reconfigured(site, "router bgp 65005\nbgp router-id 5.5.5.5")
}

fn same_as(site: &mut Site) -> Result<()> {
    reconfigured(site, "router bgp 65005\nneighbor c1 local-as 65004 no-prepend replace-as")?;
    let neighbor = site.agent()?.bgpctl_json(&["show", "neighbor", "tor2"])?;
    let asn = neighbor.get("remote_as").and_then(serde_json::Value::as_u64);
    site.demand(asn == Some(65004), || format!("tor2 is in AS {asn:?}"));
    site.note("both sessions up with AS 65004, ECMP over both");
    reconfigured(site, "router bgp 65005\nno neighbor c1 local-as")
}

fn bgpd_hangs(site: &mut Site) -> Result<()> {
    let pings = Pings::start(&site.rack)?;
    let (frr, _) = site.frr_mut()?;
    frr.signal_bgpd(Signal::SIGSTOP)?;
    let hung = Instant::now();
    let left = site.await_over(&["tor2"], hung)?;
    site.note(format!("no route over it after {:.1} s", left.as_secs_f64()));
    site.demand(left <= Duration::from_secs(10), || format!("it was used for {left:?}"));
    // The nodes' hold timers run out up to a keepalive interval apart.
    site.await_far_over(&["tor2"], hung)?;
    // What bgpd does once it goes on is its own: it tells one node of another before its kernel has the route.
    let tally = pings.stop()?;
    site.demand(tally.lost == 0, || format!("{} pings lost while it hung", tally.lost));
    let (frr, _) = site.frr_mut()?;
    frr.signal_bgpd(Signal::SIGCONT)?;
    let back = site.await_over(&BOTH, Instant::now())?;
    site.note(format!("back {:.1} s after it goes on", back.as_secs_f64()));
    Ok(())
}

fn conflicting(site: &mut Site) -> Result<()> {
    let [wide, narrow]: [Prefix; 2] = ["100.127.0.0/16", "100.127.1.0/24"]
        .map(|text| text.parse())
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .and_then(|both| both.try_into().ok())
        .ok_or_else(|| Error::Missing("two prefixes".to_owned()))?;
    let family = "address-family ipv4 unicast";
    site.tor()?.frr()?.configure(&format!("router bgp 65004\n{family}\nnetwork {wide}"))?;
    second(site)?.1.configure(&format!("router bgp 65005\n{family}\nnetwork {narrow}"))?;
    let over =
        |routes: &[Route], prefix: Prefix, uplink: &str| lab::rack::leads_over(routes, prefix, &[uplink]);
    let both = |routes: &[Route]| over(routes, wide, "tor1") && over(routes, narrow, "tor2");
    site.victim()?.netns.await_routes("each where it was announced", PATIENCE, both)?;
    let before = site.mark_log()?;
    site.tor()?.frr()?.vtysh("clear bgp *")?;
    let reset = Instant::now();
    site.await_log("session down", before, PATIENCE)?;
    let kept = site.victim()?.netns.routes()?;
    site.demand(over(&kept, narrow, "tor2"), || format!("{narrow} went with the other ToR's session"));
    site.await_session("tor1", Session::Up, reset, PATIENCE)?;
    site.victim()?.netns.await_routes("each where it was announced, again", PATIENCE, both)?;
    site.note(format!("as announced again {:.1} s after the reset", reset.elapsed().as_secs_f64()));
    site.tor()?.frr()?.configure(&format!("router bgp 65004\n{family}\nno network {wide}"))?;
    second(site)?.1.configure(&format!("router bgp 65005\n{family}\nno network {narrow}"))
}

//! What may become of an uplink: down, flapping, deaf, lossy, gone and back under another index.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::rack::lay_uplink;
use lab::{Capture, Frame, Host, Netns, Result, eventually};
use nix::sys::signal::Signal;

use crate::fault::{Fate, Fault, Length, Loss, Number};
use crate::site::{BOTH, Session, Site, tool};

/// From link-up, duplicate address detection takes the kernel one to two seconds, and FRR waits up to one for its next
/// advertisement: the time that RELIABILITY.md gives for F5, three seconds, and what a loaded machine needs.
pub(super) const LINK_BACK: Duration = Duration::from_secs(8);
/// What of that the agent's damping may add after a storm.
const DAMPED: Duration = Duration::from_secs(10);
/// From link-up to a session, as above, on a loaded machine.
const SESSION: Duration = Duration::from_secs(30);
/// The hold time of `conf/lab`.
const HOLD_TIME: Duration = Duration::from_secs(9);
/// What a daemon of one percent of a core at rest may take under a storm: a fifth of one.
const STORM_CPU: f64 = 0.2;
/// What the ToR, FRR, takes to tell the other nodes that it lost one; the victim itself is faster.
const TOLD: Duration = Duration::from_millis(200);

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(4),
        name: "the ToR's end of an uplink goes down and comes up",
        expected: "the dead next hop leaves the kernel at once",
        loss: Loss::Row(TOLD),
        heals_within: LINK_BACK,
        make: |site| down_and_up(site, End::Tor),
        ..Fault::USUAL
    },
    Fault {
        number: Number(4),
        name: "the node's end of an uplink goes down and comes up",
        expected: "as before, though the kernel flushes the routes over it by itself",
        loss: Loss::Row(TOLD),
        heals_within: LINK_BACK,
        make: |site| down_and_up(site, End::Node),
        ..Fault::USUAL
    },
    // FRR 8.4.4 keeps the path as stale when the session ends, loses its route with the link, and does not install it
    // anew when it hears the same path again, unless the successor says that nothing was kept.
    Fault {
        number: Number(4),
        name: "an uplink goes down and comes up while the agent is being restarted, as with the node itself",
        expected: "the ToR forwards to the node again when the session is back",
        length: Length::Long,
        fate: Fate::Replaced,
        loss: Loss::Any,
        heals_within: LINK_BACK,
        make: down_and_up_unseen,
        ..Fault::USUAL
    },
    // The same of a bgpd that sees nothing of it: it hears the same paths again over another connection.
    Fault {
        number: Number(4),
        name: "an uplink goes down and comes up while the ToR's bgpd hangs",
        expected: "the ToR forwards to the node again when bgpd goes on",
        length: Length::Long,
        loss: Loss::Any,
        heals_within: LINK_BACK.saturating_add(DAMPED),
        make: down_and_up_while_bgpd_hangs,
        ..Fault::USUAL
    },
    Fault {
        number: Number(5),
        name: "an uplink flaps ten times a second for 5 s",
        expected: "the other carries everything; below a fifth of a core; back 3 s after the storm, FRR permitting",
        loss: Loss::Row(TOLD),
        heals_within: LINK_BACK,
        make: |site| storm(site, &["tor1"], Duration::from_secs(5)),
        ..Fault::USUAL
    },
    Fault {
        number: Number(5),
        name: "both uplinks flap ten times a second for 60 s",
        expected: "below a fifth of a core; memory as before; back 3 s after the storm, FRR permitting",
        length: Length::Long,
        loss: Loss::Any,
        heals_within: LINK_BACK.saturating_add(DAMPED),
        limit: Duration::from_secs(90),
        make: |site| storm(site, &BOTH, Duration::from_secs(60)),
        ..Fault::USUAL
    },
    Fault {
        number: Number(5),
        name: "an uplink goes down and comes up 100 times, long enough for a session",
        expected: "sessions that do not last are damped, for 10 s at most; the other uplink carries everything",
        length: Length::Long,
        loss: Loss::Row(TOLD),
        heals_within: LINK_BACK.saturating_add(DAMPED),
        limit: Duration::from_secs(600),
        make: hundred_flaps,
        ..Fault::USUAL
    },
    Fault {
        number: Number(10),
        name: "an uplink is deleted and made again with another index",
        expected: "the neighbor follows the name; no scope of the old index stays",
        loss: Loss::Row(TOLD),
        heals_within: LINK_BACK,
        make: |site| recreated(site, 1),
        ..Fault::USUAL
    },
    Fault {
        number: Number(10),
        name: "an uplink is deleted and made again, 20 times",
        expected: "as once; no socket and no memory stays behind",
        length: Length::Long,
        loss: Loss::Row(TOLD),
        heals_within: LINK_BACK.saturating_add(DAMPED),
        limit: Duration::from_secs(300),
        make: |site| recreated(site, 20),
        ..Fault::USUAL
    },
    Fault {
        number: Number(12),
        name: "IPv6 is switched off on an uplink for a second",
        expected: "without its link-local address the uplink is left at once, and used again with it; nobody can tell the \
                   ToR, which may send into it",
        loss: Loss::Any,
        heals_within: LINK_BACK,
        make: ipv6_off,
        ..Fault::USUAL
    },
    Fault {
        number: Number(29),
        name: "silent loss: an uplink drops every packet, its carrier stays",
        expected: "without BFD the hold time of 9 s finds out",
        loss: Loss::Row(HOLD_TIME.saturating_add(Duration::from_secs(3))),
        heals_within: LINK_BACK,
        limit: Duration::from_secs(40),
        make: silent_loss,
        ..Fault::USUAL
    },
    Fault {
        number: Number(28),
        name: "an uplink loses 30 % of all packets for 12 s",
        expected: "the session stays, with a hold time of 9 s",
        length: Length::Long,
        loss: Loss::Any,
        heals_within: LINK_BACK.saturating_add(DAMPED),
        limit: Duration::from_secs(40),
        make: lossy,
        ..Fault::USUAL
    },
    Fault {
        number: Number(28),
        name: "the MTU of an uplink is 1,280 at one end, and 2,000 routes come over it",
        expected: "the session stays, and all routes arrive",
        make: narrow,
        ..Fault::USUAL
    },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Node,
    Tor,
}

pub(super) fn down_and_up(site: &mut Site, end: End) -> Result<()> {
    let change = |site: &Site, change: fn(&Netns, &str) -> Result<()>| match end {
        End::Tor => change(&site.tor()?.netns, "c1"),
        End::Node => change(&site.victim()?.netns, "tor1"),
    };
    let messages = listen_to_tor(site)?;
    let down = Instant::now();
    change(site, Netns::set_down)?;
    leave(site, &messages, down)?;
    change(site, Netns::set_up)?;
    back(site)
}

/// What the far node hears on its link with the ToR that loses the victim.
pub(super) fn listen_to_tor(site: &Site) -> Result<Capture> {
    Capture::start(&site.far()?.netns, "tor1")
}

/// Waits until the victim does not use the dead uplink any more, and the far node, told by the ToR, neither.
pub(super) fn leave(site: &mut Site, messages: &Capture, since: Instant) -> Result<()> {
    let left = site.await_over(&["tor2"], since)?;
    site.note(format!("no route over it after {} ms", left.as_millis()));
    let far = site.await_far_over(&["tor2"], since)?;
    let told = messages.await_frame(Duration::ZERO, Frame::has_bgp_routes);
    let told = told.map_or(far, |frame| frame.at.saturating_duration_since(since));
    site.note(format!(
        "the ToR tells the far node after {} ms, and that leaves it after {} ms",
        told.as_millis(),
        far.as_millis()
    ));
    Ok(())
}

fn down_and_up_unseen(site: &mut Site) -> Result<()> {
    site.agent_mut()?.0.terminate()?;
    site.tor()?.netns.set_down("c1")?;
    sleep(Duration::from_secs(1));
    site.tor()?.netns.set_up("c1")?;
    site.tor()?.netns.await_link_local("c1", LINK_BACK)?;
    let (agent, netns) = site.agent_mut()?;
    agent.start_again(netns)?;
    site.await_session("tor1", Session::Up, Instant::now(), LINK_BACK)?;
    back(site)
}

fn down_and_up_while_bgpd_hangs(site: &mut Site) -> Result<()> {
    site.frr_mut()?.0.signal_bgpd(Signal::SIGSTOP)?;
    site.tor()?.netns.set_down("c1")?;
    site.await_over(&["tor2"], Instant::now())?;
    site.tor()?.netns.set_up("c1")?;
    site.tor()?.netns.await_link_local("c1", LINK_BACK)?;
    site.victim()?.netns.await_link_local("tor1", LINK_BACK)?;
    site.frr_mut()?.0.signal_bgpd(Signal::SIGCONT)?;
    back(site)
}

/// Waits until the uplink is used again.
pub(super) fn back(site: &mut Site) -> Result<()> {
    let over = site.await_over(&BOTH, Instant::now())?;
    site.note(format!("routes over it again after {:.1} s", over.as_secs_f64()));
    Ok(())
}

fn storm(site: &mut Site, uplinks: &[&str], time: Duration) -> Result<()> {
    let (begun, cpu) = (Instant::now(), site.cpu_time()?);
    let mut flaps = 0_u32;
    while begun.elapsed() < time {
        for (tor, uplink) in BOTH.iter().enumerate().filter(|(_, uplink)| uplinks.contains(uplink)) {
            let _ = uplink;
            if let Some(tor) = site.rack.tors.get(tor) {
                tor.netns.set_down("c1")?;
                sleep(Duration::from_millis(50));
                tor.netns.set_up("c1")?;
            }
        }
        flaps += 1;
        sleep(Duration::from_millis(50));
    }
    let used = (site.cpu_time()?.saturating_sub(cpu)).as_secs_f64() / begun.elapsed().as_secs_f64();
    site.note(format!("{flaps} times down, {:.1} % of a core", used * 100.0));
    site.demand(used < STORM_CPU, || format!("{:.0} % of a core", used * 100.0));
    back(site)
}

fn hundred_flaps(site: &mut Site) -> Result<()> {
    let mut longest_hold = 0;
    for _ in 0..100 {
        site.tor()?.netns.set_down("c1")?;
        let over = ["tor2"];
        site.await_over(&over, Instant::now())?;
        site.tor()?.netns.set_up("c1")?;
        // Until there is a session to lose, or none for the time being.
        let hold = eventually("a session, or a neighbor that is held back", SESSION, || {
            let neighbor = site.agent()?.bgpctl_json(&["show", "neighbor", "tor1"])?;
            let hold = neighbor.pointer("/flaps/held_back_for_ms").and_then(serde_json::Value::as_u64);
            let is_up = neighbor.get("state").is_some_and(|state| state == "established");
            Ok(hold.or(is_up.then_some(0)))
        })?;
        longest_hold = longest_hold.max(hold);
        if hold > 0 {
            // What duplicate address detection and a session would have taken.
            sleep(Duration::from_millis(2_700));
        }
    }
    let neighbor = site.agent()?.bgpctl_json(&["show", "neighbor", "tor1"])?;
    let count = neighbor.pointer("/flaps/count").and_then(serde_json::Value::as_u64).unwrap_or_default();
    site.note(format!("{count} sessions came and went, held back for up to {longest_hold} ms"));
    site.demand(count < 100, || format!("{count} sessions are not damped"));
    site.demand(count > 2 && longest_hold > 0, || "nothing was held back".to_owned());
    site.demand(longest_hold <= 10_000, || format!("held back for {longest_hold} ms"));
    back(site)
}

fn recreated(site: &mut Site, times: u32) -> Result<()> {
    for _ in 0..times {
        let (node, tor) = (site.victim()?, site.tor()?);
        let before = node.netns.index("tor1")?;
        let gone = Instant::now();
        node.netns.delete_link("tor1")?;
        site.await_over(&["tor2"], gone)?;
        lay_uplink(node, tor)?;
        let after = node.netns.index("tor1")?;
        site.demand(after != before, || format!("the index is {before} again"));
        let (node, tor) = (site.victim()?, site.tor()?);
        // Both ends have new addresses: what the ToR's FRR knew of the old ones is gone too.
        node.netns.await_link_local("tor1", LINK_BACK)?;
        tor.netns.await_link_local("c1", LINK_BACK)?;
        site.await_session("tor1", Session::Up, gone, LINK_BACK.saturating_add(DAMPED))?;
    }
    back(site)
}

fn ipv6_off(site: &mut Site) -> Result<()> {
    let off = Instant::now();
    site.victim()?.netns.set_sysctl("ipv6/conf/tor1/disable_ipv6", 1)?;
    let left = site.await_over(&["tor2"], off)?;
    site.note(format!("no route over it after {} ms", left.as_millis()));
    sleep(Duration::from_secs(1).saturating_sub(off.elapsed()));
    site.victim()?.netns.set_sysctl("ipv6/conf/tor1/disable_ipv6", 0)?;
    back(site)
}

/// Drops what comes in over the uplink, at both ends, with this probability.
pub(super) fn drop_packets(node: &Host, tor: &Host, percent: u32) -> Result<()> {
    let ends = [(&node.netns, tor.router.name), (&tor.netns, node.router.name)];
    for (netns, port) in ends {
        tool(netns, "nft add table netdev fault")?;
        tool(
            netns,
            &format!(
                "nft add chain netdev fault in {{ type filter hook ingress device {port} priority 0 ; }}"
            ),
        )?;
        let chance = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
        tool(netns, &format!("nft add rule netdev fault in {chance} drop"))?;
    }
    Ok(())
}

/// Ends that.
pub(super) fn drop_no_packets(node: &Host, tor: &Host) -> Result<()> {
    for host in [node, tor] {
        tool(&host.netns, "nft delete table netdev fault")?;
    }
    Ok(())
}

fn silent_loss(site: &mut Site) -> Result<()> {
    let silent = Instant::now();
    drop_packets(site.victim()?, site.tor()?, 100)?;
    let left = site.await_over(&["tor2"], silent)?;
    site.note(format!("no route over it after {:.1} s", left.as_secs_f64()));
    site.demand(left <= HOLD_TIME + Duration::from_secs(1), || format!("it was used for {left:?}"));
    site.await_far_over(&["tor2"], silent)?;
    drop_no_packets(site.victim()?, site.tor()?)?;
    back(site)
}

fn lossy(site: &mut Site) -> Result<()> {
    let mark = site.mark_log()?;
    drop_packets(site.victim()?, site.tor()?, 30)?;
    sleep(Duration::from_secs(12));
    drop_no_packets(site.victim()?, site.tor()?)?;
    let lost = site.logged_since(mark)?.matches("session down").count();
    site.note(format!("{lost} sessions lost"));
    site.demand(lost == 0, || format!("{lost} sessions were lost"));
    Ok(())
}

fn narrow(site: &mut Site) -> Result<()> {
    let mark = site.mark_log()?;
    site.victim()?.netns.set_mtu("tor1", 1280)?;
    site.announce(2_000)?;
    let routes = site.await_many(2_000)?;
    site.note(format!("{routes} routes arrived"));
    site.withdraw(2_000)?;
    site.await_many(0)?;
    site.stop_announcing()?;
    site.victim()?.netns.set_mtu("tor1", 1500)?;
    let lost = site.logged_since(mark)?.matches("session down").count();
    site.demand(lost == 0, || format!("{lost} sessions were lost"));
    Ok(())
}

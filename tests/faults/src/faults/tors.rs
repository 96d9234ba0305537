//! What a ToR may do: its bgpd dies, hangs, or comes back.

use std::time::{Duration, Instant};

use lab::Result;

use crate::fault::{Fault, Loss, Number};
use crate::site::{BOTH, Session, Site};

/// RELIABILITY.md F4: the session is back this soon after the ToR is.
const BACK: Duration = Duration::from_secs(5);
/// For what depends on FRR's own timers.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const FAULTS: &[Fault] = &[Fault {
    number: Number(4),
    name: "a ToR's bgpd is killed for 3 s",
    expected: "the other uplink carries everything; the session is back 5 s after bgpd at the latest",
    // The ToR itself forgets the way to its nodes, and the far nodes go on to send to it until they know.
    loss: Loss::Row(Duration::from_millis(300)),
    heals_within: Duration::from_secs(10),
    make: bgpd_killed,
    ..Fault::USUAL
}];

fn bgpd_killed(site: &mut Site) -> Result<()> {
    let (frr, _) = site.frr_mut()?;
    frr.kill_bgpd()?;
    let killed = Instant::now();
    let left = site.await_over(&["tor2"], killed)?;
    site.note(format!("no route over it after {} ms", left.as_millis()));
    std::thread::sleep(Duration::from_secs(3).saturating_sub(killed.elapsed()));
    let (frr, netns) = site.frr_mut()?;
    frr.start_bgpd(netns)?;
    let started = Instant::now();
    let back = site.await_session("tor1", Session::Up, started, PATIENCE)?;
    site.demand(back <= BACK, || format!("the session is back only after {back:?}"));
    let over = site.await_over(&BOTH, started)?;
    site.note(format!(
        "session {:.1} s after bgpd, routes after {:.1} s",
        back.as_secs_f64(),
        over.as_secs_f64()
    ));
    Ok(())
}

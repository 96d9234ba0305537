//! What may become of an uplink: down, flapping, deaf, gone and back under another index.

use std::time::{Duration, Instant};

use lab::Result;

use crate::fault::{Fault, Loss, Number};
use crate::site::{BOTH, Site};

pub(super) const FAULTS: &[Fault] = &[Fault {
    number: Number(4),
    name: "the ToR's end of an uplink goes down and comes up",
    expected: "the dead next hop leaves the kernel at once; below 30 ms of loss",
    loss: Loss::Row(Duration::from_millis(30)),
    heals_within: Duration::from_secs(15),
    make: link_down_and_up,
    ..Fault::USUAL
}];

fn link_down_and_up(site: &mut Site) -> Result<()> {
    let down = Instant::now();
    site.tor()?.netns.set_down("c1")?;
    let left = site.await_over(&["tor2"], down)?;
    site.note(format!("no route over it after {} ms", left.as_millis()));
    site.tor()?.netns.set_up("c1")?;
    let up = Instant::now();
    let over = site.await_over(&BOTH, up)?;
    site.note(format!("routes over it {:.1} s after it is up", over.as_secs_f64()));
    Ok(())
}

//! One fault, from the first ping to the verdict.

use std::time::{Duration, Instant};

use lab::{Error, Result, check_interrupt};

use crate::checker::Before;
use crate::fault::{Fate, Fault};
use crate::pings::{Pings, Tally};
use crate::site::Site;

/// The trains run this long before anything is broken, so that a first loss is the fault's.
const LEAD: Duration = Duration::from_millis(300);
/// After its end, the time to a kernel that is as the agent says.
const PROMPT: Duration = Duration::from_secs(2);
/// How often what has no event is looked at: each look asks all daemons.
const LOOK: Duration = Duration::from_millis(100);
/// Pings that a verdict of none lost stands for.
const PINGS: Duration = Duration::from_millis(2_600);

/// What a fault came to.
#[derive(Debug)]
pub(crate) struct Report {
    /// Which one.
    pub(crate) fault: &'static Fault,
    /// What it saw, in words.
    pub(crate) seen: Vec<String>,
    /// What did not hold; empty where all did.
    pub(crate) broken: Vec<String>,
    /// The pings, if they could be sent.
    pub(crate) pings: Tally,
    /// From the first ping to the verdict.
    pub(crate) took: Duration,
}

/// Makes a fault and judges it.
///
/// # Errors
/// Only an interrupt: whatever else goes wrong is part of the verdict.
pub(crate) fn run(fault: &'static Fault, site: &mut Site) -> Result<Report> {
    let begun = Instant::now();
    let mut pings = Tally::default();
    let outcome = make_and_check(fault, site, &mut pings);
    let (seen, mut broken) = site.take_words();
    match outcome {
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => broken.push(error.to_string()),
        Ok(()) => {}
    }
    broken.extend(pings.excess(fault.loss));
    Ok(Report { fault, seen, broken, pings, took: begun.elapsed() })
}

fn make_and_check(fault: &Fault, site: &mut Site, tally: &mut Tally) -> Result<()> {
    let before = Before::look(site)?;
    let pings = Pings::start(&site.rack)?;
    let first_ping = Instant::now();
    rest(LEAD)?;
    let outcome = break_and_heal(fault, site, &before);
    // They end also where the fault could not be made, and what they lost by then counts.
    rest(PINGS.saturating_sub(first_ping.elapsed()))?;
    *tally = pings.stop()?;
    outcome
}

fn break_and_heal(fault: &Fault, site: &mut Site, before: &Before) -> Result<()> {
    let begun = Instant::now();
    (fault.make)(site)?;
    let (took, limit) = (begun.elapsed(), fault.limit);
    site.demand(took <= limit, || format!("it took {took:?}, and may take {limit:?}"));
    let healed = await_healed(site, before, fault.fate, fault.heals_within)?;
    site.note(format!("as before {:.1} s after its end", healed.as_secs_f64()));
    Ok(())
}

/// Demands of a site where a fault has just ended what has to be so soon after it, and later. Gives the time to the
/// latter.
///
/// # Errors
/// It cannot be looked at.
pub(crate) fn await_healed(
    site: &mut Site,
    before: &Before,
    fate: Fate,
    heals_within: Duration,
) -> Result<Duration> {
    let over = Instant::now();
    for wrong in until_none(over + PROMPT, || before.wrong_at_once(site, fate))? {
        site.demand(false, || format!("{PROMPT:?} after its end: {wrong}"));
    }
    for wrong in until_none(over + heals_within, || before.not_healed(site))? {
        site.demand(false, || format!("{heals_within:?} after its end: {wrong}"));
    }
    let healed = over.elapsed();
    // Healing must not have broken what held before.
    for wrong in until_none(Instant::now() + LOOK, || before.wrong_at_once(site, fate))? {
        site.demand(false, || format!("in the end: {wrong}"));
    }
    Ok(healed)
}

/// Looks until nothing is wrong, at least once, and gives what is wrong at the deadline.
fn until_none(deadline: Instant, mut look: impl FnMut() -> Result<Vec<String>>) -> Result<Vec<String>> {
    loop {
        check_interrupt()?;
        let wrong = look()?;
        if wrong.is_empty() || Instant::now() >= deadline {
            return Ok(wrong);
        }
        rest(LOOK)?;
    }
}

/// Lets time pass, for something that has no event.
fn rest(time: Duration) -> Result<()> {
    std::thread::sleep(time);
    check_interrupt()
}

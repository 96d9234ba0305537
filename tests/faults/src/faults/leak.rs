//! A leak and its end, beside BFD that leaves no time: the neighbor that leaks stays, and takes back what it should not
//! have said.

use std::time::{Duration, Instant};

use lab::route::PROTOCOL_BGP;
use lab::{Result, check_interrupt, eventually};
use selvedge::control::api::Bfd;

use super::messages::undisturbed;
use super::peers::{Sharing, portion};
use crate::checker::{most_kib, resident_kib};
use crate::fault::{Fault, Length, Number, Setting};
use crate::site::Site;
use crate::stranger::{PATIENCE, Speaker, Stranger, await_received};
use crate::wire::{self, KEEPALIVE, ROUTE_REFRESH};

const LEAKED: u32 = 1_000_000;
/// Its last routes are what it means.
const MEANT: u32 = 1_000;
const LIMIT: u32 = 100_000;
/// Routes in a write.
const PORTION: u32 = 5_000;
/// For the kernel's work on a hundred thousand routes.
const MINUTE: Duration = Duration::from_secs(60);

pub(super) const FAULTS: &[Fault] = &[Fault {
    number: Number(20),
    name: "a leak of 1,000,000 routes that is taken back, BFD 3 x 50 ms on both uplinks",
    expected: "no session and no BFD session is lost, routes of others stay; what was refused comes when there is room",
    setting: Setting::Bfd,
    length: Length::Long,
    limit: Duration::from_secs(300),
    heals_within: Duration::from_secs(30),
    make: |site| undisturbed(site, taken_back),
    ..Fault::USUAL
}];

fn taken_back(site: &mut Site, stranger: &Stranger) -> Result<()> {
    let fabric = site.victim()?.netns.routes()?;
    let (watched, memory) = (bfd(site)?, resident_kib(site.agent()?)?);
    site.demand(watched.len() == 2, || format!("BFD watches {} neighbors", watched.len()));
    stranger.configure(site, &format!("max-prefixes = {LIMIT}"))?;
    let mut speaker = stranger.establish()?;
    let begun = Instant::now();
    in_portions(&mut speaker, LEAKED, |first, end| portion(first, end, Sharing::All))?;
    await_received(site, LIMIT.into(), PATIENCE)?;
    let leaked = begun.elapsed();
    in_portions(&mut speaker, LEAKED - MEANT, withdrawals)?;
    // It asks as soon as there is room. By now this is the answer.
    while speaker.await_kind(ROUTE_REFRESH)? != [0, 1, 0, 1] {}
    speaker.send_patiently(&portion(LEAKED - MEANT, LEAKED, Sharing::All))?;
    await_received(site, MEANT.into(), PATIENCE)?;
    let ours = fabric.iter().filter(|route| route.protocol == PROTOCOL_BGP).count();
    let keepalive = wire::message(KEEPALIVE, &[]);
    eventually("a kernel with what is meant alone", MINUTE, || {
        speaker.send(&keepalive)?;
        let routes = site.victim()?.netns.routes()?;
        let now = routes.iter().filter(|route| route.protocol == PROTOCOL_BGP).count();
        Ok((u32::try_from(now.saturating_sub(ours)) == Ok(MEANT)).then_some(()))
    })?;
    let healed = begun.elapsed().saturating_sub(leaked);
    let most = most_kib(memory);
    let held = eventually("the memory is given back", MINUTE, || {
        speaker.send(&keepalive)?;
        let now = resident_kib(site.agent()?)?;
        Ok((now <= most).then_some(now))
    });
    site.demand(held.is_ok(), || format!("more than {most} KiB stay resident; {memory} were before"));
    let now = site.victim()?.netns.routes()?;
    let lost = fabric.iter().filter(|route| !now.contains(route)).count();
    site.demand(lost == 0, || format!("{lost} routes of others were changed"));
    let still = bfd(site)?;
    site.demand(still == watched, || format!("BFD sessions went down: {watched:?} before, {still:?} now"));
    site.note(format!(
        "{LEAKED} routes in {:.1} s, {LIMIT} kept; taken back, and the {MEANT} that were refused there, after another \
         {:.1} s; {} KiB resident, {memory} before",
        leaked.as_secs_f64(),
        healed.as_secs_f64(),
        held.unwrap_or_default(),
    ));
    speaker.end()
}

fn in_portions(speaker: &mut Speaker, routes: u32, octets: impl Fn(u32, u32) -> Vec<u8>) -> Result<()> {
    for first in (0..routes).step_by(usize::try_from(PORTION).unwrap_or(usize::MAX)) {
        check_interrupt()?;
        speaker.send_patiently(&octets(first, routes.min(first + PORTION)))?;
    }
    Ok(())
}

/// The same networks as [`portion`], taken back.
fn withdrawals(first: u32, end: u32) -> Vec<u8> {
    /// As many as fit a message.
    const TOGETHER: usize = 900;
    let numbers: Vec<u32> = (first..end).collect();
    let messages = numbers.chunks(TOGETHER).map(|chunk| {
        let withdrawn: Vec<u8> = chunk.iter().flat_map(|number| super::peers::network(*number)).collect();
        wire::update(&withdrawn, &[], &[])
    });
    messages.flatten().collect()
}

/// How often each BFD session came up and failed.
fn bfd(site: &Site) -> Result<Vec<(String, u64, u64)>> {
    let told = site.agent()?.bgpctl(&["--json", "show", "bfd"])?;
    let bfd: Bfd = serde_json::from_str(&told)
        .map_err(|source| lab::Error::Json { command: "bgpctl show bfd".to_owned(), source })?;
    let mut sessions: Vec<_> = bfd
        .sessions
        .into_iter()
        .map(|session| (session.neighbor, session.times_up, session.failures))
        .collect();
    sessions.sort_unstable();
    Ok(sessions)
}

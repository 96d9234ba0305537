//! All at once: random combinations of what the other modules do one by one, drawn by a seeded die, and everything as it
//! was before after each round.
//!
//! A round draws for each place at which something can break (the agent, each uplink, each ToR's bgpd, the kernel's
//! tables) whether anything does and what, begins it all in a random order and ends it in another. A round that did not
//! hold is made again by its seed: `faults nemesis --seed N`.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::rack::lay_uplink;
use lab::{Error, Frr, Host, Netns, Result, check_interrupt};
use nix::sys::signal::Signal;

use super::kernel::{delete_objects, flush};
use super::links::{drop_no_packets, drop_packets};
use crate::checker::Before;
use crate::fault::{Fate, Fault, Length, Loss, Number};
use crate::run::await_healed;
use crate::site::{Site, tool};

/// The hold time, the agent's damping, FRR's pause between two dials and duplicate address detection, one after the
/// other.
const HEALS_WITHIN: Duration = Duration::from_secs(40);
/// Between two things that happen, in milliseconds.
const PAUSE_MS: u64 = 800;

pub(super) const FAULTS: &[Fault] = &[Fault {
    number: Number(32),
    name: "nemesis: random combinations of F1 to F12",
    expected: "after each round everything is as it was before; foreign routes are never touched",
    length: Length::Long,
    fate: Fate::Replaced,
    loss: Loss::Any,
    heals_within: HEALS_WITHIN,
    // As long as it was told to, which is a day at the most.
    limit: Duration::from_secs(24 * 3600),
    make: rounds,
    ..Fault::USUAL
}];

/// One thing that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Killed,
    Terminated,
    Suspended,
    Link(usize, LinkTrouble),
    BgpdKilled(usize),
    BgpdHangs(usize),
    Flushed,
    ObjectsDeleted,
    RouteDeleted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkTrouble {
    FarEndDown,
    NearEndDown,
    Flaps,
    Deleted,
    Deaf,
    WithoutIpv6,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

fn rounds(site: &mut Site) -> Result<()> {
    let (begun, duration, first) = (Instant::now(), site.chance.duration, site.chance.seed);
    let mut seed = first;
    let mut troubles = 0;
    while seed == first || begun.elapsed() < duration {
        check_interrupt()?;
        let before = Before::look(site)?;
        let mut die = fastrand::Rng::with_seed(seed);
        let round = draw(&mut die);
        troubles += round.len();
        let words: Vec<_> = round.iter().map(Trouble::to_string).collect();
        println!("       seed {seed}: {}", words.join(", "));
        let outcome = one_round(site, &round, &mut die)
            .and_then(|()| await_healed(site, &before, Fate::Replaced, HEALS_WITHIN));
        match outcome {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => site.demand(false, || error.to_string()),
            Ok(healed) => println!("       as before after {:.1} s", healed.as_secs_f64()),
        }
        if !site.holds() {
            site.demand(false, || format!("in the round of --seed {seed}: {}", words.join(", ")));
            return Ok(());
        }
        seed += 1;
    }
    site.note(format!("{troubles} troubles in the {} rounds from seed {first}", seed - first));
    Ok(())
}

/// What a round breaks; nothing twice at one place.
fn draw(die: &mut fastrand::Rng) -> Vec<Trouble> {
    let link = |die: &mut fastrand::Rng, tor| {
        let kinds = [
            LinkTrouble::FarEndDown,
            LinkTrouble::NearEndDown,
            LinkTrouble::Flaps,
            LinkTrouble::Deleted,
            LinkTrouble::Deaf,
            LinkTrouble::WithoutIpv6,
        ];
        die.choice(kinds).map(|kind| Trouble::Link(tor, kind))
    };
    let mut round = Vec::new();
    while round.is_empty() {
        let places = [
            die.choice([Trouble::Killed, Trouble::Terminated, Trouble::Suspended]),
            link(die, 0),
            link(die, 1),
            die.choice([Trouble::BgpdKilled(0), Trouble::BgpdHangs(0)]),
            die.choice([Trouble::BgpdKilled(1), Trouble::BgpdHangs(1)]),
            die.choice([Trouble::Flushed, Trouble::ObjectsDeleted, Trouble::RouteDeleted]),
        ];
        round = places.into_iter().flatten().filter(|_| die.u8(..) < 100).collect();
    }
    die.shuffle(&mut round);
    round
}

fn one_round(site: &mut Site, round: &[Trouble], die: &mut fastrand::Rng) -> Result<()> {
    let mut open = Vec::new();
    for trouble in round {
        begin(site, *trouble)?;
        open.push(*trouble);
        sleep(Duration::from_millis(die.u64(..PAUSE_MS)));
    }
    die.shuffle(&mut open);
    for trouble in open {
        end(site, trouble)?;
        sleep(Duration::from_millis(die.u64(..PAUSE_MS)));
    }
    Ok(())
}

fn begin(site: &mut Site, trouble: Trouble) -> Result<()> {
    match trouble {
        Trouble::Killed => site.agent_mut()?.0.kill(),
        Trouble::Terminated => site.agent_mut()?.0.terminate().map(drop),
        Trouble::Suspended => site.agent()?.signal(Signal::SIGSTOP),
        Trouble::Link(tor, kind) => begin_link(site, tor, kind),
        Trouble::BgpdKilled(tor) => frr_mut(site, tor)?.0.kill_bgpd(),
        Trouble::BgpdHangs(tor) => frr_mut(site, tor)?.0.signal_bgpd(Signal::SIGSTOP),
        Trouble::Flushed => {
            flush(site.victim()?);
            Ok(())
        }
        Trouble::ObjectsDeleted => delete_objects(site.victim()?).map(drop),
        Trouble::RouteDeleted => {
            // Where another trouble has taken it away already, there is nothing to delete.
            let _ = tool(&site.victim()?.netns, &format!("ip route del {} proto bgp", site.remote_block()?));
            Ok(())
        }
    }
}

fn end(site: &mut Site, trouble: Trouble) -> Result<()> {
    match trouble {
        Trouble::Killed | Trouble::Terminated => {
            let (agent, netns) = site.agent_mut()?;
            agent.start_again(netns)
        }
        Trouble::Suspended => site.agent()?.signal(Signal::SIGCONT),
        Trouble::Link(tor, kind) => end_link(site, tor, kind),
        Trouble::BgpdKilled(tor) => {
            let (frr, netns) = frr_mut(site, tor)?;
            frr.start_bgpd(netns)
        }
        Trouble::BgpdHangs(tor) => frr_mut(site, tor)?.0.signal_bgpd(Signal::SIGCONT),
        Trouble::Flushed | Trouble::ObjectsDeleted | Trouble::RouteDeleted => Ok(()),
    }
}

fn begin_link(site: &Site, tor: usize, kind: LinkTrouble) -> Result<()> {
    let (node, tor) = (site.victim()?, tor_at(site, tor)?);
    let uplink = tor.router.name;
    match kind {
        LinkTrouble::FarEndDown => tor.netns.set_down("c1"),
        LinkTrouble::NearEndDown => node.netns.set_down(uplink),
        LinkTrouble::Flaps => {
            for _ in 0..5 {
                tor.netns.set_down("c1")?;
                sleep(Duration::from_millis(50));
                tor.netns.set_up("c1")?;
                sleep(Duration::from_millis(50));
            }
            Ok(())
        }
        LinkTrouble::Deleted => node.netns.delete_link(uplink),
        LinkTrouble::Deaf => drop_packets(node, tor, 100),
        LinkTrouble::WithoutIpv6 => node.netns.set_sysctl(&format!("ipv6/conf/{uplink}/disable_ipv6"), 1),
    }
}

fn end_link(site: &Site, tor: usize, kind: LinkTrouble) -> Result<()> {
    let (node, tor) = (site.victim()?, tor_at(site, tor)?);
    let uplink = tor.router.name;
    match kind {
        LinkTrouble::FarEndDown => tor.netns.set_up("c1"),
        LinkTrouble::NearEndDown => node.netns.set_up(uplink),
        LinkTrouble::Flaps => Ok(()),
        LinkTrouble::Deleted => lay_uplink(node, tor),
        LinkTrouble::Deaf => drop_no_packets(node, tor),
        LinkTrouble::WithoutIpv6 => node.netns.set_sysctl(&format!("ipv6/conf/{uplink}/disable_ipv6"), 0),
    }
}

fn tor_at(site: &Site, index: usize) -> Result<&Host> {
    site.rack.tors.get(index).ok_or_else(|| Error::Missing(format!("ToR {index}")))
}

fn frr_mut(site: &mut Site, index: usize) -> Result<(&mut Frr, &Netns)> {
    site.rack.tors.get_mut(index).ok_or_else(|| Error::Missing(format!("ToR {index}")))?.frr_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_round_and_none_breaks_a_place_twice() {
        for seed in 0..1000 {
            let round = draw(&mut fastrand::Rng::with_seed(seed));
            assert_eq!(round, draw(&mut fastrand::Rng::with_seed(seed)));
            assert!(!round.is_empty());
            for tor in 0..2 {
                let of = |trouble: &&Trouble| matches!(trouble, Trouble::Link(at, _) if *at == tor);
                assert!(round.iter().filter(of).count() <= 1, "{round:?}");
            }
        }
    }
}

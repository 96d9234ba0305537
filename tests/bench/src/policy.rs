//! Another policy over a full table, without sockets: how long the RIB takes to judge all paths anew, and the longest
//! turn that it takes meanwhile. And an UPDATE that goes by such a policy, which the RIB's task takes in in slices.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bgp::policy::{Action, Changes, Conditions, Policy, PrefixList, Role, Rule};
use bgp::rib::{PeerConfig, Rib, RibConfig, Ripeness};
use bgp::{Asn, PeerId, Prefix, RouterId};

use crate::rib::{Clock, session, settle, update};

const PEER: PeerId = PeerId(1);
/// Prefixes in an UPDATE of 4096 octets, about.
const UPDATE: usize = 1000;
/// A rule with its condition and what it sets has four lines: a file of a thousand, and one of four thousand.
const RULES: [u32; 2] = [250, 1000];

/// Looks at every rule for almost every prefix, and accepts in the end.
fn policy(rules: u32, local_pref: u32) -> Arc<Policy> {
    let rule = |number: u32| {
        let network = Prefix::masked(Ipv4Addr::from(0xcb00_0000 | number << 8).into(), 24);
        let range = network.ok().and_then(|network| network.to_string().parse().ok());
        Rule {
            conditions: Conditions {
                prefixes: vec![Arc::new(PrefixList::new(None, range.into_iter().collect()))],
                ..Conditions::default()
            },
            changes: Changes { local_pref: Some(local_pref), ..Changes::default() },
            action: Some(Action::Accept),
        }
    };
    let rules = (0..rules).map(rule).collect();
    Arc::new(Policy { name: "long".to_owned(), rules, default: Action::Accept })
}

pub(crate) fn run(sizes: &[usize]) {
    println!("| prefixes | rules | all judged anew, s | longest turn, ms | an UPDATE taken in whole, ms |");
    println!("|---|---|---|---|---|");
    for &size in if sizes.is_empty() { &[1_000_000][..] } else { sizes } {
        let prefixes: Vec<Prefix> = crate::layout::prefixes(size).into_iter().map(Prefix::from).collect();
        RULES.iter().for_each(|&rules| measure(&prefixes, rules));
    }
}

fn measure(prefixes: &[Prefix], rules: u32) {
    let mut rib = Rib::new(RibConfig {
        local_as: Asn(65001),
        router_id: RouterId(Ipv4Addr::new(1, 1, 1, 1)),
        max_paths: 16,
        role: Role::Host,
    });
    rib.configure_peer(PEER, PeerConfig::limited_to(u32::MAX));
    rib.session_up(PEER, session(PEER.0));
    let mut loading = Clock::default();
    for (number, slice) in prefixes.chunks(UPDATE).enumerate() {
        rib.receive(PEER, update(PEER.0, number, slice));
        settle(&mut rib, &mut loading);
    }
    let mut judging = Clock::default();
    for local_pref in [200, 300] {
        let import = Some(policy(rules, local_pref));
        let config = PeerConfig { import, ..PeerConfig::limited_to(u32::MAX) };
        judging.turn(|| rib.configure_peer(PEER, config));
        settle(&mut rib, &mut judging);
    }
    let mut hearing = Clock::default();
    for (number, slice) in prefixes.chunks(UPDATE).take(100).enumerate() {
        // Of another origin than before.
        let update = update(PEER.0, number + prefixes.len(), slice);
        hearing.turn(|| rib.receive(PEER, update));
        settle(&mut rib, &mut Clock::default());
    }
    assert!(!rib.has_fib_changes(Ripeness::Any), "the RIB rests");
    println!(
        "| {} | {rules} | {:.1} | {:.1} | {:.1} |",
        prefixes.len(),
        judging.spent.as_secs_f64() / 2.0,
        judging.longest.as_secs_f64() * 1e3,
        hearing.longest.as_secs_f64() * 1e3,
    );
}

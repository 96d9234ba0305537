//! The ladder, rung by rung, under every permutation of arrival.

use std::net::Ipv4Addr;

use crate::message::{Attributes, Origin};
use crate::rib::decision::{Candidate, Reason, Source, Standing, decide};
use crate::rib::fixtures::{from_peer, link_local, path};
use crate::{InterfaceIndex, PeerId, PeerKind, RouterId};

/// A candidate that owns its attributes.
#[derive(Debug, Clone)]
struct Row {
    attributes: Attributes,
    source: Source,
    expected: Standing,
}

const BEST: Standing = Standing::Best;
const MULTIPATH: Standing = Standing::Multipath;

fn lost(reason: Reason) -> Standing {
    Standing::NotSelected(reason)
}

/// From external peer `number` through three ASes; equal to any other but for the last rungs.
fn row(number: u32, expected: Standing) -> Row {
    Row {
        attributes: from_peer(number, &[65200, 65300]),
        source: Source::Peer {
            peer: PeerId(number),
            kind: PeerKind::External,
            router_id: RouterId(Ipv4Addr::from(number)),
            address: link_local(number).into(),
            interface: Some(InterfaceIndex(number)),
        },
        expected,
    }
}

impl Row {
    fn with(mut self, change: impl FnOnce(&mut Attributes)) -> Self {
        change(&mut self.attributes);
        self
    }

    fn through(self, asns: &[u32]) -> Self {
        self.with(|attributes| attributes.as_path = path(asns))
    }

    fn med(self, med: u32) -> Self {
        self.with(|attributes| attributes.med = Some(med))
    }

    fn internal(mut self) -> Self {
        if let Source::Peer { kind, .. } = &mut self.source {
            *kind = PeerKind::Internal;
        }
        self
    }

    fn local(mut self) -> Self {
        self.source = Source::Local;
        self
    }

    fn identified(mut self, id: u32) -> Self {
        if let Source::Peer { router_id, .. } = &mut self.source {
            *router_id = RouterId(Ipv4Addr::from(id));
        }
        self
    }

    fn at(mut self, number: u32) -> Self {
        if let Source::Peer { address, .. } = &mut self.source {
            *address = link_local(number).into();
        }
        self
    }
}

fn permutations(rows: Vec<Row>) -> Vec<Vec<Row>> {
    if rows.len() < 2 {
        return vec![rows];
    }
    let mut all = Vec::new();
    for first in 0..rows.len() {
        let mut rest = rows.clone();
        let chosen = rest.remove(first);
        for mut tail in permutations(rest) {
            tail.insert(0, chosen.clone());
            all.push(tail);
        }
    }
    all
}

#[track_caller]
fn check(max_paths: usize, rows: &[Row]) {
    assert!(rows.len() <= 5);
    for order in permutations(rows.to_vec()) {
        let candidates: Vec<_> =
            order.iter().map(|row| Candidate { attributes: &row.attributes, source: row.source }).collect();
        let standings = decide(&candidates, max_paths);
        let expected: Vec<_> = order.iter().map(|row| row.expected).collect();
        assert_eq!(standings.to_vec(), expected, "{order:#?}");
    }
}

#[test]
fn nothing_to_decide() {
    assert!(decide(&[], 16).is_empty());
    check(16, &[row(1, BEST)]);
    check(0, &[row(1, BEST)]);
}

#[test]
fn higher_local_pref_wins_and_none_is_100() {
    check(
        16,
        &[
            row(1, lost(Reason::LocalPref)),
            row(2, BEST).with(|attributes| attributes.local_pref = Some(101)),
            row(3, lost(Reason::LocalPref)).with(|attributes| attributes.local_pref = Some(100)),
            row(4, lost(Reason::LocalPref)).with(|attributes| attributes.local_pref = Some(0)),
        ],
    );
    check(16, &[row(1, BEST), row(2, MULTIPATH).with(|attributes| attributes.local_pref = Some(100))]);
}

#[test]
fn a_local_route_wins_over_a_shorter_path() {
    check(
        16,
        &[
            row(1, lost(Reason::LocallyOriginated)).through(&[65101]),
            row(2, BEST).local(),
            row(3, lost(Reason::LocallyOriginated)),
        ],
    );
}

#[test]
fn shorter_path_wins() {
    check(
        16,
        &[
            row(1, lost(Reason::AsPathLength)),
            row(2, BEST).through(&[65102, 65200]),
            row(3, MULTIPATH).through(&[65103, 65201]),
        ],
    );
}

#[test]
fn better_origin_wins() {
    check(
        16,
        &[
            row(1, lost(Reason::Origin)).with(|attributes| attributes.origin = Origin::Incomplete),
            row(2, lost(Reason::Origin)).with(|attributes| attributes.origin = Origin::Egp),
            row(3, BEST),
        ],
    );
}

#[test]
fn med_is_compared_within_one_neighboring_as_only() {
    check(
        16,
        &[
            row(1, lost(Reason::Med)).through(&[7, 1]).med(20),
            row(2, BEST).through(&[7, 2]).med(10),
            row(3, MULTIPATH).through(&[8, 1]).med(30),
            // None is 0, which is the lowest.
            row(4, MULTIPATH).through(&[9, 1]),
            row(5, lost(Reason::Med)).through(&[9, 1]).med(1),
        ],
    );
}

/// With pairwise comparison a beats b (router id), b beats c (router id), and c beats a (MED).
#[test]
fn med_does_not_make_the_winner_depend_on_the_order() {
    check(
        1,
        &[
            row(1, lost(Reason::Med)).through(&[7, 1]).med(20),
            row(2, BEST).through(&[8, 1]).med(0),
            row(3, lost(Reason::RouterId)).through(&[7, 1]).med(10),
        ],
    );
}

#[test]
fn external_wins_over_internal() {
    check(16, &[row(1, lost(Reason::InternalPeer)).internal(), row(2, BEST), row(3, MULTIPATH)]);
    check(16, &[row(1, BEST).internal(), row(2, MULTIPATH).internal()]);
}

#[test]
fn equal_paths_are_used_together_up_to_the_limit() {
    let rows = |expected: [Standing; 5]| -> Vec<Row> {
        (1..).zip(expected).map(|(number, standing)| row(number, standing)).collect()
    };
    check(5, &rows([BEST, MULTIPATH, MULTIPATH, MULTIPATH, MULTIPATH]));
    let over = lost(Reason::MaxPaths);
    check(3, &rows([BEST, MULTIPATH, MULTIPATH, over, over]));
    let alone = lost(Reason::RouterId);
    check(1, &rows([BEST, alone, alone, alone, alone]));
}

#[test]
fn lowest_router_id_or_originator_id_is_best() {
    check(1, &[row(1, lost(Reason::RouterId)).identified(9), row(2, BEST).identified(8)]);
    let originator =
        |id: u32| move |attributes: &mut Attributes| attributes.originator_id = Some(RouterId(id.into()));
    check(
        1,
        &[
            row(1, lost(Reason::RouterId)).internal().with(originator(9)),
            row(2, BEST).internal(),
            row(3, lost(Reason::RouterId)).internal().with(originator(4)),
        ],
    );
}

#[test]
fn then_the_shortest_cluster_list() {
    let clusters = |count: usize| {
        move |attributes: &mut Attributes| attributes.cluster_list = vec![[1, 1, 1, 1].into(); count].into()
    };
    check(
        1,
        &[
            row(1, lost(Reason::ClusterListLength)).identified(7).internal().with(clusters(2)),
            row(2, BEST).identified(7).internal().with(clusters(1)),
        ],
    );
}

#[test]
fn then_the_lowest_address_and_the_first_neighbor() {
    check(1, &[row(1, lost(Reason::PeerAddress)).identified(7).at(9), row(2, BEST).identified(7).at(8)]);
    check(1, &[row(1, BEST).identified(7).at(9), row(2, lost(Reason::PeerId)).identified(7).at(9)]);
}

#[test]
fn each_rung_is_above_the_next() {
    let all = lost;
    check(
        16,
        &[
            row(5, BEST).with(|attributes| attributes.local_pref = Some(200)).through(&[1, 2, 3, 4]),
            row(4, all(Reason::LocalPref)).local(),
            row(3, all(Reason::LocalPref)).through(&[1]),
        ],
    );
    check(
        16,
        &[
            row(5, BEST).through(&[1]).med(9).with(|attributes| attributes.origin = Origin::Incomplete),
            row(4, all(Reason::AsPathLength)).through(&[1, 2]),
        ],
    );
    check(
        16,
        &[
            row(5, BEST).through(&[1, 2]).med(9),
            row(4, all(Reason::Origin)).through(&[1, 2]).with(|attributes| attributes.origin = Origin::Egp),
        ],
    );
    check(
        16,
        &[row(5, BEST).internal().through(&[1, 2]).med(1), row(4, all(Reason::Med)).through(&[1, 2]).med(2)],
    );
}

//! Answers for people.

use crate::policy::{Refusal, Role};
use crate::rib::decision::Reason;
use crate::rib::fixtures::{
    LOCAL_AS, address, external, from_peer, gateway, gateways, originate, prefix, reach, rib, settle,
};
use crate::rib::{Originator, PathSource, PathStatus, ReceivedView, Rib};
use crate::{Family, PeerId};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);

fn filled() -> Rib {
    let mut rib = rib(Role::Host, 3);
    originate(&mut rib, &["10.1.8.192/26"]);
    rib.receive(ONE, reach(&from_peer(1, &[]), &["0.0.0.0/0", "20.0.0.0/8", "127.0.0.0/8"]));
    rib.receive(TWO, reach(&from_peer(2, &[]), &["0.0.0.0/0"]));
    rib.receive(TWO, reach(&from_peer(2, &[65200]), &["20.0.0.0/8"]));
    rib.receive(ONE, reach(&from_peer(1, &[LOCAL_AS.0]), &["10.1.8.192/26"]));
    settle(&mut rib);
    rib
}

fn statuses(rib: &Rib, text: &str) -> Vec<(PathSource, PathStatus)> {
    let paths = rib.destination(prefix(text)).unwrap().paths;
    paths.into_iter().map(|path| (path.source, path.status)).collect()
}

#[test]
fn every_path_says_how_it_stands() {
    let rib = filled();
    let (one, two) = (PathSource::Peer(ONE), PathSource::Peer(TWO));
    assert_eq!(statuses(&rib, "0.0.0.0/0"), [(one, PathStatus::Best), (two, PathStatus::Multipath)]);
    let shorter = PathStatus::NotSelected(Reason::AsPathLength);
    assert_eq!(statuses(&rib, "20.0.0.0/8"), [(one, PathStatus::Best), (two, shorter)]);
    assert_eq!(statuses(&rib, "127.0.0.0/8"), [(one, PathStatus::Refused(Refusal::Martian))]);
    let own = PathSource::Originated(Originator::StaticBlock);
    assert_eq!(statuses(&rib, "10.1.8.192/26"), [(own, PathStatus::Best), (one, PathStatus::Echo)]);
    assert_eq!(rib.destination(prefix("30.0.0.0/8")), None);
}

#[test]
fn gateways_are_shown_with_the_paths() {
    let rib = filled();
    let view = rib.destination(prefix("0.0.0.0/0")).unwrap();
    assert_eq!(view.gateways, gateways(&[1, 2]));
    let of_paths: Vec<_> = view.paths.iter().map(|path| path.gateway).collect();
    assert_eq!(of_paths, [Some(gateway(1)), Some(gateway(2))]);
    assert_eq!(rib.destination(prefix("10.1.8.192/26")).unwrap().gateways, None);
}

#[test]
fn lookup_finds_the_longest_prefix_that_is_in_use() {
    let rib = filled();
    let row = |text: &str| rib.lookup(address(text)).map(|view| view.prefix.to_string());
    assert_eq!(row("20.1.1.1").as_deref(), Some("20.0.0.0/8"));
    assert_eq!(row("10.1.8.193").as_deref(), Some("10.1.8.192/26"));
    // 127.0.0.0/8 is there, but refused.
    assert_eq!(row("127.0.0.1").as_deref(), Some("0.0.0.0/0"));
    assert_eq!(row("2001:db8::1"), None);
}

#[test]
fn pages_join_without_gap_or_overlap() {
    let rib = filled();
    let whole: Vec<_> = rib.destinations(None, 100).items;
    assert_eq!(whole.len(), 4);
    for limit in 1..5 {
        let (mut joined, mut after) = (Vec::new(), None);
        loop {
            let page = rib.destinations(after, limit);
            assert!(page.items.len() <= limit);
            joined.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(joined, whole, "{limit}");
    }
}

#[test]
fn received_and_advertised_are_of_one_neighbor() {
    let mut rib = filled();
    let received: Vec<_> =
        rib.received(TWO, None, 10).items.into_iter().map(|route| route.prefix.to_string()).collect();
    assert_eq!(received, ["0.0.0.0/0", "20.0.0.0/8"]);
    assert_eq!(rib.advertised(TWO, None, 10).items, []);
    rib.poll_outgoing(TWO, 10);
    let page = rib.advertised(TWO, None, 1);
    let advertised: Vec<_> = page.items.iter().map(|route| route.prefix.to_string()).collect();
    assert_eq!((advertised.as_slice(), page.next), (["10.1.8.192/26".to_owned()].as_slice(), None));
    assert_eq!(rib.counts(TWO, Family::Ipv4Unicast).unwrap().advertised, 1);
    assert_eq!(rib.counts(PeerId(3), Family::Ipv4Unicast).unwrap().pending, 1);
}

#[test]
fn a_path_that_policy_leaves_alone_is_held_once() {
    let rib = filled();
    for ReceivedView { path, .. } in rib.received(ONE, None, 10).items {
        if let Some(imported) = path.imported {
            assert!(std::sync::Arc::ptr_eq(&imported, &path.received));
        }
    }
}

#[test]
fn what_a_session_said_is_not_shown_once_it_ended() {
    let mut rib = filled();
    rib.session_down(ONE);
    rib.session_up(ONE, external(1));
    let only_two = [(PathSource::Peer(TWO), PathStatus::Best)];
    assert_eq!(statuses(&rib, "20.0.0.0/8"), only_two);
    assert_eq!(rib.destination(prefix("127.0.0.0/8")), None);
    assert_eq!(rib.received(ONE, None, 10).items, []);
    assert_eq!(rib.lookup(address("20.0.0.1")).unwrap().paths.len(), 1);
}

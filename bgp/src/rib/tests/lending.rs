//! Addresses of networks of our own that others have.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::Outgoing;
use crate::policy::{Refusal, Role};
use crate::rib::fixtures::{fib, from_peer, gateways, prefix, reach, rib};
use crate::rib::{FamilyCounts, Lending, Origination, Originator, Rib, ToPeer};
use crate::{Family, PeerId};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);

fn counts(rib: &Rib, peer: PeerId) -> FamilyCounts {
    rib.counts(peer, Family::Ipv4Unicast).unwrap()
}

/// Another node has an address of our block, until a pod here has it.
#[test]
fn a_lent_address_is_believed_until_a_pod_here_has_it() {
    let lend = |rib: &mut Rib, lending| {
        let block = Origination { lending, ..Originator::CalicoBlock.into() };
        rib.set_originated(BTreeMap::from([(prefix("10.1.9.0/26"), block)]));
    };
    let host = |rib: &mut Rib, addresses: &[&str]| {
        rib.set_hosts(Arc::new(addresses.iter().map(|text| text.parse().unwrap()).collect()));
    };
    let mut rib = rib(Role::Host, 2);
    lend(&mut rib, Lending::Addresses);
    let lent = ["10.1.9.5/32", "10.1.9.6/32"];
    for number in [1, 2] {
        rib.receive(PeerId(number), reach(&from_peer(number, &[65002]), &["10.1.9.0/27"]));
        rib.receive(PeerId(number), reach(&from_peer(number, &[65002]), &lent));
    }
    let both = |text: &str| (prefix(text), gateways(&[1, 2]));
    assert_eq!(fib(&mut rib), BTreeMap::from([both(lent[0]), both(lent[1])]));
    assert_eq!(counts(&rib, ONE).refused, BTreeMap::from([(Refusal::OwnPrefix, 1)]));
    // Nothing of it goes back to the fabric, and the block is announced all along.
    let told: Vec<_> = rib.poll_outgoing(TWO, usize::MAX);
    let [ToPeer::Update(Outgoing::Reach { prefixes, .. })] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(prefixes.as_slice(), [prefix("10.1.9.0/26")]);

    host(&mut rib, &["10.1.9.5", "10.1.9.7"]);
    // Judged before anything else is done: no flood of routes can delay it.
    let refused = BTreeMap::from([(Refusal::OwnPrefix, 1), (Refusal::LocalHost, 1)]);
    assert_eq!((&counts(&rib, ONE).refused, &counts(&rib, TWO).refused), (&refused, &refused));
    assert_eq!(fib(&mut rib), BTreeMap::from([(prefix(lent[0]), None)]));
    rib.receive(ONE, reach(&from_peer(1, &[65003]), &["10.1.9.5/32", "10.1.9.7/32"]));
    assert_eq!(fib(&mut rib), BTreeMap::new());
    host(&mut rib, &["10.1.9.7"]);
    assert_eq!(fib(&mut rib), BTreeMap::from([both(lent[0])]));
    assert!(!rib.has_outgoing(TWO));

    lend(&mut rib, Lending::Nothing);
    assert_eq!(fib(&mut rib), lent.map(|text| (prefix(text), None)).into());
    assert_eq!(counts(&rib, TWO).refused, BTreeMap::from([(Refusal::OwnPrefix, 3)]));
    lend(&mut rib, Lending::Addresses);
    assert_eq!(fib(&mut rib), lent.map(both).into());
}

use std::net::Ipv4Addr;

use super::*;
use crate::message::update::LinkLocalForm;
use crate::{Asn, RouterId};

const BOTH: [Family; 2] = Family::ALL;

fn config() -> SessionConfig {
    SessionConfig {
        local_as: Asn(65001),
        router_id: RouterId(Ipv4Addr::new(1, 1, 1, 1)),
        remote_as: RemoteAs::External,
        hold_time: HoldTime::from_secs(9).unwrap(),
        keepalive: Duration::from_secs(3),
        families: Families::ALL,
        extended_next_hop: Families::from_iter([Family::Ipv4Unicast]),
        graceful_restart: Some(Duration::from_secs(30)),
        inherited: Families::NONE,
        stale_time: Duration::ZERO,
        hostname: String::new(),
        software_version: String::new(),
        link_local_form: LinkLocalForm::Once,
        passive: false,
        seed: 0,
    }
}

/// Negotiates with a peer of AS 65004 that announces these capabilities.
fn with(config: &SessionConfig, capabilities: Vec<Capability>) -> Result<Negotiated, SessionError> {
    let ours = our_open(config, OpenForm::Full, RestartState::Running);
    let theirs = Open {
        asn: Asn(65004),
        hold_time: HoldTime::from_secs(180).unwrap(),
        router_id: RouterId(Ipv4Addr::new(4, 4, 4, 4)),
        capabilities,
    };
    negotiate(config, &ours, theirs)
}

fn multiprotocol(families: &[Family]) -> Vec<Capability> {
    families.iter().copied().map(Capability::multiprotocol).collect()
}

#[test]
fn families_are_those_that_both_announce() {
    let families = |ours: &[Family], theirs: Vec<Capability>| {
        let config = SessionConfig { families: ours.iter().copied().collect(), ..config() };
        with(&config, theirs).map(|negotiated| negotiated.codec.families.iter().collect::<Vec<_>>())
    };
    assert_eq!(families(&BOTH, multiprotocol(&BOTH)).unwrap(), BOTH);
    assert_eq!(families(&BOTH, multiprotocol(&[Family::Ipv6Unicast])).unwrap(), [Family::Ipv6Unicast]);
    assert_eq!(families(&[Family::Ipv6Unicast], multiprotocol(&BOTH)).unwrap(), [Family::Ipv6Unicast]);
    assert_eq!(families(&BOTH, Vec::new()).unwrap(), [Family::Ipv4Unicast], "no capability is IPv4 unicast");
    let evpn = Capability::Multiprotocol(AfiSafi { afi: 25, safi: 70 });
    assert!(families(&BOTH, vec![evpn]).is_err(), "any multiprotocol capability takes IPv4's place");
}

#[test]
fn ipv6_next_hops_for_ipv4_need_the_peers_capability_and_ours() {
    let ipv4 = (AfiSafi { afi: 1, safi: 1 }, 2);
    let codec = |config: &SessionConfig, entries| {
        let mut capabilities = multiprotocol(&BOTH);
        capabilities.push(Capability::ExtendedNextHop(entries));
        with(config, capabilities).unwrap().codec.extended_next_hop
    };
    let expected = Families::from_iter([Family::Ipv4Unicast]);
    assert_eq!(codec(&config(), vec![ipv4]), expected);
    assert_eq!(codec(&config(), vec![(AfiSafi { afi: 1, safi: 128 }, 2), ipv4]), expected);
    assert_eq!(codec(&config(), vec![(ipv4.0, 1)]), Families::NONE, "a next hop of another family");
    assert_eq!(codec(&config(), Vec::new()), Families::NONE);
    let without = SessionConfig { extended_next_hop: Families::NONE, ..config() };
    assert_eq!(codec(&without, vec![ipv4]), Families::NONE);
    assert_eq!(with(&config(), multiprotocol(&BOTH)).unwrap().codec.extended_next_hop, Families::NONE);
}

#[test]
fn each_capability_has_its_effect() {
    let old = with(&config(), multiprotocol(&BOTH)).unwrap();
    assert_eq!(old.codec.as_width, AsWidth::Two);
    assert_eq!(old.codec.max_length, MAX_LENGTH);
    assert!(!old.route_refresh && !old.enhanced_route_refresh);
    assert_eq!(old.graceful_restart(), None);

    let mut capabilities = multiprotocol(&BOTH);
    capabilities.extend([
        Capability::FourOctetAs(Asn(65004)),
        Capability::ExtendedMessage,
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::GracefulRestart(GracefulRestart::default()),
    ]);
    let new = with(&config(), capabilities).unwrap();
    assert_eq!(new.codec.as_width, AsWidth::Four);
    assert_eq!(new.codec.max_length, MAX_EXTENDED_LENGTH);
    assert!(new.route_refresh && new.enhanced_route_refresh);
    assert_eq!(new.graceful_restart(), Some(&GracefulRestart::default()));
    assert_eq!(new.codec.link_local_form, LinkLocalForm::Once, "ours to choose");
    assert_eq!(new.peer_kind, PeerKind::External);
    assert_eq!(new.hold_time.as_secs(), 9);
    assert_eq!(new.keepalive, Some(Duration::from_secs(3)));
}

#[test]
fn the_keepalive_interval_fits_the_hold_time() {
    let interval = |configured_ms, hold| {
        keepalive(Duration::from_millis(configured_ms), HoldTime::from_secs(hold).unwrap())
    };
    assert_eq!(interval(3000, 0), None);
    assert_eq!(interval(3000, 9), Some(Duration::from_secs(3)));
    assert_eq!(interval(1000, 9), Some(Duration::from_secs(1)));
    assert_eq!(interval(0, 9), Some(Duration::from_secs(1)));
    assert_eq!(interval(60_000, 3), Some(Duration::from_secs(1)));
    assert_eq!(interval(u64::MAX, u16::MAX), Some(Duration::from_secs(65535) / 3));
}

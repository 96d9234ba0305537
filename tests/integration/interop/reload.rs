//! The configuration changes while the agent runs.

use lab::{Action, eventually};

use super::fixture::{
    BLOCKS, Link, PATIENCE, UNNUMBERED, config, connect, forward, is_established, times_established,
    unnumbered_conf,
};

const NEW_BLOCK: &str = "10.1.9.0/26";

/// How the agent is told that its file has changed.
#[derive(Debug, Clone, Copy)]
enum By {
    Signal,
    Bgpctl,
}

impl By {
    fn reload(self, link: &Link) {
        match self {
            Self::Signal => link.agent().hang_up().unwrap(),
            Self::Bgpctl => drop(link.agent().bgpctl(&["reload"]).unwrap()),
        }
    }
}

/// Waits until FRR has no path to it any more.
fn await_gone_at_frr(link: &Link, prefix: &str) {
    eventually(&format!("FRR forgets {prefix}"), PATIENCE, || {
        Ok(link.frr().best_path(prefix.parse().unwrap())?.is_none().then_some(()))
    })
    .unwrap();
}

#[test]
fn blocks_come_and_go_with_their_blackholes_and_the_session_stays() {
    for (test, by) in [("blocks", By::Bgpctl), ("blocksig", By::Signal)] {
        let Some(link) = Link::up(test, &unnumbered_conf(), UNNUMBERED) else { return };
        link.await_at_frr(&BLOCKS);
        link.agent().write_config(&config(UNNUMBERED, &[BLOCKS[0], BLOCKS[1], NEW_BLOCK])).unwrap();
        by.reload(&link);
        assert_eq!(link.await_route(NEW_BLOCK).action, Action::Blackhole);
        link.await_at_frr(&[NEW_BLOCK]);

        link.agent().write_config(&config(UNNUMBERED, &[BLOCKS[1]])).unwrap();
        by.reload(&link);
        for block in [NEW_BLOCK, BLOCKS[0]] {
            link.await_no_route(block);
            await_gone_at_frr(&link, block);
        }
        link.await_at_frr(&BLOCKS[1..]);
        assert_eq!(times_established(&link.neighbor("tor1")), 1, "{by:?}: {}", link.agent().log());
    }
}

#[test]
fn neighbors_come_and_go_and_the_others_stay() {
    let Some(mut link) = Link::up("neighbors", &unnumbered_conf(), UNNUMBERED) else { return };
    // A second cable to the same ToR.
    connect(&link.node, "tor2", &link.tor, "c1b");
    forward(&link.tor);
    link.frr()
        .configure(
            "router bgp 65004\nneighbor c1b interface remote-as external\naddress-family ipv6 unicast\nneighbor c1b activate",
        )
        .unwrap();
    let both = format!("{UNNUMBERED}[[neighbor]]\ninterface = \"tor2\"\n");
    link.agent().write_config(&config(&both, &BLOCKS)).unwrap();
    let said = link.agent().bgpctl(&["reload"]).unwrap();
    assert!(said.contains("neighbor tor2 added"), "{said}");
    link.await_established("tor2");
    link.await_routes("a route over both", |routes| {
        lab::rack::leads_over(routes, "4.4.4.4/32".parse().unwrap(), &["tor1", "tor2"])
    });

    link.agent().write_config(&config(UNNUMBERED, &BLOCKS)).unwrap();
    link.agent().hang_up().unwrap();
    link.await_routes("a route over one", |routes| {
        lab::rack::leads_over(routes, "4.4.4.4/32".parse().unwrap(), &["tor1"])
    });
    assert!(link.agent().bgpctl(&["show", "neighbor", "tor2"]).is_err(), "it is no neighbor any more");
    eventually("FRR was told why", PATIENCE, || {
        let reason = link.frr_neighbor("c1b").get("lastNotificationReason").cloned();
        Ok(reason
            .filter(|reason| reason == "Cease/Peer De-configured" || reason == "Cease/Peer Unconfigured"))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", link.frr_neighbor("c1b")));
    assert_eq!(times_established(&link.neighbor("tor1")), 1, "the other one never noticed");
    // So that the link is dropped whole.
    link.start_agent(UNNUMBERED);
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_why() {
    let Some(link) = Link::up("wrong", &unnumbered_conf(), UNNUMBERED) else { return };
    link.await_at_frr(&BLOCKS);
    let routes = link.node.routes().unwrap();
    let wrong = config("[[neighbor]]\ninterface = \"tor1\"\nmax-prefix = 5\n", &[NEW_BLOCK]);
    link.agent().write_config(&wrong).unwrap();
    let error = link.agent().bgpctl(&["reload"]).unwrap_err().to_string();
    assert!(error.contains("max-prefix") && error.contains("max-prefixes"), "{error}");

    link.agent().hang_up().unwrap();
    let log = eventually("the refusal in the log", PATIENCE, || {
        let log = link.agent().log();
        Ok(log.contains("the configuration stays as it was").then_some(log))
    })
    .unwrap();
    assert!(log.contains("max-prefix"), "{log}");

    let fixed = config(UNNUMBERED, &BLOCKS).replace("65001", "65009");
    link.agent().write_config(&fixed).unwrap();
    let error = link.agent().bgpctl(&["reload"]).unwrap_err().to_string();
    assert!(error.contains("bgp.local-as cannot be changed while the daemon runs"), "{error}");

    let neighbor = link.neighbor("tor1");
    assert!(is_established(&neighbor), "{neighbor}");
    assert_eq!(times_established(&neighbor), 1);
    assert_eq!(link.node.routes().unwrap(), routes);
    assert_eq!(link.frr().best_path(NEW_BLOCK.parse().unwrap()).unwrap(), None);
}

#[test]
fn a_neighbor_that_is_named_in_another_way_keeps_its_session() {
    let Some(link) = Link::up("renamed", &unnumbered_conf(), UNNUMBERED) else { return };
    link.await_at_frr(&BLOCKS);
    let before = times_established(&link.neighbor("tor1"));
    let glob = UNNUMBERED.replace("\"tor1\"", "\"tor*\"");
    assert_ne!(glob, UNNUMBERED);
    // The new block shows when the file has taken effect.
    link.agent().write_config(&config(&glob, &[BLOCKS[0], BLOCKS[1], NEW_BLOCK])).unwrap();
    link.agent().bgpctl(&["reload"]).unwrap();
    link.await_at_frr(&[NEW_BLOCK]);
    let neighbor = link.neighbor("tor1");
    assert_eq!(times_established(&neighbor), before, "{neighbor}");
    assert!(before > 0 && is_established(&neighbor), "{neighbor}");
}

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

fn trial(link: &Link) -> Option<String> {
    let summary = link.agent().bgpctl_json(&["show", "summary"]).unwrap();
    summary.pointer("/trial/is").map(|is| is.as_str().unwrap().to_owned())
}

#[test]
fn a_reload_on_trial_stays_only_if_it_is_confirmed_and_no_session_is_lost() {
    let Some(mut link) = Link::up("trial", &unnumbered_conf(), UNNUMBERED) else { return };
    link.await_at_frr(&BLOCKS);
    let more = [BLOCKS[0], BLOCKS[1], NEW_BLOCK];
    link.agent().write_config(&config(UNNUMBERED, &more)).unwrap();

    let said = link.agent().bgpctl(&["reload", "--dry-run"]).unwrap();
    assert!(said.contains("1 change") && said.contains(&format!("block {NEW_BLOCK} added")), "{said}");
    assert!(link.node.route(NEW_BLOCK.parse().unwrap()).unwrap().is_none(), "it was only asked");
    let absent = format!("{UNNUMBERED}[[neighbor]]\ninterface = \"ens*\"\n");
    link.agent().write_config(&config(&absent, &BLOCKS)).unwrap();
    let said = link.agent().bgpctl(&["reload", "--dry-run"]).unwrap();
    let details = "1 change\n  neighbor ens* added\n  neighbor ens*: matches no link at present\n";
    assert!(said.ends_with(details), "{said}");
    link.agent().write_config(&config(UNNUMBERED, &more)).unwrap();
    let refused = |link: &Link| link.agent().bgpctl(&["confirm"]).unwrap_err().to_string();
    assert!(refused(&link).ends_with("no configuration is on trial"), "{}", refused(&link));

    // Nobody confirms.
    let said = link.agent().bgpctl(&["reload", "--confirm", "1s"]).unwrap();
    assert!(said.contains("on trial: 1 change"), "{said}");
    link.await_no_route(NEW_BLOCK);
    assert_eq!(trial(&link).as_deref(), Some("failed"));
    assert!(refused(&link).contains("it was not confirmed in time"));
    assert_eq!(trial(&link), None, "that was heard");
    link.agent().bgpctl(&["reload", "--confirm", "1s"]).unwrap();
    eventually("a second failure, that nobody hears of", PATIENCE, || {
        Ok((trial(&link).as_deref() == Some("failed")).then_some(()))
    })
    .unwrap();
    assert!(link.agent().log().contains("the file still has it"), "{}", link.agent().log());

    // Somebody does.
    link.agent().bgpctl(&["reload", "--confirm", "60s"]).unwrap();
    assert_eq!(link.await_route(NEW_BLOCK).action, Action::Blackhole);
    assert_eq!(trial(&link).as_deref(), Some("running"));
    link.agent().bgpctl(&["confirm"]).unwrap();
    assert_eq!(trial(&link), None);
    assert_eq!(link.await_route(NEW_BLOCK).action, Action::Blackhole);
    assert_eq!(times_established(&link.neighbor("tor1")), 1, "{}", link.agent().log());

    // A session is lost meanwhile.
    link.agent().write_config(&config(UNNUMBERED, &BLOCKS)).unwrap();
    link.agent().bgpctl(&["reload", "--confirm", "60s"]).unwrap();
    link.await_no_route(NEW_BLOCK);
    link.frr_mut().0.kill_bgpd().unwrap();
    assert_eq!(link.await_route(NEW_BLOCK).action, Action::Blackhole);
    assert!(refused(&link).contains("the session with tor1 was lost"));
}

#[test]
fn a_file_that_is_not_whole_changes_nothing() {
    let Some(link) = Link::up("notwhole", &unnumbered_conf(), UNNUMBERED) else { return };
    link.await_at_frr(&BLOCKS);
    let path = link.agent().socket().with_file_name("selvedge.toml");
    let whole = std::fs::read(&path).unwrap();
    let before = link.node.routes().unwrap();
    let mut refused = Vec::new();
    let mut attempt = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        refused.push(link.agent().bgpctl(&["reload"]).unwrap_err().to_string());
        link.agent().hang_up().unwrap();
    };
    let lines = |bytes: &[u8]| bytes.last() == Some(&b'\n');
    // Between two lines it may be what somebody wants, unless nothing is left to talk to.
    for length in (0..whole.len()).filter(|length| !lines(&whole[..*length])) {
        attempt(&whole[..length]);
    }
    let neighbors = whole.windows(12).position(|window| window == b"[[neighbor]]").unwrap();
    attempt(&whole[..neighbors]);
    attempt(&whole.repeat(10 * (1 << 20) / whole.len()));
    attempt(b"\0\0\0\0\n");
    assert!(
        refused
            .iter()
            .all(|said| said.contains("selvedge.toml") || said.contains("no neighbor would be left")),
        "{refused:?}"
    );
    assert!(refused.iter().any(|said| said.contains("may be cut off")), "{refused:?}");
    assert!(refused.iter().any(|said| said.contains("no neighbor would be left")), "{refused:?}");
    assert!(refused.iter().any(|said| said.contains("is larger than")), "{refused:?}");
    assert_eq!(link.node.routes().unwrap(), before);
    assert_eq!(times_established(&link.neighbor("tor1")), 1, "{}", link.agent().log());
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

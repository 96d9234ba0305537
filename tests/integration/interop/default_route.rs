//! The last default route, which no reload takes: perhaps the operator's only way to the node.

use lab::eventually;
use lab::rack::leads_over;

use super::fixture::{
    BLOCKS, Link, PATIENCE, UNNUMBERED, Watch, config, connect, forward, received, tor_conf_with,
    watch_routes,
};

const DEFAULTS: [&str; 2] = ["0.0.0.0/0", "::/0"];
const REJECTS: &str = "[[prefix-list]]\nname = \"defaults\"\nprefixes = [\"0.0.0.0/0\", \"::/0\"]\n\
                       [[policy]]\nname = \"in\"\n\
                       [[policy.rule]]\nprefix-list = \"defaults\"\naction = \"reject\"\n\
                       [[policy.rule]]\naction = \"accept\"\n";

/// A link whose ToR gives both default routes.
fn link(test: &str) -> Option<Link> {
    let conf = tor_conf_with(
        "c1",
        " neighbor c1 interface remote-as external\n neighbor c1 timers connect 1",
        &["4.4.4.4/32", "fd00::4/128", DEFAULTS[0], DEFAULTS[1]],
    );
    let link = Link::up(test, &conf, UNNUMBERED)?;
    DEFAULTS.iter().for_each(|prefix| drop(link.await_route(prefix)));
    link.await_at_frr(&BLOCKS);
    Some(link)
}

fn write(link: &Link, policies: &str, neighbors: &str) {
    link.agent().write_config(&config(&format!("{policies}{neighbors}"), &BLOCKS)).unwrap();
}

/// Reloads, and demands that it is said of both default routes that they are kept.
fn reload(link: &Link) {
    for order in [&["reload", "--dry-run"][..], &["reload"]] {
        let said = link.agent().bgpctl(order).unwrap();
        for prefix in DEFAULTS {
            assert!(said.contains(&format!("default route kept: {prefix}")), "{said}");
        }
    }
}

/// Waits until the default routes are there without anybody who gives them, or no longer so.
fn await_kept(link: &Link, kept: &[&str]) {
    let mut shown = String::new();
    eventually("the default routes are kept, or not", PATIENCE, || {
        shown = link.agent().bgpctl(&["show", "fib"])?;
        let is_kept = |prefix: &&str| {
            shown.lines().any(|line| line.starts_with(*prefix) && line.trim_end().ends_with("kept"))
        };
        Ok((DEFAULTS.iter().copied().filter(is_kept).collect::<Vec<_>>() == kept).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{shown}\n{}", link.agent().log()));
}

/// Demands that the kernel had both default routes all along.
fn never_went(link: &Link, watch: Watch) {
    let seen = watch.stop(&link.node);
    assert!(!seen.lines().any(|line| line.starts_with("Deleted default")), "{seen}");
    for prefix in DEFAULTS {
        assert!(link.node.route(prefix.parse().unwrap()).unwrap().is_some(), "{prefix}\n{seen}");
    }
}

#[test]
fn a_policy_does_not_take_the_default_route_and_the_tor_does() {
    let Some(link) = link("defpolicy") else { return };
    let watch = watch_routes(&link.node, &link.scratch);
    write(&link, REJECTS, &format!("{UNNUMBERED}import = \"in\"\n"));
    reload(&link);
    await_kept(&link, &DEFAULTS);
    let refused = received(&link, "tor1");
    for prefix in DEFAULTS {
        let why = refused.iter().find(|(other, _)| other == prefix).map(|(_, why)| why.as_str());
        assert_eq!(why, Some("import policy rejects it"), "{refused:?}");
    }
    let warned = link.agent().log();
    assert_eq!(
        warned.matches("default route kept: the configuration has taken its last path").count(),
        2,
        "{warned}"
    );

    // The neighbor's own word counts, whatever policy says.
    link.frr().configure("router bgp 65004\naddress-family ipv4 unicast\nno network 0.0.0.0/0").unwrap();
    link.await_no_route(DEFAULTS[0]);
    await_kept(&link, &DEFAULTS[1..]);
    // And a file that lets them through.
    write(&link, "", UNNUMBERED);
    let said = link.agent().bgpctl(&["reload"]).unwrap();
    assert!(!said.contains("kept"), "{said}");
    await_kept(&link, &[]);
    assert!(link.node.route(DEFAULTS[1].parse().unwrap()).unwrap().is_some(), "{}", link.agent().log());
    let seen = watch.stop(&link.node);
    let touched: Vec<_> = seen.lines().filter(|line| line.contains("default")).collect();
    assert!(touched.len() == 1 && touched[0].starts_with("Deleted default"), "only what FRR took: {seen}");
}

#[test]
fn a_session_that_starts_anew_costs_no_default_route() {
    let Some(link) = link("deftransport") else { return };
    let watch = watch_routes(&link.node, &link.scratch);
    // FRR does not do the same yet: there is no session for a while.
    write(&link, "", &format!("{UNNUMBERED}ttl-security = true\n"));
    reload(&link);
    await_kept(&link, &DEFAULTS);
    link.await_no_route("4.4.4.4/32");
    link.frr().configure("router bgp 65004\nneighbor c1 ttl-security hops 1").unwrap();
    link.await_established("tor1");
    link.await_route("4.4.4.4/32");
    await_kept(&link, &[]);
    never_went(&link, watch);

    // Now that it is given again it is as any other.
    link.frr().configure("router bgp 65004\naddress-family ipv6 unicast\nno network ::/0").unwrap();
    link.await_no_route(DEFAULTS[1]);
}

#[test]
fn a_neighbor_leaves_its_default_route_to_the_next_one_or_to_the_end_of_its_link() {
    let Some(link) = link("defreplaced") else { return };
    // A second cable to the same ToR.
    connect(&link.node, "tor2", &link.tor, "c1b");
    forward(&link.tor);
    link.frr()
        .configure(
            "router bgp 65004\nneighbor c1b interface remote-as external\nneighbor c1b timers connect 1\n\
             address-family ipv6 unicast\nneighbor c1b activate",
        )
        .unwrap();
    let watch = watch_routes(&link.node, &link.scratch);
    write(&link, "", "[[neighbor]]\ninterface = \"tor2\"\n");
    reload(&link);
    link.await_established("tor2");
    for prefix in DEFAULTS {
        link.await_routes("a default route over the other one", |routes| {
            leads_over(routes, prefix.parse().unwrap(), &["tor2"])
        });
    }
    await_kept(&link, &[]);

    // Nobody is left to give one.
    write(&link, "", "[[neighbor]]\ninterface = \"tor9\"\n");
    reload(&link);
    await_kept(&link, &DEFAULTS);
    link.await_no_route("4.4.4.4/32");
    never_went(&link, watch);
    link.node.set_down("tor2").unwrap();
    DEFAULTS.iter().for_each(|prefix| link.await_no_route(prefix));
    eventually("the agent has seen the end of them", PATIENCE, || {
        Ok((link.agent().log().matches("default route no longer kept").count() >= 4).then_some(()))
    })
    .unwrap();
    link.node.set_up("tor2").unwrap();
    link.node.await_link_local("tor2", PATIENCE).unwrap();
    DEFAULTS.iter().for_each(|prefix| link.await_no_route(prefix));
}

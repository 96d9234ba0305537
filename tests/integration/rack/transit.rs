//! A host between two ToRs under any file: what one of them says never reaches the other, unless the file says so.
//!
//! Every UPDATE that the agent sends is read off the cable, so that what it says for a moment alone is seen too.

use std::sync::Arc;

use bgp::Family;
use bgp::message::Reach;
use bgp::policy::{self, Changes, Conditions, Policy, PrefixList, Rule};
use lab::{Frr, Speech};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use selvedge::config::{self, Config};

use super::*;

#[path = "../../../src/config/policies/tests/any.rs"]
mod any;

const FILES: u32 = 1000;
/// Of these, again with `allow-transit = true`.
const CONTROLS: u32 = 100;

/// A block whose MED each file's export policies set to the number of the file: with it the ToR has heard that both
/// policies of its neighbor are in force.
const MARKER: &str = "10.9.0.0/26";

/// What a ToR originates beside its addresses: a default route, and prefixes that generated policies speak of, bare, with
/// communities that they look for, with our AS in the path, and with a long path.
fn originations(number: u32) -> String {
    let as_path = format!("{} 65001 65003", 65000 + number);
    format!(
        "route-map marked permit 10\n\
         set community 65001:1 0:65535\n\
         set large-community 1:2:3\n\
         exit\n\
         route-map ours permit 10\n\
         set as-path prepend {as_path}\n\
         exit\n\
         route-map long permit 10\n\
         set as-path prepend 65002 65003 65002 65003 65002 65003 65002 65003\n\
         exit\n\
         router bgp {asn}\n\
         address-family ipv4 unicast\n\
         network 0.0.0.0/0\n\
         network 10.{number}.0.0/16\n\
         network 10.{number}.1.0/24 route-map marked\n\
         network 10.{number}.2.0/24 route-map ours\n\
         network 10.{number}.3.0/24 route-map long\n\
         network 20.{number}.0.0/16\n\
         exit-address-family\n\
         address-family ipv6 unicast\n\
         network ::/0\n\
         network fd00:{number}::/48\n\
         network fd00:{number}:0:1::/64 route-map marked\n\
         network fd00:{number}:0:2::/64 route-map ours\n\
         network 2001:db8:{number}::/48",
        asn = 65000 + number
    )
}

/// Files of the generator: any policies, each neighbor with any of them for import, and for export behind the rule that
/// marks it, with any limit and `allowas-in`. What a file announces is its own too.
struct Files {
    runner: TestRunner,
}

/// One of them, and what it would be with `allow-transit = true`.
struct File {
    closed: String,
    open: String,
}

impl Files {
    /// The same ones every time.
    fn new() -> Self {
        Self { runner: TestRunner::deterministic() }
    }

    fn next(&mut self, number: u32) -> File {
        let neighbor = (0_usize..3, 0_usize..3, 0_u8..11, proptest::option::of(1_u32..30));
        let any_file = (any::any_policies(), [neighbor.clone(), neighbor]);
        let ((prefix_lists, any), neighbors) = any_file.new_tree(&mut self.runner).unwrap().current();
        let mut policies = any.clone();
        let mut tables = String::new();
        for (uplink, (import, export, allowas_in, limit)) in BOTH.iter().zip(neighbors) {
            let export = export_policy(uplink, any.get(export), number);
            tables += &format!("[[neighbor]]\ninterface = '{uplink}'\nallowas-in = {allowas_in}\n");
            tables += &format!("export = '{}'\n", export.name);
            policies.push(Arc::new(export));
            if let Some(policy) = any.get(import) {
                tables += &format!("import = '{}'\n", policy.name);
            }
            if let Some(limit) = limit {
                tables += &format!("max-prefixes = {limit}\n");
            }
        }
        let base = config::parse("[bgp]\nlocal-as = 65001\n[sysctl]\nmanage = true\n", "base").unwrap();
        let static_blocks = vec![prefix(MARKER), block_of_file(number)];
        let pods = config::Pods { static_blocks, ..base.pods.clone() };
        let closed = Config { prefix_lists, policies, pods, ..base }.to_toml() + &tables;
        let open = closed.replace("\nexport =", "\nallow-transit = true\nexport =");
        File { closed, open }
    }
}

/// The rule that marks, and then this policy. Without one, all is accepted.
fn export_policy(uplink: &str, policy: Option<&Arc<Policy>>, number: u32) -> Policy {
    let marker = Arc::new(PrefixList::new(None, vec![MARKER.parse().unwrap()]));
    let mark = Rule {
        conditions: Conditions { prefixes: vec![marker], ..Conditions::default() },
        changes: Changes { med: Some(number), ..Changes::default() },
        action: Some(policy::Action::Accept),
    };
    let rules = policy.map(|policy| policy.rules.clone()).unwrap_or_default();
    let default = policy.map_or(policy::Action::Accept, |policy| policy.default);
    Policy { name: format!("to-{uplink}"), rules: [vec![mark], rules].concat(), default }
}

fn block_of_file(number: u32) -> Prefix {
    let base = u32::from_be_bytes([10, 10, 0, 0]) + number * 64;
    Prefix::masked(std::net::Ipv4Addr::from(base).into(), 26).unwrap()
}

/// The node, its two ToRs, and all that it says to them.
struct Scene {
    speeches: [Speech; 2],
    rack: Rack,
}

impl Scene {
    /// `None`, said loudly, where the machine cannot have it.
    fn lay(test: &str, file: &str) -> Option<Self> {
        let programs = programs(NexthopObjects::of_environment().unwrap())?;
        let mut options = options(test, programs);
        if let NodeDaemon::Agent { configs, .. } = &mut options.nodes {
            *configs = vec![file.to_owned()];
        }
        let mut rack = Rack::build(options).unwrap();
        for index in 0..rack.tors.len() {
            rack.start_tor(index).unwrap();
        }
        for (number, tor) in (4..).zip(&rack.tors) {
            tor.frr().unwrap().configure(&originations(number)).unwrap();
        }
        let speeches = BOTH.map(|uplink| Speech::hear(&rack.nodes[0].netns, uplink).unwrap());
        rack.start_node(0).unwrap();
        Some(Self { speeches, rack })
    }

    fn agent(&self) -> &lab::Agent {
        self.rack.nodes[0].agent().unwrap()
    }

    /// By bgpctl and by SIGHUP in turn. What is refused is never in force.
    fn reload(&self, number: u32, file: &str) {
        let agent = self.agent();
        agent.write_config(file).unwrap();
        match number % 2 {
            0 => agent.hang_up().unwrap(),
            _ => drop(agent.bgpctl(&["reload"]).unwrap_or_else(|error| panic!("{error}\n{file}"))),
        }
    }

    /// Listens until both ToRs have heard that the file with this number is in force, and gives what was said that is
    /// not the host's own.
    fn strangers_until(&mut self, number: u32) -> Vec<String> {
        let log = || self.rack.nodes[0].agent().unwrap().log();
        let heard = self.speeches.iter_mut().map(|speech| strangers_until(speech, number));
        heard
            .flat_map(|heard| heard.unwrap_or_else(|error| panic!("file {number}: {error}\n{}", log())))
            .collect()
    }

    /// What the tables of the ToRs have through the node, once they have worked off all that it said up to this file.
    fn through_the_node(&self, number: u32) -> Vec<(String, String)> {
        let through = self.rack.tors.iter().map(|tor| {
            await_mark(tor, number);
            through_the_node(tor.frr().unwrap())
        });
        through.flatten().collect()
    }

    fn assert_sessions_kept(&self) {
        for uplink in BOTH {
            let neighbor = self.agent().bgpctl_json(&["show", "neighbor", uplink]).unwrap();
            assert_eq!(neighbor.get("times_established"), Some(&1.into()), "{neighbor}");
        }
    }
}

fn strangers_until(speech: &mut Speech, number: u32) -> lab::Result<Vec<String>> {
    let mut strangers = Vec::new();
    loop {
        let update = speech.next_update(CONVERGENCE)?;
        assert_eq!(update.faults, [], "file {number}");
        for Reach { attributes, prefixes } in update.reach {
            let asns: Vec<_> = attributes.as_path.segments().flat_map(|segment| segment.asns).collect();
            let is_ours = asns.iter().all(|asn| *asn == topology::nodes()[0].asn);
            let foreign = prefixes.iter().filter(|prefix| !is_ours || !is_own(**prefix));
            strangers.extend(foreign.map(|prefix| format!("{prefix} by {asns:?}")));
            if prefixes.contains(&prefix(MARKER)) && attributes.med == Some(number) {
                return Ok(strangers);
            }
        }
    }
}

/// What the node originates under one of the files.
fn is_own(prefix: Prefix) -> bool {
    let loopbacks = topology::nodes()[0].loopbacks().map(Prefix::host);
    prefix == self::prefix(MARKER)
        || loopbacks.contains(&prefix)
        || (0..=FILES + 1).any(|number| block_of_file(number) == prefix)
}

/// Prefixes whose path goes on behind the AS of the node. What a ToR originates has its own AS first in a path, if any.
fn through_the_node(frr: &Frr) -> Vec<(String, String)> {
    let mut paths = frr.all_paths(Family::Ipv4Unicast).unwrap();
    paths.extend(frr.all_paths(Family::Ipv6Unicast).unwrap());
    assert!(paths.iter().any(|(prefix, path)| prefix == MARKER && path == "65001"), "{paths:?}");
    paths.retain(|(_, path)| path.starts_with("65001") && path.split(' ').any(|asn| asn != "65001"));
    paths
}

fn await_mark(tor: &Host, number: u32) {
    eventually(&format!("{} has file {number}", tor.router.name), CONVERGENCE, || {
        let shown = tor.frr()?.vtysh_json(&format!("show bgp ipv4 unicast {MARKER} json"))?;
        let med = shown.pointer("/paths/0/metric").and_then(serde_json::Value::as_u64);
        Ok((med == Some(number.into())).then_some(()))
    })
    .unwrap();
}

#[test]
fn no_file_of_a_thousand_makes_a_host_transit() {
    let mut files = Files::new();
    let Some(mut scene) = Scene::lay("transit", &files.next(0).closed) else { return };
    let mut controls = Vec::new();
    let began = Instant::now();
    // With the last one all is heard that was said under the one before it.
    for number in 1..=FILES + 1 {
        let file = files.next(number);
        scene.reload(number, &file.closed);
        let strangers = scene.strangers_until(number);
        assert_eq!(strangers, [""; 0], "file {number}:\n{}", file.closed);
        if number <= CONTROLS {
            controls.push(file.open);
        }
    }
    println!("{FILES} files in {:?}", began.elapsed());
    assert_eq!(scene.through_the_node(FILES + 1), []);

    // The same files would, if they said so.
    let mut leaking = 0;
    for (number, file) in (1..).zip(&controls) {
        scene.reload(number, file);
        leaking += usize::from(!scene.strangers_until(number).is_empty());
    }
    println!(
        "{leaking} of {CONTROLS} files with `allow-transit = true` told a ToR something new of the other"
    );
    assert!(leaking > 10, "{leaking}");
    let open = "allow-transit = true\nexport = 'all'\n";
    let all = BOTH.map(|uplink| format!("[[neighbor]]\ninterface = '{uplink}'\n{open}")).concat();
    let file = format!(
        "[bgp]\nlocal-as = 65001\n[sysctl]\nmanage = true\n[[policy]]\nname = 'all'\ndefault = 'accept'\n\
         [[policy.rule]]\nprefix = '{MARKER}'\nset-med = {FILES}\naction = 'accept'\n\
         [pods.static]\nblocks = ['{MARKER}']\n{all}"
    );
    scene.reload(FILES, &file);
    let through = scene.through_the_node(FILES);
    for own in ["10.4.0.0/16", "fd00:4::/48", "10.5.0.0/16", "fd00:5::/48"] {
        assert!(through.iter().any(|(prefix, _)| prefix == own), "{own}: {through:?}");
    }
    scene.assert_sessions_kept();
}

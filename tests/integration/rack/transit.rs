//! A host between two ToRs under any file: what one of them says never reaches the other, unless the file says so.
//!
//! Every UPDATE that the agent sends is read off the cable, so that what it says for a moment alone is seen too. All that
//! follows from a file is told apart from what follows from the next one: the agent says that the file's rules are in
//! force and that nothing is left to be decided or handed to a session; only then the file is applied once more with one
//! more block, whose announcement comes behind all else on both sessions.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bgp::Family;
use bgp::message::Reach;
use bgp::policy::{self, Changes, Conditions, Policy, PrefixList, Rule, Transit};
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
/// The number of the file that closes the test.
const LAST: u32 = FILES + 1;

/// Of the blocks that say that all of a file was said, one for each time that a file is applied. Every export policy begins
/// with a rule that accepts them.
const MARKERS: &str = "10.8.0.0/15 ge 26 le 26";
/// What the agent is started with: both neighbors, and the guard alone.
const PLAIN: &str = "[bgp]\nlocal-as = 65001\n[sysctl]\nmanage = true\n\
                     [[neighbor]]\ninterface = 'tor1'\n[[neighbor]]\ninterface = 'tor2'\n";

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
/// lets the markers pass, or with none at all, with any limit and `allowas-in`. What a file announces is its own too.
struct Files {
    runner: TestRunner,
}

/// One of them, and what it would be with `allow-transit = true`.
struct File {
    number: u32,
    closed: Text,
    open: Text,
    rules: [Rules; 2],
}

/// A file, and the same with the marker that belongs to its number.
struct Text {
    file: String,
    marked: String,
}

/// What the routes of one neighbor go by, policies by their names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    import: Option<String>,
    export: Option<String>,
    allowas_in: u64,
}

impl Rules {
    /// As `show policy` has them of a neighbor.
    fn shown(neighbor: &serde_json::Value) -> Option<Self> {
        let name = |pointer: &str| neighbor.pointer(pointer)?.as_str().map(str::to_owned);
        let allowas_in = neighbor.get("allowas_in")?.as_u64()?;
        Some(Self { import: name("/import/policy/name"), export: name("/export/policy/name"), allowas_in })
    }
}

impl Files {
    /// The same ones every time.
    fn new() -> Self {
        Self { runner: TestRunner::deterministic() }
    }

    fn next(&mut self, number: u32) -> File {
        // Of those that are not there: none.
        let export = proptest::option::weighted(0.75, 0_usize..3);
        let neighbor = (0_usize..3, export, 0_u8..11, proptest::option::of(1_u32..30));
        let any_file = (any::any_policies(), [neighbor.clone(), neighbor]);
        let ((prefix_lists, any), neighbors) = any_file.new_tree(&mut self.runner).unwrap().current();
        // No two files have one of the same name, so that the name says which file is in force.
        let named = |policy: &Arc<Policy>| {
            Arc::new(Policy { name: format!("{}-of-{number}", policy.name), ..Policy::clone(policy) })
        };
        let mut policies: Vec<_> = any.iter().map(named).collect();
        let imports = policies.clone();
        let mut rules = [(); 2].map(|()| Rules::default());
        let mut tables = String::new();
        for ((uplink, rules), (import, export, allowas_in, limit)) in
            BOTH.iter().zip(&mut rules).zip(neighbors)
        {
            tables += &format!("[[neighbor]]\ninterface = '{uplink}'\nallowas-in = {allowas_in}\n");
            rules.allowas_in = allowas_in.into();
            if let Some(export) = export {
                let policy = export_policy(&format!("to-{uplink}-of-{number}"), any.get(export));
                tables += &format!("export = '{}'\n", policy.name);
                rules.export = Some(policy.name.clone());
                policies.push(Arc::new(policy));
            }
            if let Some(policy) = imports.get(import) {
                tables += &format!("import = '{}'\n", policy.name);
                rules.import = Some(policy.name.clone());
            }
            if let Some(limit) = limit {
                tables += &format!("max-prefixes = {limit}\n");
            }
        }
        let base = config::parse("[bgp]\nlocal-as = 65001\n[sysctl]\nmanage = true\n", "base").unwrap();
        let with_blocks = |static_blocks| {
            let (prefix_lists, policies) = (prefix_lists.clone(), policies.clone());
            let pods = config::Pods { static_blocks, ..base.pods.clone() };
            Config { prefix_lists, policies, pods, ..base.clone() }.to_toml() + &tables
        };
        let closed = Text {
            file: with_blocks(vec![block_of_file(number)]),
            marked: with_blocks(vec![block_of_file(number), marker(number)]),
        };
        File { number, open: closed.opened(), closed, rules }
    }
}

impl Text {
    /// A neighbor without export policy cannot be told of everything.
    fn opened(&self) -> Self {
        let open = |text: &str| text.replace("\nexport =", "\nallow-transit = true\nexport =");
        Self { file: open(&self.file), marked: open(&self.marked) }
    }
}

/// The rule for the markers, and then this policy. Without one, all is accepted.
fn export_policy(name: &str, policy: Option<&Arc<Policy>>) -> Policy {
    let markers = Arc::new(PrefixList::new(None, vec![MARKERS.parse().unwrap()]));
    let mark = Rule {
        conditions: Conditions { prefixes: vec![markers], ..Conditions::default() },
        changes: Changes::default(),
        action: Some(policy::Action::Accept),
    };
    let rules = policy.map(|policy| policy.rules.clone()).unwrap_or_default();
    let default = policy.map_or(policy::Action::Accept, |policy| policy.default);
    Policy { name: name.to_owned(), rules: [vec![mark], rules].concat(), default }
}

fn marker(number: u32) -> Prefix {
    block_in([10, 8, 0, 0], number)
}

fn block_of_file(number: u32) -> Prefix {
    block_in([10, 10, 0, 0], number)
}

fn block_in(network: [u8; 4], number: u32) -> Prefix {
    let base = u32::from_be_bytes(network) + number * 64;
    Prefix::masked(std::net::Ipv4Addr::from(base).into(), 26).unwrap()
}

/// The node, its two ToRs, and all that it says to them.
struct Scene {
    speeches: [Speech; 2],
    rack: Rack,
}

impl Scene {
    /// `None`, said loudly, where the machine cannot have it.
    fn lay(test: &str) -> Option<Self> {
        let programs = programs(NexthopObjects::of_environment().unwrap())?;
        let mut options = options(test, programs);
        if let NodeDaemon::Agent { configs, .. } = &mut options.nodes {
            *configs = vec![PLAIN.to_owned()];
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
        let scene = Self { speeches, rack };
        scene.await_tables();
        Some(scene)
    }

    /// What the ToRs say is there before the first file, so that each has something to leak.
    fn await_tables(&self) {
        for (number, uplink) in (4..).zip(BOTH) {
            let said = originations(number);
            let networks: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("network ")).collect();
            eventually(&format!("the table of {uplink}"), CONVERGENCE, || {
                let received = self.agent().bgpctl_json(&["show", "neighbor", uplink, "received"])?;
                let received = received.as_array().map_or(&[][..], Vec::as_slice);
                let has =
                    |prefix: &str| received.iter().any(|row| row.get("prefix").is_some_and(|p| p == prefix));
                let are_all_there = networks.iter().all(|line| has(line.split(' ').next().unwrap_or(line)));
                Ok(are_all_there.then_some(()))
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", self.agent().log()));
        }
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

    /// Applies a file, and gives all that was said by it that is not the host's own.
    fn strangers_by(&mut self, file: &File, transit: Transit) -> Vec<String> {
        let File { number, rules, .. } = file;
        let text = match transit {
            Transit::Never => &file.closed,
            Transit::Allowed => &file.open,
        };
        self.reload(*number, &text.file);
        self.await_done(*number, rules, transit);
        self.agent().write_config(&text.marked).unwrap();
        self.agent().hang_up().unwrap();
        let log = || self.rack.nodes[0].agent().unwrap().log();
        let heard = self.speeches.iter_mut().map(|speech| strangers_until(speech, *number));
        heard
            .flat_map(|heard| heard.unwrap_or_else(|error| panic!("file {number}: {error}\n{}", log())))
            .collect()
    }

    /// Waits until the rules of a file are in force and all that follows from them was handed to the sessions.
    fn await_done(&self, number: u32, rules: &[Rules; 2], transit: Transit) {
        let mut seen = serde_json::Value::Null;
        eventually(&format!("all of file {number} is done"), CONVERGENCE, || {
            seen = policies(&self.agent().socket()).unwrap();
            let neighbors = seen.get("neighbors").and_then(serde_json::Value::as_array);
            let is_in_force = |neighbor: &serde_json::Value, rules: &Rules| {
                let is_open = neighbor.get("allow_transit").and_then(serde_json::Value::as_bool);
                let is_to_be_open = transit == Transit::Allowed && rules.export.is_some();
                Rules::shown(neighbor).as_ref() == Some(rules) && is_open == Some(is_to_be_open)
            };
            let are_in_force = neighbors.is_some_and(|neighbors| {
                neighbors.len() == rules.len()
                    && neighbors.iter().zip(rules).all(|(neighbor, rules)| is_in_force(neighbor, rules))
            });
            let is_at_rest = seen.get("at_rest").and_then(serde_json::Value::as_bool);
            Ok((are_in_force && is_at_rest == Some(true)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{rules:?}\n{seen}\n{}", self.agent().log()));
    }

    /// What the tables of the ToRs have through the node, once they have worked off all that it said up to this file.
    fn through_the_node(&self, number: u32) -> Vec<(String, String)> {
        let through = self.rack.tors.iter().map(|tor| {
            await_marker(tor, number);
            through_the_node(tor.frr().unwrap(), number)
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

/// What `bgpctl show policy` shows; asked so often that a process for each would take most of the time.
fn policies(socket: &Path) -> std::io::Result<serde_json::Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /v1/policies HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(serde_json::from_str(body)?)
}

/// Up to the marker of a file, and the rest of the UPDATE that has it.
fn strangers_until(speech: &mut Speech, number: u32) -> lab::Result<Vec<String>> {
    let mut strangers = Vec::new();
    loop {
        let update = speech.next_update(CONVERGENCE)?;
        assert_eq!(update.faults, [], "file {number}");
        let mut is_marked = false;
        for Reach { attributes, prefixes } in update.reach {
            let asns: Vec<_> = attributes.as_path.segments().flat_map(|segment| segment.asns).collect();
            let is_ours = asns.iter().all(|asn| *asn == topology::nodes()[0].asn);
            let foreign = prefixes.iter().filter(|prefix| !is_ours || !is_own(**prefix));
            strangers.extend(foreign.map(|prefix| format!("{prefix} by {asns:?}")));
            is_marked |= prefixes.contains(&marker(number));
        }
        if is_marked {
            return Ok(strangers);
        }
    }
}

/// What the node originates under one of the files.
fn is_own(prefix: Prefix) -> bool {
    let loopbacks = topology::nodes()[0].loopbacks().map(Prefix::host);
    loopbacks.contains(&prefix)
        || (0..=LAST).any(|number| block_of_file(number) == prefix || marker(number) == prefix)
}

/// Prefixes whose path goes on behind the AS of the node. What a ToR originates has its own AS first in a path, if any.
fn through_the_node(frr: &Frr, number: u32) -> Vec<(String, String)> {
    let mut paths = frr.all_paths(Family::Ipv4Unicast).unwrap();
    paths.extend(frr.all_paths(Family::Ipv6Unicast).unwrap());
    let marker = marker(number).to_string();
    assert!(paths.iter().any(|(prefix, path)| *prefix == marker && path == "65001"), "{paths:?}");
    paths.retain(|(_, path)| path.starts_with("65001") && path.split(' ').any(|asn| asn != "65001"));
    paths
}

fn await_marker(tor: &Host, number: u32) {
    eventually(&format!("{} has file {number}", tor.router.name), CONVERGENCE, || {
        Ok(tor.frr()?.best_path(marker(number))?.map(drop))
    })
    .unwrap();
}

#[test]
fn no_file_of_a_thousand_makes_a_host_transit() {
    let mut files = Files::new();
    let Some(mut scene) = Scene::lay("transit") else { return };
    let mut controls = Vec::new();
    let mut without_export = 0;
    let began = Instant::now();
    for number in 1..=FILES {
        let file = files.next(number);
        let strangers = scene.strangers_by(&file, Transit::Never);
        assert_eq!(strangers, [""; 0], "file {number}:\n{}", file.closed.file);
        without_export += usize::from(file.rules.iter().any(|rules| rules.export.is_none()));
        if number <= CONTROLS {
            controls.push(file);
        }
    }
    println!(
        "{FILES} files, {without_export} of them with a neighbor without export policy, in {:?}",
        began.elapsed()
    );
    assert!(without_export > 100, "{without_export}");
    assert_eq!(scene.through_the_node(FILES), []);

    // The same files would, if they said so.
    let mut leaking = 0;
    for file in &controls {
        leaking += usize::from(!scene.strangers_by(file, Transit::Allowed).is_empty());
    }
    println!(
        "{leaking} of {CONTROLS} files with `allow-transit = true` told a ToR something new of the other"
    );
    assert!(leaking > 10, "{leaking}");
    let open = PLAIN.replace("\ninterface", "\nallow-transit = true\nexport = 'all'\ninterface");
    let all = "[[policy]]\nname = 'all'\ndefault = 'accept'\n";
    scene.reload(LAST, &format!("{open}{all}[pods.static]\nblocks = ['{}']\n", marker(LAST)));
    let through = scene.through_the_node(LAST);
    for own in ["10.4.0.0/16", "fd00:4::/48", "10.5.0.0/16", "fd00:5::/48"] {
        assert!(through.iter().any(|(prefix, _)| prefix == own), "{own}: {through:?}");
    }
    scene.assert_sessions_kept();
}

//! One node with the agent, one ToR with FRR or BIRD, and the cable between them.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bgp::Prefix;
use lab::{
    Account, Agent, Bird, Frr, Netns, NexthopObjects, Port, Process, Programs, Requirement, Route, Scratch,
    cable, can_run, eventually, output_of, topology,
};
use serde_json::Value;

/// Daemons take seconds; the rest is for a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// What the agent of the node is told unless a test says otherwise.
pub(super) const UNNUMBERED: &str = "[[neighbor]]\ninterface = \"tor1\"\n";

/// The blocks of the node.
pub(super) const BLOCKS: [&str; 2] = ["10.1.8.192/26", "fd00:10:1:8::/64"];

/// A node `c1` and a ToR `tor1`; each calls its end of the cable after the other. Daemons end first.
pub(super) struct Link {
    agent: Option<Agent>,
    frr: Option<Frr>,
    bird: Option<Bird>,
    pub(super) node: Netns,
    pub(super) tor: Netns,
    pub(super) scratch: Scratch,
}

impl Link {
    /// `None`, said loudly, where the machine cannot have it.
    pub(super) fn lay(test: &str, requirement: Requirement) -> Option<Self> {
        if !can_run(&[Requirement::Root, requirement]) {
            return None;
        }
        let mut scratch = Scratch::create(&format!("{test}-{}", std::process::id())).unwrap();
        let [node, tor] = ["c1", "tor1"].map(|role| scratch.netns(role).unwrap());
        let routers = [(&node, &topology::nodes()[0]), (&tor, &topology::tors()[0])];
        for (netns, router) in routers {
            for address in router.loopbacks() {
                netns.add_address("lo", address, Prefix::host(address).length()).unwrap();
            }
        }
        forward(&tor);
        connect(&node, "tor1", &tor, "c1");
        Some(Self { agent: None, frr: None, bird: None, node, tor, scratch })
    }

    /// With FRR as the unnumbered ToR of the design, and a node that has its routes.
    pub(super) fn up(test: &str, frr: &str, agent: &str) -> Option<Self> {
        let mut link = Self::lay(test, Requirement::Frr)?;
        link.start_frr(frr);
        link.start_agent(agent);
        link.await_established("tor1");
        link.await_route("4.4.4.4/32");
        link.await_route("fd00::4/128");
        Some(link)
    }

    pub(super) fn start_frr(&mut self, bgpd: &str) {
        let directory = self.scratch.directory("tor1").unwrap();
        self.frr = Some(Frr::start_with(&self.tor, &directory, "hostname tor1\n", bgpd).unwrap());
    }

    pub(super) fn start_bird(&mut self, config: &str) {
        let directory = self.scratch.directory("bird").unwrap();
        self.bird = Some(Bird::start(&self.tor, &directory, config).unwrap());
    }

    /// `neighbors` is the part of the file that says whom to peer with.
    pub(super) fn start_agent(&mut self, neighbors: &str) {
        self.start_agent_with(&config(neighbors, &BLOCKS));
    }

    pub(super) fn start_agent_with(&mut self, config: &str) {
        self.start_agent_as(config, &programs());
    }

    pub(super) fn start_agent_as(&mut self, config: &str, programs: &Programs) {
        let directory = self.scratch.directory("c1").unwrap();
        self.agent = Some(Agent::start(&self.node, &directory, "c1", config, programs).unwrap());
    }

    /// Kills the agent and starts its successor.
    pub(super) fn restart_agent(&mut self) {
        self.agent.as_mut().unwrap().start_again(&self.node).unwrap();
    }

    /// Has the agent end as for a restart.
    pub(super) fn stop_agent(&mut self) {
        assert!(self.agent.as_mut().unwrap().terminate().unwrap().success());
    }

    pub(super) fn kill_agent(&mut self) {
        self.agent.as_mut().unwrap().kill().unwrap();
    }

    pub(super) fn agent_mut(&mut self) -> &mut Agent {
        self.agent.as_mut().unwrap()
    }

    pub(super) fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }

    pub(super) fn frr(&self) -> &Frr {
        self.frr.as_ref().unwrap()
    }

    pub(super) fn frr_mut(&mut self) -> (&mut Frr, &Netns) {
        (self.frr.as_mut().unwrap(), &self.tor)
    }

    pub(super) fn bird(&mut self) -> (&mut Bird, &Netns) {
        (self.bird.as_mut().unwrap(), &self.tor)
    }

    /// What `bgpctl show neighbor` says of one.
    pub(super) fn neighbor(&self, name: &str) -> Value {
        self.agent().bgpctl_json(&["show", "neighbor", name]).unwrap()
    }

    /// Waits until `bgpctl show neighbor` says what is wanted.
    pub(super) fn await_neighbor(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = eventually(what, PATIENCE, || {
            let neighbor = self.agent().bgpctl_json(&["show", "neighbor", name]);
            Ok(neighbor.ok().filter(&wanted))
        });
        seen.unwrap_or_else(|error| {
            let text = self.agent().bgpctl(&["show", "neighbor", name]);
            let frr = self.frr.as_ref().map(|frr| {
                let neighbors = frr.vtysh("show bgp neighbors").unwrap_or_else(|error| error.to_string());
                let interface = frr.vtysh("show interface c1").unwrap_or_else(|error| error.to_string());
                format!("\nFRR:\n{neighbors}\n{interface}\nlog of FRR:\n{}", frr.log())
            });
            let (text, log) = (text.unwrap_or_default(), self.agent().log());
            panic!("{error}\n{text}\nlog of the agent:\n{log}{}", frr.unwrap_or_default())
        })
    }

    pub(super) fn await_established(&self, name: &str) -> Value {
        self.await_neighbor(name, &format!("a session with {name}"), is_established)
    }

    /// Waits until the kernel of the node has a BGP route to exactly this prefix.
    pub(super) fn await_route(&self, prefix: &str) -> Route {
        let wanted: Prefix = prefix.parse().unwrap();
        // As it was seen: it may be gone again by the time that somebody looks once more.
        let seen = Mutex::new(None);
        self.await_routes(prefix, |routes| {
            let found = find(routes, wanted).cloned();
            let is_there = found.is_some();
            *seen.lock().unwrap() = found;
            is_there
        });
        seen.into_inner().unwrap().unwrap()
    }

    pub(super) fn await_no_route(&self, prefix: &str) {
        let unwanted: Prefix = prefix.parse().unwrap();
        self.await_routes(&format!("no route to {prefix}"), |routes| find(routes, unwanted).is_none());
    }

    pub(super) fn await_routes(&self, what: &str, wanted: impl Fn(&[Route]) -> bool + Send + Sync) {
        self.node.await_routes(what, PATIENCE, wanted).unwrap_or_else(|error| {
            let text = self.agent().bgpctl(&["show", "neighbor"]);
            let frr = self.frr.as_ref().map(|frr| {
                let said = ["show bgp neighbors", "show interface c1"]
                    .map(|command| frr.vtysh(command).unwrap_or_else(|error| error.to_string()));
                format!("\nFRR:\n{}\nlog of FRR:\n{}", said.join("\n"), frr.log())
            });
            let (text, log) = (text.unwrap_or_default(), self.agent().log());
            panic!("{error}\n{text}\nlog of the agent:\n{log}{}", frr.unwrap_or_default())
        });
    }

    /// Waits until FRR has chosen a path to each prefix, and gives the last AS path.
    pub(super) fn await_at_frr(&self, prefixes: &[&str]) -> String {
        let mut path = String::new();
        for prefix in prefixes {
            path = eventually(&format!("{prefix} at FRR"), PATIENCE, || {
                self.frr().best_path(prefix.parse().unwrap())
            })
            .unwrap_or_else(|error| {
                panic!("{error}\n{}", self.frr().vtysh("show bgp summary").unwrap_or_default())
            });
        }
        path
    }

    /// What FRR says of its neighbor.
    pub(super) fn frr_neighbor(&self, name: &str) -> Value {
        let all = self.frr().vtysh_json("show bgp neighbors json").unwrap();
        all.get(name).cloned().unwrap_or_else(|| panic!("FRR has no neighbor {name}: {all}"))
    }

    pub(super) fn node_link_local(&self) -> Ipv6Addr {
        self.node.await_link_local("tor1", PATIENCE).unwrap()
    }

    pub(super) fn tor_link_local(&self) -> Ipv6Addr {
        self.tor.await_link_local("c1", PATIENCE).unwrap()
    }

    /// Writes a file that only the agent reads, such as one with a password.
    pub(super) fn secret(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.scratch.directory("secrets").unwrap().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Account::OF_AGENTS.own(&path).unwrap();
        path
    }
}

/// Follows the kernel's route events in a namespace from now on.
pub(super) fn watch_routes(netns: &Netns, scratch: &Scratch) -> Watch {
    let log = scratch.directory("monitor").unwrap().join("log");
    let mut command = netns.command("ip");
    command.args(["monitor", "route"]);
    let process = Process::start("ip monitor", command, &log).unwrap();
    // Whether it listens already shows in an event of our own.
    eventually("ip monitor listens", PATIENCE, || {
        mark(netns, "198.51.100.1/32");
        Ok(process.log().contains("198.51.100.1").then_some(()))
    })
    .unwrap();
    Watch { process }
}

/// The kernel's route events, as `ip monitor route` prints them.
pub(super) struct Watch {
    process: Process,
}

impl Watch {
    /// All events in the namespace until now.
    pub(super) fn stop(self, netns: &Netns) -> String {
        mark(netns, "198.51.100.2/32");
        eventually("the last event", PATIENCE, || {
            Ok(self.process.log().contains("198.51.100.2").then_some(()))
        })
        .unwrap();
        self.process.log()
    }
}

fn mark(netns: &Netns, prefix: &str) {
    let prefix = prefix.parse().unwrap();
    netns.add_blackhole(prefix).unwrap();
    netns.delete_route(prefix).unwrap();
}

pub(super) fn programs() -> Programs {
    Programs {
        daemon: env!("CARGO_BIN_EXE_selvedge").into(),
        arguments: Vec::new(),
        account: Some(Account::OF_AGENTS),
        bgpctl: env!("CARGO_BIN_EXE_bgpctl").into(),
        nexthop_objects: NexthopObjects::of_environment().unwrap(),
    }
}

pub(super) fn config(neighbors: &str, blocks: &[&str]) -> String {
    format!(
        "[bgp]\nlocal-as = 65001\n{neighbors}\n[pods.static]\nblocks = {blocks:?}\n[sysctl]\nmanage = true\n"
    )
}

/// The ToR's file: AS 65004, both loopback addresses, `lines` under `router bgp`, and both families for `peer`.
pub(super) fn tor_conf(peer: &str, lines: &str) -> String {
    tor_conf_with(peer, lines, &["4.4.4.4/32", "fd00::4/128"])
}

pub(super) fn tor_conf_with(peer: &str, lines: &str, networks: &[&str]) -> String {
    let mut text = format!(
        "frr defaults datacenter\nhostname tor1\nrouter bgp 65004\n bgp router-id 4.4.4.4\n no bgp network import-check\n{lines}\n"
    );
    for (family, is_of) in [("ipv4", false), ("ipv6", true)] {
        text += &format!(" address-family {family} unicast\n  neighbor {peer} activate\n");
        for network in networks.iter().filter(|network| network.contains(':') == is_of) {
            text += &format!("  network {network}\n");
        }
        text += " exit-address-family\n";
    }
    text
}

/// The ToR's file for the unnumbered node.
pub(super) fn unnumbered_conf() -> String {
    tor_conf("c1", " neighbor c1 interface remote-as external\n neighbor c1 timers connect 1")
}

pub(super) fn forward(netns: &Netns) {
    netns.set_sysctl("ipv4/ip_forward", 1).unwrap();
    netns.set_sysctl("ipv6/conf/all/forwarding", 1).unwrap();
}

/// Lays a cable and waits for the link-local addresses of both ends.
pub(super) fn connect(a: &Netns, a_name: &str, b: &Netns, b_name: &str) {
    cable(Port { netns: a, name: a_name }, Port { netns: b, name: b_name }).unwrap();
    a.set_up(a_name).unwrap();
    b.set_up(b_name).unwrap();
    a.await_link_local(a_name, PATIENCE).unwrap();
    b.await_link_local(b_name, PATIENCE).unwrap();
}

/// Nobody can open a BGP connection to this namespace any more; it can open them itself.
pub(super) fn refuse_dials_to(netns: &Netns) {
    let mut command = netns.command("nft");
    command.arg(
        "add table inet t; add chain inet t in { type filter hook input priority 0; }; \
         add rule inet t in tcp dport 179 tcp flags & (syn | ack) == syn drop",
    );
    output_of(command).unwrap();
}

pub(super) fn is_established(neighbor: &Value) -> bool {
    neighbor.get("state").and_then(Value::as_str).is_some_and(|s| s.eq_ignore_ascii_case("established"))
}

/// What people are told about why there is no session.
pub(super) fn last_error(neighbor: &Value) -> &str {
    neighbor.get("last_error").and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn times_established(neighbor: &Value) -> u64 {
    neighbor.get("times_established").and_then(Value::as_u64).unwrap()
}

/// Prefixes that the neighbor sent, and `why` the refused ones were.
pub(super) fn received(link: &Link, name: &str) -> Vec<(String, String)> {
    let answer = link.agent().bgpctl_json(&["show", "neighbor", name, "received"]).unwrap();
    let routes = answer.as_array().cloned().unwrap_or_else(|| panic!("no list: {answer}"));
    let row = |route: &Value| {
        let text = |pointer: &str| route.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let status = text("/status/reason").filter(|_| text("/status/is").as_deref() == Some("refused"));
        (text("/prefix").unwrap(), status.or_else(|| text("/status/is")).unwrap())
    };
    routes.iter().map(row).collect()
}

pub(super) fn find(routes: &[Route], prefix: Prefix) -> Option<&Route> {
    routes.iter().find(|route| route.prefix == prefix)
}

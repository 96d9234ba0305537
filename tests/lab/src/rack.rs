//! The rack itself: namespaces, cables and pods, and a routing daemon on each router.
//!
//! [`Rack::build`] lays the cables; [`Rack::start`] starts the daemons; [`Rack::await_converged`] waits until every
//! node has every route. Everything goes when the rack is dropped, daemons first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use bgp::{Asn, Prefix};

use crate::agent::{Agent, Programs};
use crate::bird::{Bird, BirdTor};
use crate::error::{Error, Result};
use crate::frr::{Frr, FrrConfig, Transit};
use crate::link::{Mac, Port, cable};
use crate::netns::Netns;
use crate::route::Route;
use crate::scratch::Scratch;
use crate::topology::{self, Router};

/// Pods on each node.
const PODS: u8 = 2;

/// What Calico gives to the host's side of every pod's cable.
const HOST_MAC: Mac = [0xee; 6];
/// The link-local address of that.
const HOST_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
/// What Calico's pods have for a default router: an address that nobody has.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Duplicate address detection takes one to two seconds; the rest is for a loaded machine.
const LINK_LOCAL_LIMIT: Duration = Duration::from_secs(15);

/// What routes on the nodes.
#[derive(Debug, Clone)]
pub enum NodeDaemon {
    /// The agent, with one configuration for each node, in their order.
    Agent {
        /// What to run.
        programs: Programs,
        /// TOML.
        configs: Vec<String>,
    },
    /// FRR set up as a host: for comparison, and to check the lab itself.
    Frr,
}

/// What routes on the ToRs.
#[derive(Debug, Clone)]
pub enum TorDaemon {
    /// FRR, as Cumulus Linux ships it.
    Frr,
    /// BIRD 2, which has to be told its neighbors' addresses.
    Bird,
    /// Selvedge's library in the role of a ToR.
    Selvedge {
        /// What to run.
        programs: Programs,
        /// Whether they ask their nodes for BFD, and how: the value of the key `bfd`.
        bfd: Option<&'static str>,
    },
}

/// What a rack is made of.
#[derive(Debug, Clone)]
pub struct RackOptions {
    /// Stands first in the names of its namespaces; two racks may run side by side under two names.
    pub name: String,
    /// On the nodes.
    pub nodes: NodeDaemon,
    /// On the ToRs.
    pub tors: TorDaemon,
}

/// A running daemon of any kind.
#[derive(Debug)]
pub enum Daemon {
    /// The agent.
    Agent(Agent),
    /// FRR.
    Frr(Frr),
    /// BIRD.
    Bird(Bird),
}

/// A rack. Dropping it ends its daemons and deletes its namespaces.
#[derive(Debug)]
pub struct Rack {
    /// c1, c2, c3.
    pub nodes: Vec<Host>,
    /// tor1, tor2.
    pub tors: Vec<Host>,
    options: RackOptions,
    scratch: Scratch,
}

/// A router of the rack, with what hangs on it.
#[derive(Debug)]
pub struct Host {
    /// Its daemon, once started. Before the namespace, so that it ends first.
    pub daemon: Option<Daemon>,
    /// Its pods; a ToR has none.
    pub pods: Vec<Pod>,
    /// Where it is.
    pub netns: Netns,
    /// Who it is.
    pub router: Router,
}

/// A pod: a namespace with one interface, `eth0`.
#[derive(Debug)]
pub struct Pod {
    /// For people: node and number.
    pub name: String,
    /// Where it is.
    pub netns: Netns,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

impl Rack {
    /// Builds the rack and starts it, and returns when every node has every route.
    ///
    /// # Errors
    /// Anything.
    pub fn up(options: RackOptions) -> Result<Self> {
        let mut rack = Self::build(options)?;
        rack.start()?;
        rack.await_converged(Duration::from_secs(30))?;
        Ok(rack)
    }

    /// Makes namespaces, cables and pods, and waits for the link-local addresses of the uplinks. No daemon yet.
    ///
    /// # Errors
    /// The kernel refuses, or a rack of that name is running.
    pub fn build(options: RackOptions) -> Result<Self> {
        let mut scratch = Scratch::create(&options.name)?;
        let tors = build_hosts(&mut scratch, topology::tors())?;
        let mut nodes = build_hosts(&mut scratch, topology::nodes())?;
        for node in &mut nodes {
            for number in 1..=PODS {
                let pod = build_pod(&mut scratch, node, number)?;
                node.pods.push(pod);
            }
        }
        // After the pods: only uplinks are to go through duplicate address detection, as they would on metal.
        for host in nodes.iter().chain(&tors) {
            host.netns.set_sysctl("ipv6/conf/default/accept_dad", 1)?;
        }
        for tor in &tors {
            enable_forwarding(&tor.netns)?;
        }
        if matches!(options.nodes, NodeDaemon::Frr) {
            for node in &nodes {
                enable_forwarding(&node.netns)?;
                node.router.blocks.iter().try_for_each(|block| node.netns.add_blackhole(*block))?;
            }
        }
        let rack = Self { nodes, tors, options, scratch };
        for (node, tor) in rack.links() {
            lay_uplink(node, tor)?;
        }
        for (node, tor) in rack.links() {
            node.netns.await_link_local(tor.router.name, LINK_LOCAL_LIMIT)?;
            tor.netns.await_link_local(node.router.name, LINK_LOCAL_LIMIT)?;
        }
        Ok(rack)
    }

    /// Starts the daemons of the ToRs, then those of the nodes.
    ///
    /// # Errors
    /// One does not start.
    pub fn start(&mut self) -> Result<()> {
        for index in 0..self.tors.len() {
            self.start_tor(index)?;
        }
        for index in 0..self.nodes.len() {
            self.start_node(index)?;
        }
        Ok(())
    }

    /// Starts the daemon of one ToR.
    ///
    /// # Errors
    /// It does not start, or there is no such ToR.
    pub fn start_tor(&mut self, index: usize) -> Result<()> {
        let ports = self.nodes.iter().map(|node| node.router.name.to_owned()).collect();
        let neighbors = self.bird_neighbors(index)?;
        let tor = self.tors.get_mut(index).ok_or_else(|| no_such("ToR", index))?;
        let directory = self.scratch.directory(tor.router.name)?;
        tor.daemon = Some(match &self.options.tors {
            TorDaemon::Frr => {
                let config = frr_config(&tor.router, ports, Transit::Provided);
                Daemon::Frr(Frr::start(&tor.netns, &directory, &config)?)
            }
            TorDaemon::Bird => {
                let config = BirdTor { router: &tor.router, neighbors }.to_string();
                Daemon::Bird(Bird::start(&tor.netns, &directory, &config)?)
            }
            TorDaemon::Selvedge { programs, bfd } => {
                let config = tor_toml(&tor.router, *bfd);
                Daemon::Agent(Agent::start(&tor.netns, &directory, tor.router.name, &config, programs)?)
            }
        });
        Ok(())
    }

    /// Whom BIRD on this ToR is to talk to; nobody where another daemon is, which finds out by itself.
    fn bird_neighbors(&self, index: usize) -> Result<Vec<(&'static str, Asn, Ipv6Addr)>> {
        match &self.options.tors {
            TorDaemon::Frr | TorDaemon::Selvedge { .. } => return Ok(Vec::new()),
            TorDaemon::Bird => {}
        }
        let tor = self.tors.get(index).ok_or_else(|| no_such("ToR", index))?.router.name;
        let neighbor = |node: &Host| {
            let address = node.netns.await_link_local(tor, LINK_LOCAL_LIMIT)?;
            Ok((node.router.name, node.router.asn, address))
        };
        self.nodes.iter().map(neighbor).collect()
    }

    /// Starts the daemon of one node.
    ///
    /// # Errors
    /// It does not start, or there is no such node or no configuration for it.
    pub fn start_node(&mut self, index: usize) -> Result<()> {
        let uplinks = self.tors.iter().map(|tor| tor.router.name.to_owned()).collect();
        let node = self.nodes.get_mut(index).ok_or_else(|| no_such("node", index))?;
        let directory = self.scratch.directory(node.router.name)?;
        node.daemon = Some(match &self.options.nodes {
            NodeDaemon::Frr => {
                let config = frr_config(&node.router, uplinks, Transit::Refused);
                Daemon::Frr(Frr::start(&node.netns, &directory, &config)?)
            }
            NodeDaemon::Agent { programs, configs } => {
                let config = configs.get(index).ok_or_else(|| no_such("configuration of node", index))?;
                Daemon::Agent(Agent::start(&node.netns, &directory, node.router.name, config, programs)?)
            }
        });
        Ok(())
    }

    /// Waits until every node reaches every other router over all uplinks that lead there. Gives the moment when the
    /// last route was seen.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the routes of a node that lacks some.
    pub fn await_converged(&self, limit: Duration) -> Result<Instant> {
        let mut last = Instant::now();
        for node in &self.nodes {
            last = last.max(self.await_node_converged(node, limit)?);
        }
        Ok(last)
    }

    /// The same for one node.
    ///
    /// # Errors
    /// As [`Rack::await_converged`].
    pub fn await_node_converged(&self, node: &Host, limit: Duration) -> Result<Instant> {
        let what = format!("all routes of {}", node.router.name);
        node.netns.await_routes(&what, limit, |routes| self.is_converged(node, routes))
    }

    /// Whether these are all the routes that a node should have when nothing is broken.
    #[must_use]
    pub fn is_converged(&self, node: &Host, routes: &[Route]) -> bool {
        let all: Vec<_> = self.tors.iter().map(|tor| tor.router.name).collect();
        let others = self.nodes.iter().filter(|other| other.router != node.router);
        others
            .map(|other| (other, all.clone()))
            .chain(self.tors.iter().map(|tor| (tor, vec![tor.router.name])))
            .all(|(other, uplinks)| {
                other.router.prefixes().into_iter().all(|prefix| leads_over(routes, prefix, &uplinks))
            })
    }

    /// Each uplink, as its node and its ToR.
    pub fn links(&self) -> impl Iterator<Item = (&Host, &Host)> {
        self.nodes.iter().flat_map(|node| self.tors.iter().map(move |tor| (node, tor)))
    }

    /// A pod of the rack: node and pod from 0.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn pod(&self, node: usize, pod: usize) -> Result<&Pod> {
        let host = self.nodes.get(node).ok_or_else(|| no_such("node", node))?;
        host.pods.get(pod).ok_or_else(|| no_such("pod", pod))
    }
}

impl Host {
    /// Its agent.
    ///
    /// # Errors
    /// It runs something else, or nothing.
    pub fn agent(&self) -> Result<&Agent> {
        match &self.daemon {
            Some(Daemon::Agent(agent)) => Ok(agent),
            Some(Daemon::Frr(_) | Daemon::Bird(_)) | None => Err(self.runs_no("agent")),
        }
    }

    /// Its agent, to be stopped or started, and the namespace for that.
    ///
    /// # Errors
    /// As [`Host::agent`].
    pub fn agent_mut(&mut self) -> Result<(&mut Agent, &Netns)> {
        match &mut self.daemon {
            Some(Daemon::Agent(agent)) => Ok((agent, &self.netns)),
            Some(Daemon::Frr(_) | Daemon::Bird(_)) | None => {
                Err(Error::Missing(format!("{} runs no agent", self.router.name)))
            }
        }
    }

    /// Its FRR.
    ///
    /// # Errors
    /// It runs something else, or nothing.
    pub fn frr(&self) -> Result<&Frr> {
        match &self.daemon {
            Some(Daemon::Frr(frr)) => Ok(frr),
            Some(Daemon::Agent(_) | Daemon::Bird(_)) | None => Err(self.runs_no("FRR")),
        }
    }

    /// Its FRR, to be stopped or started, and the namespace for that.
    ///
    /// # Errors
    /// As [`Host::frr`].
    pub fn frr_mut(&mut self) -> Result<(&mut Frr, &Netns)> {
        match &mut self.daemon {
            Some(Daemon::Frr(frr)) => Ok((frr, &self.netns)),
            Some(Daemon::Agent(_) | Daemon::Bird(_)) | None => {
                Err(Error::Missing(format!("{} runs no FRR", self.router.name)))
            }
        }
    }

    fn runs_no(&self, what: &str) -> Error {
        Error::Missing(format!("{} runs no {what}", self.router.name))
    }
}

/// Whether there is a route to exactly this prefix that uses exactly these interfaces.
#[must_use]
pub fn leads_over(routes: &[Route], prefix: Prefix, interfaces: &[&str]) -> bool {
    routes.iter().any(|route| route.prefix == prefix && route.devices() == interfaces)
}

/// Lays the cable of one uplink and sets both ends up. Each end is called after the router at the other.
///
/// # Errors
/// There is one already, or the kernel refuses.
pub fn lay_uplink(node: &Host, tor: &Host) -> Result<()> {
    let (up, down) = (tor.router.name, node.router.name);
    cable(Port { netns: &node.netns, name: up }, Port { netns: &tor.netns, name: down })?;
    tor.netns.set_up(down)?;
    node.netns.set_up(up)
}

fn build_hosts(scratch: &mut Scratch, routers: Vec<Router>) -> Result<Vec<Host>> {
    let build = |router: Router| {
        let netns = scratch.netns(router.name)?;
        netns.set_sysctl("ipv6/conf/default/accept_dad", 0)?;
        for address in router.loopbacks() {
            netns.add_address("lo", address, Prefix::host(address).length())?;
        }
        Ok(Host { daemon: None, pods: Vec::new(), netns, router })
    };
    routers.into_iter().map(build).collect()
}

fn build_pod(scratch: &mut Scratch, node: &Host, number: u8) -> Result<Pod> {
    let name = format!("{}-pod{number}", node.router.name);
    let netns = scratch.netns(&name)?;
    netns.set_sysctl("ipv6/conf/default/accept_dad", 0)?;
    let outside = format!("cali{}p{number}", node.router.name);
    cable(Port { netns: &netns, name: "eth0" }, Port { netns: &node.netns, name: &outside })?;
    node.netns.set_mac(&outside, HOST_MAC)?;
    node.netns.set_up(&outside)?;
    netns.set_up("eth0")?;
    let addresses = node.router.pod_addresses(number);
    for address in &addresses {
        netns.add_address("eth0", *address, Prefix::host(*address).length())?;
        node.netns.add_host_route(*address, &outside)?;
    }
    // Calico answers ARP for the gateway by proxy_arp, which needs a default route on the node; this rack has none.
    netns.add_neighbor("eth0", POD_GATEWAY.into(), HOST_MAC)?;
    netns.add_host_route(POD_GATEWAY.into(), "eth0")?;
    netns.add_default_route(POD_GATEWAY.into(), "eth0")?;
    netns.add_default_route(HOST_LINK_LOCAL.into(), "eth0")?;
    Ok(Pod { name, netns, addresses })
}

/// What makes a kernel a router. On a node it is the agent's job.
fn enable_forwarding(netns: &Netns) -> Result<()> {
    for (name, value) in [
        ("ipv4/ip_forward", 1),
        ("ipv6/conf/all/forwarding", 1),
        ("ipv4/conf/all/rp_filter", 0),
        ("ipv4/conf/default/rp_filter", 0),
        ("ipv4/fib_multipath_hash_policy", 1),
        ("ipv6/fib_multipath_hash_policy", 1),
    ] {
        netns.set_sysctl(name, value)?;
    }
    Ok(())
}

fn frr_config(router: &Router, interfaces: Vec<String>, transit: Transit) -> FrrConfig {
    FrrConfig {
        hostname: router.name.to_owned(),
        asn: router.asn,
        router_id: router.loopback,
        interfaces,
        networks: router.prefixes(),
        transit,
        source: (transit == Transit::Refused).then_some(router.loopback),
    }
}

fn tor_toml(router: &Router, bfd: Option<&str>) -> String {
    let bfd = bfd.map(|bfd| format!("bfd = {bfd}\n")).unwrap_or_default();
    format!(
        "[bgp]\nlocal-as = {}\nrouter-id = \"{}\"\n\n[[neighbor]]\ninterface = \"c*\"\nremote-as = \"external\"\n{bfd}\n\
         [sysctl]\nmanage = true\n",
        router.asn, router.loopback
    )
}

fn no_such(what: &str, index: usize) -> Error {
    Error::Missing(format!("there is no {what} {index}"))
}

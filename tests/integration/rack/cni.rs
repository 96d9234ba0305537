//! `[cni]`: pods that the CNI project's plugins make from the file that the agent writes.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use lab::{Netns, Plugins, Scratch};
use serde_json::Value;

use super::*;

/// From a change to the file that has it; the kernel takes its time to delete namespaces.
const SOON: Duration = Duration::from_secs(10);
const PODS: usize = 2;

/// A rack whose first two nodes have `[cni]`, without the lab's own pods: they have the addresses that the plugins give
/// away first.
struct Bench {
    /// Where the namespaces of the pods are kept, and the plugins' memory.
    scratch: Scratch,
    rack: Rack,
    /// What each node tells its runtime.
    files: [PathBuf; 2],
}

/// A pod of the plugins.
struct Connected {
    node: usize,
    netns: Netns,
    addresses: Vec<IpAddr>,
}

impl Bench {
    fn up(test: &str) -> Option<Self> {
        if !can_run(&[Requirement::Root, Requirement::Frr, Requirement::Cni]) {
            return None;
        }
        let mut options = options(test, programs(NexthopObjects::of_environment().unwrap())?);
        let NodeDaemon::Agent { configs, .. } = &mut options.nodes else { unreachable!() };
        let folder = Path::new("/run/selvedge-lab").join(&options.name);
        let files = ["c1", "c2"].map(|node| folder.join(node).join("net.d/10-selvedge.conflist"));
        for (config, file) in configs.iter_mut().zip(&files) {
            *config += &format!("[cni]\nfile = '{}'\n", file.display());
        }
        let scratch = Scratch::create(&format!("{}-pods", options.name)).unwrap();
        let mut rack = Rack::up(options).unwrap_or_else(|error| panic!("{error}"));
        for node in &mut rack.nodes[..files.len()] {
            node.pods.clear();
            let is_pods = |route: &Route| route.devices().iter().any(|device| device.starts_with("cali"));
            node.netns.await_routes("no pods", SOON, |routes| !routes.iter().any(is_pods)).unwrap();
        }
        Some(Self { scratch, rack, files })
    }

    fn plugins(&self, node: usize) -> Plugins {
        let memory = self.scratch.directory(self.rack.nodes[node].router.name).unwrap();
        Plugins::read(&self.files[node], &memory).unwrap()
    }

    fn connect(&mut self, node: usize, number: usize) -> Connected {
        let plugins = self.plugins(node);
        let router = &self.rack.nodes[node].router;
        let netns = self.scratch.netns(&format!("{}-{number}", router.name)).unwrap();
        let added = plugins.add(&self.rack.nodes[node].netns, &netns);
        let addresses = added.unwrap_or_else(|error| panic!("{error}"));
        let blocks_of = addresses.iter().zip(&router.blocks);
        assert_eq!(blocks_of.len(), router.blocks.len(), "one of each family: {addresses:?}");
        for (&address, block) in blocks_of {
            assert!(block.covers(Prefix::host(address)), "{address} of {block}");
        }
        Connected { node, netns, addresses }
    }

    /// What a pod had is given back, and nothing of it is left on its node.
    fn disconnect(&self, pod: &Connected) {
        let (plugins, node) = (self.plugins(pod.node), &self.rack.nodes[pod.node].netns);
        let is_away = |address: &IpAddr| plugins.given_away().unwrap().contains(address);
        assert!(pod.addresses.iter().all(is_away));
        plugins.delete(node, &pod.netns).unwrap_or_else(|error| panic!("{error}"));
        assert!(!pod.addresses.iter().any(is_away));
        for address in &pod.addresses {
            assert_eq!(node.route(Prefix::host(*address)).unwrap(), None);
        }
    }

    fn await_list(&self, node: usize, what: &str, is_so: impl Fn(&Value) -> bool) {
        let read = || serde_json::from_slice(&fs::read(&self.files[node]).ok()?).ok();
        eventually(what, SOON, || Ok(read().filter(&is_so).map(drop)))
            .unwrap_or_else(|error| panic!("{error}: {:?}", read()));
    }
}

fn mtu(list: &Value) -> Option<u64> {
    list.pointer("/plugins/0/mtu")?.as_u64()
}

/// The ranges that addresses of IPv4 are from.
fn ranges(list: &Value) -> Vec<&str> {
    let ranges = list.pointer("/plugins/0/ipam/ranges/0").and_then(Value::as_array).into_iter().flatten();
    ranges.filter_map(|range| range.get("subnet")?.as_str()).collect()
}

#[test]
fn pods_that_the_plugins_make_reach_each_other_across_nodes() {
    let Some(mut bench) = Bench::up("cni") else { return };
    let mut pods = Vec::new();
    for node in 0..bench.files.len() {
        bench.await_list(node, "a list of plugins", |list| mtu(list) == Some(1500));
        pods.extend((0..PODS).map(|number| bench.connect(node, number)));
    }
    for from in &pods {
        for address in pods.iter().flat_map(|to| &to.addresses).filter(|to| !from.addresses.contains(to)) {
            let outcome = Ping::new(*address).whole_packet(1500).once(&from.netns, CONVERGENCE).unwrap();
            assert!(matches!(outcome, Outcome::Reply(_)), "{} to {address}: {outcome:?}", from.netns.name());
        }
    }
    pods.iter().for_each(|pod| bench.disconnect(pod));
}

#[test]
fn the_list_of_plugins_follows_uplinks_and_blocks_and_outlives_the_daemon() {
    let Some(mut bench) = Bench::up("cnifile") else { return };
    bench.await_list(0, "the blocks of the file", |list| ranges(list) == ["10.1.8.192/26"]);
    bench.rack.nodes[0].netns.set_mtu("tor2", 1400).unwrap();
    bench.await_list(0, "the smaller of two uplinks", |list| mtu(list) == Some(1400));

    let folder = bench.files[0].ancestors().nth(2).unwrap();
    let before = fs::read_to_string(folder.join("selvedge.toml")).unwrap();
    let more = before.replace("\"10.1.8.192/26\"", "\"10.1.8.192/26\", \"10.1.9.0/26\"");
    assert_ne!(more, before);
    let agent = bench.rack.nodes[0].agent().unwrap();
    agent.write_config(&more).unwrap();
    agent.bgpctl(&["reload"]).unwrap();
    bench.await_list(0, "another block", |list| ranges(list) == ["10.1.8.192/26", "10.1.9.0/26"]);

    let written = fs::read(&bench.files[0]).unwrap();
    let (agent, _) = bench.rack.nodes[0].agent_mut().unwrap();
    assert!(agent.terminate().unwrap().success());
    assert_eq!(fs::read(&bench.files[0]).unwrap(), written);
}

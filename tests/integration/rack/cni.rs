//! `[cni]`: pods that the CNI project's plugins make from the file that the agent writes.

use std::net::IpAddr;

use lab::{Plugins, Scratch};
use serde_json::Value;

use super::*;

/// From a change to the file that has it.
const SOON: Duration = Duration::from_secs(10);

fn list(path: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn await_list(path: &Path, what: &str, is_so: impl Fn(&Value) -> bool) {
    eventually(what, SOON, || Ok(list(path).filter(&is_so).map(drop)))
        .unwrap_or_else(|error| panic!("{error}: {:?}", list(path)));
}

fn mtu(list: &Value) -> Option<u64> {
    list.pointer("/plugins/0/mtu")?.as_u64()
}

fn assert_reached(from: &lab::Netns, to: &[IpAddr]) {
    for address in to {
        let outcome = Ping::new(*address).whole_packet(1500).once(from, CONVERGENCE).unwrap();
        assert!(matches!(outcome, Outcome::Reply(_)), "{} to {address}: {outcome:?}", from.name());
    }
}

#[test]
fn pods_that_the_plugins_make_reach_each_other_across_nodes() {
    if !can_run(&[Requirement::Root, Requirement::Frr, Requirement::Cni]) {
        return;
    }
    let Some(programs) = programs(NexthopObjects::of_environment().unwrap()) else { return };
    let mut options = options("cni", programs);
    let NodeDaemon::Agent { configs, .. } = &mut options.nodes else { unreachable!() };
    let mut files = Vec::new();
    for (config, node) in configs.iter_mut().zip(["c1", "c2"]) {
        let folder = Path::new("/run/selvedge-lab").join(&options.name).join(node);
        let file = folder.join("net.d/10-selvedge.conflist");
        *config += &format!("[cni]\nfile = '{}'\n", file.display());
        files.push(file);
    }
    let config_of_c1 = configs[0].clone();
    let mut scratch = Scratch::create(&format!("{}-pods", options.name)).unwrap();
    let mut rack = Rack::up(options).unwrap_or_else(|error| panic!("{error}"));
    // The lab's own pods have the first addresses of the blocks, which the plugins are to give away.
    for node in &mut rack.nodes[..2] {
        node.pods.clear();
        let name = format!("c{}p", &node.router.name[1..]);
        node.netns
            .await_routes("no pods", SOON, |routes| {
                !routes.iter().any(|route| route.devices().iter().any(|device| device.contains(&name)))
            })
            .unwrap();
    }

    let mut pods = Vec::new();
    for (node, file) in rack.nodes.iter().zip(&files) {
        await_list(file, "a list of plugins", |list| mtu(list) == Some(1500));
        let memory = scratch.directory(node.router.name).unwrap();
        let plugins = Plugins::read(file, &memory).unwrap();
        for number in 1..=2 {
            let pod = scratch.netns(&format!("{}-{number}", node.router.name)).unwrap();
            let addresses = plugins.add(&node.netns, &pod).unwrap_or_else(|error| panic!("{error}"));
            assert!(
                addresses
                    .iter()
                    .zip(&node.router.blocks)
                    .all(|(&at, block)| { block.covers(Prefix::host(at)) }),
                "{addresses:?}"
            );
            assert_eq!(addresses.len(), 2, "one of each family: {addresses:?}");
            pods.push((node, Plugins::read(file, &memory).unwrap(), pod, addresses));
        }
    }
    for (_, _, from, own) in &pods {
        for (_, _, _, addresses) in pods.iter().filter(|(_, _, _, addresses)| addresses != own) {
            assert_reached(from, addresses);
        }
    }

    // Pods that are deleted give back what they had, and leave nothing on the node.
    for (node, plugins, pod, addresses) in &pods {
        assert!(addresses.iter().all(|address| plugins.given_away().unwrap().contains(address)));
        plugins.delete(&node.netns, pod).unwrap_or_else(|error| panic!("{error}"));
        assert!(!addresses.iter().any(|address| plugins.given_away().unwrap().contains(address)));
        for address in addresses {
            assert_eq!(node.netns.route(Prefix::host(*address)).unwrap(), None);
        }
    }

    // The file follows the uplinks and the blocks, and outlives the daemon.
    let file = &files[0];
    rack.nodes[0].netns.set_mtu("tor2", 1400).unwrap();
    await_list(file, "the smaller of two uplinks", |list| mtu(list) == Some(1400));
    let more = config_of_c1.replace("[\"10.1.8.192/26\"", "[\"10.1.8.192/26\", \"10.1.9.0/26\"");
    assert_ne!(more, config_of_c1);
    let agent = rack.nodes[0].agent().unwrap();
    agent.write_config(&more).unwrap();
    agent.bgpctl(&["reload"]).unwrap();
    await_list(file, "another block", |list| {
        let ranges = list.pointer("/plugins/0/ipam/ranges/0").and_then(Value::as_array);
        ranges.is_some_and(|ranges| {
            ranges.iter().filter_map(|range| range["subnet"].as_str()).eq(["10.1.8.192/26", "10.1.9.0/26"])
        })
    });
    let before = std::fs::read(file).unwrap();
    let (agent, _) = rack.nodes[0].agent_mut().unwrap();
    assert!(agent.terminate().unwrap().success());
    assert_eq!(std::fs::read(file).unwrap(), before);
}

//! Pods whose addresses are of other nodes' blocks: a pod of c1 has addresses that lie in blocks of c2.

use super::*;

const COMMUNITY: &str = "65001:100";
const KEYS: &str = "[pods.calico]\nborrowed-community = '65001:100'\nborrowed-limit = 1\n";
const REFUSED: &str = "[pods.calico]\nborrowed = 'refuse'\n";

const POOLS: &str = "
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: default}
spec: {cidr: 10.1.0.0/16, ipipMode: Never, vxlanMode: Never}
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: default-ipv6}
spec: {cidr: 'fd00:10:1::/48', ipipMode: Never, vxlanMode: Never}
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: inside}
spec: {cidr: 10.2.0.0/16, ipipMode: Never, vxlanMode: Never, disableBGPExport: true}
";

/// How the first pod of c1 is joined to its node.
const POD_LINK: &str = "calic1p1";

impl Bench {
    /// The pod has the address, and Felix has made the route.
    fn lend(&self, address: &str) -> Instant {
        let address: IpAddr = address.parse().unwrap();
        let pod = self.rack.pod(0, 0).unwrap();
        pod.netns.add_address("eth0", address, Prefix::host(address).length()).unwrap();
        self.rack.nodes[0].netns.add_host_route(address, POD_LINK).unwrap();
        Instant::now()
    }

    /// Felix takes its route away.
    fn take_away(&self, address: &str) -> Instant {
        self.rack.nodes[0].netns.delete_route(Prefix::host(address.parse().unwrap())).unwrap();
        Instant::now()
    }

    fn await_host_on_tor(&self, address: &str, links: &[&str]) -> Instant {
        self.await_on_tor(Prefix::host(address.parse().unwrap()), links)
    }

    /// What `show pods` of c1 says of the address.
    fn standing(&self, address: &str) -> Option<String> {
        let pods = self.rack.nodes[0].agent().unwrap().bgpctl_json(&["show", "pods"]).unwrap();
        let prefix = Prefix::host(address.parse().unwrap()).to_string();
        let block = pods["blocks"].as_array().unwrap().iter().find(|block| block["prefix"] == *prefix)?;
        assert_eq!(block["source"], "borrowed");
        Some(block["status"]["is"].as_str().unwrap().to_owned())
    }

    /// Other words take the place of those that c1 has in its file.
    fn reload(&self, before: &str, after: &str) {
        let agent = self.rack.nodes[0].agent().unwrap();
        let words = agent.command_line();
        let path = words.iter().skip_while(|word| *word != "--config").nth(1).unwrap();
        let config = std::fs::read_to_string(path).unwrap();
        assert!(config.contains(before), "{config}");
        agent.write_config(&config.replace(before, after)).unwrap();
        agent.bgpctl(&["reload"]).unwrap();
    }
}

#[test]
fn a_borrowed_address_is_announced_for_as_long_as_its_pod_is_here() {
    let Some(mut bench) = Bench::up("kubeborrowed", KEYS) else { return };
    let mut cluster = bench.cluster(POOLS);
    let block_of_c2 = prefix("10.1.9.0/26");
    cluster.apply(&block("c2")).unwrap();
    cluster.apply(&affinity("c2", "confirmed")).unwrap();
    bench.await_on_tor(block_of_c2, &["c2"]);
    bench.await_log(0, "the API server is back");

    // Its own route goes before the block of c2, with what the file gives it.
    let (v4, v6) = ("10.1.9.5", "fd00:10:1:9::5");
    let lent = bench.lend(v4);
    assert_soon("a borrowed address on the ToR", lent, bench.await_host_on_tor(v4, &["c1"]));
    let shown =
        bench.rack.tors[0].frr().unwrap().vtysh_json("show bgp ipv4 unicast 10.1.9.5/32 json").unwrap();
    assert_eq!(shown.pointer("/paths/0/community/string"), Some(&COMMUNITY.into()), "{shown}");
    let of_c3 = &bench.rack.pod(2, 0).unwrap().netns;
    let ping = |to: &str| Ping::new(to.parse::<IpAddr>().unwrap()).once(of_c3, CONVERGENCE).unwrap();
    assert!(matches!(ping(v4), Outcome::Reply(_)));
    assert!(!bench.log_of(0).contains("borrowed-limit"));
    let lent = bench.lend(v6);
    assert_soon("an IPv6 one", lent, bench.await_host_on_tor(v6, &["c1"]));
    assert!(matches!(ping(v6), Outcome::Reply(_)));
    bench.await_log(0, "more borrowed addresses than pods.calico.borrowed-limit");
    // What no pool of the fabric has is shown, and not announced.
    bench.lend("10.2.0.5");
    bench.lend("192.0.2.5");
    eventually("the reasons are shown", FOUND, || {
        let shown = ["10.2.0.5", "192.0.2.5", v4].map(|address| bench.standing(address));
        let expected = ["not-exported", "no-pool", "announced"].map(|word| Some(word.to_owned()));
        Ok((shown == expected).then_some(()))
    })
    .unwrap();
    for withheld in ["10.2.0.5", "192.0.2.5"] {
        let there = bench.rack.tors[0].netns.route(Prefix::host(withheld.parse().unwrap())).unwrap();
        assert_eq!(there, None);
    }

    // A restart without the server changes nothing for the fabric; a pod that leaves then is withdrawn as ever.
    let before = bench.log_of(0).len();
    cluster.kill_apiserver().unwrap();
    eventually("c1 knows", FOUND, || {
        Ok(bench.log_of(0)[before..].contains("the API server is away").then_some(()))
    })
    .unwrap();
    let journal = Journal::open(&bench.rack.nodes[2].netns).unwrap();
    let (agent, netns) = bench.rack.nodes[0].agent_mut().unwrap();
    agent.kill().unwrap();
    agent.start_again(netns).unwrap();
    bench.await_log(0, "what the API server said last is in force");
    bench.rack.await_converged(CONVERGENCE).unwrap();
    bench.await_log(0, "fib converged");
    assert_eq!(journal.changes().unwrap(), [], "nothing is withdrawn");
    assert_eq!(bench.standing(v4).as_deref(), Some("announced"));
    let gone = bench.take_away(v4);
    assert_soon("a pod away from the ToR after its route", gone, bench.await_host_on_tor(v4, &[]));
    bench.await_log(0, "borrowed addresses are within pods.calico.borrowed-limit again");
    // The pod is at c2 now, whose block has it.
    bench.await_on_tor(block_of_c2, &["c2"]);
    let c1 = &bench.rack.nodes[0].netns;
    c1.set_down(POD_LINK).unwrap();
    let down = Instant::now();
    assert_soon("a pod whose link goes down", down, bench.await_host_on_tor(v6, &[]));
}

#[test]
fn a_borrowed_address_is_not_announced_where_the_file_refuses_it() {
    let Some(bench) = Bench::up("kuberefused", REFUSED) else { return };
    let _cluster = bench.cluster(POOLS);
    bench.await_log(0, "the API server is back");
    bench.lend("10.1.9.5");
    // With another file it is: so that what follows is not the silence of an agent that does not see it.
    bench.reload("\"refuse\"", "\"advertise\"");
    bench.await_host_on_tor("10.1.9.5", &["c1"]);
    bench.reload("\"advertise\"", "\"refuse\"");
    bench.await_host_on_tor("10.1.9.5", &[]);
    assert_eq!(bench.standing("10.1.9.5"), None);
    // What the agent says next, and the ToR hears, is not of another one.
    bench.lend("10.1.9.6");
    bench.rack.nodes[0].netns.add_address("lo", "192.0.2.1".parse().unwrap(), 32).unwrap();
    bench.await_host_on_tor("192.0.2.1", &["c1"]);
    for refused in ["10.1.9.5", "10.1.9.6"] {
        let there = bench.rack.tors[0].netns.route(Prefix::host(refused.parse().unwrap())).unwrap();
        assert_eq!(there, None);
    }
}

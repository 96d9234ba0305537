//! Pods whose addresses are of other nodes' blocks: a pod of c1 has addresses that lie in blocks of c2, as the fabric sees it,
//! and as c2 does.

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

/// How the first pods of c1 and c2 are joined to their nodes.
const POD_LINKS: [&str; 2] = ["calic1p1", "calic2p1"];
const POD_LINK: &str = POD_LINKS[0];

/// Of c2, in both families, as Calico makes them.
const BLOCKS: [&str; 2] = ["10.1.9.0/26", "fd00:10:1:9::/122"];

impl Bench {
    /// A pod of c1 has the address, and Felix has made the route.
    fn lend(&self, address: &str) -> Instant {
        self.give(0, address)
    }

    /// The same for the first pod of any node.
    fn give(&self, node: usize, address: &str) -> Instant {
        let address: IpAddr = address.parse().unwrap();
        let pod = self.rack.pod(node, 0).unwrap();
        pod.netns.add_address("eth0", address, Prefix::host(address).length()).unwrap();
        self.rack.nodes[node].netns.add_host_route(address, POD_LINKS[node]).unwrap();
        Instant::now()
    }

    /// Felix takes its route on c1 away.
    fn take_away(&self, address: &str) -> Instant {
        self.rack.nodes[0].netns.delete_route(Prefix::host(address.parse().unwrap())).unwrap();
        Instant::now()
    }

    /// Packets of this node have a way to the address at c1: FRR tells its neighbors of a route before its own kernel has it.
    fn await_way(&self, from: usize, address: &str) {
        let host = Prefix::host(address.parse().unwrap());
        let tors = self.rack.tors.iter().map(|tor| (&tor.netns, &["c1"][..]));
        for (netns, links) in tors.chain([(&self.rack.nodes[from].netns, &BOTH[..])]) {
            netns.await_routes(address, CONVERGENCE, |routes| leads_over(routes, host, links)).unwrap();
        }
    }

    /// What the kernel of c2 has to this address by BGP leads over exactly these links.
    fn await_at_owner(&self, address: &str, links: &[&str]) -> Instant {
        let host = Prefix::host(address.parse().unwrap());
        let what = format!("{host} over {links:?}");
        let is_so = |routes: &[Route]| {
            let learned =
                routes.iter().filter(|route| route.prefix == host && route.protocol == PROTOCOL_BGP);
            learned.map(Route::devices).eq((!links.is_empty()).then(|| links.to_vec()))
        };
        self.rack.nodes[1]
            .netns
            .await_routes(&what, CONVERGENCE, is_so)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log_of(1)))
    }

    /// c2 and its second pod have an answer from the address.
    fn assert_owner_reaches(&self, address: &str) {
        let ping = Ping::new(address.parse::<IpAddr>().unwrap());
        for from in [&self.rack.nodes[1].netns, &self.rack.pod(1, 1).unwrap().netns] {
            let outcome = ping.once(from, CONVERGENCE).unwrap();
            assert!(matches!(outcome, Outcome::Reply(_)), "{address} from {}: {outcome:?}", from.name());
        }
    }

    /// c2 has seen what Felix has made there.
    fn await_pods_of_owner(&self) {
        // No block of c2 is around this one: it is announced, and not before those are known that came before it.
        let last = "10.1.200.1";
        self.give(1, last);
        self.await_host_on_tor(last, &["c2"]);
    }

    /// c2 has heard of the address from tor1, and why it believes nothing of it.
    fn await_refused_by_owner(&self, address: &str) {
        let host = Prefix::host(address.parse().unwrap()).to_string();
        eventually(&format!("{host} is refused"), CONVERGENCE, || {
            let shown = self.owner_shows(&["show", "neighbor", "tor1", "received"]);
            let is_so = |line: &str| {
                line.split_whitespace().any(|word| word == host)
                    && line.contains("it is the address of a pod of this node")
            };
            Ok(shown.lines().any(is_so).then_some(()))
        })
        .unwrap_or_else(|error| {
            panic!("{error}\n{}", self.owner_shows(&["show", "neighbor", "tor1", "received"]))
        });
    }

    /// What c2 says to this.
    fn owner_shows(&self, words: &[&str]) -> String {
        self.rack.nodes[1].agent().unwrap().bgpctl(words).unwrap()
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
    let ping = |to: &str| {
        bench.await_way(2, to);
        Ping::new(to.parse::<IpAddr>().unwrap()).once(of_c3, CONVERGENCE).unwrap()
    };
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
    bench.lose_server_and_agent(&mut cluster);
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

/// The owner of a block has nothing of it but what its kernel has routes to; and of this nobody takes anything away.
#[test]
fn the_owner_of_a_block_reaches_what_it_lends_and_keeps_what_its_pods_have() {
    let Some(mut bench) = Bench::up("kubeowner", "[pods.calico]\n") else { return };
    let cluster = bench.cluster(POOLS);
    for network in BLOCKS {
        cluster.apply(&block_of(network, "c2")).unwrap();
        cluster.apply(&affinity_of(network, "c2", "confirmed")).unwrap();
        bench.await_on_tor(prefix(network), &["c2"]);
    }
    bench.await_log(0, "the API server is back");
    let lent = ["10.1.9.5", "fd00:10:1:9::5"];
    for lent in lent {
        let since = bench.lend(lent);
        assert_soon("a borrowed address at the owner of its block", since, bench.await_at_owner(lent, &BOTH));
        bench.await_way(1, lent);
        bench.assert_owner_reaches(lent);
    }
    let own = "it is in a prefix that originates here, but no host route to an address that Calico may lend";
    assert!(bench.owner_shows(&["show", "policy"]).contains(own));

    // What a ToR says by itself is as good as any word, as long as no pod here has the address. A part is none.
    let (before, free) = (["10.1.9.7", "fd00:10:1:9::7"], ["10.1.9.6", "fd00:10:1:9::6"]);
    for taken in before {
        bench.give(1, taken);
    }
    bench.await_pods_of_owner();
    let tor = bench.rack.tors[0].frr().unwrap();
    tor.configure(
        "router bgp 65004\naddress-family ipv4 unicast\n\
         network 10.1.9.0/27\nnetwork 10.1.9.6/32\nnetwork 10.1.9.7/32\nexit-address-family\n\
         address-family ipv6 unicast\nnetwork fd00:10:1:9::6/128\nnetwork fd00:10:1:9::7/128",
    )
    .unwrap();
    for taken in before {
        bench.await_refused_by_owner(taken);
        bench.await_at_owner(taken, &[]);
        bench.assert_owner_reaches(taken);
    }
    for taken in free {
        bench.await_at_owner(taken, &["tor1"]);
        let since = bench.give(1, taken);
        assert_soon("the route of another to a pod here", since, bench.await_at_owner(taken, &[]));
        bench.assert_owner_reaches(taken);
        bench.await_refused_by_owner(taken);
        let host = Prefix::host(taken.parse().unwrap()).to_string();
        let shown = bench.owner_shows(&["show", "rib", &host]);
        assert!(shown.contains("refused: it is the address of a pod of this node"), "{shown}");
        bench.rack.nodes[1].netns.delete_route(Prefix::host(taken.parse().unwrap())).unwrap();
        let since = Instant::now();
        assert_soon("a pod that is gone", since, bench.await_at_owner(taken, &["tor1"]));
    }
    let shown = bench.owner_shows(&["show", "rib", "10.1.9.0/27"]);
    assert!(shown.contains("refused: it is in a prefix that originates here"), "{shown}");
    // The block is what it was: dropped here where nobody has the address, and led here by the fabric.
    for network in BLOCKS.map(prefix) {
        let action = bench.rack.nodes[1].netns.route(network).unwrap().map(|route| route.action);
        assert_eq!(action, Some(Action::Blackhole));
        bench.await_on_tor(network, &["c2"]);
    }

    // While the daemon is away its routes stay, and nobody looks at pods: the kernel has to make the choice by itself.
    bench.rack.nodes[1].agent_mut().unwrap().0.kill().unwrap();
    for taken in free {
        bench.rack.nodes[1].netns.add_host_route(taken.parse().unwrap(), POD_LINKS[1]).unwrap();
        bench.await_at_owner(taken, &["tor1"]);
        bench.assert_owner_reaches(taken);
    }
    let (agent, netns) = bench.rack.nodes[1].agent_mut().unwrap();
    agent.start_again(netns).unwrap();
    for taken in free {
        bench.await_refused_by_owner(taken);
        bench.await_at_owner(taken, &[]);
        bench.assert_owner_reaches(taken);
    }
    for lent in lent {
        bench.await_at_owner(lent, &BOTH);
        bench.assert_owner_reaches(lent);
    }
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

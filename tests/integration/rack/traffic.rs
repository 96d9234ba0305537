//! Trains of pings between two pods, both ways and in both families, of which none may be lost.

use lab::Pinging;

use super::*;

/// How long trains go on after the last thing that could hurt them.
const AFTERMATH: Duration = Duration::from_secs(3);

/// Both ways between the first pods of c1 and c2, in both families.
pub(super) fn trains(rack: &Rack) -> Vec<Pinging> {
    let (from, to) = two_pods(rack);
    let one_way = |a: &lab::Pod, b: &lab::Pod| -> Vec<Pinging> {
        b.addresses
            .iter()
            .map(|address| Ping::new(*address).start(&a.netns, PING_INTERVAL).unwrap())
            .collect()
    };
    [one_way(from, to), one_way(to, from)].into_iter().flatten().collect()
}

/// Ends them, some time later.
pub(super) fn assert_none_lost(what: &str, trains: Vec<Pinging>) {
    // What a router does late would be seen here: FRR gathers updates for a second.
    std::thread::sleep(AFTERMATH);
    for train in trains {
        let train = train.stop().unwrap();
        println!(
            "{what}: {} of {} pings lost, longest gap {:?}",
            train.lost.len(),
            train.sent,
            train.longest_gap
        );
        assert!(train.sent > 100 && train.lost.is_empty(), "{what}: {train:?}");
    }
}

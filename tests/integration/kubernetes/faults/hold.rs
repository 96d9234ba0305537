//! Lists that have less than before: what is missing stays until the server has proved that it knows this node, and has
//! listed the kind once more without it.

use super::fixture::name_of;
use super::*;

/// The least time from a list that has less to the question whether that is so.
const HOLD_DOWN: Duration = Duration::from_secs(3);
/// The most, with the pauses of the client and a loaded machine.
const CONFIRMED: Duration = Duration::from_secs(20);

fn is_missing(kind: &'static str, count: usize) -> impl Fn(&selvedge::cluster::Snapshot) -> bool {
    move |snapshot| snapshot.trouble.missing.get(kind) == Some(&count)
}

/// As if it had never been.
fn lose_block(server: &FakeServer, block: &str) {
    server.lose(AFFINITIES, |name| name == affinity_name(block));
    server.lose("ipamblocks", |name| name == name_of(block));
}

fn end_all_watches(server: &FakeServer, kinds: &[&str]) {
    kinds.iter().for_each(|kind| server.end_watches(kind));
}

async fn with_two_blocks(test: &str) -> Bench {
    let mut bench = Bench::settled(test).await;
    bench.allocate(SECOND);
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    bench.journal();
    bench
}

#[tokio::test]
async fn a_block_that_was_released_unseen_goes_once_that_is_certain() {
    let mut bench = with_two_blocks("unseen").await;
    lose_block(&bench.server, FIRST);
    let lost = Instant::now();
    end_all_watches(&bench.server, &[AFFINITIES, "ipamblocks"]);
    bench.await_snapshot("it is missed", is_missing("BlockAffinity", 1)).await;
    // An event is a word of its own, whatever is in doubt.
    let released = Instant::now();
    bench.release(SECOND);
    bench.await_announced(&[FIRST, OF_NODE]).await;
    assert!(released.elapsed() < Duration::from_secs(1), "{:?}", released.elapsed());
    bench.await_announced(&[OF_NODE]).await;
    assert!((HOLD_DOWN..CONFIRMED).contains(&lost.elapsed()), "{:?}", lost.elapsed());
    bench.await_snapshot("nothing is missed", |now| now.trouble.missing.is_empty()).await;
    assert_eq!(bench.server.asked(Verb::List, "nodes").len(), 2, "as proof that it speaks of us");
}

#[tokio::test]
async fn a_server_that_was_emptied_takes_nothing_back() {
    for kinds in [&[AFFINITIES][..], &[AFFINITIES, "ipamblocks", "ippools"]] {
        let mut bench = with_two_blocks(&format!("emptied{}", kinds.len())).await;
        // The watch of the node goes on, and knows nothing of it.
        bench.server.lose("nodes", |_| true);
        kinds.iter().for_each(|kind| bench.server.lose(kind, |_| true));
        end_all_watches(&bench.server, kinds);
        bench.await_snapshot("they are missed", is_missing("BlockAffinity", 3)).await;
        bench.await_snapshot("no node", |now| now.trouble.absent_node.is_some()).await;
        // Lists that say so again prove nothing of a node that is not there.
        for _ in 0..2 {
            let lists = bench.server.asked(Verb::List, AFFINITIES).len();
            bench.server.forget(AFFINITIES);
            bench.server.end_watches(AFFINITIES);
            bench.server.await_asked(Verb::List, AFFINITIES, lists + 1).await;
            bench.server.await_watch(AFFINITIES).await;
        }
        bench.fill();
        bench.allocate(SECOND);
        bench.await_snapshot("nothing is missed", |now| now.trouble.missing.is_empty()).await;
        bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
        nothing_was_withdrawn(&bench, Absence::None);
    }
}

#[tokio::test]
async fn lists_that_shrink_and_grow_again_take_nothing_back() {
    for (test, has_node_list_failed) in [("grown", false), ("grownlater", true)] {
        let mut bench = with_two_blocks(test).await;
        bench.server.fault(Verb::List, AFFINITIES, Fault::Empty);
        if has_node_list_failed {
            bench.server.fault(Verb::List, "nodes", Fault::Refuse(403));
        }
        list_anew(&bench.server, Verb::List);
        bench.await_snapshot("they are missed", is_missing("BlockAffinity", 3)).await;
        if has_node_list_failed {
            // Without its answer nothing is proved.
            bench.server.await_faults(Verb::List, "nodes", 2).await;
            list_anew(&bench.server, Verb::List);
            bench.server.await_faults(Verb::List, AFFINITIES, 2).await;
        }
        bench.server.mend();
        bench.await_snapshot("nothing is missed", |now| now.trouble.missing.is_empty()).await;
        recovers(&mut bench, Absence::None).await;
    }
}

#[tokio::test]
async fn half_a_list_that_ends_as_if_it_were_whole_takes_nothing_back() {
    let mut bench = with_two_blocks("half").await;
    bench.server.lose(AFFINITIES, |name| name == affinity_name(FIRST));
    list_anew(&bench.server, Verb::List);
    bench.await_snapshot("one is missed", is_missing("BlockAffinity", 1)).await;
    bench.server.lose("nodes", |_| true);
    bench.await_snapshot("no node", |now| now.trouble.absent_node.is_some()).await;
    bench.fill();
    bench.await_snapshot("nothing is missed", |now| now.trouble.missing.is_empty()).await;
    recovers(&mut bench, Absence::None).await;
}

#[tokio::test]
async fn a_restart_believes_a_list_that_has_less_no_sooner() {
    let mut bench = with_two_blocks("restarted").await;
    lose_block(&bench.server, FIRST);
    bench.restart().await;
    bench.await_snapshot("one is missed", is_missing("BlockAffinity", 1)).await;
    for snapshot in bench.journal() {
        let now = announced(&snapshot);
        assert!(now.len() == 3 || snapshot.server.is_none(), "{snapshot:#?}");
    }
    bench.await_announced(&[SECOND, OF_NODE]).await;
}

#[tokio::test]
async fn a_new_block_waits_for_pools_that_are_refused_and_says_so() {
    let mut bench = Bench::settled("nopools").await;
    bench.journal();
    bench.server.fault(Verb::List, "ippools", Fault::Refuse(403));
    bench.restart().await;
    bench.await_snapshot("a refusal", |now| now.trouble.refused.contains_key("IPPool")).await;
    bench.allocate(SECOND);
    let second = SECOND.parse().unwrap();
    let waits = |snapshot: &selvedge::cluster::Snapshot| {
        let block = snapshot.desired.blocks.get(&second);
        block.is_some_and(|block| block.standing == Standing::PoolsUnknown)
    };
    bench.await_snapshot("it waits for pools", waits).await;
    assert_eq!(bench.snapshots.borrow().trouble.awaited, ["IPPool"]);
    bench.await_announced(&[FIRST, OF_NODE]).await;
    bench.server.mend();
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    assert!(bench.snapshots.borrow().trouble.awaited.is_empty());
}

#[tokio::test]
async fn a_list_that_never_ends_is_said_to_be_awaited() {
    let mut bench = Bench::settled("endless").await;
    bench.server.fault(Verb::List, "ippools", Fault::Hang);
    bench.restart().await;
    bench.server.await_faults(Verb::List, "ippools", 1).await;
    bench.allocate(SECOND);
    let waits = |now: &selvedge::cluster::Snapshot| {
        now.trouble.awaited == ["IPPool"] && now.desired.blocks.len() == 3
    };
    bench.await_snapshot("pools are awaited", waits).await;
    bench.await_announced(&[FIRST, OF_NODE]).await;
}

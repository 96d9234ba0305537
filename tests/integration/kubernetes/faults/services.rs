//! Services and EndpointSlices: what is announced for them survives what their lists and watches go through.

use super::fixture::{SLICES, announced_services, service, slice};
use super::*;

const SERVICE: &str = "198.51.100.1/32";
const OTHER: &str = "198.51.100.2/32";
const BOTH_KINDS: [&str; 2] = ["services", SLICES];

/// One service that is served here, and nowhere else.
async fn serving(test: &str) -> Bench {
    let mut bench = Bench::with_services(test).await;
    add(&bench, "first", 1);
    await_services(&mut bench, &[SERVICE]).await;
    for kind in BOTH_KINDS {
        bench.server.await_watch(kind).await;
    }
    bench.journal();
    bench
}

fn add(bench: &Bench, name: &str, last: u8) {
    bench.server.put("services", service(name, last));
    bench.server.put(SLICES, slice(name, "c1"));
}

async fn await_services(bench: &mut Bench, services: &[&str]) {
    bench.await_snapshot(&format!("{services:?}"), |now| announced_services(now) == services).await;
}

/// It has the second service, never lost the first, and lets go of it when its endpoint does.
async fn recovers(bench: &mut Bench) {
    await_services(bench, &[SERVICE, OTHER]).await;
    for snapshot in bench.journal() {
        assert!(announced_services(&snapshot).contains(&SERVICE.to_owned()), "{snapshot:#?}");
    }
    let moved = Instant::now();
    bench.server.put(SLICES, slice("first", "c2"));
    await_services(bench, &[OTHER]).await;
    assert!(moved.elapsed() < Duration::from_secs(1), "{:?}", moved.elapsed());
}

#[tokio::test]
async fn lists_and_watches_that_fail_take_nothing_back() {
    let faults = [
        (Verb::List, Fault::Refuse(403)),
        (Verb::List, Fault::Refuse(410)),
        (Verb::List, Fault::Refuse(500)),
        (Verb::List, Fault::CutAfter(100)),
        (Verb::List, Fault::Garbage),
        (Verb::Watch, Fault::Refuse(410)),
        (Verb::Watch, Fault::EndAtOnce),
    ];
    let all = faults.into_iter().flat_map(|fault| BOTH_KINDS.map(|kind| (kind, fault)));
    let survived = all.map(|(kind, (verb, fault))| async move {
        let mut bench = serving(&format!("{kind}-{verb:?}-{fault:?}")).await;
        bench.server.fault(verb, kind, fault);
        if verb == Verb::List {
            bench.server.forget(kind);
        }
        bench.server.end_watches(kind);
        bench.server.await_faults(verb, kind, 2).await;
        add(&bench, "second", 2);
        bench.server.mend();
        recovers(&mut bench).await;
    });
    join_all(survived).await;
}

#[tokio::test]
async fn lists_that_have_less_take_nothing_back_until_they_are_confirmed() {
    for (plural, kind) in [("services", "Service"), (SLICES, "EndpointSlice")] {
        let mut bench = serving(&format!("less-{plural}")).await;
        add(&bench, "second", 2);
        await_services(&mut bench, &[SERVICE, OTHER]).await;
        let missing =
            |count| move |now: &selvedge::cluster::Snapshot| now.trouble.missing.get(kind) == Some(&count);
        // All of it, by a server that does not know the node.
        bench.server.fault(Verb::List, plural, Fault::Empty);
        bench.server.fault(Verb::List, "nodes", Fault::Empty);
        bench.server.forget(plural);
        bench.server.end_watches(plural);
        bench.await_snapshot("both are missed", missing(2)).await;
        bench.await_snapshot("no node", |now| now.trouble.absent_node.is_some()).await;
        bench.server.mend();
        bench.server.put("nodes", node(&[OF_NODE]));
        bench.await_snapshot("nothing is missed", |now| now.trouble.missing.is_empty()).await;
        for snapshot in bench.journal().iter().skip(1) {
            assert!(announced_services(snapshot).contains(&SERVICE.to_owned()), "{snapshot:#?}");
        }
        // One of them, by one that does.
        bench.server.lose(plural, |name| name.starts_with("default/first"));
        bench.server.end_watches(plural);
        bench.await_snapshot("one is missed", missing(1)).await;
        assert_eq!(announced_services(&bench.snapshots.borrow()), [SERVICE, OTHER]);
        await_services(&mut bench, &[OTHER]).await;
    }
}

#[tokio::test]
async fn a_restart_believes_lists_without_services_no_sooner() {
    let mut bench = serving("restartedservices").await;
    bench.server.lose("services", |_| true);
    bench.restart().await;
    bench.await_snapshot("it is missed", |now| now.trouble.missing.get("Service") == Some(&1)).await;
    assert_eq!(announced_services(&bench.snapshots.borrow()), [SERVICE]);
    await_services(&mut bench, &[]).await;
}

#[tokio::test]
async fn objects_that_make_no_sense_cost_no_other() {
    let mut bench = serving("senselessservices").await;
    let metadata = |name: &str| json!({ "namespace": "default", "name": name });
    bench.server.put("services", json!({ "metadata": metadata("bad"), "spec": "text" }));
    bench
        .server
        .put("services", json!({ "metadata": metadata("first"), "spec": { "type": 7 }, "status": [] }));
    bench.server.put(SLICES, json!({ "metadata": metadata("bad"), "endpoints": "text" }));
    bench.server.put(SLICES, json!({ "metadata": metadata("first-1"), "endpoints": [{ "nodeName": 7 }] }));
    bench.await_snapshot("all of them named", |now| now.trouble.unreadable.len() == 4).await;
    add(&bench, "second", 2);
    recovers(&mut bench).await;
}

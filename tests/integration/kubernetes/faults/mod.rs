//! What an API server does when it is not well: nothing is withdrawn that it did not take back, what is there later is taken
//! up, and it is not asked more often than it can bear.

mod files;
mod fixture;
mod hold;
mod services;
mod tell;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use selvedge::cluster::{Reach, Snapshot, Standing};
use selvedge::config::CalicoApi;
use serde_json::{Value, json};
use tokio::time::timeout;

use fixture::{
    AFFINITIES, Bench, CALICO, CORE, FIRST, OF_NODE, SECOND, absences, affinity, affinity_name, announced,
    ipam_block, node, pool,
};
use lab::kubernetes::fake::{FakeServer, Fault, Verb, status};

/// The first pause of a client is half of this at least, and each one twice as long as the one before.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// From the end of a fault to the first request: the longest pause of a client.
const MOST_PAUSE: Duration = Duration::from_secs(10);
/// Longer than the agent waits for an answer, and than it lets a watch be silent.
const TOO_LONG: Duration = Duration::from_secs(71);

/// Whether the agent is to say that the server is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    Noticed,
    /// It answers, whatever it says.
    None,
}

/// Requests of this kind for one kind of object meet with each of these faults, again and again, until it ends.
async fn survives(verb: Verb, faults: &[Fault], absence: Absence) {
    join_all(faults.iter().map(|&fault| survives_one(verb, fault, absence))).await;
}

async fn survives_one(verb: Verb, fault: Fault, absence: Absence) {
    let mut bench = Bench::settled(&format!("{verb:?}-{fault:?}")).await;
    bench.journal();
    bench.server.set_page(1);
    bench.server.fault(verb, AFFINITIES, fault);
    list_anew(&bench.server, verb);
    bench.server.await_faults(verb, AFFINITIES, 3).await;
    bench.allocate(SECOND);
    bench.server.mend();
    recovers(&mut bench, absence).await;
    is_paced(&bench.server, verb);
}

/// Has the client ask again: for what has changed, or for all.
fn list_anew(server: &FakeServer, verb: Verb) {
    if verb != Verb::Watch {
        server.forget(AFFINITIES);
    }
    server.end_watches(AFFINITIES);
}

/// It has the second block, never lost the first, and still lets go of it when the server takes it back.
async fn recovers(bench: &mut Bench, absence: Absence) {
    let mended = Instant::now();
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    bench.await_snapshot("an answer", |snapshot| snapshot.server == Some(Reach::Answers)).await;
    assert!(mended.elapsed() < MOST_PAUSE * 2, "{:?}", mended.elapsed());
    nothing_was_withdrawn(bench, absence);
    bench.release(FIRST);
    bench.await_announced(&[SECOND, OF_NODE]).await;
}

/// Since the journal was looked at the last time.
fn nothing_was_withdrawn(bench: &Bench, absence: Absence) {
    let journal = bench.journal();
    for snapshot in &journal {
        let now = announced(snapshot);
        assert!([FIRST, OF_NODE].iter().all(|block| now.iter().any(|other| other == block)), "{snapshot:#?}");
    }
    let expected = usize::from(absence == Absence::Noticed);
    assert_eq!(absences(&journal), expected, "{journal:#?}");
}

/// A request that met with a fault was not repeated at once, and each time later.
fn is_paced(server: &FakeServer, verb: Verb) {
    let asked = server.asked(verb, AFFINITIES);
    let met: Vec<_> = asked.iter().filter(|asked| asked.fault.is_some()).map(|asked| asked.at).collect();
    let mut least = LEAST_PAUSE / 2;
    for pair in met.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= least, "{pause:?} is less than {least:?}: {met:?}");
        least = (least * 2).min(MOST_PAUSE / 2);
    }
}

/// The clock of the client jumps; its requests do not see it.
async fn jump() {
    tokio::time::pause();
    tokio::time::advance(TOO_LONG).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_watch_that_is_refused_or_is_none_is_tried_again() {
    let faults = [
        Fault::Refuse(400),
        Fault::Refuse(403),
        Fault::Refuse(404),
        Fault::Refuse(410),
        Fault::Garbage,
        Fault::Redirect,
    ];
    survives(Verb::Watch, &faults, Absence::None).await;
}

#[tokio::test]
async fn a_watch_that_ends_at_once_is_not_begun_at_once() {
    survives(Verb::Watch, &[Fault::EndAtOnce], Absence::None).await;
}

#[tokio::test]
async fn a_watch_that_fails_is_one_absence() {
    survives(Verb::Watch, &[429, 500, 503, 504].map(Fault::Refuse), Absence::Noticed).await;
}

#[tokio::test]
async fn a_list_that_is_refused_takes_nothing_back() {
    survives(Verb::List, &[400, 403, 404, 410].map(Fault::Refuse), Absence::None).await;
}

#[tokio::test]
async fn a_list_that_fails_is_one_absence_and_takes_nothing_back() {
    survives(Verb::List, &[429, 500, 503].map(Fault::Refuse), Absence::Noticed).await;
    let faults = [Fault::Garbage, Fault::Redirect, Fault::Versionless];
    survives(Verb::List, &faults, Absence::Noticed).await;
}

#[tokio::test]
async fn a_list_that_is_cut_takes_nothing_back() {
    survives(Verb::List, &[0, 1, 30, 100, 150].map(Fault::CutAfter), Absence::Noticed).await;
}

#[tokio::test]
async fn half_a_list_takes_nothing_back() {
    let faults =
        [Fault::Refuse(500), Fault::CutAfter(0), Fault::CutAfter(100), Fault::Garbage, Fault::Circle];
    survives(Verb::Page, &faults, Absence::Noticed).await;
    survives(Verb::Page, &[Fault::Refuse(410)], Absence::None).await;
}

#[tokio::test]
async fn errors_in_a_watch_take_nothing_back() {
    let mut bench = Bench::settled("errorsinwatch").await;
    bench.journal();
    for code in [410, 500, 403] {
        let lists = bench.server.asked(Verb::List, AFFINITIES).len();
        let line = json!({ "type": "ERROR", "object": status(code) }).to_string();
        bench.server.tell(AFFINITIES, &line);
        bench.server.await_asked(Verb::List, AFFINITIES, lists + 1).await;
        bench.server.await_watch(AFFINITIES).await;
    }
    bench.allocate(SECOND);
    recovers(&mut bench, Absence::None).await;
}

#[tokio::test]
async fn a_watch_that_is_cut_in_the_middle_of_an_object_goes_on_from_there() {
    let mut bench = Bench::settled("cutobject").await;
    bench.journal();
    let watches = bench.server.asked(Verb::Watch, AFFINITIES).len();
    bench.server.cut_watches(AFFINITIES, r#"{"type":"DELETED","object":{"metadata":{"na"#);
    bench.allocate(SECOND);
    bench.server.await_asked(Verb::Watch, AFFINITIES, watches + 1).await;
    assert_eq!(bench.server.asked(Verb::List, AFFINITIES).len(), 1, "nothing was missed");
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    for snapshot in bench.journal() {
        assert!(announced(&snapshot).contains(&FIRST.to_owned()));
    }
}

#[tokio::test]
async fn a_change_that_makes_no_sense_is_looked_up() {
    for line in
        ["", "no JSON", "{}", r#"{"type":"MODIFIED","object":null}"#, r#"{"type":"BORED","object":{}}"#]
    {
        let mut bench = Bench::settled(&format!("senseless{}", line.len())).await;
        bench.journal();
        bench.server.put("ipamblocks", ipam_block(SECOND));
        bench.server.put_told_as(AFFINITIES, affinity(SECOND), |_| format!("{line}\n"));
        // An empty line is no event; the next one is of a later version.
        bench.server.bookmark(AFFINITIES);
        if line.is_empty() {
            bench.server.tell(AFFINITIES, "no JSON");
        }
        recovers(&mut bench, Absence::None).await;
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_away_once() {
    let mut bench = Bench::settled("killed").await;
    bench.journal();
    bench.server.down();
    bench.await_snapshot("an absence", |now| matches!(now.server, Some(Reach::Away { .. }))).await;
    bench.allocate(SECOND);
    bench.server.up();
    recovers(&mut bench, Absence::Noticed).await;
}

#[tokio::test]
async fn a_list_that_hangs_holds_nobody_else_up_and_is_given_up() {
    let mut bench = Bench::settled("hang").await;
    bench.journal();
    bench.server.fault(Verb::List, AFFINITIES, Fault::Hang);
    list_anew(&bench.server, Verb::List);
    bench.server.await_faults(Verb::List, AFFINITIES, 1).await;
    bench.server.put("nodes", node(&[OF_NODE, "10.42.2.0/26"]));
    bench.await_announced(&[FIRST, OF_NODE, "10.42.2.0/26"]).await;
    bench.server.put("nodes", node(&[OF_NODE]));
    bench.allocate(SECOND);
    jump().await;
    bench.await_snapshot("an absence", |now| matches!(now.server, Some(Reach::Away { .. }))).await;
    bench.server.mend();
    recovers(&mut bench, Absence::Noticed).await;
}

#[tokio::test]
async fn a_watch_whose_connection_is_dead_is_given_up() {
    for (test, fault) in [("silence", Fault::Silence), ("watchhang", Fault::Hang)] {
        let mut bench = Bench::settled(test).await;
        bench.server.fault(Verb::Watch, AFFINITIES, fault);
        bench.server.end_watches(AFFINITIES);
        bench.server.await_faults(Verb::Watch, AFFINITIES, 1).await;
        bench.allocate(SECOND);
        bench.server.mend();
        // A watch may begin after the clock has jumped: then its time begins there.
        while announced(&bench.snapshots.borrow()).len() < 3 {
            jump().await;
            let _ = timeout(LEAST_PAUSE * 4, bench.snapshots.changed()).await;
        }
        bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    }
}

#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    for verb in [Verb::List, Verb::Page, Verb::Watch] {
        let mut bench = Bench::settled(&format!("slow{verb:?}")).await;
        bench.journal();
        bench.server.set_page(1);
        bench.server.fault(verb, AFFINITIES, Fault::Hold);
        list_anew(&bench.server, verb);
        bench.server.await_faults(verb, AFFINITIES, 1).await;
        bench.allocate(SECOND);
        bench.server.mend();
        recovers(&mut bench, Absence::None).await;
    }
}

#[tokio::test]
async fn a_server_without_our_node_does_not_speak_of_us() {
    let mut bench = Bench::settled("empty").await;
    bench.journal();
    for plural in ["nodes", AFFINITIES, "ippools"] {
        bench.server.fault(Verb::List, plural, Fault::Empty);
        bench.server.forget(plural);
        bench.server.end_watches(plural);
        bench.server.await_faults(Verb::List, plural, 1).await;
        bench.await_snapshot("no node", |now| now.trouble.absent_node.as_deref() == Some("c1")).await;
    }
    bench.server.mend();
    bench.allocate(SECOND);
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    nothing_was_withdrawn(&bench, Absence::None);
}

#[tokio::test]
async fn a_server_from_an_older_copy_is_believed() {
    let mut bench = Bench::settled("older").await;
    bench.server.put("ipamblocks", ipam_block(SECOND));
    let watches = bench.server.asked(Verb::Watch, AFFINITIES).len();
    let mut older = affinity(SECOND);
    older["metadata"]["resourceVersion"] = "50".into();
    bench.server.go_back(50, AFFINITIES, vec![older]);
    // From the version that it has not reached, it is told nothing.
    bench.server.await_asked(Verb::Watch, AFFINITIES, watches + 1).await;
    bench.server.await_watch(AFFINITIES).await;
    bench.server.bookmark(AFFINITIES);
    // Until it has said so again.
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    bench.await_announced(&[SECOND, OF_NODE]).await;
}

#[tokio::test]
async fn objects_that_make_no_sense_are_named_and_cost_no_other() {
    let mut bench = Bench::settled("senselessobjects").await;
    bench.journal();
    let no_spec = |name: &str, rest: Value| {
        let mut object = rest;
        object["metadata"]["name"] = name.into();
        object
    };
    bench.server.put(AFFINITIES, no_spec("a-text", json!({ "spec": "text" })));
    bench.server.put(AFFINITIES, no_spec("b-list", json!({ "spec": [] })));
    bench.server.put(AFFINITIES, no_spec("c-none", json!({})));
    bench.server.put(AFFINITIES, no_spec("z-labels", json!({ "metadata": { "labels": 5 } })));
    // What it said before goes on to count.
    bench.server.put(AFFINITIES, no_spec(&affinity_name(FIRST), json!({ "spec": { "cidr": 7 } })));
    bench.allocate(SECOND);
    let names = ["a-text", "b-list", "c-none", &affinity_name(FIRST), "z-labels"].map(str::to_owned);
    let unreadable = |snapshot: &selvedge::cluster::Snapshot| {
        let all = snapshot.trouble.unreadable.iter();
        all.map(|object| object.name.clone()).collect::<Vec<_>>()
    };
    let all_named = |snapshot: &_| unreadable(snapshot) == names;
    bench.await_snapshot("all of them named", all_named).await;
    // The same from a list.
    let watches = bench.server.asked(Verb::Watch, AFFINITIES).len();
    list_anew(&bench.server, Verb::List);
    bench.server.await_asked(Verb::Watch, AFFINITIES, watches + 2).await;
    bench.await_snapshot("all of them named", all_named).await;
    recovers(&mut bench, Absence::None).await;
}

#[tokio::test]
async fn what_is_said_twice_or_without_a_beginning_counts_once() {
    let mut bench = Bench::settled("twice").await;
    bench.journal();
    // Of an object that was never listed.
    bench.server.put("ipamblocks", ipam_block(SECOND));
    let line =
        bench.server.put_told_as(AFFINITIES, affinity(SECOND), |line| line.replace("ADDED", "MODIFIED"));
    bench.server.tell(AFFINITIES, line.trim_end());
    bench.server.tell(AFFINITIES, &line.trim_end().replace("MODIFIED", "ADDED"));
    let stranger = line.trim_end().replace("MODIFIED", "DELETED").replace(&affinity_name(SECOND), "nobody");
    bench.server.tell(AFFINITIES, &stranger);
    recovers(&mut bench, Absence::None).await;
    assert_eq!(bench.server.asked(Verb::List, AFFINITIES).len(), 1);
}

#[tokio::test]
async fn kinds_that_come_in_any_order_end_in_the_same() {
    let mut bench = Bench::settled("order").await;
    bench.journal();
    let second = SECOND.parse().unwrap();
    let pending = |snapshot: &selvedge::cluster::Snapshot| {
        snapshot.desired.blocks.get(&second).is_some_and(|block| !block.is_announced())
    };
    // The affinity long before its block.
    bench.server.put(AFFINITIES, affinity(SECOND));
    bench.await_snapshot("a block without an owner", pending).await;
    bench.server.put("ipamblocks", ipam_block(SECOND));
    recovers(&mut bench, Absence::None).await;
}

#[tokio::test]
async fn a_huge_object_is_read_like_any_other() {
    let mut bench = Bench::settled("huge").await;
    bench.journal();
    let mut huge = affinity(SECOND);
    huge["metadata"]["annotations"] = json!({ "huge": "x".repeat(16 << 20) });
    bench.server.put("ipamblocks", ipam_block(SECOND));
    bench.server.put(AFFINITIES, huge);
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    list_anew(&bench.server, Verb::List);
    bench.server.await_asked(Verb::List, AFFINITIES, 2).await;
    recovers(&mut bench, Absence::None).await;
}

#[tokio::test]
async fn a_kind_that_may_no_longer_be_read_stays_as_it_was() {
    for code in [403, 404] {
        let mut bench = Bench::settled(&format!("onekind{code}")).await;
        bench.journal();
        for verb in [Verb::List, Verb::Watch] {
            bench.server.fault(verb, "ippools", Fault::Refuse(code));
        }
        bench.server.end_watches("ippools");
        bench.await_snapshot("a refusal", |now| now.trouble.refused.contains_key("IPPool")).await;
        bench.allocate(SECOND);
        bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
        bench.server.mend();
        bench.await_snapshot("no refusal", |now| now.trouble.refused.is_empty()).await;
        recovers(&mut bench, Absence::None).await;
    }
}

#[tokio::test]
async fn a_kind_that_is_undefined_is_not_taken_back() {
    let mut bench = Bench::settled("undefined").await;
    bench.journal();
    bench.server.undefine(AFFINITIES);
    bench.await_snapshot("a refusal", |now| now.trouble.refused.contains_key("BlockAffinity")).await;
    bench.server.define(CALICO, AFFINITIES);
    bench.server.put(AFFINITIES, affinity(FIRST));
    bench.allocate(SECOND);
    recovers(&mut bench, Absence::None).await;
}

#[tokio::test]
async fn calico_may_come_later() {
    for group in [CALICO, "/apis/projectcalico.org/v3"] {
        let server = FakeServer::start();
        server.define(CORE, "nodes");
        server.put("nodes", node(&[OF_NODE]));
        let mut bench = Bench::over(&format!("later{}", group.len()), server, CalicoApi::Any);
        bench.await_announced(&[OF_NODE]).await;
        bench.await_snapshot("no Calico", |now| now.trouble.refused.contains_key("Calico")).await;
        for plural in [AFFINITIES, "ippools", "ipamblocks"] {
            bench.server.define(group, plural);
        }
        bench.server.put("ippools", pool());
        bench.allocate(FIRST);
        bench.await_announced(&[FIRST, OF_NODE]).await;
        assert!(bench.snapshots.borrow().trouble.refused.is_empty());
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_is_read_anew() {
    for has_file in [false, true] {
        let mut bench = Bench::settled(&format!("token{has_file}")).await;
        bench.journal();
        for token in ["second", "third"] {
            let met =
                bench.server.asked(Verb::List, "nodes").iter().filter(|asked| asked.fault.is_some()).count();
            bench.server.expect_token(token);
            for plural in ["nodes", AFFINITIES, "ippools", "ipamblocks"] {
                bench.server.end_watches(plural);
            }
            bench.server.await_faults(Verb::List, "nodes", met + 2).await;
            bench.await_snapshot("a refusal", |now| !now.trouble.refused.is_empty()).await;
            if has_file {
                bench.write_token_file(token)
            } else {
                bench.write_kubeconfig(token)
            }
            bench.await_snapshot("no refusal", |now| now.trouble.refused.is_empty()).await;
        }
        bench.allocate(SECOND);
        recovers(&mut bench, Absence::None).await;
        // A round for each pause: two that were awaited, and those while the token was on its way.
        assert!(bench.server.requests() < 150, "{}", bench.server.requests());
    }
}

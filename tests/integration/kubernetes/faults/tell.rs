//! What the agent writes to its node: the server has it in the end, whatever becomes of the requests.

use selvedge::readiness::{Told, Words};

use super::*;

const STATUS: &str = "nodes/status";
const TAINT: &str = "selvedge.dev/uplinks-not-ready";

fn words() -> Words {
    Words { reason: "NoUplink", message: "tor1 is down".to_owned() }
}

/// `None` where the server was not told.
fn condition(server: &FakeServer) -> Option<String> {
    let node = server.object("nodes", "c1");
    let conditions = node["status"]["conditions"].as_array()?;
    let network = conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable")?;
    network["status"].as_str().map(str::to_owned)
}

fn is_tainted(server: &FakeServer) -> bool {
    let node = server.object("nodes", "c1");
    node["spec"]["taints"].as_array().is_some_and(|taints| taints.iter().any(|taint| taint["key"] == TAINT))
}

/// The server is told that the node is unfit while its patches meet with this, and then that it is fit.
async fn survives(what: &'static str, fault: Fault) {
    let mut bench = Bench::telling(&format!("tell-{}-{fault:?}", what.replace('/', "-"))).await;
    bench.server.fault(Verb::Patch, what, fault);
    bench.told.send_replace(Told::NotReady(words()));
    bench.server.await_faults(Verb::Patch, what, 1).await;
    if fault == Fault::Hang {
        jump().await;
    }
    if fault != Fault::Hold {
        bench.server.await_faults(Verb::Patch, what, 2).await;
    }
    bench.server.mend();
    let is_unfit = |server: &FakeServer| condition(server).as_deref() == Some("True") && is_tainted(server);
    bench.server.await_so("an unfit node", is_unfit).await;
    bench.told.send_replace(Told::Ready(words()));
    let is_fit = |server: &FakeServer| condition(server).as_deref() == Some("False") && !is_tainted(server);
    bench.server.await_so("a fit node", is_fit).await;
    bench.await_snapshot("no refusal", |now| now.trouble.refused.is_empty()).await;
    // One each way of either, and what met with the fault.
    let patches = bench.server.asked(Verb::Patch, what);
    let met = patches.iter().filter(|asked| asked.fault.is_some()).count();
    assert!(patches.len() <= met + 3 && met <= 8, "{patches:#?}");
}

#[tokio::test]
async fn the_condition_and_the_taint_survive_what_becomes_of_their_patches() {
    let faults = [409, 422, 500, 503, 429, 403, 404]
        .map(Fault::Refuse)
        .into_iter()
        .chain([Fault::Garbage, Fault::Hold]);
    let all: Vec<_> = faults.flat_map(|fault| [STATUS, "nodes"].map(|what| survives(what, fault))).collect();
    join_all(all).await;
}

#[tokio::test]
async fn a_patch_that_is_never_answered_is_given_up() {
    survives(STATUS, Fault::Hang).await;
}

#[tokio::test]
async fn who_may_not_write_says_so_and_goes_on_with_the_blocks() {
    let mut bench = Bench::telling("maynotwrite").await;
    bench.server.fault(Verb::Patch, STATUS, Fault::Refuse(403));
    bench.told.send_replace(Told::NotReady(words()));
    bench.await_snapshot("a refusal", |now| now.trouble.refused.contains_key(STATUS)).await;
    bench.allocate(SECOND);
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
}

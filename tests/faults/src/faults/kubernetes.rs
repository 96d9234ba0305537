//! F16 to F18: an API server that is away, slow or beside itself. What it said last stays in force; the fabric does not
//! notice.

use std::time::{Duration, Instant};

use lab::kubernetes::fake::{FakeServer, Fault as ServerFault, Verb};
use lab::{Error, Journal, Result, eventually};
use serde_json::Value;

use super::restart::start_again;
use crate::api::{AFFINITIES, BLOCKS, KINDS, POOLS, fill};
use crate::fault::{Fate, Fault, Length, Number, Setting};
use crate::site::{LogMark, Site};

/// The longest pause of the agent between two requests, a hold-down, and a loaded machine.
const NOTICED: Duration = Duration::from_secs(30);
/// How long something is wrong that the agent does not have to notice.
const WHILE: Duration = Duration::from_secs(2);

/// What is shared by these.
const KUBERNETES: Fault =
    Fault { setting: Setting::Kubernetes, limit: Duration::from_secs(60), ..Fault::USUAL };

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(16),
        name: "the API server refuses connections while the agent starts",
        expected: "the blocks that were kept are announced; nothing waits for the server",
        fate: Fate::Replaced,
        make: refused_at_start,
        ..KUBERNETES
    },
    Fault {
        number: Number(17),
        name: "the API server is killed and started again",
        expected: "one line that it is away and one that it is back; nothing is withdrawn",
        make: |site| unnoticed(site, killed),
        ..KUBERNETES
    },
    Fault {
        number: Number(17),
        name: "the API server takes connections and answers nothing",
        length: Length::Long,
        expected: "nothing is withdrawn, and everything goes on with the answers",
        make: |site| unnoticed(site, |site| lists_meet(site, ServerFault::Hold, NOTHING)),
        ..KUBERNETES
    },
    Fault {
        number: Number(17),
        name: "the API server has too much to do (429)",
        length: Length::Long,
        expected: "it is asked ever less often; nothing is withdrawn",
        make: |site| unnoticed(site, |site| lists_meet(site, ServerFault::Refuse(429), "away")),
        ..KUBERNETES
    },
    Fault {
        number: Number(17),
        name: "the token has expired (401)",
        length: Length::Long,
        expected: "a line that says so; nothing is withdrawn",
        make: |site| unnoticed(site, |site| lists_meet(site, ServerFault::Refuse(401), "refuses")),
        ..KUBERNETES
    },
    Fault {
        number: Number(18),
        name: "watches expire (410), and all lists of a server that was emptied are empty",
        expected: "a line for what is missing; nothing is withdrawn, for whatever time",
        make: |site| unnoticed(site, emptied),
        ..KUBERNETES
    },
    Fault {
        number: Number(18),
        name: "half of a list is lost, and is there again in the next",
        length: Length::Long,
        expected: "a line for what is missing; nothing is withdrawn",
        make: |site| unnoticed(site, halved),
        ..KUBERNETES
    },
    Fault {
        number: Number(18),
        name: "lists are cut off, are no JSON, have no version or no end, and versions go back, in turns",
        expected: "nothing is withdrawn",
        length: Length::Long,
        limit: Duration::from_secs(180),
        make: |site| unnoticed(site, nonsense),
        ..KUBERNETES
    },
];

/// Where the log has no line to be awaited.
const NOTHING: &str = "";

/// No route of another node changes meanwhile.
fn unnoticed(site: &mut Site, make: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
    let journal = Journal::open(&site.far()?.netns)?;
    make(site)?;
    let changes = journal.changes()?;
    site.demand(changes.is_empty(), || format!("{} routes of another node changed", changes.len()));
    // What the next fault begins with.
    await_answers(site)
}

fn refused_at_start(site: &mut Site) -> Result<()> {
    site.api_mut()?.down();
    site.agent_mut()?.0.kill()?;
    let mark = site.mark_log()?;
    let took = start_again(site)?;
    site.await_log("the API server is away", mark, NOTICED)?;
    site.note(format!("taken over after {:.1} s, with the blocks that were kept", took.as_secs_f64()));
    site.api_mut()?.up();
    await_answers(site)
}

fn killed(site: &mut Site) -> Result<()> {
    let mark = site.mark_log()?;
    site.api_mut()?.down();
    site.await_log("the API server is away", mark, NOTICED)?;
    std::thread::sleep(WHILE);
    site.api_mut()?.up();
    await_answers(site)?;
    let log = site.logged_since(mark)?;
    let (away, back) = (log.matches("server is away").count(), log.matches("server is back").count());
    site.demand((away, back) == (1, 1), || format!("{away} lines that it is away, {back} that it is back"));
    Ok(())
}

/// Every list meets with this, as every watch that is there ends and has missed something.
fn lists_meet(site: &mut Site, fault: ServerFault, logged: &str) -> Result<()> {
    let (mark, before) = (site.mark_log()?, failed_lists(site.api()?));
    let server = site.api()?;
    for kind in KINDS {
        server.fault(Verb::List, kind, fault);
        server.forget(kind);
        server.end_watches(kind);
    }
    eventually("lists meet with it", NOTICED, || Ok((failed_lists(site.api()?) > before).then_some(())))?;
    site.await_log(logged, mark, NOTICED)?;
    std::thread::sleep(WHILE);
    site.api()?.mend();
    let met = failed_lists(site.api()?).saturating_sub(before);
    site.note(format!("{met} lists of one kind met with {fault:?}"));
    Ok(())
}

/// Lists of affinities that met with a fault, since the server was started.
fn failed_lists(server: &FakeServer) -> usize {
    server.asked(Verb::List, AFFINITIES).iter().filter(|asked| asked.fault.is_some()).count()
}

fn emptied(site: &mut Site) -> Result<()> {
    let mark = site.mark_log()?;
    let server = site.api()?;
    // The watch of the node goes on, and knows nothing of it.
    KINDS.iter().for_each(|kind| server.lose(kind, |_| true));
    [AFFINITIES, BLOCKS, POOLS].iter().for_each(|kind| server.end_watches(kind));
    let begun = Instant::now();
    await_words(site, "it has no such node", |kubernetes| {
        kubernetes.get("node_absent") == Some(&Value::Bool(true)) && missing(kubernetes) > 0
    })?;
    site.note(format!("its node is looked for {:.1} s after that", begun.elapsed().as_secs_f64()));
    // For however long.
    std::thread::sleep(WHILE);
    fill(site.api()?, site.victim()?);
    await_complete(site, mark)
}

fn halved(site: &mut Site) -> Result<()> {
    let mark = site.mark_log()?;
    let server = site.api()?;
    let lost = server.asked(Verb::List, AFFINITIES).len();
    server.lose(AFFINITIES, |name| name.ends_with("-26"));
    server.end_watches(AFFINITIES);
    await_words(site, "half of it is missing", |kubernetes| missing(kubernetes) == 1)?;
    fill(site.api()?, site.victim()?);
    await_complete(site, mark)?;
    let lists = site.api()?.asked(Verb::List, AFFINITIES).len().saturating_sub(lost);
    site.note(format!("complete after {lists} lists"));
    Ok(())
}

fn nonsense(site: &mut Site) -> Result<()> {
    use ServerFault::{Circle, CutAfter, EndAtOnce, Garbage, Redirect, Silence, Versionless};
    for fault in [CutAfter(60), Garbage, Redirect, Versionless, Circle] {
        lists_meet(site, fault, NOTHING)?;
        await_answers(site)?;
    }
    for fault in [EndAtOnce, Silence, Garbage] {
        let server = site.api()?;
        server.fault(Verb::Watch, AFFINITIES, fault);
        server.end_watches(AFFINITIES);
        std::thread::sleep(WHILE);
        site.api()?.mend();
        site.api()?.end_watches(AFFINITIES);
    }
    older_copy(site)?;
    await_answers(site)
}

/// The same objects, with versions from long before those that the watches have seen.
fn older_copy(site: &Site) -> Result<()> {
    let server = site.api()?;
    for kind in KINDS {
        let (watches, lists) = (server.asked(Verb::Watch, kind).len(), server.asked(Verb::List, kind).len());
        server.go_back(50, kind, server.objects(kind));
        eventually("it is watched again", NOTICED, || {
            Ok((server.asked(Verb::Watch, kind).len() > watches).then_some(()))
        })?;
        eventually("it is listed again", NOTICED, || {
            server.bookmark(kind);
            Ok((server.asked(Verb::List, kind).len() > lists).then_some(()))
        })?;
    }
    Ok(())
}

/// What was missing is there again.
fn await_complete(site: &Site, mark: LogMark) -> Result<()> {
    await_words(site, "nothing is missing", |kubernetes| missing(kubernetes) == 0)?;
    site.await_log("lists less than before", mark, NOTICED)
}

fn await_answers(site: &Site) -> Result<()> {
    await_words(site, "the server answers", |kubernetes| {
        kubernetes.pointer("/server/is").is_some_and(|is| is == "answers")
            && kubernetes.get("refused").and_then(Value::as_array).is_some_and(Vec::is_empty)
            && kubernetes.get("awaited").and_then(Value::as_array).is_some_and(Vec::is_empty)
    })
}

fn missing(kubernetes: &Value) -> u64 {
    let missing = kubernetes.get("missing").and_then(Value::as_object);
    missing.and_then(|missing| missing.get("BlockAffinity")).and_then(Value::as_u64).unwrap_or(0)
}

/// What `bgpctl show pods` says of the server.
fn await_words(site: &Site, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
    eventually(what, NOTICED, || {
        let pods = site.agent()?.bgpctl_json(&["show", "pods"])?;
        let kubernetes = pods.get("kubernetes").ok_or_else(|| Error::Missing("its API server".to_owned()))?;
        Ok(is_so(kubernetes).then_some(()))
    })
}

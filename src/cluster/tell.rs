//! Tells the API server whether this node is fit for pods.
//!
//! In: what is to be told, and the node as its watch has it, both as snapshots. Out: the patches that `fitness` asks for, one
//! after the other, and what became of them. Nothing is written that the server has already, so a server that knows what it is
//! to know hears nothing from here.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use super::fitness::{Tainting, Write};
use super::objects::Node;
use super::server::Backoff;
use super::watch::{Outcome, answer};
use crate::readiness::{Told, rfc3339};

/// Under which name the server keeps which fields are ours.
const FIELD_MANAGER: &str = "selvedge";
/// From an answer to the change in the watch, which takes milliseconds. Later than this, what the watch shows is taken for
/// what is there.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// What was written this long ago and is otherwise now was not taken back by somebody who insists on it.
const UNDISPUTED: Duration = Duration::from_secs(60);

/// What the server has to be told of this node's readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Nothing,
    /// How it is.
    Readiness(Tainting),
    /// That nobody looks any more: the configuration before had `[readiness]`, and the server has not heard yet that this one
    /// has not. Without that the node would be what it was told last, for ever.
    Farewell(Tainting),
}

impl Duty {
    /// Under other settings.
    pub(super) fn under(self, tainting: Option<Tainting>) -> Self {
        match (tainting, self) {
            (Some(tainting), _) => Self::Readiness(tainting),
            (None, Self::Readiness(tainting) | Self::Farewell(tainting)) => Self::Farewell(tainting),
            (None, Self::Nothing) => Self::Nothing,
        }
    }
}

/// What is looked at.
pub(super) struct Inputs {
    pub(super) told: watch::Receiver<Told>,
    /// `None` while the server has no such node, or has not said.
    pub(super) node: watch::Receiver<Option<Node>>,
}

/// Goes on for as long as somebody says what is to be told, and somebody listens; a farewell, until the server has it.
/// `outcome` is made of the resource that was patched and what became of that.
pub(super) async fn tell<E>(
    client: Client,
    nodes: &ApiResource,
    name: &str,
    duty: Duty,
    mut inputs: Inputs,
    events: mpsc::Sender<E>,
    outcome: impl Fn(&'static str, Outcome) -> E,
) {
    // Held for as long as there is something to tell: it is nothing else, and never over.
    let farewell = watch::Sender::new(Told::Unwatched);
    let tainting = match duty {
        Duty::Nothing => return,
        Duty::Readiness(tainting) => tainting,
        Duty::Farewell(tainting) => {
            inputs.told = farewell.subscribe();
            tainting
        }
    };
    let api: Api<DynamicObject> = Api::all_with(client, nodes);
    let mut backoff = Backoff::default();
    let mut last_write: Option<Instant> = None;
    loop {
        // Whatever is new for us to tell is no dispute.
        if inputs.told.has_changed().unwrap_or(false) {
            backoff.reset();
        }
        let (write, is_last) = {
            let (told, node) = (inputs.told.borrow_and_update(), inputs.node.borrow_and_update());
            let write = node.as_ref().and_then(|node| Write::next(&told, node, tainting));
            (write, *told == Told::Unwatched && node.is_some())
        };
        let Some(write) = write else {
            // Whoever writes something else from now on has the last word.
            if is_last {
                return;
            }
            let is_over = tokio::select! {
                changed = inputs.told.changed() => changed.is_err(),
                changed = inputs.node.changed() => changed.is_err(),
            };
            if is_over {
                return;
            }
            continue;
        };
        // Two who want different things of a node take turns, and ever more slowly.
        match last_write.replace(Instant::now()) {
            Some(last) if last.elapsed() < UNDISPUTED => {
                let pause = backoff.next_pause();
                if wait(pause, &mut inputs).await == Meanwhile::OtherNews {
                    continue;
                }
            }
            Some(_) | None => backoff.reset(),
        }
        let resource = write.resource();
        let done = tokio::select! {
            done = send(&api, name, &write) => done,
            // What is under way is not true any more; over a connection that was cut off it may be that for long.
            Ok(()) = inputs.told.changed() => {
                inputs.told.mark_changed();
                continue;
            }
        };
        let what = match done {
            Err(Outcome::Refused { code, message }) if write.is_outdated(code) => {
                debug!(resource, code, message, "the node is another one by now: the watch will tell");
                Outcome::Answered
            }
            // Whether it is there, the watches say: nothing may be left to write when it is back.
            Err(Outcome::Unreachable(why)) => {
                debug!(resource, why, "the API server is not told");
                continue;
            }
            Err(answer @ (Outcome::Refused { .. } | Outcome::Answered)) => answer,
            Ok(()) => {
                info!(resource, %write, "told the API server");
                // The watch may still show what was there before, and the same would be written again.
                let seen = inputs.node.wait_for(|node| node.as_ref().is_some_and(|node| write.is_in(node)));
                let _ = tokio::time::timeout(SEEN_WITHIN, seen).await;
                Outcome::Answered
            }
        };
        if events.send(outcome(resource, what)).await.is_err() {
            return;
        }
    }
}

/// What happened during a pause.
#[derive(PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    /// There may be something else to write.
    OtherNews,
}

async fn wait(pause: Duration, inputs: &mut Inputs) -> Meanwhile {
    tokio::select! {
        () = tokio::time::sleep(pause) => Meanwhile::Nothing,
        _ = inputs.told.changed() => {
            inputs.told.mark_changed();
            Meanwhile::OtherNews
        }
    }
}

/// Dropped half-way, the server may have done it or not: what it has is looked at before anything else is written.
async fn send(api: &Api<DynamicObject>, name: &str, write: &Write) -> Result<(), Outcome> {
    let patch = write.patch(&rfc3339(Timestamp::now()));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let done = async {
        match write {
            Write::Condition { .. } => api.patch_status(name, &params, &Patch::Strategic(patch)).await,
            Write::AddTaint { .. } | Write::RemoveTaint { .. } => {
                let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
                api.patch(name, &params, &Patch::<Value>::Json(patch)).await
            }
        }
    };
    answer(done).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_owed_by_whoever_has_told_something() {
        use Tainting::{LeftAlone, Managed};
        let rows = [
            (Duty::Nothing, None, Duty::Nothing),
            (Duty::Nothing, Some(Managed), Duty::Readiness(Managed)),
            (Duty::Readiness(Managed), Some(LeftAlone), Duty::Readiness(LeftAlone)),
            (Duty::Readiness(Managed), None, Duty::Farewell(Managed)),
            (Duty::Readiness(LeftAlone), None, Duty::Farewell(LeftAlone)),
            // Still owed after another reload, unless it is untrue by then.
            (Duty::Farewell(Managed), None, Duty::Farewell(Managed)),
            (Duty::Farewell(Managed), Some(LeftAlone), Duty::Readiness(LeftAlone)),
        ];
        for (before, tainting, after) in rows {
            assert_eq!(before.under(tainting), after, "{before:?}, {tainting:?}");
        }
    }
}

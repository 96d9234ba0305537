//! `drain`: gives the order and goes along with it until it is done.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use selvedge::control::api;

use crate::Failure;
use crate::args::Drain;
use crate::client::{Client, ClientError, encode};
use crate::commands::print;
use crate::output::{Format, Output};
use crate::render;

/// Between two looks at how far it is.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) async fn drain<W: Write>(
    client: &Client,
    order: &Drain,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    if order.if_host_stops && !host_stops() {
        return say(output, "The host stays up: nothing is drained.\n");
    }
    let begun: api::DrainBegun = client.post(&path(order)).await?;
    if order.background {
        return print(&begun, |begun| render::line(&begun.message), output);
    }
    say(output, &render::line(&begun.message))?;
    follow(client, order, begun.neighbor.as_deref(), output).await
}

fn path(order: &Drain) -> String {
    let mut path = format!("/v1/drain?wait_ms={}&stop={}", order.wait.as_millis(), order.stop);
    for (key, value) in [("neighbor", &order.neighbor), ("message", &order.message)] {
        if let Some(value) = value {
            path += &format!("&{key}={}", encode(value));
        }
    }
    path
}

/// Whether the service manager is taking the host down. Without one, or without an answer, the daemon alone is stopped:
/// then its routes have to stay.
fn host_stops() -> bool {
    // Its exit status is not 0 for any state but `running`.
    let state = Command::new("systemctl").arg("is-system-running").output();
    state.is_ok_and(|state| state.stdout.trim_ascii() == b"stopping")
}

/// Prints each step; ends with the drain, or with the daemon where that was asked for.
async fn follow<W: Write>(
    client: &Client,
    order: &Drain,
    neighbor: Option<&str>,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let mut told = 0;
    loop {
        let now: api::Drain = match client.get("/v1/drain").await {
            Ok(now) => now,
            Err(error) if order.stop && told > 0 && is_end(&error) => {
                return say(output, "The daemon has ended.\n");
            }
            Err(error) => return Err(error.into()),
        };
        let progress = match neighbor {
            None => now.node.as_ref(),
            Some(name) => {
                let drained = now.neighbors.iter().find(|neighbor| neighbor.name == name);
                drained.and_then(|neighbor| neighbor.drain.as_ref())
            }
        };
        let Some(progress) = progress.filter(|progress| progress.state != api::DrainState::Returning) else {
            let message = "the drain was taken back before it was done";
            return Err(ClientError::Refused(api::Error::new(api::ErrorCode::Refused, message)).into());
        };
        for step in progress.steps.iter().skip(told) {
            say(output, &render::drain_step(progress, step))?;
        }
        told = progress.steps.len();
        if progress.state == api::DrainState::Drained && !order.stop {
            return match output.format() {
                Format::Json => output.json(&now),
                Format::Text => Ok(()),
            };
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn is_end(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::NoAnswer { .. } => true,
        ClientError::Refused(error) => error.code == api::ErrorCode::Stopping,
    }
}

/// At once, for whoever looks on; programs get the end alone.
fn say<W: Write>(output: &mut Output<W>, text: &str) -> Result<(), Failure> {
    match output.format() {
        Format::Text => {
            output.text(text)?;
            Ok(output.flush()?)
        }
        Format::Json => Ok(()),
    }
}

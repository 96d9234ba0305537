//! What each command asks, and how its answer is printed.

use std::fmt;
use std::io::Write;

use bgp::Prefix;
use selvedge::control::api;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::args::{Args, Command, NeighborAction, NeighborTable, Reload, ServiceTarget, Show, Target};
use crate::client::{Client, encode};
use crate::drain;
use crate::output::{Format, Output};
use crate::render;

pub(crate) async fn run<W: Write>(args: &Args, output: &mut Output<W>) -> Result<(), Failure> {
    let client = Client::new(&args.socket);
    match &args.command {
        Command::Show(show) => run_show(&client, show, output).await,
        Command::Neighbor { name, action } => {
            let word = match action {
                NeighborAction::Clear => "clear",
                NeighborAction::Refresh => "refresh",
            };
            act(&client, &format!("/v1/neighbors/{}/{word}", encode(name)), output).await
        }
        Command::Drain(order) => drain::drain(&client, order, output).await,
        Command::Undrain { neighbor } => {
            act(&client, &format!("/v1/undrain{}", of_neighbor(neighbor.as_deref())), output).await
        }
        Command::Reload(Reload { dry_run, confirm }) => {
            let confirm = confirm.map(|time| format!("&confirm_ms={}", time.as_millis())).unwrap_or_default();
            act(&client, &format!("/v1/reload?dry_run={dry_run}{confirm}"), output).await
        }
        Command::Ready => ready(&client, output).await,
        Command::Confirm => act(&client, "/v1/confirm", output).await,
    }
}

async fn run_show<W: Write>(client: &Client, show: &Show, output: &mut Output<W>) -> Result<(), Failure> {
    match show {
        Show::Summary => print(&client.get("/v1/summary").await?, render::summary, output),
        Show::Neighbor { name: None, .. } => {
            print(&client.get("/v1/neighbors").await?, render::neighbors, output)
        }
        Show::Neighbor { name: Some(name), table: None } => {
            let path = format!("/v1/neighbors/{}", encode(name));
            print(&client.get(&path).await?, render::neighbor, output)
        }
        Show::Neighbor { name: Some(name), table: Some(NeighborTable::Received) } => {
            let path = format!("/v1/neighbors/{}/received", encode(name));
            table(client, &path, None, output, render::received).await
        }
        Show::Neighbor { name: Some(name), table: Some(NeighborTable::Advertised) } => {
            let path = format!("/v1/neighbors/{}/advertised", encode(name));
            table(client, &path, None, output, render::advertised).await
        }
        Show::Rib { target: None } => table(client, "/v1/rib", None, output, render::rib).await,
        Show::Rib { target: Some(target) } => {
            let path = format!("/v1/rib?{}", selector(*target));
            let lookup = Lookup::Route { target: *target, table: "RIB" };
            table(client, &path, Some(lookup), output, |found, _| render::destinations(found)).await
        }
        Show::Policy { name } => {
            let path = format!("/v1/policies{}", of_neighbor(name.as_deref()));
            print(&client.get(&path).await?, render::policies, output)
        }
        Show::Fib { target } => {
            let query = target.map(|target| format!("?{}", selector(target))).unwrap_or_default();
            let lookup = target.map(|target| Lookup::Route { target, table: "FIB" });
            fib(client, &format!("/v1/fib{query}"), lookup, output).await
        }
        Show::Interfaces => print(&client.get("/v1/interfaces").await?, render::interfaces, output),
        Show::Bfd => print(&client.get("/v1/bfd").await?, render::bfd, output),
        Show::Drain => print(&client.get("/v1/drain").await?, render::drain, output),
        Show::Pods => print(&client.get("/v1/pods").await?, render::pods, output),
        Show::Services { target } => services(client, target.as_ref(), output).await,
        Show::Memory => print(&client.get("/v1/memory").await?, render::memory, output),
        Show::Config => print(&client.get("/v1/config").await?, render::config, output),
    }
}

/// What a probe has to say of a node that is not ready goes where errors go.
async fn ready<W: Write>(client: &Client, output: &mut Output<W>) -> Result<(), Failure> {
    let readiness: api::Readiness = client.get("/v1/readiness").await?;
    match (output.format(), readiness.ready) {
        (Format::Json, _) => output.json(&readiness)?,
        (Format::Text, true) => output.text(&render::line(&readiness.line()))?,
        (Format::Text, false) => {}
    }
    output.flush()?;
    if readiness.ready { Ok(()) } else { Err(Failure::NotReady(readiness.line())) }
}

async fn act<W: Write>(client: &Client, path: &str, output: &mut Output<W>) -> Result<(), Failure> {
    print(&client.post(path).await?, render::done, output)
}

pub(crate) fn print<T: Serialize, W: Write>(
    answer: &T,
    render: impl FnOnce(&T) -> String,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    match output.format() {
        Format::Text => Ok(output.text(&render(answer))?),
        Format::Json => output.json(answer),
    }
}

/// The query for one neighbor, or for none in particular.
fn of_neighbor(name: Option<&str>) -> String {
    name.map(|name| format!("?neighbor={}", encode(name))).unwrap_or_default()
}

fn selector(target: Target) -> String {
    match target {
        Target::Prefix(prefix) => format!("prefix={}", encode(&prefix.to_string())),
        Target::Address(address) => format!("address={}", encode(&address.to_string())),
    }
}

/// What has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// One route.
    Route {
        /// Which one.
        target: Target,
        /// Where.
        table: &'static str,
    },
    /// An address of a service.
    Service(ServiceTarget),
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route { target: Target::Prefix(prefix), table } => {
                write!(f, "no route {prefix} in the {table}")
            }
            Self::Route { target: Target::Address(address), table } => {
                write!(f, "no route to {address} in the {table}")
            }
            Self::Service(ServiceTarget::Service(name)) => {
                write!(f, "no address of a service {name} of a kind that [services] has ranges for")
            }
            Self::Service(ServiceTarget::Addresses(Target::Address(address))) => {
                write!(f, "no service has the address {address}")
            }
            Self::Service(ServiceTarget::Addresses(Target::Prefix(range))) => {
                write!(f, "no service has an address in {range}")
            }
        }
    }
}

/// A table of any length, or what was looked up in it: each page is printed before the next one is asked for.
async fn table<T, W>(
    client: &Client,
    path: &str,
    lookup: Option<Lookup>,
    output: &mut Output<W>,
    render: impl Fn(&[T], render::Position) -> String,
) -> Result<(), Failure>
where
    T: DeserializeOwned + Serialize,
    W: Write,
{
    let mut rows = Rows::new(output, lookup);
    let mut after = None;
    loop {
        let page: api::Page<T> = client.get(&with_cursor(path, after)).await?;
        rows.print(&page.items, &render)?;
        match advance(client, after, page.next)? {
            Some(next) => after = Some(next),
            None => return rows.end(),
        }
    }
}

/// As [`table`], with counters at its end.
async fn fib<W: Write>(
    client: &Client,
    path: &str,
    lookup: Option<Lookup>,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let mut rows = Rows::new(output, lookup);
    let mut after = None;
    loop {
        let api::Fib { counters, next_hops, page } = client.get(&with_cursor(path, after)).await?;
        rows.print(&page.items, render::fib)?;
        match advance(client, after, page.next)? {
            Some(next) => after = Some(next),
            None => {
                rows.end()?;
                return match output.format() {
                    Format::Text => Ok(output.text(&render::fib_counters(&counters, &next_hops))?),
                    Format::Json => Ok(()),
                };
            }
        }
    }
}

/// As [`table`], with totals at its end.
async fn services<W: Write>(
    client: &Client,
    target: Option<&ServiceTarget>,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let path = match target {
        None => "/v1/services".to_owned(),
        Some(ServiceTarget::Service(name)) => format!("/v1/services?service={}", encode(name)),
        Some(ServiceTarget::Addresses(target)) => format!("/v1/services?{}", selector(*target)),
    };
    let mut rows = Rows::new(output, target.cloned().map(Lookup::Service));
    let mut after = None;
    loop {
        let api::Services { kubernetes, totals, page } = client.get(&with_cursor(&path, after)).await?;
        rows.print(&page.items, render::services)?;
        match advance(client, after, page.next)? {
            Some(next) => after = Some(next),
            None => {
                rows.end()?;
                return match output.format() {
                    Format::Text => Ok(output.text(&render::services_totals(&totals, kubernetes.as_ref()))?),
                    Format::Json => Ok(()),
                };
            }
        }
    }
}

fn with_cursor(path: &str, after: Option<Prefix>) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    after.map_or_else(
        || path.to_owned(),
        |after| format!("{path}{separator}after={}", encode(&after.to_string())),
    )
}

/// A cursor that does not move would have us ask for ever.
fn advance(client: &Client, after: Option<Prefix>, next: Option<Prefix>) -> Result<Option<Prefix>, Failure> {
    match (after, next) {
        (Some(after), Some(next)) if next <= after => {
            Err(client.no_answer(format!("the page after {after} leads back to {next}")).into())
        }
        _ => Ok(next),
    }
}

/// Rows of a table over all its pages: text, or one JSON array.
struct Rows<'o, W: Write> {
    output: &'o mut Output<W>,
    /// What has to be among them; without it an empty table is an answer, too.
    lookup: Option<Lookup>,
    found: Found,
    position: render::Position,
    /// What stands before the next item of the array.
    before: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Something,
}

impl<'o, W: Write> Rows<'o, W> {
    fn new(output: &'o mut Output<W>, lookup: Option<Lookup>) -> Self {
        Self { output, lookup, found: Found::Nothing, position: render::Position::First, before: "[" }
    }

    fn print<T: Serialize>(
        &mut self,
        items: &[T],
        render: impl Fn(&[T], render::Position) -> String,
    ) -> Result<(), Failure> {
        if !items.is_empty() {
            self.found = Found::Something;
        }
        match self.output.format() {
            Format::Text if items.is_empty() && self.lookup.is_some() => {}
            Format::Text => self.output.text(&render(items, self.position))?,
            Format::Json => {
                for item in items {
                    self.output.text(std::mem::replace(&mut self.before, ",\n"))?;
                    self.output.json_line(item)?;
                }
            }
        }
        self.position = render::Position::Later;
        Ok(self.output.flush()?)
    }

    fn end(self) -> Result<(), Failure> {
        match self.output.format() {
            Format::Text => {}
            Format::Json if self.before == "[" => self.output.text("[]\n")?,
            Format::Json => self.output.text("]\n")?,
        }
        match (self.lookup, self.found) {
            (Some(lookup), Found::Nothing) => Err(Failure::NotFound(lookup)),
            (Some(_), Found::Something) | (None, Found::Nothing | Found::Something) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_joins_the_query() {
        let after = "10.0.0.0/8".parse().ok();
        assert_eq!(with_cursor("/v1/rib", None), "/v1/rib");
        assert_eq!(with_cursor("/v1/rib", after), "/v1/rib?after=10.0.0.0%2F8");
        assert_eq!(with_cursor("/v1/rib?address=::1", after), "/v1/rib?address=::1&after=10.0.0.0%2F8");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let absent = |word: &str| {
            Failure::NotFound(Lookup::Route { target: word.parse().unwrap(), table: "RIB" }).to_string()
        };
        assert_eq!(absent("192.0.2.1"), "no route to 192.0.2.1 in the RIB");
        assert_eq!(absent("192.0.2.0/24"), "no route 192.0.2.0/24 in the RIB");
        let absent = |word: &str| Failure::NotFound(Lookup::Service(word.parse().unwrap())).to_string();
        assert_eq!(absent("192.0.2.1"), "no service has the address 192.0.2.1");
        assert_eq!(absent("192.0.2.0/24"), "no service has an address in 192.0.2.0/24");
        assert!(absent("default/web").starts_with("no address of a service default/web "));
    }

    #[test]
    fn a_cursor_that_does_not_move_is_an_error() {
        let client = Client::new("/x".as_ref());
        let (low, high) = ("10.0.0.0/8".parse().ok(), "10.1.0.0/16".parse().ok());
        assert!(advance(&client, high, low).is_err());
        assert!(advance(&client, high, high).is_err());
        assert!(matches!(advance(&client, low, high), Ok(next) if next == high));
        assert!(matches!(advance(&client, None, None), Ok(None)));
    }
}

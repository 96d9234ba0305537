//! The daemon's memory while all its routes come and go: in a namespace, over a session, into the kernel.

use lab::flaps::{self, FlapOptions, Flaps, Sample};
use lab::{Account, Programs};

use crate::compare;

pub(crate) fn run(options: FlapOptions) -> lab::Result<()> {
    let daemon = compare::build_agent()?;
    let programs = Programs {
        bgpctl: daemon.with_file_name("bgpctl"),
        daemon,
        arguments: Vec::new(),
        account: Some(Account::OF_AGENTS),
        nexthop_objects: None,
    };
    let name = format!("flaps-{}", std::process::id());
    print(&flaps::run(&name, &programs, options)?);
    Ok(())
}

fn print(flaps: &Flaps) {
    println!("| | resident, MB | allocated, MB | peak, MB |\n|---|---|---|---|");
    row("idle, session up", &flaps.idle);
    for (round, [full, empty]) in (1..).zip(&flaps.rounds) {
        row(&format!("round {round}, all there"), full);
        row(&format!("round {round}, all gone"), empty);
    }
    println!("\n{}", flaps.parts);
}

fn row(what: &str, sample: &Sample) {
    let mb = |octets: u64| octets as f64 / 1e6;
    let Sample { resident, peak, allocated } = *sample;
    println!("| {what} | {:.1} | {:.2} | {:.1} |", mb(resident), mb(allocated), mb(peak));
}

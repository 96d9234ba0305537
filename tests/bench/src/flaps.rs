//! The daemon's memory while all its routes come and go: in a namespace, over a session, into the kernel.

use std::process::ExitCode;

use lab::Programs;
use lab::flaps::{self, FlapOptions, Flaps, Sample};

const ROUTES: u32 = 1_000_000;
const ROUNDS: u32 = 10;

/// `[ROUTES [ROUNDS]]`. The daemon is the one beside this program.
pub(crate) fn run(numbers: &[usize]) -> ExitCode {
    let number =
        |at: usize, default| numbers.get(at).map_or(Some(default), |number| u32::try_from(*number).ok());
    let (Some(routes), Some(rounds)) = (number(0, ROUTES), number(1, ROUNDS)) else {
        eprintln!("flaps: routes and rounds have thirty-two bits");
        return ExitCode::from(2);
    };
    let measured = programs().and_then(|programs| {
        let name = format!("flaps-{}", std::process::id());
        flaps::run(&name, &programs, FlapOptions { routes, rounds }).map_err(|error| error.to_string())
    });
    match measured {
        Ok(flaps) => {
            print(&flaps);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("flaps: {error}");
            ExitCode::FAILURE
        }
    }
}

fn programs() -> Result<Programs, String> {
    let this = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let beside = |name: &str| {
        let path = this.with_file_name(name);
        let missing = || format!("there is no {}: cargo build --release makes it", path.display());
        if path.exists() { Ok(path.clone()) } else { Err(missing()) }
    };
    Ok(Programs {
        daemon: beside("selvedge")?,
        arguments: Vec::new(),
        bgpctl: beside("bgpctl")?,
        nexthop_objects: None,
    })
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

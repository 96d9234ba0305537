//! `cargo run --release -p bench -- layout`: how routes may be laid out in memory, by octets and nanoseconds.
//! `cargo run --release -p bench -- rib`: the whole RIB, from UPDATE to FIB change.
//! `cargo run --release -p bench -- flaps`: the daemon's memory while all its routes come and go; needs root.

use std::process::ExitCode;

mod counting;
mod flaps;
mod layout;
mod rib;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments.iter().skip(1).filter_map(|text| text.parse().ok()).collect();
    match arguments.first().map(String::as_str) {
        Some("layout") => layout::run(&numbers),
        Some("rib") => rib::run(&numbers),
        Some("flaps") => return flaps::run(&numbers),
        Some(_) | None => {
            eprintln!("usage: bench layout [PREFIXES...] | rib [PREFIXES...] | flaps [ROUTES [ROUNDS]]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

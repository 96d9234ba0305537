//! `show memory`: where the daemon's memory is.

use selvedge::control::api::{Memory, MemoryPart, MemoryUser, ProcessMemory};

use super::{Position, left, or_dash, right, table};

pub(crate) fn memory(memory: &Memory) -> String {
    let Memory { parts, accounted_octets, allocator, process } = memory;
    let mut rows: Vec<[String; 3]> = parts.iter().map(row).collect();
    let mut whole = |what: &str, octets: u64| rows.push([what.to_owned(), String::new(), in_units(octets)]);
    whole("Accounted for", *accounted_octets);
    if let Some(allocator) = allocator {
        whole("Not accounted for", allocator.in_use_octets.saturating_sub(*accounted_octets));
        whole("Allocated", allocator.in_use_octets);
    }
    let table = table([left("Memory of", 18), right("Number"), right("Octets")], rows, Position::First);
    format!("{table}\n{}", resident(process))
}

fn row(part: &MemoryPart) -> [String; 3] {
    let name = match part.user {
        MemoryUser::Paths => "Paths",
        MemoryUser::Prefixes => "Prefixes",
        MemoryUser::Attributes => "Attributes",
        MemoryUser::NextHops => "Next-hop sets",
        MemoryUser::AdjRibsOut => "Adj-RIBs-Out",
        MemoryUser::FibRoutes => "FIB: routes",
        MemoryUser::FibSets => "FIB: next-hop sets",
        MemoryUser::FibObjects => "FIB: objects",
        MemoryUser::FibTroubles => "FIB: in trouble",
        MemoryUser::FibBacklog => "FIB: waiting",
        MemoryUser::SessionBuffers => "Session buffers",
        MemoryUser::RibInbox => "RIB: inbox",
    };
    [name.to_owned(), part.count.to_string(), or_dash(part.octets.map(in_units))]
}

fn resident(process: &ProcessMemory) -> String {
    format!(
        "Resident: {}, of which heap and stacks {}, program and libraries {}; {} at most\n",
        in_units(process.resident_octets),
        in_units(process.anonymous_octets),
        in_units(process.file_octets),
        in_units(process.peak_octets),
    )
}

/// With one digit behind the point, in steps of 1024.
fn in_units(octets: u64) -> String {
    const UNIT: u64 = 1024;
    if octets < UNIT {
        return octets.to_string();
    }
    let mut unit = UNIT;
    for name in ["KiB", "MiB"] {
        if octets < unit * UNIT {
            return tenths(octets, unit, name);
        }
        unit *= UNIT;
    }
    tenths(octets, unit, "GiB")
}

fn tenths(octets: u64, unit: u64, name: &str) -> String {
    format!("{}.{} {name}", octets / unit, octets % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use selvedge::control::api::AllocatorMemory;

    use super::*;

    fn example() -> Memory {
        let part = |user, count, octets| MemoryPart { user, count, octets };
        Memory {
            parts: vec![
                part(MemoryUser::Paths, 2_000_000, Some(32_000_000)),
                part(MemoryUser::FibBacklog, 3, Some(72)),
                part(MemoryUser::RibInbox, 2, None),
            ],
            accounted_octets: 32_000_072,
            allocator: Some(AllocatorMemory { in_use_octets: 33_000_000, free_octets: 1 << 20 }),
            process: ProcessMemory {
                resident_octets: 40 << 20,
                peak_octets: 50 << 20,
                anonymous_octets: 33 << 20,
                file_octets: 7 << 20,
            },
        }
    }

    #[test]
    fn memory_is_a_line_for_each_user() {
        let expected = "\
Memory of            Number     Octets
Paths               2000000   30.5 MiB
FIB: waiting              3         72
RIB: inbox                2          -
Accounted for                 30.5 MiB
Not accounted for            976.4 KiB
Allocated                     31.4 MiB

Resident: 40.0 MiB, of which heap and stacks 33.0 MiB, program and libraries 7.0 MiB; 50.0 MiB at most
";
        assert_eq!(memory(&example()), expected);
    }

    #[test]
    fn an_allocator_that_does_not_tell_is_left_out() {
        let text = memory(&Memory { allocator: None, ..example() });
        assert!(text.contains("Accounted for") && !text.contains("Allocated"), "{text}");
    }

    #[test]
    fn units_grow_with_the_number() {
        for (octets, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(in_units(octets), text);
        }
    }
}

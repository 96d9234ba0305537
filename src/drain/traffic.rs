//! Whether an uplink still brings traffic: a rate out of samples of its receive counter.
//!
//! In: the kernel's `/proc/net/dev`. What the protocols themselves send is far below the threshold, and does not count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::SAMPLE_INTERVAL;

/// The counters of all interfaces of the process's network namespace (`net/core/net-procfs.c`).
pub const RECEIVED_FILE: &str = "/proc/self/net/dev";

/// Packets a second, above what BGP, BFD at 50 ms (20) and Router Advertisements bring, and below what one talkative pod does.
pub(super) const QUIET_BELOW: u64 = 50;
/// Two samples further apart than this say nothing about now.
const SAMPLES_APART: Duration = SAMPLE_INTERVAL.saturating_mul(8);

/// The receive counter of one interface, as it was last seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    last: Option<(u64, Instant)>,
    per_s: Option<u64>,
}

impl Traffic {
    /// The counter now; `None` where nobody knows it.
    pub(super) fn sample(&mut self, received: Option<u64>, now: Instant) {
        let last = std::mem::replace(&mut self.last, received.map(|received| (received, now)));
        self.per_s = last.zip(received).and_then(|((before, at), received)| {
            let passed = now.saturating_duration_since(at);
            let passed_ms = u64::try_from(passed.as_millis()).ok().filter(|passed_ms| *passed_ms > 0)?;
            // An interface that was made anew counts from zero.
            let packets = received.checked_sub(before)?;
            (passed <= SAMPLES_APART).then(|| packets.saturating_mul(1000) / passed_ms)
        });
    }

    /// Packets in a second between the last two samples.
    pub(super) fn per_s(&self) -> Option<u64> {
        self.per_s
    }

    /// What is not known is not quiet.
    pub(super) fn is_quiet(&self) -> bool {
        self.per_s.is_some_and(|per_s| per_s < QUIET_BELOW)
    }
}

/// Packets that each interface received, out of [`RECEIVED_FILE`]. Lines of another form are left out.
#[must_use]
pub fn received_packets(text: &str) -> BTreeMap<&str, u64> {
    text.lines().filter_map(interface).collect()
}

fn interface(line: &str) -> Option<(&str, u64)> {
    let (name, counters) = line.split_once(':')?;
    // Octets come first.
    Some((name.trim(), counters.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read_and_its_heading_is_not() {
        let text = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo:    1000      10    0    0    0     0          0         0     1000      10    0    0
  tor1: 123456789 4711 0 0 0 0 0 0 1 2 0 0
eth0.5:18446744073709551615 18446744073709551615 0 0
 short: 1
";
        let expected = [("lo", 10), ("tor1", 4711), ("eth0.5", u64::MAX)].into();
        assert_eq!(received_packets(text), expected);
    }

    #[test]
    fn a_rate_needs_two_samples_of_the_same_counter_close_to_each_other() {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let start = Instant::now();
        let mut traffic = Traffic::default();
        let rows = [
            (0, Some(1000), None),
            (500, Some(1010), Some(20)),
            (1000, Some(1035), Some(50)),
            (1500, None, None),
            (2000, Some(1035), None),
            (2500, Some(1035), Some(0)),
            (3000, Some(3), None),
            (3000, Some(3), None),
            (4000, Some(3), Some(0)),
            (60_000, Some(3), None),
        ];
        for (at, received, expected) in rows {
            traffic.sample(received, start + Duration::from_millis(at));
            assert_eq!(traffic.per_s(), expected, "at {at} ms");
            assert_eq!(traffic.is_quiet(), expected.is_some_and(|per_s| per_s < 50), "at {at} ms");
        }
    }
}

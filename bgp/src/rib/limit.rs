//! How much of `max-prefixes` a neighbor uses, and what of that is worth a word.
//!
//! In: counts, as often as somebody looks. Out: each mark once, when it is passed on the way up. A count that sways about
//! a mark passes it once, too: the next time is after it fell well below.

use super::Rib;
use crate::{Family, PeerId};

/// What a neighbor uses of the paths that it may have in a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitUse {
    /// Paths that are remembered.
    pub kept: u32,
    /// How many those may be.
    pub limit: u32,
    /// Announcements that were refused for it.
    pub refused: u32,
}

impl LimitUse {
    /// In percent of the limit.
    const NEAR: u64 = 80;
    const WELL_BELOW: u64 = 75;

    fn mark(self) -> Option<Mark> {
        match self {
            Self { refused: 1.., .. } => Some(Mark::Over),
            Self { refused: 0, .. } => self.is_at_least(Self::NEAR).then_some(Mark::Near),
        }
    }

    fn is_at_least(self, percent: u64) -> bool {
        u64::from(self.kept) * 100 >= u64::from(self.limit) * percent
    }
}

/// A mark to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// Four fifths are in use.
    Near,
    /// Something was refused.
    Over,
}

/// The highest mark that was told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks(Option<Mark>);

impl Marks {
    /// What is to be told.
    pub(crate) fn follow(&mut self, now: LimitUse) -> Option<Mark> {
        let mark = now.mark();
        if mark.is_none() && !now.is_at_least(LimitUse::WELL_BELOW) {
            self.0 = None;
        }
        (mark > self.0).then(|| self.0 = mark).and(mark)
    }
}

impl Rib {
    /// What a neighbor uses of its limit; `None` where it is not configured.
    #[must_use]
    pub fn limit_use(&self, peer: PeerId, family: Family) -> Option<LimitUse> {
        let known = self.peers.get(&peer)?;
        let adj_rib_in = known.adj_rib_in.of(family);
        let (kept, refused) = (adj_rib_in.kept, adj_rib_in.over_limit);
        Some(LimitUse { kept, limit: known.config.max_prefixes, refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_is_told_once_on_the_way_up() {
        let mut marks = Marks::default();
        let rows = [
            // Paths, refused, and what is told.
            (0, 0, None),
            (79, 0, None),
            (80, 0, Some(Mark::Near)),
            (99, 0, None),
            (75, 0, None),
            (80, 0, None),
            (74, 0, None),
            (80, 0, Some(Mark::Near)),
            (100, 0, None),
            (100, 1, Some(Mark::Over)),
            (100, 50, None),
            // There is room again, and it is taken again.
            (90, 0, None),
            (100, 3, None),
            // Refused while the neighbor begins anew.
            (10, 1, None),
            (10, 0, None),
            (100, 7, Some(Mark::Over)),
        ];
        for (row, (kept, refused, told)) in rows.into_iter().enumerate() {
            assert_eq!(marks.follow(LimitUse { kept, limit: 100, refused }), told, "row {row}");
        }
    }

    #[test]
    fn another_limit_is_another_matter() {
        let mut marks = Marks::default();
        let with = |limit| LimitUse { kept: 85, limit, refused: 0 };
        assert_eq!(marks.follow(with(100)), Some(Mark::Near));
        assert_eq!(marks.follow(with(1000)), None);
        assert_eq!(marks.follow(with(85)), Some(Mark::Near), "full, and nothing refused");
        assert_eq!(marks.follow(LimitUse { kept: u32::MAX, limit: u32::MAX, refused: 0 }), None);
    }
}

//! One of something for each address family.

use crate::Family;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PerFamily<T> {
    ipv4_unicast: T,
    ipv6_unicast: T,
}

impl<T> PerFamily<T> {
    pub(crate) fn of(&self, family: Family) -> &T {
        match family {
            Family::Ipv4Unicast => &self.ipv4_unicast,
            Family::Ipv6Unicast => &self.ipv6_unicast,
        }
    }

    pub(crate) fn of_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4Unicast => &mut self.ipv4_unicast,
            Family::Ipv6Unicast => &mut self.ipv6_unicast,
        }
    }
}

//! How fast both ends of a flow leave a dead uplink, beyond what FRR's ToRs do by themselves: with BFD, and with ToRs
//! that do not wait before they tell the others.
//!
//! FRR's bgpd ends a session 10 ms after it heard that it is lost, decides about its routes 50 ms after that
//! (`process_queue` has `Hold` 50 in `show work-queues`; no command of 8.4.4 changes that), and only then tells the
//! others: a far node hears of a dead link 60 to 75 ms after it went. [`super::links`] has the links that are seen to go
//! down with such ToRs.

use std::time::{Duration, Instant};

use lab::Result;

use super::links::{End, LINK_BACK, back, down_and_up, leave, listen_to_tor};
use crate::fault::{Fault, Length, Loss, Number, Setting};
use crate::site::{Site, tool};

/// What may be lost of a link that is seen to go down, where the ToR tells the others at once.
const SEEN: Duration = Duration::from_millis(30);
/// And where it takes BFD to see it: three times 50 ms after the last packet that arrived.
const SILENT: Duration = Duration::from_millis(200);
/// FRR's own 60 ms come on top of the 150, and zebra's 10 until the ToR itself does not forward into the dead link: up
/// to 220 ms by the phase of the packets, and some for a loaded machine.
const SILENT_FRR: Duration = Duration::from_millis(250);

// All of them are long, though none takes long: what they promise in milliseconds is to be seen on a machine that has
// nothing else to do, which the one that runs all tests is not.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(29),
        name: "silent loss with BFD, 3 x 50 ms: an uplink drops every packet, its carrier stays",
        expected: "BFD finds out at both ends, and the ToR, FRR, tells the far node 60 ms later",
        setting: Setting::Bfd,
        loss: Loss::Row(SILENT_FRR),
        length: Length::Long,
        heals_within: LINK_BACK,
        make: silent_loss,
        ..Fault::USUAL
    },
    Fault {
        number: Number(29),
        name: "silent loss with BFD, 3 x 50 ms, ToRs are Selvedge",
        expected: "BFD finds out at both ends, and the ToR tells the far node at once",
        setting: Setting::SelvedgeTorsBfd,
        loss: Loss::Row(SILENT),
        length: Length::Long,
        heals_within: LINK_BACK,
        make: silent_loss,
        ..Fault::USUAL
    },
    Fault {
        number: Number(4),
        name: "the ToR's end of an uplink goes down and comes up, ToRs are BIRD",
        expected: "both the node and the far node leave it at once",
        setting: Setting::BirdTors,
        loss: Loss::Row(SEEN),
        length: Length::Long,
        heals_within: LINK_BACK,
        make: |site| down_and_up(site, End::Tor),
        ..Fault::USUAL
    },
    Fault {
        number: Number(4),
        name: "the node's end of an uplink goes down and comes up, ToRs are BIRD",
        expected: "both the node and the far node leave it at once",
        setting: Setting::BirdTors,
        loss: Loss::Row(SEEN),
        length: Length::Long,
        heals_within: LINK_BACK,
        make: |site| down_and_up(site, End::Node),
        ..Fault::USUAL
    },
    Fault {
        number: Number(4),
        name: "the ToR's end of an uplink goes down and comes up, ToRs are Selvedge",
        expected: "both the node and the far node leave it at once",
        setting: Setting::SelvedgeTors,
        loss: Loss::Row(SEEN),
        length: Length::Long,
        heals_within: LINK_BACK,
        make: |site| down_and_up(site, End::Tor),
        ..Fault::USUAL
    },
    Fault {
        number: Number(4),
        name: "the node's end of an uplink goes down and comes up, ToRs are Selvedge",
        expected: "both the node and the far node leave it at once",
        setting: Setting::SelvedgeTors,
        loss: Loss::Row(SEEN),
        length: Length::Long,
        heals_within: LINK_BACK,
        make: |site| down_and_up(site, End::Node),
        ..Fault::USUAL
    },
];

fn silent_loss(site: &mut Site) -> Result<()> {
    let messages = listen_to_tor(site)?;
    // Both directions in one transaction, so that neither end has a lead.
    let drop_all =
        |hook: &str| format!("chain {hook} {{ type filter hook {hook} device c1 priority 0 ; drop ; }} ;");
    let table = format!("nft table netdev fault {{ {} {} }}", drop_all("ingress"), drop_all("egress"));
    tool(&site.tor()?.netns, &table)?;
    let silent = Instant::now();
    leave(site, &messages, silent)?;
    tool(&site.tor()?.netns, "nft delete table netdev fault")?;
    back(site)
}

//! A fault as it is declared: what is broken, what must hold meanwhile and afterwards. [`crate::run`] says how it is
//! judged.
//!
//! A fault is added as a constant of this type to the list of a module in [`crate::faults`], which says what those of
//! its kind have in common. Its function breaks what it is about, waits for what is to be seen of that
//! ([`Site`] has the waiting), tells what it saw with [`Site::note`] and what did not hold with [`Site::demand`], and
//! mends what it broke: when it returns, the fault is over, and the rack is to become again as it was before. A fault
//! that cannot be made is an error. A module of its own needs no more than its line in [`crate::faults::all`].

use std::fmt;
use std::time::Duration;

use lab::{Programs, Requirement, Result, TorDaemon, build};

use crate::site::Site;

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// Its row in the list of faults; several may share one.
    pub(crate) number: Number,
    /// What is broken, in few words; unique.
    pub(crate) name: &'static str,
    /// What is to happen, for the table.
    pub(crate) expected: &'static str,
    /// Whether it is part of every check.
    pub(crate) length: Length,
    /// How the nodes are configured for it.
    pub(crate) setting: Setting,
    /// What may become of the agent's process.
    pub(crate) fate: Fate,
    /// What may be lost of the pings.
    pub(crate) loss: Loss,
    /// After its end, the time to sessions, ECMP and advertisements as before.
    pub(crate) heals_within: Duration,
    /// It takes longer only if something hangs.
    pub(crate) limit: Duration,
    /// Makes it, and ends it.
    pub(crate) make: fn(&mut Site) -> Result<()>,
}

impl Fault {
    /// What most have in common; the other fields have to be given.
    pub(crate) const USUAL: Self = Self {
        number: Number(0),
        name: "",
        expected: "",
        length: Length::Short,
        setting: Setting::Lab,
        fate: Fate::Survives,
        loss: Loss::None,
        heals_within: Duration::from_secs(2),
        limit: Duration::from_secs(30),
        make: |_| Ok(()),
    };
}

/// The F of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Number(pub(crate) u8);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F{}", self.0)
    }
}

/// When a fault is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// With every check: `tests/run` allows four minutes for all of them.
    Short,
    /// By name, or with all.
    Long,
}

/// How nodes and ToRs are configured. Faults with the same one share a rack for as long as nothing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// `conf/lab` with FRR as ToRs: hold time 9 s, graceful restart, no BFD.
    Lab,
    /// The same with BFD, three times 50 ms from either side.
    Bfd,
    /// `conf/lab` with FRR as ToRs; the victim has its blocks from an API server.
    Kubernetes,
    /// `conf/lab` with BIRD as ToRs.
    BirdTors,
    /// `conf/lab` with Selvedge's library as ToRs.
    SelvedgeTors,
    /// The same with BFD, as with FRR.
    SelvedgeTorsBfd,
}

/// Three times 50 ms, as the agent's configuration has it.
const FAST: &str = "{ interval = \"50ms\", multiplier = 3 }";

impl Setting {
    /// The configuration of a node, from that of the lab.
    pub(crate) fn applied_to(self, lab: String) -> String {
        match self {
            Self::Lab | Self::Kubernetes | Self::BirdTors | Self::SelvedgeTors => lab,
            Self::Bfd | Self::SelvedgeTorsBfd => {
                lab.replace("[[neighbor]]\n", &format!("[[neighbor]]\nbfd = {FAST}\n"))
            }
        }
    }

    /// What plays the ToRs.
    ///
    /// # Errors
    /// As [`build::tor_programs`].
    pub(crate) fn tors(self, agent: &Programs) -> Result<TorDaemon> {
        Ok(match self {
            Self::Lab | Self::Bfd | Self::Kubernetes => TorDaemon::Frr,
            Self::BirdTors => TorDaemon::Bird,
            Self::SelvedgeTors => TorDaemon::Selvedge { programs: build::tor_programs(agent)?, bfd: None },
            Self::SelvedgeTorsBfd => {
                TorDaemon::Selvedge { programs: build::tor_programs(agent)?, bfd: Some(FAST) }
            }
        })
    }

    /// What of that has to be installed.
    pub(crate) fn requirement(self) -> Option<Requirement> {
        match self {
            Self::Lab | Self::Bfd | Self::Kubernetes => Some(Requirement::Frr),
            Self::BirdTors => Some(Requirement::Bird),
            Self::SelvedgeTors | Self::SelvedgeTorsBfd => None,
        }
    }
}

/// What may become of the agent's process on the node that the fault is made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The same process is there afterwards.
    Survives,
    /// The fault itself ends it and starts another.
    Replaced,
}

/// What may be lost of the pings of every train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// None.
    None,
    /// No more in a row than are sent in this time.
    Row(Duration),
    /// Any: the fault itself drops packets, or nothing on the node can know of it in time.
    Any,
}

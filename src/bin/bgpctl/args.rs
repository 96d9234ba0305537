//! The grammar of the command line. Every word may be cut short where that is unambiguous (`sh sum`).

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bgp::{Prefix, PrefixError};
use clap::{Parser, Subcommand, ValueEnum};

use crate::output::Format;

/// Ask the Selvedge daemon, and tell it what to do.
#[derive(Debug, Parser)]
#[command(name = "bgpctl", version, infer_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// Control socket of the daemon
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/selvedge/control.sock")]
    pub(crate) socket: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the daemon knows
    #[command(subcommand)]
    Show(Show),
    /// Do something with one neighbor
    Neighbor {
        /// Interface, address or host name
        name: String,
        #[command(subcommand)]
        action: NeighborAction,
    },
    /// Leave the fabric without losing packets, or one neighbor, and wait until that is done
    Drain(Drain),
    /// Take a drain back: the node's, or a neighbor's
    Undrain {
        /// Interface, address or host name
        #[arg(long, value_name = "X")]
        neighbor: Option<String>,
    },
    /// Say whether this node is fit for pods: exit code 0 if it is, 1 if not
    Ready,
    /// Read the configuration file again
    Reload(Reload),
    /// Keep the configuration that is on trial since `reload --confirm`
    Confirm,
}

/// How to read the file again.
#[derive(Debug, clap::Args)]
pub(crate) struct Reload {
    /// Only say what would change
    #[arg(long, conflicts_with = "confirm")]
    pub(crate) dry_run: bool,
    /// Go back to what is in use now, unless `bgpctl confirm` comes within this time, or as soon as a session is lost
    /// that the change does not touch
    #[arg(long, value_name = "TIME", value_parser = selvedge::config::parse_duration)]
    pub(crate) confirm: Option<Duration>,
}

/// An order to drain.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// How long to wait for traffic to leave, at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = selvedge::config::parse_duration)]
    pub(crate) wait: Duration,
    /// Drain one neighbor alone: interface, address or host name
    #[arg(long, value_name = "X", conflicts_with = "stop")]
    pub(crate) neighbor: Option<String>,
    /// End the daemon afterwards
    #[arg(long)]
    pub(crate) stop: bool,
    /// What neighbors' operators are told (RFC 9003)
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Return at once; `show drain` says how far it is
    #[arg(long)]
    pub(crate) background: bool,
    /// Do nothing unless this host is being shut down: for the service manager
    #[arg(long)]
    pub(crate) if_host_stops: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Show {
    /// The daemon and its neighbors, a line each
    Summary,
    /// Neighbors in full, or the routes of one
    #[command(alias = "neighbors")]
    Neighbor {
        /// Interface, address or host name; all when left out
        name: Option<String>,
        /// Routes that it sent, or that it was sent
        table: Option<NeighborTable>,
    },
    /// Routes with all their paths
    Rib {
        /// One prefix, or an address to look up
        target: Option<Target>,
    },
    /// What routes go by: the built-in guard and policies, with how often each rule has held
    Policy {
        /// Interface, address or host name; all when left out
        name: Option<String>,
    },
    /// The daemon's routes in the kernel
    Fib {
        /// One prefix, or an address to look up
        target: Option<Target>,
    },
    /// Links, and the routers found on them
    Interfaces,
    /// Whether packets get to each neighbor and back
    Bfd,
    /// How far the node or a neighbor is on its way out of the fabric
    Drain,
    /// This node's pod blocks, whose they are, and whether the API server answers
    Pods,
    /// Addresses of services, as what they are announced, and why not
    Services,
    /// Where the daemon's memory is
    Memory,
    /// The configuration in force, with all defaults
    Config,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum NeighborAction {
    /// End the session and start it again
    Clear,
    /// Exchange all routes again without a session reset
    Refresh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NeighborTable {
    /// Routes that the neighbor sent, as it sent them
    #[value(aliases = ["rec", "recv"])]
    Received,
    /// Routes that the neighbor was sent
    #[value(aliases = ["adv"])]
    Advertised,
}

/// What to look up in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Exactly this one.
    Prefix(Prefix),
    /// The longest match.
    Address(IpAddr),
}

impl FromStr for Target {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        if let Ok(address) = text.parse() {
            Ok(Self::Address(address))
        } else {
            text.parse().map(Self::Prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn words_may_be_cut_short() {
        let parse = |line: &str| Args::try_parse_from(line.split(' ')).unwrap().command;
        assert!(matches!(parse("bgpctl sh sum"), Command::Show(Show::Summary)));
        assert!(matches!(parse("bgpctl sh r 10.0.0.0/8"), Command::Show(Show::Rib { target: Some(_) })));
        assert!(matches!(
            parse("bgpctl sho nei eth0 adv"),
            Command::Show(Show::Neighbor { table: Some(NeighborTable::Advertised), .. })
        ));
        assert!(matches!(
            parse("bgpctl n eth0 ref"),
            Command::Neighbor { action: NeighborAction::Refresh, .. }
        ));
        assert!(matches!(parse("bgpctl sh bfd"), Command::Show(Show::Bfd)));
        assert!(matches!(parse("bgpctl sh mem"), Command::Show(Show::Memory)));
        assert!(matches!(parse("bgpctl sh pod"), Command::Show(Show::Pods)));
        assert!(matches!(parse("bgpctl sh se"), Command::Show(Show::Services)));
        assert!(matches!(parse("bgpctl rel"), Command::Reload(Reload { dry_run: false, confirm: None })));
        assert!(matches!(
            parse("bgpctl reload --confirm 60s"),
            Command::Reload(Reload { dry_run: false, confirm: Some(time) }) if time.as_secs() == 60
        ));
        assert!(matches!(parse("bgpctl sh pol"), Command::Show(Show::Policy { name: None })));
        assert!(matches!(parse("bgpctl sh pol eth0"), Command::Show(Show::Policy { name: Some(_) })));
        assert!(matches!(parse("bgpctl sh dr"), Command::Show(Show::Drain)));
        assert!(matches!(parse("bgpctl und --neighbor eth0"), Command::Undrain { neighbor: Some(_) }));
    }

    #[test]
    fn a_drain_is_patient_unless_told_otherwise() {
        let parse = |line: &str| Args::try_parse_from(line.split(' ')).map(|args| args.command);
        let Ok(Command::Drain(drain)) = parse("bgpctl drain") else { panic!() };
        assert_eq!((drain.wait, drain.neighbor, drain.stop), (Duration::from_secs(30), None, false));
        let Ok(Command::Drain(drain)) = parse("bgpctl dr --wait 2m --stop") else { panic!() };
        assert_eq!((drain.wait, drain.stop), (Duration::from_secs(120), true));
        assert!(parse("bgpctl drain --neighbor eth0 --stop").is_err());
        let unitless = parse("bgpctl drain --wait 30").unwrap_err().to_string();
        assert!(unitless.contains("write \"30s\" for seconds"), "{unitless}");
    }

    #[test]
    fn options_may_stand_behind_the_words() {
        let args = Args::try_parse_from(["bgpctl", "show", "fib", "--json", "--socket", "/x"]).unwrap();
        assert_eq!(args.format(), Format::Json);
        assert_eq!(args.socket, PathBuf::from("/x"));
    }

    #[test]
    fn a_target_is_an_address_or_a_prefix() {
        assert_eq!("10.0.0.1".parse(), Ok(Target::Address([10, 0, 0, 1].into())));
        assert_eq!("10.0.0.0/8".parse(), Ok(Target::Prefix("10.0.0.0/8".parse().unwrap())));
        let error = "10.0.0.1/8".parse::<Target>().unwrap_err();
        assert_eq!(error.to_string(), "10.0.0.1/8 has host bits set: the network is 10.0.0.0/8");
    }
}

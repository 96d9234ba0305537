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
    // Services begin with an `s` as well; what is typed most keeps it.
    #[command(alias = "s")]
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
    Services {
        /// One service, one address, or a range of addresses; all when left out
        #[arg(value_name = "NAMESPACE/NAME|ADDRESS|PREFIX")]
        target: Option<ServiceTarget>,
    },
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

/// Which addresses of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceTarget {
    /// Those of one service, `NAMESPACE/NAME`.
    Service(String),
    /// One, or those in a range.
    Addresses(Target),
}

/// Why a word is no [`ServiceTarget`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServiceTargetError {
    /// It is like an address in front of a slash.
    #[error(transparent)]
    Prefix(PrefixError),
    /// It is nothing of all that.
    #[error("neither a service as NAMESPACE/NAME, nor an address or a prefix")]
    Unknown,
}

impl FromStr for ServiceTarget {
    type Err = ServiceTargetError;

    fn from_str(text: &str) -> Result<Self, ServiceTargetError> {
        match text.split_once('/') {
            // A namespace has no dots and no colons, so it is never an address.
            Some((namespace, name)) if namespace.parse::<IpAddr>().is_err() => {
                if namespace.is_empty() || name.is_empty() || name.contains('/') {
                    return Err(ServiceTargetError::Unknown);
                }
                Ok(Self::Service(text.to_owned()))
            }
            Some(_) => text.parse().map(Self::Addresses).map_err(ServiceTargetError::Prefix),
            None => {
                let address = text.parse().map_err(|_| ServiceTargetError::Unknown)?;
                Ok(Self::Addresses(Target::Address(address)))
            }
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
        assert!(matches!(parse("bgpctl sh se"), Command::Show(Show::Services { target: None })));
        assert!(matches!(parse("bgpctl sh s"), Command::Show(Show::Summary)));
        assert!(matches!(parse("bgpctl sh su"), Command::Show(Show::Summary)));
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
    fn words_that_are_too_short_are_refused_with_what_they_might_be() {
        for (line, words) in [
            ("bgpctl sh p", ["'policy'", "'pods'"]),
            ("bgpctl sh po", ["'policy'", "'pods'"]),
            ("bgpctl re", ["'ready'", "'reload'"]),
        ] {
            let error = Args::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{line}: {error}");
        }
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
    fn services_are_asked_for_by_name_or_by_address() {
        let service = |text: &str| Ok(ServiceTarget::Service(text.to_owned()));
        let addresses = |text: &str| Ok(ServiceTarget::Addresses(text.parse().unwrap()));
        assert_eq!("default/web".parse(), service("default/web"));
        // A name may be a number; its namespace may be, too, and is no address.
        assert_eq!("10/8".parse(), service("10/8"));
        for text in ["192.0.2.1", "192.0.2.0/24", "2001:db8::1", "2001:db8::/64"] {
            assert_eq!(text.parse(), addresses(text));
        }
        for text in ["", "web", "/web", "default/", "a/b/c", "192.0.2"] {
            assert_eq!(text.parse::<ServiceTarget>(), Err(ServiceTargetError::Unknown), "{text:?}");
        }
        let error = "192.0.2.1/24".parse::<ServiceTarget>().unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.1/24 has host bits set: the network is 192.0.2.0/24");
    }

    #[test]
    fn a_target_is_an_address_or_a_prefix() {
        assert_eq!("10.0.0.1".parse(), Ok(Target::Address([10, 0, 0, 1].into())));
        assert_eq!("10.0.0.0/8".parse(), Ok(Target::Prefix("10.0.0.0/8".parse().unwrap())));
        let error = "10.0.0.1/8".parse::<Target>().unwrap_err();
        assert_eq!(error.to_string(), "10.0.0.1/8 has host bits set: the network is 10.0.0.0/8");
    }
}

//! The sysctls that the job depends on: what they must be, what they are, and why it matters.
//!
//! In: the names of the uplinks and the root of the tree, `/proc/sys` but in tests. Out: [`Finding`]s. What
//! cannot be read is a finding too. `/proc/sys/net` is that of the network namespace of the reading thread.
//! Meanings: the kernel's `Documentation/networking/ip-sysctl.rst`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel shows its sysctls.
pub const ROOT: &str = "/proc/sys";

/// A sysctl that is not as the job needs it.
#[derive(Debug)]
pub struct Finding {
    /// In the notation of sysctl(8): dots between the parts, and a slash for a dot in an interface's name.
    pub name: String,
    /// What it is, or why that is not known.
    pub found: Found,
    /// What to set.
    pub wanted: &'static str,
    /// What goes wrong otherwise.
    pub why: &'static str,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// Another value.
    Value(String),
    /// It cannot be read.
    Unreadable(io::Error),
    /// The right value could not be written.
    Unwritable(io::Error),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, wanted, why } = self;
        match found {
            Found::Value(value) => write!(f, "{name} is {value}; set it to {wanted}: {why}"),
            Found::Unreadable(error) => {
                write!(f, "{name} cannot be read ({error}); it should be {wanted}: {why}")
            }
            Found::Unwritable(error) => write!(f, "{name} cannot be set to {wanted} ({error}): {why}"),
        }
    }
}

/// What the job needs of one sysctl.
struct Need {
    /// The parts of the name.
    path: Vec<String>,
    /// Values that do.
    fine: &'static [&'static str],
    /// Another file with one digit: the kernel goes by the larger of the two.
    or_larger: Option<&'static str>,
    /// The one to set.
    wanted: &'static str,
    why: &'static str,
}

const FORWARDING: &str = "without it this host forwards nothing between its pods and its uplinks";
const HASH: &str =
    "with the default of 0 all flows between two nodes share one uplink; 1 spreads them by port";
const ACCEPT_RA: &str =
    "2 takes a default route from any Router Advertisement on the uplink although this host forwards";
const STRICT: &str = "strict reverse path filtering (1; the larger of `all` and the interface's counts) drops what \
                      returns over the other uplink; 0 and 2 do";
const IPV6: &str = "without IPv6 there is no link-local address, no neighbor and no next hop on the uplink";

/// What is wrong with the sysctls, and how to mend it. Nothing is written.
#[must_use]
pub fn check(uplinks: &[&str], root: &Path) -> Vec<Finding> {
    needs(uplinks).into_iter().filter_map(|need| need.check(root)).collect()
}

/// Sets every sysctl that is wrong. What is left over could not be set.
pub fn apply(uplinks: &[&str], root: &Path) -> Vec<Finding> {
    needs(uplinks).into_iter().filter_map(|need| need.apply(root)).collect()
}

/// Not among them: `ignore_routes_with_linkdown`, as next hops without carrier are taken out of routes here, and
/// `keep_addr_on_down`, as nobody takes the loopback interface down and the agent follows addresses anyway.
fn needs(uplinks: &[&str]) -> Vec<Need> {
    let everywhere = [
        Need::one("net/ipv4/ip_forward", "1", FORWARDING),
        Need::one("net/ipv6/conf/all/forwarding", "1", FORWARDING),
        Need::one("net/ipv4/fib_multipath_hash_policy", "1", HASH).or(&["1", "2", "3"]),
        Need::one("net/ipv6/fib_multipath_hash_policy", "1", HASH).or(&["1", "2", "3"]),
    ];
    let on_uplink = |uplink: &&str| {
        [
            Need::of("net/ipv6/conf", uplink, "disable_ipv6", "0", IPV6),
            // `all` was before it, and sets it on every interface.
            Need::of("net/ipv6/conf", uplink, "forwarding", "1", FORWARDING),
            // 1 counts as 0 where forwarding is on, which the line above sees to.
            Need::of("net/ipv6/conf", uplink, "accept_ra", "0", ACCEPT_RA).or(&["0", "1"]),
            Need {
                or_larger: Some("net/ipv4/conf/all/rp_filter"),
                ..Need::of("net/ipv4/conf", uplink, "rp_filter", "2", STRICT).or(&["0", "2"])
            },
        ]
    };
    everywhere.into_iter().chain(uplinks.iter().flat_map(on_uplink)).collect()
}

impl Need {
    fn one(path: &str, wanted: &'static str, why: &'static str) -> Self {
        Self { path: path.split('/').map(str::to_owned).collect(), fine: &[], or_larger: None, wanted, why }
    }

    fn of(tree: &str, interface: &str, leaf: &str, wanted: &'static str, why: &'static str) -> Self {
        let mut need = Self::one(tree, wanted, why);
        need.path.extend([interface.to_owned(), leaf.to_owned()]);
        need
    }

    /// Other values do as well.
    fn or(self, fine: &'static [&'static str]) -> Self {
        Self { fine, ..self }
    }

    /// An interface may have a dot in its name (`ens3.100`), which is a part of its own here and no path. The
    /// kernel allows neither a slash nor the names `.` and `..`.
    fn file(&self, root: &Path) -> PathBuf {
        root.join(self.path.iter().collect::<PathBuf>())
    }

    fn finding(&self, found: Found) -> Finding {
        let parts: Vec<_> = self.path.iter().map(|part| part.replace('.', "/")).collect();
        Finding { name: parts.join("."), found, wanted: self.wanted, why: self.why }
    }

    fn check(&self, root: &Path) -> Option<Finding> {
        let value = match std::fs::read_to_string(self.file(root)) {
            Ok(text) => text.trim().to_owned(),
            Err(error) => return Some(self.finding(Found::Unreadable(error))),
        };
        let other = self.or_larger.and_then(|file| std::fs::read_to_string(root.join(file)).ok());
        let value = other.map_or(value.clone(), |other| value.max(other.trim().to_owned()));
        let is_fine = value == self.wanted || self.fine.contains(&value.as_str());
        (!is_fine).then(|| self.finding(Found::Value(value)))
    }

    fn apply(&self, root: &Path) -> Option<Finding> {
        match self.check(root)?.found {
            Found::Value(_) => {
                let written = std::fs::write(self.file(root), self.wanted);
                written.err().map(|error| self.finding(Found::Unwritable(error)))
            }
            found @ (Found::Unreadable(_) | Found::Unwritable(_)) => Some(self.finding(found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with the kernel's defaults, gone when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let tree =
                Self(std::env::temp_dir().join(format!("selvedge-sysctl-{name}-{}", std::process::id())));
            for need in needs(&["ens3.100"]) {
                let file = need.file(&tree.0);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, format!("{}\n", need.wanted)).unwrap();
            }
            std::fs::create_dir_all(tree.0.join("net/ipv4/conf/all")).unwrap();
            tree.set("net/ipv4/conf/all/rp_filter", "0");
            tree
        }

        fn set(&self, file: &str, value: &str) {
            std::fs::write(self.0.join(file), value).unwrap();
        }

        fn names(&self) -> Vec<String> {
            check(&["ens3.100"], &self.0).into_iter().map(|finding| finding.name).collect()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_value_is_judged() {
        let tree = Tree::new("judged");
        assert_eq!(tree.names(), [""; 0]);
        let cases = [
            ("net/ipv4/ip_forward", "1", "0"),
            ("net/ipv6/conf/all/forwarding", "1", "0"),
            ("net/ipv4/fib_multipath_hash_policy", "3", "0"),
            ("net/ipv6/conf/ens3.100/disable_ipv6", "0", "1"),
            ("net/ipv6/conf/ens3.100/accept_ra", "1", "2"),
            ("net/ipv4/conf/ens3.100/rp_filter", "0", "1"),
        ];
        for (file, fine, wrong) in cases {
            tree.set(file, fine);
            assert_eq!(tree.names(), [""; 0], "{file}={fine}");
            tree.set(file, wrong);
            let name = file.replace("ens3.100", "ens3|100").replace('/', ".").replace('|', "/");
            assert_eq!(tree.names(), [name]);
            tree.set(file, fine);
        }
    }

    #[test]
    fn reverse_path_filtering_is_the_larger_of_all_and_the_interface() {
        let tree = Tree::new("larger");
        for (all, uplink, fine) in
            [("0", "0", true), ("0", "1", false), ("1", "0", false), ("1", "2", true), ("2", "1", true)]
        {
            tree.set("net/ipv4/conf/all/rp_filter", all);
            tree.set("net/ipv4/conf/ens3.100/rp_filter", uplink);
            assert_eq!(tree.names().is_empty(), fine, "all={all} uplink={uplink}");
            assert!(apply(&["ens3.100"], &tree.0).is_empty());
            assert_eq!(tree.names(), [""; 0]);
        }
    }

    #[test]
    fn a_finding_says_what_is_what_to_set_and_why() {
        let tree = Tree::new("says");
        tree.set("net/ipv4/ip_forward", "0\n");
        let finding = check(&[], &tree.0).pop().unwrap();
        assert_eq!(
            finding.to_string(),
            "net.ipv4.ip_forward is 0; set it to 1: without it this host forwards nothing between its pods and its uplinks"
        );
    }

    #[test]
    fn what_is_missing_is_a_finding_and_what_is_wrong_is_set() {
        let tree = Tree::new("set");
        tree.set("net/ipv4/ip_forward", "0");
        std::fs::remove_file(tree.0.join("net/ipv4/fib_multipath_hash_policy")).unwrap();
        let left = apply(&["ens3.100"], &tree.0);
        assert!(matches!(left.as_slice(), [Finding { found: Found::Unreadable(_), .. }]), "{left:?}");
        assert_eq!(tree.names(), ["net.ipv4.fib_multipath_hash_policy"]);
    }
}

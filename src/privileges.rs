//! What the process may do: three capabilities, and no way to more. The rest is given up at the start, while there is
//! one thread, since each thread has its own.
//!
//! In: the user to go on as, where the process began as root. Out: nothing but the kernel's view of it
//! (`/proc/PID/status`). See capabilities(7), credentials(7), `PR_SET_NO_NEW_PRIVS` in prctl(2).

use std::collections::HashSet;
use std::ffi::CString;
use std::fmt;
use std::str::FromStr;

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::prctl::{set_keepcaps, set_no_new_privs};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgroups, setresgid, setresuid};

/// What is kept: routes, links and sysctls of the network; Router Discovery's raw sockets; the ports below 1024.
pub const KEPT: [Capability; 3] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_NET_BIND_SERVICE];

/// The real-time priority that a thread may take without `CAP_SYS_NICE`: the least, BFD's.
const REAL_TIME: u64 = 1;

/// Whom to go on as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// A user that the system knows, with its groups.
    Name(String),
    /// One that it need not know, without further groups.
    Ids {
        /// The user.
        uid: u32,
        /// Its one group.
        gid: u32,
    },
}

/// The words are no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither the name of a user nor UID:GID, two numbers other than 0")]
pub struct NotAnAccount;

impl FromStr for Account {
    type Err = NotAnAccount;

    fn from_str(text: &str) -> Result<Self, NotAnAccount> {
        let number =
            |text: &str| text.parse().ok().filter(|id| *id != 0 && *id != u32::MAX).ok_or(NotAnAccount);
        match text.split_once(':') {
            Some((uid, gid)) => Ok(Self::Ids { uid: number(uid)?, gid: number(gid)? }),
            None if text.is_empty() || text.contains('\0') || text.parse::<u32>().is_ok() => {
                Err(NotAnAccount)
            }
            None => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ids { uid, gid } => write!(f, "{uid}:{gid}"),
        }
    }
}

/// Why the process may still do too much, or cannot be who it should be.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The system does not know that user, or cannot say.
    #[error("there is no user {name}{}", source.map(|errno| format!(": {errno}")).unwrap_or_default())]
    NoSuchUser {
        /// As given.
        name: String,
        /// What went wrong when the system was asked.
        source: Option<Errno>,
    },
    /// Only root can become somebody else.
    #[error("cannot go on as {account}: started by user {uid}, not by root")]
    NotRoot {
        /// As given.
        account: Account,
        /// Who it is.
        uid: Uid,
    },
    /// The kernel refuses.
    #[error("cannot {step}: {source}")]
    Identity {
        /// What was tried.
        step: &'static str,
        /// Its answer.
        source: Errno,
    },
    /// The kernel refuses.
    #[error("cannot {step}: {source}")]
    Capabilities {
        /// What was tried.
        step: &'static str,
        /// Its answer.
        source: CapsError,
    },
}

/// Goes on as `account`, or as whoever it is, with those of [`KEPT`] that it has, and nothing else. To be called
/// before there is a second thread.
///
/// # Errors
/// Nothing should run then: it is not known what the process may do.
pub fn give_up(account: Option<&Account>) -> Result<(), PrivilegeError> {
    allow_real_time();
    forget_bounding_set()?;
    if let Some(account) = account {
        become_user(account)?;
    }
    let refused = |step| move |source| PrivilegeError::Capabilities { step, source };
    let had = caps::read(None, CapSet::Permitted).map_err(refused("read the capabilities"))?;
    let kept: HashSet<Capability> = KEPT.into_iter().filter(|capability| had.contains(capability)).collect();
    // In this order: what is effective or inheritable has to be permitted.
    caps::set(None, CapSet::Effective, &kept).map_err(refused("give up effective capabilities"))?;
    caps::set(None, CapSet::Inheritable, &HashSet::new())
        .map_err(refused("give up inheritable capabilities"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused("give up capabilities"))?;
    set_no_new_privs().map_err(|source| PrivilegeError::Identity { step: "renounce new privileges", source })
}

/// What BFD's thread asks for later, when `CAP_SYS_NICE` is gone. Where it is not to be had, BFD does without.
fn allow_real_time() {
    let _ = setrlimit(Resource::RLIMIT_RTPRIO, REAL_TIME, REAL_TIME);
}

/// What a program that it runs could have at most. Who may not change that has nothing to lose by it: there are no new
/// privileges.
fn forget_bounding_set() -> Result<(), PrivilegeError> {
    let refused = |step| move |source| PrivilegeError::Capabilities { step, source };
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)
        .map_err(refused("read the capabilities"))?;
    let had = caps::read(None, CapSet::Bounding).map_err(refused("read the bounding set"))?;
    for capability in had.into_iter().filter(|capability| may && !KEPT.contains(capability)) {
        caps::drop(None, CapSet::Bounding, capability).map_err(refused("narrow the bounding set"))?;
    }
    Ok(())
}

/// Another user, with the capabilities of this one.
fn become_user(account: &Account) -> Result<(), PrivilegeError> {
    let uid = geteuid();
    if !uid.is_root() {
        return Err(PrivilegeError::NotRoot { account: account.clone(), uid });
    }
    let refused = |step| move |source| PrivilegeError::Identity { step, source };
    set_keepcaps(true).map_err(refused("keep capabilities"))?;
    let (uid, gid) = match account {
        Account::Ids { uid, gid } => {
            setgroups(&[]).map_err(refused("leave all groups"))?;
            (Uid::from_raw(*uid), Gid::from_raw(*gid))
        }
        Account::Name(name) => {
            let unknown = |source| PrivilegeError::NoSuchUser { name: name.clone(), source };
            let user =
                User::from_name(name).map_err(|errno| unknown(Some(errno)))?.ok_or_else(|| unknown(None))?;
            let name = CString::new(name.as_str()).map_err(|_nul| unknown(None))?;
            initgroups(&name, user.gid).map_err(refused("join the user's groups"))?;
            (user.uid, user.gid)
        }
    };
    setresgid(gid, gid, gid).map_err(refused("change the group"))?;
    setresuid(uid, uid, uid).map_err(refused("change the user"))?;
    set_keepcaps(false).map_err(refused("forget to keep capabilities"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_a_name_or_two_numbers() {
        let ids = |uid, gid| Ok(Account::Ids { uid, gid });
        for (text, expected) in [
            ("selvedge", Ok(Account::Name("selvedge".to_owned()))),
            ("1000:1001", ids(1000, 1001)),
            ("", Err(NotAnAccount)),
            ("1000", Err(NotAnAccount)),
            ("0:0", Err(NotAnAccount)),
            ("0:5", Err(NotAnAccount)),
            ("5:", Err(NotAnAccount)),
            ("5:6:7", Err(NotAnAccount)),
            ("a:b", Err(NotAnAccount)),
            ("4294967295:1", Err(NotAnAccount)),
            ("a\0b", Err(NotAnAccount)),
        ] {
            assert_eq!(text.parse(), expected, "{text:?}");
            if let Ok(account) = expected {
                assert_eq!(account.to_string(), text);
            }
        }
    }
}

//! The daemon under strace(1), and whether the unit would have let it do all that: system calls, address families, memory, and
//! files that it writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Account, NexthopObjects, Programs, Requirement};

/// What it takes.
pub(crate) const REQUIREMENTS: [Requirement; 2] = [Requirement::Strace, Requirement::SystemdAnalyze];

/// Calls that change a file or a folder by its name, whatever else they are told.
const CHANGES: [&str; 20] = [
    "chmod",
    "chown",
    "creat",
    "fchmodat",
    "fchmodat2",
    "fchownat",
    "lchown",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "symlink",
    "symlinkat",
    "truncate",
];
/// Those that take a name away.
const REMOVALS: [&str; 2] = ["unlink", "unlinkat"];

/// The traces of one life. The folder goes when this is dropped.
pub(crate) struct Trace(PathBuf);

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Trace {
    pub(crate) fn new(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("selvedge-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    /// A daemon that is traced. Each of its threads has a file of its own; the daemon stays our child (-D).
    pub(crate) fn programs(&self) -> Programs {
        let prefix = self.0.join("trace");
        let daemon = env!("CARGO_BIN_EXE_selvedge");
        let words = ["-D", "-ff", "-qq", "-e", "signal=none", "-o", prefix.to_str().unwrap(), "--", daemon];
        Programs {
            daemon: "/usr/bin/strace".into(),
            arguments: words.into_iter().map(Into::into).collect(),
            account: Some(Account::OF_AGENTS),
            bgpctl: env!("CARGO_BIN_EXE_bgpctl").into(),
            nexthop_objects: NexthopObjects::of_environment().unwrap(),
        }
    }

    /// After the end of the daemon.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let files = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let mut calls = Vec::new();
        for file in files {
            let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
            calls.extend(text.lines().filter_map(Call::parse));
        }
        calls
    }
}

/// One line of a trace.
pub(crate) struct Call {
    name: String,
    arguments: String,
}

impl Call {
    /// "+++ exited" and the like have no parenthesis after a name of a call; "<... x resumed>" is x again.
    fn parse(line: &str) -> Option<Self> {
        let (name, arguments) = line.split_once('(')?;
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_name.then(|| Self { name: name.to_owned(), arguments: arguments.to_owned() })
    }

    /// The names of files in it; strace never cuts them short.
    fn paths(&self) -> impl Iterator<Item = &str> {
        self.arguments.split('"').skip(1).step_by(2)
    }

    /// Those that it writes, or would.
    fn written(&self) -> impl Iterator<Item = &str> {
        let has = |flag: &str| self.arguments.contains(flag);
        let is_write = match self.name.as_str() {
            "open" | "openat" | "openat2" => {
                ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].into_iter().any(has)
            }
            // A socket in a file system, whose name is no argument of its own.
            "bind" => has("sun_path=\"/"),
            name => CHANGES.contains(&name) || REMOVALS.contains(&name),
        };
        self.paths().filter(move |_| is_write)
    }

    /// The family of a new socket.
    fn family(&self) -> Option<&str> {
        matches!(self.name.as_str(), "socket" | "socketpair").then(|| self.arguments.split(',').next())?
    }

    /// `MemoryDenyWriteExecute=` refuses memory that can be both, and to make any executable later (systemd.exec(5)).
    fn makes_code(&self) -> bool {
        let has = |flag: &str| self.arguments.contains(flag);
        match self.name.as_str() {
            "mmap" => has("PROT_WRITE") && has("PROT_EXEC"),
            "mprotect" | "pkey_mprotect" => has("PROT_EXEC"),
            _ => false,
        }
    }
}

/// The unit as it ships.
pub(crate) struct Unit(String);

impl Unit {
    pub(crate) fn shipped() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/selvedge.service");
        Self(fs::read_to_string(path).unwrap())
    }

    fn values<'u>(&'u self, key: &'u str) -> impl Iterator<Item = &'u str> {
        self.0.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// Fails with what it would have refused. Each of `places` is a folder of the lab, and what it is where the unit runs.
    pub(crate) fn assert_allows(&self, calls: &[Call], places: &[(PathBuf, &str)]) {
        let allowed = self.system_calls();
        let mut names: BTreeSet<String> = calls.iter().map(|call| call.name.clone()).collect();
        for needed in ["sendto", "recvfrom", "epoll_wait", "capset"] {
            assert!(names.contains(needed), "no trace: {names:?}");
        }
        // What systemd has done by then for a daemon with `User=`.
        for before in ["setgroups", "setresuid", "setresgid"] {
            assert!(names.remove(before), "not as another user: {names:?}");
        }
        let refused: Vec<_> = names.difference(&allowed).collect();
        assert!(refused.is_empty(), "the unit would refuse {refused:?}");
        println!("{} system calls, of {} allowed", names.len(), allowed.len());

        let families: BTreeSet<&str> =
            self.values("RestrictAddressFamilies").flat_map(str::split_whitespace).collect();
        let used: BTreeSet<&str> = calls.iter().filter_map(Call::family).collect();
        assert!(!used.is_empty() && used.is_subset(&families), "{used:?}, and the unit has {families:?}");
        assert!(self.values("MemoryDenyWriteExecute").eq(["yes"]));
        let code: Vec<_> =
            calls.iter().filter(|call| call.makes_code()).map(|call| &call.arguments).collect();
        assert!(code.is_empty(), "{code:?}");

        let folders = self.writable();
        let written: BTreeSet<PathBuf> =
            calls.iter().flat_map(Call::written).map(|path| on_host(Path::new(path), places)).collect();
        let refused: Vec<_> =
            written.iter().filter(|path| !folders.iter().any(|folder| path.starts_with(folder))).collect();
        assert!(!written.is_empty() && refused.is_empty(), "{folders:?} are writable, not {refused:?}");
    }

    /// What the lines `SystemCallFilter=` allow in the end (systemd.exec(5)).
    fn system_calls(&self) -> BTreeSet<String> {
        let mut allowed = BTreeSet::new();
        for filter in self.values("SystemCallFilter") {
            let (names, is_taken_away) = match filter.strip_prefix('~') {
                Some(names) => (names, true),
                None => (filter, false),
            };
            for name in names.split_whitespace().flat_map(members) {
                match is_taken_away {
                    true => allowed.remove(&name),
                    false => allowed.insert(name),
                };
            }
        }
        // Always there, or no program could begin.
        allowed.extend(members("@default"));
        allowed
    }

    /// Where files may be written: `ProtectSystem=strict` leaves /dev, /proc and /sys, and what is named.
    fn writable(&self) -> Vec<PathBuf> {
        assert!(self.values("ProtectSystem").eq(["strict"]));
        let mut folders: Vec<PathBuf> = ["/dev", "/proc", "/sys"].map(PathBuf::from).into();
        for (key, parent) in
            [("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib"), ("ReadWritePaths", "")]
        {
            let named = self.values(key).flat_map(str::split_whitespace);
            folders.extend(named.map(|name| Path::new(parent).join(name.trim_start_matches('-'))));
        }
        folders
    }
}

fn on_host(path: &Path, places: &[(PathBuf, &str)]) -> PathBuf {
    let moved =
        places.iter().find_map(|(lab, host)| Some(Path::new(host).join(path.strip_prefix(lab).ok()?)));
    moved.unwrap_or_else(|| path.to_owned())
}

/// A call, or the calls of a set, in which there may be sets again.
fn members(name: &str) -> Vec<String> {
    if !name.starts_with('@') {
        return vec![name.to_owned()];
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["syscall-filter", name]);
    let text = lab::output_of(command).unwrap();
    let lines = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(members).collect()
}

#[test]
fn what_a_call_would_write_is_found_in_its_line() {
    let written = |line: &str| {
        Call::parse(line)
            .map(|call| call.written().map(str::to_owned).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    for (line, expected) in [
        (r#"openat(AT_FDCWD, "/etc/x", O_RDONLY|O_CLOEXEC) = 3"#, &[][..]),
        (
            r#"openat(AT_FDCWD, "/etc/x", O_WRONLY|O_CREAT|O_CLOEXEC, 0600) = -1 EROFS (Read-only)"#,
            &["/etc/x"],
        ),
        (r#"rename("/a/x.tmp", "/a/x") = 0"#, &["/a/x.tmp", "/a/x"]),
        (r#"unlink("/a/x") = -1 ENOENT (No such file or directory)"#, &["/a/x"]),
        (r#"bind(9, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0"#, &["/run/x"]),
        (r#"bind(9, {sa_family=AF_INET6, sin6_port=htons(179)}, 28) = 0"#, &[]),
        (r#"statx(AT_FDCWD, "/a/x", AT_STATX_SYNC_AS_STAT, STATX_ALL, 0x7) = 0"#, &[]),
        ("+++ exited with 0 +++", &[]),
    ] {
        assert_eq!(written(line), expected, "{line}");
    }
    let code = |line| Call::parse(line).is_some_and(|call: Call| call.makes_code());
    assert!(code(
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f"
    ));
    assert!(code("mprotect(0x7f, 4096, PROT_READ|PROT_EXEC) = 0"));
    assert!(!code("mmap(0x7f, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED, 3, 0x2000) = 0x7f"));
}

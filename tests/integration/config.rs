//! Every file of `conf/` is a test: what is offered as an example loads, and what is wrong is refused with the
//! message beside it.
//!
//! `UPDATE_EXPECT=1 cargo test --test integration config` writes the messages anew; read the difference.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use selvedge::config::{self, Config, ConfigError, NeighborPeer, Paint};

const SELVEDGE: &str = env!("CARGO_BIN_EXE_selvedge");

/// The files of a folder with this extension, in order. Paths are relative to the repository, where cargo runs
/// tests, so that messages are the same everywhere.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new(extension)))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no *.{extension} in {folder}");
    files
}

fn load(path: impl AsRef<Path>) -> Config {
    config::load(path.as_ref()).unwrap_or_else(|error| panic!("{error}"))
}

fn selvedge(arguments: &[&str]) -> Output {
    Command::new(SELVEDGE).args(arguments).env_remove("SELVEDGE_LOG").output().unwrap()
}

#[test]
fn every_example_loads_and_survives_being_shown() {
    for path in files("conf", "toml").into_iter().chain(files("conf/lab", "toml")) {
        let config = load(&path);
        let shown = config.to_toml();
        assert_eq!(config::parse(&shown, "shown").unwrap(), config, "{}:\n{shown}", path.display());
    }
}

#[test]
fn the_full_example_has_the_defaults() {
    assert_eq!(load("conf/selvedge.toml"), load("conf/minimal.toml"));
}

#[test]
fn the_full_example_has_every_key() {
    let example = fs::read_to_string("conf/selvedge.toml").unwrap();
    // What is shown has every key that has a default; the example explains the others in comments.
    let shown = load("conf/minimal.toml").to_toml();
    let keys = shown.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    let without_default = [
        "# router-id",
        "# address",
        "# password-file",
        "# bfd",
        "# import",
        "# export",
        "# kubeconfig",
        "# in-cluster",
        "# node-name",
        "# state",
        "# api",
        "# borrowed",
        "# borrowed-community",
        "# borrowed-limit",
        "# load-balancer",
        "# external",
        "# cluster",
        "# aggregate",
        "# uplinks",
        "# routes",
        "# echo",
        "# isolated-for",
        "# taint",
    ];
    for key in keys.chain(without_default) {
        assert!(example.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
    }
}

#[test]
fn the_lab_has_a_file_for_each_node() {
    let expected = [
        ("c1", 65001, "10.1.8.192/26", "fd00:10:1:8::/64"),
        ("c2", 65002, "10.1.71.192/26", "fd00:10:1:71::/64"),
        ("c3", 65003, "10.1.240.0/26", "fd00:10:1:240::/64"),
    ];
    let mut sockets = BTreeSet::new();
    for (node, local_as, v4, v6) in expected {
        let config = load(format!("conf/lab/{node}.toml"));
        assert_eq!(config.bgp.local_as.0, local_as, "{node}");
        assert_eq!(config.pods.static_blocks, [v4.parse().unwrap(), v6.parse().unwrap()], "{node}");
        assert!(config.sysctl.manage, "{node}");
        for uplink in ["tor1", "tor2"] {
            let neighbor = config.neighbor_for_interface(uplink).unwrap();
            assert_eq!(neighbor.peer, NeighborPeer::Interface("tor*".to_owned()), "{node} {uplink}");
        }
        sockets.insert(config.control.socket);
    }
    assert_eq!(sockets.len(), expected.len(), "nodes on one machine need a control socket each");
    assert_eq!(files("conf/lab", "toml").len(), expected.len());
}

#[test]
fn every_invalid_file_is_refused_with_the_message_beside_it() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for path in files("conf/invalid", "toml") {
        let error = config::load(&path).expect_err(&format!("{} is valid", path.display()));
        let message = format!("{}\n", error.render(Paint::Plain));
        let expected = path.with_extension("expected");
        if update {
            fs::write(&expected, &message).unwrap();
        }
        match fs::read_to_string(&expected) {
            Ok(text) if text == message => {}
            Ok(text) => wrong.push(format!("{}\nexpected:\n{text}\nfound:\n{message}", path.display())),
            Err(error) => wrong.push(format!("{}: {error}", expected.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_expected_message_has_its_file() {
    for expected in files("conf/invalid", "expected") {
        assert!(expected.with_extension("toml").is_file(), "{} is left over", expected.display());
    }
}

#[test]
fn messages_do_not_show_a_password() {
    let error = config::load(Path::new("conf/invalid/password-in-the-file.toml")).unwrap_err();
    for text in [error.to_string(), error.render(Paint::Plain), error.render(Paint::Terminal)] {
        assert!(!text.contains("not for the log"), "{text}");
        assert!(text.contains("conf/invalid/password-in-the-file.toml:6"), "{text}");
    }
}

#[test]
fn what_is_no_file_is_refused_in_one_line() {
    let missing = config::load(Path::new("conf/nowhere.toml")).unwrap_err();
    assert!(matches!(missing, ConfigError::Read { .. }), "{missing:?}");
    let folder = config::load(Path::new("conf")).unwrap_err();
    assert!(matches!(folder, ConfigError::Directory { .. }), "{folder:?}");
    // Endless.
    let device = config::load(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(device, ConfigError::NotAFile { .. }), "{device:?}");
    let directory = std::env::temp_dir().join(format!("selvedge-pipe-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("selvedge.toml");
    let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    // To open it would wait for a writer.
    let pipe = config::load(&path);
    std::fs::remove_dir_all(&directory).unwrap();
    let pipe = pipe.unwrap_err();
    assert!(matches!(pipe, ConfigError::NotAFile { .. }), "{pipe:?}");
    for error in [missing, folder, device, pipe] {
        assert_eq!(error.render(Paint::Plain).lines().count(), 1, "{error}");
    }
}

#[test]
fn check_says_ok_and_exits_with_0() {
    let output = selvedge(&["--check", "--config", "conf/minimal.toml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "conf/minimal.toml: ok\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn check_says_what_is_wrong_and_exits_with_1() {
    let output = selvedge(&["--check", "--config", "conf/invalid/unknown-key.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let expected = fs::read_to_string("conf/invalid/unknown-key.expected").unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

#[test]
fn the_daemon_does_not_start_on_a_wrong_file() {
    let output = selvedge(&["--config", "conf/invalid/unknown-key.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr, fs::read("conf/invalid/unknown-key.expected").unwrap());
}

#[test]
fn usage_errors_exit_with_2() {
    for arguments in [&["--chekc"][..], &["--log-format", "xml"], &["--config"]] {
        let output = selvedge(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let output = Command::new(SELVEDGE)
        .args(["--config", "conf/minimal.toml"])
        .env("SELVEDGE_LOG", "bgp=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("SELVEDGE_LOG"));
}

#[test]
fn the_version_is_the_package_s() {
    let output = selvedge(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let version = format!("selvedge {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

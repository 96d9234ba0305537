//! From a path to a [`Config`]: reads the file and the key files it names, within bounds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use toml::de::DeTable;

use super::neighbors::{self, NeighborInText};
use super::problem::{ConfigError, Place, Problem, Problems, Refusal};
use super::table::{self, Value};
use super::{Config, Password, kubernetes, policies, readiness, sections};

/// Largest configuration file, in octets. A rack's worth of neighbors is a few thousand.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// TCP_MD5SIG_MAXKEYLEN of `linux/tcp.h`.
const LONGEST_KEY: usize = 80;

/// Reads and checks the configuration file at a path, and the key files that it names.
///
/// # Errors
/// [`ConfigError`] with everything that was found wrong. A file of more than [`MAX_FILE_SIZE`] is not parsed.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    let text = read_text(path, &file)?;
    check(&text, &file, read_password)
}

/// As [`load`], for a daemon that has a configuration: another program may just be writing this one. Whoever writes
/// by lines ends the last one, too, so a file that does not end with a newline is taken for one that is not whole. At
/// the start it is not, since that is when a host depends on it.
///
/// # Errors
/// As [`load`], and [`ConfigError::CutOff`].
pub fn load_again(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    let text = read_text(path, &file)?;
    let config = check(&text, &file, read_password)?;
    if text.ends_with('\n') { Ok(config) } else { Err(ConfigError::CutOff { file }) }
}

/// Checks the text of a configuration file without looking at any other file: passwords stay `None`.
///
/// # Errors
/// [`ConfigError::Empty`] and [`ConfigError::Invalid`], in which the text goes by the name `file`.
pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
    check(text, file, |_, _| Ok(None))
}

fn read_text(path: &Path, file: &str) -> Result<String, ConfigError> {
    let name = || file.to_owned();
    let failed = |source| ConfigError::Read { file: name(), source };
    // Asked before it is opened: to open a pipe without a writer would wait for ever, and the whole daemon with it when
    // it reads its file again.
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    if kind.is_dir() {
        return Err(ConfigError::Directory { file: name() });
    }
    if !kind.is_file() {
        return Err(ConfigError::NotAFile { file: name() });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_SIZE) {
        return Err(ConfigError::TooLarge { file: name(), limit: MAX_FILE_SIZE });
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let (before, rest) = error.as_bytes().split_at_checked(offset).unwrap_or_default();
        ConfigError::NotUtf8 {
            file: name(),
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            offset: offset + 1,
            byte: rest.first().copied().unwrap_or_default(),
        }
    })
}

/// Reads the key of a neighbor; the value is the path, to point at when it is wrong.
type PasswordReader = fn(&Path, &Value<'_>) -> Result<Option<Password>, Refusal>;

fn check(text: &str, file: &str, password: PasswordReader) -> Result<Config, ConfigError> {
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Err(ConfigError::Empty { file: file.to_owned() });
    }
    sections_of(text, password).map_err(|problems| ConfigError::Invalid {
        file: file.to_owned(),
        text: text.to_owned(),
        problems: problems.into_sorted(),
    })
}

fn sections_of(text: &str, password: PasswordReader) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the parser made up in order to go on is not what the operator wrote: no more is said about it.
        errors.iter().for_each(|error| problems.push(not_toml(error)));
        return Err(problems);
    }
    let root = table::root(&document, &mut problems);
    let bgp = sections::bgp(&root, &mut problems);
    let loopback = sections::loopback(&root, &mut problems);
    let prefix_lists = policies::prefix_lists(&root, &mut problems);
    let policies = policies::policies(&root, &prefix_lists, &mut problems);
    let mut neighbors = neighbors::read(&root, &policies, &mut problems);
    neighbors::refuse_loopback(&neighbors, &loopback.interface, &mut problems);
    let kubernetes = kubernetes::kubernetes(&root, &mut problems);
    let pods = kubernetes::pods(&root, kubernetes.as_ref(), &mut problems);
    let services = kubernetes::services(&root, kubernetes.as_ref(), &mut problems);
    let readiness = readiness::readiness(&root, &mut problems);
    let drain = readiness::drain(&root, kubernetes.as_ref(), &mut problems);
    let fib = sections::fib(&root, &mut problems);
    let sysctl = sections::sysctl(&root, &mut problems);
    let control = sections::control(&root, &mut problems);
    for NeighborInText { neighbor, password_value, .. } in &mut neighbors {
        if let (Some(path), Some(value)) = (&neighbor.password_file, password_value) {
            neighbor.password = problems.keep(password(path, value)).flatten();
        }
    }
    let neighbors = neighbors.into_iter().map(|found| found.neighbor).collect();
    match bgp {
        Some(bgp) if problems.is_empty() => {
            let (prefix_lists, policies) = (prefix_lists.into_values(), policies.into_values());
            Ok(Config {
                bgp,
                loopback,
                prefix_lists,
                policies,
                neighbors,
                kubernetes,
                pods,
                services,
                readiness,
                drain,
                fib,
                sysctl,
                control,
            })
        }
        Some(_) | None => Err(problems),
    }
}

fn not_toml(error: &toml::de::Error) -> Problem {
    let (label, help) = match error.message().split_once('\n') {
        Some((label, help)) => (label, vec![help.to_owned()]),
        None => (error.message(), Vec::new()),
    };
    Problem {
        title: "this is not TOML".to_owned(),
        place: error.span().map_or(Place::File, Place::Quoted),
        label: label.to_owned(),
        related: None,
        help,
    }
}

/// The key is the content of the file without the newline that editors put at its end.
fn read_password(path: &Path, value: &Value<'_>) -> Result<Option<Password>, Refusal> {
    let allowed = "a readable file with a key of 1 to 80 bytes";
    let failed = |error: io::Error| value.refuse(format!("cannot read: {error}"), allowed);
    // Asked before it is opened: to open a pipe without a writer would wait forever.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(value.refuse("not a regular file", allowed));
    }
    let mut key = Vec::new();
    let bound = u64::try_from(LONGEST_KEY).unwrap_or(u64::MAX).saturating_add(3);
    File::open(path).map_err(failed)?.take(bound).read_to_end(&mut key).map_err(failed)?;
    if key.last() == Some(&b'\n') {
        key.pop();
        if key.last() == Some(&b'\r') {
            key.pop();
        }
    }
    match key.len() {
        0 => Err(value.refuse("the file is empty", allowed)),
        1..=LONGEST_KEY => Ok(Some(Password(key))),
        _ => Err(value.refuse("the key is longer than the 80 bytes of TCP MD5", allowed)),
    }
}

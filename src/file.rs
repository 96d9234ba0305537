//! Files that are replaced as a whole: whoever reads one finds what was there before or what is there now, never a part.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What a file is to outlive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlives {
    /// The process that wrote it; nobody misses it when the machine starts anew.
    Process,
    /// A machine that loses its power at any moment. Waits for the disk.
    PowerLoss,
}

/// Puts a file of these contents where `path` says, beside which `FILE.new` is made for a moment. What holds it up is the
/// file system: to be called where waiting is allowed, unless that is in memory.
///
/// # Errors
/// The file system's; the file that was there stays.
pub(crate) fn replace(path: &Path, contents: &[u8], outlives: Outlives) -> io::Result<()> {
    let unfinished = unfinished(path);
    let mut file = File::create(&unfinished)?;
    file.write_all(contents)?;
    match outlives {
        Outlives::Process => fs::rename(&unfinished, path),
        Outlives::PowerLoss => {
            // Before it takes the place of the one that is whole.
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        }
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_or_stays_as_it_was() {
        let folder = std::env::temp_dir().join(format!("selvedge-file-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("kept.json");
        for (contents, outlives) in [("1", Outlives::Process), ("2", Outlives::PowerLoss)] {
            replace(&path, contents.as_bytes(), outlives).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        fs::create_dir(unfinished(&path)).unwrap();
        for outlives in [Outlives::Process, Outlives::PowerLoss] {
            replace(&path, b"3", outlives).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}

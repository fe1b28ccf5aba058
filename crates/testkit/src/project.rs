//! Project folders that a test may change.

use std::{fs, path::Path};

use tempfile::TempDir;

/// The folder in a project that belongs to Foreplan: never part of a copy.
const STORE: &str = ".foreplan";

/// Returns a temporary copy of a project folder, without its store. Dropping it deletes it.
///
/// # Panics
///
/// If the folder cannot be copied.
#[must_use]
pub fn copy_project(from: impl AsRef<Path>) -> TempDir {
    let from = from.as_ref();
    let copy = tempfile::Builder::new().prefix("foreplan-").tempdir();
    let copied = copy.and_then(|to| copy_folder(from, to.path()).map(|()| to));
    copied.unwrap_or_else(|error| panic!("`{}` cannot be copied: {error}", from.display()))
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == STORE {
            continue;
        }
        // The file behind a link is copied; permissions come with it, since tools may be scripts.
        if fs::metadata(&source)?.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_file_but_the_store() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir_all(project.path().join("data/deep")).unwrap();
        fs::create_dir_all(project.path().join(STORE)).unwrap();
        fs::write(project.path().join("data/deep/rows.csv"), "a,b").unwrap();
        fs::write(project.path().join(STORE).join("journal.db"), "x").unwrap();

        let copy = copy_project(project.path());
        assert_eq!(fs::read_to_string(copy.path().join("data/deep/rows.csv")).unwrap(), "a,b");
        assert!(!copy.path().join(STORE).exists());
    }
}

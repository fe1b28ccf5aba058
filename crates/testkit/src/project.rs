//! Project folders that a test may change.

use std::{fs, path::Path};

use tempfile::TempDir;

/// The folder in a project that belongs to Foreplan: never part of a copy.
const STORE: &str = ".foreplan";

/// Returns a temporary copy of a project folder, without its store and without what its own
/// `.gitignore` names: what earlier runs left there. Dropping it deletes it.
///
/// # Panics
///
/// If the folder cannot be copied.
#[must_use]
pub fn copy_project(from: impl AsRef<Path>) -> TempDir {
    let from = from.as_ref();
    let copy = tempfile::Builder::new().prefix("foreplan-").tempdir();
    let mut left_out = ignored(from);
    left_out.push(STORE.to_owned());
    let copied = copy.and_then(|to| copy_folder(from, to.path(), &left_out).map(|()| to));
    copied.unwrap_or_else(|error| panic!("`{}` cannot be copied: {error}", from.display()))
}

/// Returns the plain names in the project's `.gitignore`.
fn ignored(project: &Path) -> Vec<String> {
    let text = fs::read_to_string(project.join(".gitignore")).unwrap_or_default();
    text.lines().map(|line| line.trim().trim_matches('/').to_owned()).collect()
}

fn copy_folder(from: &Path, to: &Path, left_out: &[String]) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if left_out.iter().any(|name| entry.file_name() == name.as_str()) {
            continue;
        }
        // The file behind a link is copied; permissions come with it, since tools may be scripts.
        if fs::metadata(&source)?.is_dir() {
            copy_folder(&source, &target, left_out)?;
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
        fs::create_dir_all(project.path().join("state")).unwrap();
        fs::write(project.path().join(".gitignore"), "/state/\n").unwrap();

        let copy = copy_project(project.path());
        assert_eq!(fs::read_to_string(copy.path().join("data/deep/rows.csv")).unwrap(), "a,b");
        assert!(!copy.path().join(STORE).exists());
        assert!(!copy.path().join("state").exists(), "left by an earlier run");
    }
}

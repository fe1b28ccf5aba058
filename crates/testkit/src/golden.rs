//! Comparing what a test saw with a file that a person has read.

use std::{env, fs, path::Path};

/// Set to `1`, it makes [`assert_golden`] write the files instead.
const UPDATE: &str = "UPDATE_GOLDEN";

/// Compares `actual` with the file. With `UPDATE_GOLDEN=1` in the environment it writes the file
/// instead: read the difference before you commit it.
///
/// # Panics
///
/// If they differ, with the difference; if the file is missing or cannot be written.
#[track_caller]
pub fn assert_golden(path: impl AsRef<Path>, actual: &str) {
    let path = path.as_ref();
    if env::var_os(UPDATE).is_some_and(|value| value == "1") {
        write(path, actual);
    } else if let Err(message) = compare(path, actual) {
        panic!("{message}");
    }
}

#[track_caller]
fn write(path: &Path, actual: &str) {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, actual));
    if let Err(error) = written {
        panic!("`{}` cannot be written: {error}", path.display());
    }
}

fn compare(path: &Path, actual: &str) -> Result<(), String> {
    let shown = path.display();
    let expected = fs::read_to_string(path)
        .map_err(|error| format!("`{shown}` cannot be read ({error}); run again with {UPDATE}=1"))?;
    if expected == actual {
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(expected.as_str(), actual);
    let diff = diff.unified_diff().context_radius(3).header("expected", "actual").to_string();
    Err(format!("`{shown}` says something else; if the new text is right, run again with {UPDATE}=1\n{diff}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/transcript.txt");
        assert!(compare(&path, "a\nb\n").unwrap_err().contains("UPDATE_GOLDEN=1"));
        write(&path, "a\nb\n");
        assert_eq!(compare(&path, "a\nb\n"), Ok(()));
        let message = compare(&path, "a\nc\n").unwrap_err();
        assert!(message.contains("-b\n+c\n"), "{message}");
    }
}

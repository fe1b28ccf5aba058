//! Where the project file is.

use std::path::{Path, PathBuf};

use super::Error;

/// The name of the project file.
pub const FILE_NAME: &str = "foreplan.toml";

/// Returns the folder of the nearest project: `from` itself, or the first folder above it that
/// holds a project file. `from` may also be the file.
///
/// # Errors
///
/// [`Error::NotFound`] if there is none.
pub fn find(from: &Path) -> Result<PathBuf, Error> {
    let not_found = || Error::NotFound { from: from.to_owned() };
    let start = std::path::absolute(from).map_err(|_| not_found())?;
    if start.is_file() {
        return start.parent().map(Path::to_owned).ok_or_else(not_found);
    }
    start
        .ancestors()
        .find(|folder| folder.join(FILE_NAME).is_file())
        .map(Path::to_owned)
        .ok_or_else(not_found)
}

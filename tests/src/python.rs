//! Python with packages, fetched once into a folder beside the build.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use foreplan_testkit::skipped;

/// Returns a Python that has what a file of requirements names, and `more`; `None`, with the reason
/// printed, if the package index cannot be reached. Each folder with requirements has its own.
///
/// # Panics
///
/// If the environment cannot be made for another reason.
#[must_use]
pub fn python(requirements: &Path, more: &[&str]) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test knows where it is");
    let target = test.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).expect("a target folder");
    let name = requirements.parent().and_then(Path::file_name).unwrap_or_default();
    let dir = target.join("python").join(name);
    std::fs::create_dir_all(&dir).expect("a folder for the environment");
    let lock = File::create(dir.join("lock")).expect("a lock");
    lock.lock().expect("the lock");
    let (venv, done) = (dir.join("venv"), dir.join("installed"));
    let python = venv.join("bin/python");
    let wanted = std::fs::read_to_string(requirements).expect("the requirements") + &more.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Some(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output().expect("python3");
    assert!(made.status.success(), "no environment: {}", String::from_utf8_lossy(&made.stderr));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(requirements)
        .args(more);
    let installed = pip.output().expect("pip");
    let why = String::from_utf8_lossy(&installed.stderr);
    if !installed.status.success() {
        let is_unreachable = ["Failed to establish", "Connection", "timed out", "name resolution"]
            .iter()
            .any(|w| why.contains(w));
        assert!(is_unreachable, "the requirements cannot be installed: {why}");
        skipped(format_args!("the package index cannot be reached: {why}"));
        return None;
    }
    std::fs::write(&done, wanted).expect("a note of what is installed");
    Some(python)
}

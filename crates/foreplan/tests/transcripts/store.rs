//! Stores that cannot be written: what is there can be read, and nothing happens off the record.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be set up is a failed test")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use crate::support::{Shown, Transcript};

/// How often each step of `filling` was carried out.
fn filled(t: &Transcript) -> Vec<u32> {
    let log = fs::read_to_string(t.path("filled.log")).unwrap_or_default();
    log.lines().map(|line| line.trim().parse().unwrap()).collect()
}

fn assert_all_can_be_read(t: &Transcript) {
    for look in ["show last", "runs", "audit last --verify", "logs last", "tools"] {
        let shown = t.shown(look);
        assert_eq!(shown.code, 0, "{look}: {shown:?}");
    }
    assert!(t.shown("show last").text.contains("Fill the store"));
    assert!(t.shown("audit last --verify").text.contains("verifies"));
}

#[test]
fn a_full_store_ends_dispatch_and_reading_goes_on() {
    let t = Transcript::of("filling");
    let full = t.shown("run");
    assert_eq!(full.code, 8, "{full:?}");
    let said = "the store cannot be written: there is no room for";
    assert!(full.text.contains(said) && full.text.contains("what is there can be read"), "{full:?}");

    let before = filled(&t);
    assert!(before.len() > 3 && before.len() < 30, "{before:?}");
    let done = t.shown("show last").text.matches("✓ succeeded").count();
    assert!(done == before.len() || done + 1 == before.len(), "{done} of {before:?} are on record");
    assert_all_can_be_read(&t);
    let doctor = t.shown("doctor");
    assert!(doctor.code == 2 && doctor.text.contains("room in the store: "), "{doctor:?}");

    let refused = t.shown("resume last");
    assert!(refused.code == 8 && refused.text.contains(said), "{refused:?}");
    let again = filled(&t).len() - before.len();
    assert!(again <= 1, "only a step whose start could still be recorded is repeated: {again}");

    let bounded = fs::read_to_string(t.path("foreplan.toml")).unwrap();
    t.write("foreplan.toml", &bounded.replace("mebibytes_max = 1", "mebibytes_max = 9"));
    let resumed = t.shown("resume --all");
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let all = filled(&t);
    assert_eq!(all[..done], before[..done], "what is on record is not repeated");
    let mut once = all.clone();
    once.dedup();
    assert_eq!(once, (1..=30).collect::<Vec<_>>(), "{all:?}");
    assert_eq!(t.shown("audit last --verify").code, 0);

    t.write("foreplan.toml", &bounded);
    assert_eq!(t.shown("doctor").code, 2, "it holds more than it may");
    assert_eq!(t.shown("prune --ended 0s").code, 0);
    let doctor = t.shown("doctor");
    assert_eq!(doctor.code, 0, "what was deleted left room: {doctor:?}");
}

/// Runs a command as somebody who may read the folder, and write nothing in it.
fn as_a_reader(t: &Transcript, program: &Path, arguments: &str) -> Shown {
    let mut command = Command::new(program);
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if is_root {
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        std::os::unix::process::CommandExt::gid(&mut command, 65534);
    }
    t.shown_by(command, arguments)
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Sets the mode of a folder and of all that is in it.
fn allow_all(folder: &Path, of_folders: u32, of_files: u32) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { allow_all(&path, of_folders, of_files) } else { allow(&path, of_files) }
    }
    allow(folder, of_folders);
}

#[test]
fn a_read_only_store_is_read_and_its_runs_stay_where_they_are() {
    let t = Transcript::of("filling");
    assert_eq!(t.shown("run").code, 8);
    let before = filled(&t);
    // Somebody who is not root may not look into root's folders.
    let program = t.path("foreplan-copy");
    fs::copy(env!("CARGO_BIN_EXE_foreplan"), &program).unwrap();
    allow_all(&t.path("."), 0o555, 0o444);
    allow(&program, 0o555);

    let looks = ["show last", "runs", "audit last --verify", "tools"];
    let read: Vec<Shown> = looks.iter().map(|look| as_a_reader(&t, &program, look)).collect();
    let written: Vec<Shown> =
        ["run", "resume last", "cancel last"].iter().map(|verb| as_a_reader(&t, &program, verb)).collect();
    allow_all(&t.path("."), 0o755, 0o644);

    for shown in read {
        assert_eq!(shown.code, 0, "{shown:?}");
    }
    for shown in written {
        assert!(shown.code == 8 && shown.text.contains("the store"), "{shown:?}");
    }
    assert_eq!(filled(&t), before, "nothing was carried out");
}

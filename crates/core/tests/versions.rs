//! Journals as earlier versions wrote them: the run, then its entries. `v0` holds the first form, taken
//! from a deployment's server. A file is added when a form changes, and none is ever changed or removed.

use std::{collections::BTreeSet, path::Path};

use foreplan_core::{event::Entry, run::Run, view::Status};

#[test]
fn every_journal_that_was_ever_written_folds_to_what_it_meant() {
    let mut ends = BTreeSet::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/v0")).expect("a folder") {
        let path = file.expect("an entry").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a journal");
        let (run, entries) = text.split_once('\n').expect("the run, then its entries");
        let read =
            |line: &str| -> Entry { serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}")) };
        let entries: Vec<Entry> = entries.lines().map(read).collect();
        let state =
            Run::replay(run.parse().expect("a run"), &entries).unwrap_or_else(|| panic!("{name} folds"));
        let end = name.rsplit('-').next().expect("the name ends with what became of the run");
        assert_eq!(state.status().as_str(), end, "{name}");
        ends.insert(state.status().as_str());
    }
    let wanted = [Status::Succeeded, Status::Failed, Status::Cancelled, Status::Rejected].map(Status::as_str);
    assert_eq!(ends, BTreeSet::from(wanted));
}

//! The span tree of a run, as a file that a person reads.

use std::path::{Path, PathBuf};

use foreplan_testkit::Normalizer;

use crate::Project;

/// Returns the trace of a run without what differs from run to run. Steps that run side by side may
/// end in any order, so branches are ordered by their text.
///
/// # Panics
///
/// If there is no such run.
#[must_use]
pub fn span_tree(project: &Project, run: &str, normalizer: &mut Normalizer) -> String {
    let shown = project.foreplan(&["audit", run, "--spans"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    arranged(&shown.stdout, normalizer)
}

/// Returns the text of a span tree without what differs from run to run.
#[must_use]
pub fn arranged(tree: &str, normalizer: &mut Normalizer) -> String {
    let text = normalizer.apply(tree);
    let (mut blocks, mut root): (Vec<String>, _) = (Vec::new(), String::new());
    for line in text.lines() {
        let line = without_worker(line);
        let inner = line.strip_prefix("├─ ").or_else(|| line.strip_prefix("└─ "));
        let below = line.strip_prefix("│  ").or_else(|| line.strip_prefix("   "));
        match (inner, below, blocks.last_mut()) {
            (Some(inner), _, _) => blocks.push(format!("- {inner}\n")),
            (None, Some(below), Some(block)) => block.push_str(&format!("  {below}\n")),
            _ => root.push_str(&format!("{line}\n")),
        }
    }
    blocks.sort();
    root + &blocks.concat()
}

/// Returns where the file of a span tree is.
#[must_use]
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn without_worker(line: &str) -> String {
    let words = line.split("  ").map(|word| match word.split_once("worker=") {
        // A worker is one of a pool; over NATS its process has a name too.
        Some((before, name)) => match name.rsplit('/').nth(1) {
            Some(pool) => format!("{before}worker={pool}/N"),
            None if name.starts_with("run ") => word.to_owned(),
            None => format!("{before}worker={}-N", name.split('-').next().unwrap_or_default()),
        },
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join("  ")
}

//! The least that a deployment can do: a pool with one thing to do, and a client that wants it done.

use crate::Project;

/// The project of the pool. What its step does is the script `work.sh`; `other` is never needed.
pub const WORKER: &str = r#"
[project]
name = "work"
[[tools.command]]
name = "work"
description = "Work"
command = ["sh", "work.sh"]
input = {}
output = { done = "boolean" }
effect = "read"
env = ["PATH"]
[[tools.command]]
name = "other"
description = "Do something else"
command = ["printf", "{\"other\": true}"]
input = {}
output = { other = "boolean" }
effect = "read"
env = ["PATH"]
[[specialists]]
capability = "work"
concurrency = 1
"#;

/// The project of the client.
pub const CLIENT: &str = r#"
goal = "Work"
[project]
name = "work"
[planner]
kind = "derive"
produce = ["done"]
"#;

/// The consumer of the pool's work.
pub const POOL: &str = "executor-work-work";

/// A script that has done at once.
pub const DONE: &str = "printf '{\"done\": true}'\n";

/// Returns the folder of the pool.
#[must_use]
pub fn worker(script: &str) -> Project {
    Project::of(WORKER).with_file("work.sh", script)
}

/// Returns the folder of the client.
#[must_use]
pub fn client() -> Project {
    Project::of(CLIENT)
}

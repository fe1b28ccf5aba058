//! The real process, killed at twenty moments of a run, and carried on by the next.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    time::Duration,
};

use foreplan_tests::Project;
use serde_json::Value;

/// How many lines of progress are read before the kill: twenty moments, spread over a run that says
/// some forty lines, most of them while steps run.
const MOMENTS: [usize; 20] = [1, 2, 3, 4, 6, 8, 9, 10, 12, 13, 14, 16, 18, 19, 20, 22, 24, 26, 28, 30];

/// Reads so many lines of what a process prints, or all that there are.
fn read_lines(child: &mut Child, lines: usize) {
    let progress = BufReader::new(child.stdout.as_mut().expect("its output is a pipe"));
    for line in progress.lines().take(lines) {
        line.expect("progress is text");
    }
}

/// Kills `data-pipeline` after so many lines of progress, resumes it, and counts effects outside of
/// the store. Returns whether a step was running when it was killed.
fn kill_and_resume(lines: usize) -> bool {
    let project = Project::example("data-pipeline");
    let mut child = project.start(&["run", "--approve", "auto", "--json"]);
    read_lines(&mut child, lines);
    child.kill().expect("it is killed");
    let _ = child.wait();

    let before = project.show("last");
    let was_running = steps(&before).iter().any(|s| s["status"] == "running");
    let finished: Vec<String> = succeeded(&before);
    let resumed = project.foreplan(&["resume", "last"]);
    let after = project.show("last");
    assert_eq!(after["status"], "succeeded", "after {lines} lines: {resumed:?}");
    for id in finished {
        let attempts =
            |view: &Value| steps(view).iter().find(|s| s["id"] == id.as_str()).map(|s| s["attempts"].clone());
        assert_eq!(attempts(&after), attempts(&before), "`{id}` had finished, and ran again");
    }
    let effects = project.read("state/effects.log");
    assert_eq!(effects.lines().count(), 12, "after {lines} lines:\n{effects}");
    let verified = project.foreplan(&["audit", "last", "--verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    was_running
}

fn steps(view: &Value) -> Vec<Value> {
    view["steps"].as_array().cloned().unwrap_or_default()
}

fn succeeded(view: &Value) -> Vec<String> {
    let done = steps(view).into_iter().filter(|s| s["status"] == "succeeded");
    done.filter_map(|s| s["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_killed_run_is_carried_on_with_each_effect_once() {
    let workers: Vec<_> = MOMENTS
        .chunks(5)
        .map(|moments| {
            std::thread::spawn(move || moments.iter().filter(|lines| kill_and_resume(**lines)).count())
        })
        .collect();
    let while_running: usize = workers.into_iter().map(|w| w.join().expect("no kill went wrong")).sum();
    assert!(while_running >= MOMENTS.len() / 2, "only {while_running} kills met a running step");
}

#[test]
fn who_watches_a_run_that_nobody_carries_on_is_told() {
    let project = Project::example("data-pipeline");
    let mut child = project.start(&["run", "--approve", "auto", "--json"]);
    read_lines(&mut child, 4);
    child.kill().expect("it is killed");
    let _ = child.wait();

    let mut watch = project.start(&["watch", "last"]);
    let said = BufReader::new(watch.stderr.take().expect("notes go to a pipe"));
    let told = said.lines().map_while(Result::ok).find(|line| line.contains("foreplan resume"));
    watch.kill().expect("it watches on");
    let _ = watch.wait();
    assert!(told.is_some_and(|line| line.starts_with("1 interrupted run")));
}

/// A deployment that tells when it starts and when it is done: the first one is never done by itself.
const SLOW_DEPLOY: &str = r#"
goal = "Deploy"
[project]
name = "slow-deploy"
[planner]
kind = "derive"
produce = ["receipt"]
[[tools.command]]
name = "deploy"
command = ["sh", "deploy.sh"]
output = { receipt = "string" }
EFFECT
env = ["PATH"]
[[tools.command]]
name = "is_deployed"
command = ["sh", "is_deployed.sh"]
output = { happened = "boolean" }
effect = "read"
env = ["PATH"]
"#;

#[cfg(target_os = "linux")]
#[test]
fn an_idempotent_command_that_a_killed_process_left_running_is_ended_before_it_is_tried_again() {
    kill_amid_a_deployment("effect = \"idempotent\"");
}

#[cfg(target_os = "linux")]
#[test]
fn an_irreversible_command_that_a_killed_process_left_running_is_ended_before_it_is_verified() {
    kill_amid_a_deployment("effect = \"irreversible\"\nverify = \"is_deployed\"");
}

#[cfg(target_os = "linux")]
fn kill_amid_a_deployment(effect: &str) {
    let project = Project::empty();
    project.write("foreplan.toml", &SLOW_DEPLOY.replace("EFFECT", effect));
    project.write(
        "deploy.sh",
        "echo $$ >> started.log
         if test $(wc -l < started.log) -eq 1; then while :; do sleep 0.1; done; fi
         echo done >> deploy.log; echo '{\"receipt\": \"r\"}'",
    );
    project.write(
        "is_deployed.sh",
        "if test -e deploy.log; then echo '{\"happened\": true}'; else echo '{\"happened\": false}'; fi",
    );
    let mut child = project.start(&["run", "--approve", "auto", "--json"]);
    let begun = std::time::Instant::now();
    while project.read("started.log").is_empty() || groups(&project).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the command does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("it is killed");
    let _ = child.wait();

    let resumed = project.foreplan(&["resume", "last"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let started = project.read("started.log");
    assert_eq!(started.lines().count(), 2, "two attempts started");
    assert_eq!(project.read("deploy.log").lines().count(), 1, "one of them came to its end");
    let first = started.lines().next().expect("the first one");
    assert!(!is_running(first), "the first one, {first}, was not ended: {:?} {resumed:?}", groups(&project));
    let left = groups(&project);
    assert!(left.is_empty(), "records of commands that have ended: {left:?}");
}

/// Returns the records of the commands that run.
#[cfg(target_os = "linux")]
fn groups(project: &Project) -> Vec<String> {
    let files = std::fs::read_dir(project.path().join(".foreplan/proc")).into_iter().flatten();
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".group")).collect()
}

/// Returns whether a process runs; one that has ended and that nobody waited for does not.
#[cfg(target_os = "linux")]
fn is_running(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

#[test]
fn a_second_terminal_reaches_a_run_within_a_second() {
    let project = Project::example("data-pipeline");
    let mut child = project.start(&["run", "--approve", "auto", "--json"]);
    read_lines(&mut child, 4);

    let asked = std::time::Instant::now();
    let cancelled = project.foreplan(&["cancel", "last"]);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(matches!(cancelled.code, 0 | 5), "{cancelled:?}");
    let ended = child.wait().expect("it ends");
    assert_eq!(ended.code(), Some(5));
}

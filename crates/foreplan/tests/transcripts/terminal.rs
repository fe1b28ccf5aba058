//! What a person does at a terminal.

use std::process::Command;

use crate::support::{Shown, Transcript};

/// Runs a command at a terminal, and types the second of each pair once the first is shown.
fn at_a_terminal(t: &Transcript, arguments: &str, script: &[(&str, &str)]) -> Shown {
    at_a_terminal_called(t, "xterm", arguments, script)
}

fn at_a_terminal_called(t: &Transcript, term: &str, arguments: &str, script: &[(&str, &str)]) -> Shown {
    let terminal = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/terminal.py");
    let mut python = Command::new("python3");
    python.arg(terminal);
    for (shown, keys) in script {
        python.args([shown, keys]);
    }
    python.args(["--", "env", &format!("TERM={term}"), env!("CARGO_BIN_EXE_foreplan"), "--color", "never"]);
    t.shown_by(python, arguments)
}

const ASKED: &str = "Only `yes` is accepted: ";

#[test]
fn ctrl_c_at_the_approval_leaves_the_run_waiting() {
    let t = Transcript::of("release");
    let shown = at_a_terminal(&t, "run", &[(ASKED, "^C")]);
    assert_eq!(shown.code, 3, "{shown:?}");
    let waiting = &shown.text[shown.text.find(ASKED).unwrap()..];
    assert!(waiting.contains("? waiting run") && waiting.contains("foreplan approve"), "{waiting}");
    assert_eq!(t.view()["waiting_for"]["kind"], "plan_approval");
    assert!(!t.path("deployed.log").exists());
}

#[test]
fn anything_but_yes_leaves_the_run_waiting() {
    let t = Transcript::of("release");
    for answer in ["y", "YES", "", "yes please"] {
        let shown = at_a_terminal(&t, "run", &[(ASKED, answer)]);
        assert_eq!(shown.code, 3, "{answer}: {shown:?}");
    }
    assert!(!t.path("deployed.log").exists());
}

#[test]
fn a_person_approves_and_answers_in_one_sitting() {
    let t = Transcript::of("release");
    let shown = at_a_terminal(&t, "run", &[(ASKED, "yes"), ("Your answer", "yes")]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_eq!(t.view()["status"], "succeeded");
    assert!(t.path("deployed.log").exists());
}

#[test]
fn progress_is_drawn_in_place_or_line_by_line_as_the_terminal_can() {
    let t = Transcript::of("release");
    let script = [(ASKED, "yes"), ("Your answer", "yes")];
    for (term, draws) in [("xterm", true), ("dumb", false), ("", false)] {
        let shown = at_a_terminal_called(&t, term, "run", &script);
        assert_eq!(shown.code, 0, "{shown:?}");
        assert!(shown.text.contains("✓ succeeded   announce"), "{term}: {shown:?}");
        assert_eq!(shown.text.contains("0/4 steps"), draws, "{term}: {shown:?}");
        assert!(!shown.text.contains("\x1b[3"), "{term}: no colours were asked for: {shown:?}");
    }
}

#[test]
fn ctrl_c_at_a_question_leaves_the_run_waiting_for_its_answer() {
    let t = Transcript::of("release");
    let shown = at_a_terminal(&t, "run", &[(ASKED, "yes"), ("Your answer", "^C")]);
    assert_eq!(shown.code, 3, "{shown:?}");
    assert!(shown.text.contains("foreplan answer"), "{shown:?}");
    assert_eq!(t.view()["waiting_for"]["kind"], "question");
}

#[test]
fn ctrl_c_at_work_suspends_the_run_and_a_person_resumes_it() {
    let t = Transcript::of("report");
    let shown = at_a_terminal(&t, "run", &[("running     add_up", "^C"), ("Stopping after", "^C")]);
    assert_eq!(shown.code, 130, "{shown:?}");
    assert!(shown.text.contains("suspended at step 1/3. Resume: foreplan resume"), "{shown:?}");
    t.write("go", "");
    let resumed = at_a_terminal(&t, "resume last", &[]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
}

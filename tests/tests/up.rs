//! `just up`: a whole deployment from local binaries.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use foreplan_testkit::nats::binary;
use foreplan_tests::{Project, python::python};

fn signal(signal: &str, process: &str) {
    let told = Command::new("kill").args([signal, process]).status();
    assert!(told.is_ok_and(|status| status.success()), "{signal} {process}");
}

#[test]
fn up_brings_everything_up_for_a_release_keeps_it_up_and_an_interrupt_ends_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().expect("a folder");
    let project = Project::example("release-checklist");
    let requirements = root.join("docs/examples/python-specialist/requirements.txt");
    // Whoever runs tests in the background may ignore interrupts, and a shell that starts so never hears one.
    let mut command = Command::new("env");
    command
        .arg("--default-signal=INT")
        .arg(root.join("deploy/up.sh"))
        .env("FOREPLAN", foreplan_tests::binary())
        .env("NATS_SERVER", binary(None))
        .env("UP_PORT", "-1")
        .env("JAEGER", "");
    command.env("UP_DIR", folder.path()).env("UP_PROJECT", project.path()).env("NO_COLOR", "1");
    let python = python(&requirements, &[]);
    if let Some(python) = &python {
        command.env("UP_PYTHON", python);
    }
    let mut up = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the script starts");
    let mut lines = BufReader::new(up.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let (mut processes, mut url) = (Vec::new(), None);
    let mut said = Vec::new();
    for line in lines.by_ref() {
        if let Some((name, id)) = line.trim().split_once(" process ") {
            processes.push((name.trim().to_owned(), id.trim().to_owned()));
        }
        url = url.or(line.trim().strip_prefix("export NATS_URL=").map(str::to_owned));
        let is_up = line.starts_with("Ctrl-C here ends everything");
        said.push(line);
        if is_up {
            break;
        }
    }
    let url = url.unwrap_or_else(|| panic!("it did not come up: {said:?}"));
    assert_eq!(processes.len(), if python.is_some() { 11 } else { 9 }, "{processes:?}");
    for (name, id) in &processes {
        let program = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        let is_real = ["foreplan", "nats-server", "python"].iter().any(|known| program.starts_with(known));
        assert!(is_real, "the process id of {name} is that of `{}`", program.trim());
    }

    let project = project.on(&url);
    let waiting = project.foreplan(&["run", "--param", "version=1.4.3"]);
    assert_eq!(waiting.code, 3, "a deploy asks first: {waiting:?}");
    project.approve();
    let view = project.show("last");
    assert_eq!(
        (&view["status"], &view["result"]["live"]),
        (&"succeeded".into(), &"1.4.3".into()),
        "{view:#}"
    );

    let (_, worker) = processes.iter().find(|(name, _)| name == "ops-1").expect("a worker");
    signal("-KILL", worker);
    let again = lines.find_map(|line| {
        line.strip_prefix("ops-1 has ended and is started again: process ").map(str::to_owned)
    });
    processes.push(("ops-1".to_owned(), again.expect("who is killed is started again")));
    let waiting = project.foreplan(&["run", "--param", "version=1.4.2"]);
    assert_eq!(waiting.code, 3, "the others went on: {waiting:?}");
    project.approve();
    assert_eq!(project.show("last")["status"], "succeeded");

    signal("-INT", &up.id().to_string());
    let last: Vec<String> = lines.collect();
    assert!(last.iter().any(|line| line.starts_with("Stopped.")), "{last:?}");
    assert_eq!(up.wait().ok().and_then(|status| status.code()), Some(130));
    for (name, id) in &processes {
        assert!(!Path::new("/proc").join(id).exists(), "{name}, process {id}, is still there");
    }
}

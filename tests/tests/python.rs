//! Workers and clients in another language: the Python example on a real deployment.

use std::{path::Path, process::Command};

use foreplan_testkit::{Normalizer, assert_golden};
use foreplan_tests::{Deployment, Done, Project, Serving, done, golden, python::python, serve, span_tree};
use serde_json::Value;

struct Example {
    deployment: Deployment,
    project: Project,
    python: std::path::PathBuf,
}

impl Example {
    /// Returns `None` if `nats-py` cannot be fetched.
    fn start() -> Option<Self> {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/python-specialist");
        let python = python(&example.join("requirements.txt"), &[])?;
        let deployment = Deployment::start();
        let project = Project::example("python-specialist").on(&deployment.server.url());
        Some(Self { deployment, project, python })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.args(args).current_dir(self.project.path());
        command.env("NATS_URL", self.deployment.server.url()).env("USER", "ada.l");
        command
    }

    fn specialist(&self) -> Serving {
        Serving::start(&mut self.command(&["specialist.py"]), "Serving as")
    }

    fn client(&self, args: &[&str]) -> Done {
        done(&self.command(&[&["client.py"], args].concat()).output().expect("python starts"))
    }
}

#[test]
fn a_specialist_in_python_does_a_step_and_a_client_in_python_approves() {
    let Some(example) = Example::start() else { return };
    let _agents = example.deployment.agents();
    let _desk = serve(&example.project, &["--roles", "executor"]);
    let mut specialist = example.specialist();

    let submitted = example.client(&["submit"]);
    assert_eq!(submitted.code, 0, "{submitted:?}");
    let run = submitted.stdout.trim();
    let waiting = example.client(&["wait", run]);
    assert_eq!(waiting.code, 3, "publishing is irreversible: {waiting:?}");
    let approved = example.client(&["approve", run]);
    assert_eq!(approved.code, 0, "{approved:?}");
    let ended = example.client(&["wait", run]);
    assert_eq!(ended.code, 0, "{ended:?}");

    let view = example.project.show(run);
    let steps = view["steps"].as_array().expect("a run has steps");
    let fit = steps.iter().find(|step| step["id"] == "fit_trend").expect("a step for the specialist");
    assert!(fit["worker"].as_str().is_some_and(|worker| worker.starts_with("python-")), "{fit:#}");
    assert_eq!(fit["output"]["forecast"]["next"], 195.56);
    assert_eq!(example.project.read("published.txt"), "Next month brings 195.56, 6.92 more than this one.\n");
    let verified = example.project.foreplan(&["audit", run, "--verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let audit = example.project.foreplan(&["audit", run]);
    assert!(audit.stdout.contains("ada.l"), "the record names who approved: {audit:?}");
    let tree = span_tree(&example.project, run, &mut Normalizer::new());
    assert_golden(golden("python-specialist.txt"), &tree);
    let again = example.client(&["approve", run]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("the deployment refuses it"), "{again:?}");
    assert_eq!(specialist.stop(), Some(0), "it ends when it is told to");
}

#[test]
fn a_step_of_a_killed_specialist_in_python_is_done_by_another() {
    let Some(example) = Example::start() else { return };
    let _agents = example.deployment.agents();
    let _desk = serve(&example.project, &["--roles", "executor"]);
    // The first one never returns from its tool.
    let hanging = example.project.read("specialist.py").replace(
        "slope, start = ",
        "open('started', 'w').close(); time.sleep(600 if not os.path.exists('go') else 0)\n    slope, start = ",
    );
    example.project.write("specialist.py", &hanging);
    let mut doomed = example.specialist();
    let ran = example.project.foreplan(&["run", "--approve", "auto", "--detach"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !example.project.path().join("started").exists() {
        assert!(std::time::Instant::now() < end, "the step does not start");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    doomed.kill();
    example.project.write("go", "");
    let _next = example.specialist();

    let watched = example.project.foreplan(&["watch", "last", "--exit-status"]);
    assert_eq!(watched.code, 0, "{watched:?}");
    let view = example.project.show("last");
    let steps = view["steps"].as_array().expect("a run has steps");
    let fit = steps.iter().find(|step| step["id"] == "fit_trend").expect("a step for the specialist");
    assert_eq!((&fit["attempts"], &fit["status"]), (&Value::from(2), &Value::from("succeeded")), "{fit:#}");
    let audit = example.project.foreplan(&["audit", "last"]);
    assert!(audit.stdout.contains("worker_lost"), "{audit:?}");
}

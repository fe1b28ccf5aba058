//! Least privilege on a real server: every role works with what its user may do, and no user can do
//! more.

use std::{path::Path, time::Duration};

use async_nats::{Client, ConnectOptions, Event};
use foreplan_testkit::nats::{NatsServer, binary};
use foreplan_tests::{Project, Serving, serve};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Longer than a server takes to refuse.
const PATIENCE: Duration = Duration::from_secs(10);

const EXECUTOR: &str = "fp-executor-release-checklist-ops";
const CLIENT: &str = "fp-client-operator";
const RUN: &str = "0199fe31-46a5-70ba-b9fc-999ea566e500";

/// A plan whose step is a goal.
const GOAL: &str = r#"{ "format": 1, "goal": "Build once more", "steps": [
    { "id": "web", "title": "Build the web service", "goal": { "text": "Build it", "produce": ["build"] },
      "input": { "service": "web" } } ] }"#;

/// A server with the configuration of `deploy/nats`, and the account of a second tenant.
struct Secured {
    server: NatsServer,
    _config: TempDir,
}

fn password(user: &str) -> String {
    format!("of-{user}")
}

fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn account(args: &[&str]) -> String {
    let made = Project::empty().foreplan(&[&["nats", "account"], args].concat());
    assert_eq!(made.code, 0, "{made:?}");
    made.stdout
}

impl Secured {
    fn start() -> Self {
        let config = tempfile::tempdir().expect("a folder for the configuration");
        let write = |file: &str, text: &str| std::fs::write(config.path().join(file), text).expect("a file");
        let (own, other) = (deploy("fp.conf"), account(&["--tenant", "other", "--client", "eve"]));
        write(
            "server.conf",
            &deploy("server.conf").replace("include fp.conf", "include fp.conf\n  include other.conf"),
        );
        write("fp.conf", &own);
        write("other.conf", &other);
        let users = [own, other].concat();
        let users = users.split("user: \"").skip(1).filter_map(|rest| rest.split('"').next());
        let env: Vec<(String, String)> =
            users.map(|user| (user.replace('-', "_").to_uppercase(), password(user))).collect();
        let path = config.path().join("server.conf");
        let server = NatsServer::start_in(&binary(None), &["-c", &path.to_string_lossy()], &env);
        let secured = Self { server, _config: config };
        let set_up = secured.project("fp-admin").foreplan(&["nats", "setup", "--ack-wait", "3s"]);
        assert_eq!(set_up.code, 0, "{set_up:?}");
        secured
    }

    /// Returns the release checklist, all of whose commands connect as a user.
    fn project(&self, user: &str) -> Project {
        let url = self.server.url().replace("nats://", &format!("nats://{user}:{}@", password(user)));
        let project = Project::example("release-checklist").on(&url);
        project.with_env("NATS_INBOX", &format!("_INBOX.{user}")).with_env("FOREPLAN_AS", "operator")
    }

    fn serve(&self, user: &str, role: &str) -> (Project, Serving) {
        let project = self.project(user);
        let serving = serve(&project, &["--roles", role]);
        (project, serving)
    }

    /// Connects as a user, and returns what the server refuses later.
    async fn connect(&self, user: &str) -> (Client, UnboundedReceiver<String>) {
        let (said, hears) = unbounded_channel();
        let options = ConnectOptions::with_user_and_password(user.to_owned(), password(user)).event_callback(
            move |event| {
                let said = said.clone();
                async move {
                    if let Event::ServerError(error) = event {
                        let _ = said.send(error.to_string().to_lowercase());
                    }
                }
            },
        );
        (options.connect(self.server.url()).await.expect("the user may connect"), hears)
    }

    /// Tries to publish and to subscribe, and returns what of it the server let pass.
    async fn let_pass(&self, user: &str, publish: &[&str], subscribe: &[&str]) -> Vec<String> {
        let (client, mut refused) = self.connect(user).await;
        let mut passed = Vec::new();
        for (is_publish, subject) in
            publish.iter().map(|s| (true, *s)).chain(subscribe.iter().map(|s| (false, *s)))
        {
            if is_publish {
                client.publish(subject.to_owned(), "x".into()).await.expect("it is sent");
            } else {
                drop(client.subscribe(subject.to_owned()).await.expect("it is sent"));
            }
            // The answer to a flush comes after the refusal.
            client.flush().await.expect("the server answers");
            let wanted =
                format!("permissions violation for {}", if is_publish { "publish" } else { "subscription" });
            let said =
                tokio::time::timeout(PATIENCE, refused.recv()).await.ok().flatten().unwrap_or_default();
            if !(said.contains(&wanted) && said.contains(&subject.to_lowercase())) {
                passed.push(format!("{user}: {subject} ({said})"));
            }
        }
        passed
    }
}

#[test]
fn the_account_in_deploy_is_what_the_program_prints() {
    let printed = account(&[
        "--executor",
        "release-checklist/ci",
        "--executor",
        "release-checklist/ops",
        "--client",
        "operator",
    ]);
    assert_eq!(deploy("fp.conf"), printed, "make it again: the command is in deploy/nats/server.conf");
}

/// Trap 8: servers from 2.15 on acknowledge on other subjects than those before. This test runs on both.
#[test]
fn a_release_goes_through_with_one_user_for_each_role() {
    let secured = Secured::start();
    let _tracker = secured.serve("fp-tracker", "tracker");
    let _planner = secured.serve("fp-planner", "planner");
    let _replanner = secured.serve("fp-replanner", "replanner");
    let folder = secured.project("fp-executor-release-checklist-ci");
    let _building = serve(&folder, &["--roles", "executor", "--capability", "ci"]);
    // Both act on one state, as in production they would on one cluster.
    let operating = secured.project(EXECUTOR);
    std::os::unix::fs::symlink(folder.path().join("state"), operating.path().join("state")).expect("a link");
    let _operating = serve(&operating, &["--roles", "executor", "--capability", "ops"]);
    let client = secured.project(CLIENT);

    let waiting = client.foreplan(&["run", "--param", "version=1.4.3"]);
    assert_eq!(waiting.code, 3, "a deploy asks first: {waiting:?}");
    client.approve();
    let view = client.show("last");
    assert_eq!(
        (&view["status"], &view["result"]["live"]),
        (&"succeeded".into(), &"1.4.3".into()),
        "{view:#}"
    );
    assert_eq!(folder.read("state/deploy.log").lines().count(), 1);
    client.foreplan(&["audit", "last", "--verify"]).succeeded();
    client.foreplan(&["runs"]).succeeded();
    client.foreplan(&["dead"]).succeeded();
    client.write("goal.json", GOAL);
    client.foreplan(&["apply", "goal.json", "--param", "version=1.4.2"]).succeeded();
    let view = client.show("last");
    assert!(view["steps"][0]["child"].is_string(), "a run of its own built it: {view:#}");

    let stranger = secured.project(EXECUTOR);
    let refused = stranger.foreplan(&["runs"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(refused.stderr.contains("this user may not publish to"), "{refused:?}");
    assert!(!refused.stderr.contains(&password(EXECUTOR)), "no password is shown: {refused:?}");
    let other_name =
        client.with_env("FOREPLAN_AS", "boss").foreplan(&["run", "--detach", "--param", "version=1.4.2"]);
    assert_eq!(other_name.code, 8, "{other_name:?}");
    assert!(other_name.stderr.contains("this user may not publish to \"fp.cmd.boss"), "{other_name:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_can_do_what_is_another_s() {
    let secured = Secured::start();
    let (run, approve) = (format!("fp.run.0.{RUN}"), format!("fp.cmd.operator.0.{RUN}"));
    let (reply, work) = (format!("fp.rep.0.{RUN}.step-a.1"), format!("fp.work.planner._._.{RUN}.plan.1"));
    let nobody = [
        run.as_str(),
        "$JS.API.STREAM.DELETE.fp_RUNS",
        "$JS.API.STREAM.PURGE.fp_RUNS",
        "$JS.API.STREAM.UPDATE.fp_RUNS",
        "$JS.API.STREAM.MSG.DELETE.fp_RUNS",
        "$JS.API.STREAM.CREATE.evil",
        "$KV.fp_OPEN.0.x",
        "$KV.fp_OWNERS.0",
        "$KV.fp_SECRETS.lease",
        "$JS.API.DIRECT.GET.KV_fp_SECRETS",
        "$JS.API.STREAM.MSG.GET.KV_fp_SECRETS",
        "$JS.API.CONSUMER.CREATE.KV_fp_SECRETS",
    ];
    let hears = [">", "fp.>", "fp.cmd.>", "fp.rep.>", "fp.work.>", "_INBOX.>", "_INBOX.fp-tracker.x"];
    let mut passed = Vec::new();

    let own = [
        approve.as_str(),
        work.as_str(),
        "$KV.fp_CAPABILITIES.release-checklist.other",
        "$JS.API.CONSUMER.CREATE.fp_RUNS",
        "$JS.API.CONSUMER.CREATE.fp_CMD.mine.fp.cmd.>",
        "$JS.API.CONSUMER.CREATE.fp_WORK.mine.fp.work.>",
        "$JS.API.CONSUMER.MSG.NEXT.fp_WORK.planner",
        "$JS.API.CONSUMER.MSG.NEXT.fp_WORK.executor-release-checklist-ci",
        "$JS.API.CONSUMER.MSG.NEXT.fp_CMD.queue-0",
        "$JS.API.DIRECT.GET.fp_RUNS",
        "$JS.API.STREAM.MSG.GET.fp_CMD",
        "$JS.API.CONSUMER.DELETE.fp_WORK.planner",
    ];
    let client_inbox = format!("_INBOX.{CLIENT}.x");
    let executor_hears = [&hears[..], &["fp.run.*.*", &client_inbox]].concat();
    passed.extend(secured.let_pass(EXECUTOR, &[&nobody[..], &own].concat(), &executor_hears).await);

    let own =
        [approve.as_str(), work.as_str(), "$JS.API.CONSUMER.MSG.NEXT.fp_WORK.executor-release-checklist-ops"];
    for user in ["fp-planner", "fp-replanner"] {
        passed.extend(secured.let_pass(user, &[&nobody[..], &own].concat(), &executor_hears).await);
    }

    let boss = format!("fp.cmd.boss.0.{RUN}");
    let own = [boss.as_str(), reply.as_str(), work.as_str(), "$KV.fp_WORKERS.x", "$O.fp_PAYLOADS.C.x"];
    passed.extend(secured.let_pass(CLIENT, &[&nobody[..], &own].concat(), &hears).await);

    let own = [approve.as_str(), "$JS.API.STREAM.DELETE.fp_RUNS", "$JS.API.STREAM.PURGE.fp_RUNS"];
    passed.extend(secured.let_pass("fp-tracker", &own, &["fp.cmd.>", ">"]).await);
    assert!(passed.is_empty(), "the server let pass: {passed:#?}");
}

#[test]
fn a_tenant_sees_nothing_of_another() {
    let secured = Secured::start();
    let other = secured.project("other-admin");
    let refused = other.foreplan(&["runs", "--tenant", "fp"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(refused.stderr.contains("is not set up"), "in its account there is no such stream: {refused:?}");
    other.foreplan(&["nats", "setup", "--tenant", "fp"]).succeeded();
    other.foreplan(&["runs", "--tenant", "fp"]).succeeded();
    let stranger = secured.project("other-client-eve").foreplan(&["runs", "--tenant", "fp"]);
    assert_eq!(stranger.code, 8, "{stranger:?}");
    assert!(stranger.stderr.contains("this user may not publish to"), "{stranger:?}");
}

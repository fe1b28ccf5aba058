//! A deployment of processes over a real server.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use foreplan_testkit::nats::{self, NatsServer};

use crate::{Project, wait_until};

/// A server with a deployment set up on it; `FOREPLAN_TEST_NATS_REPLICAS=3` makes it one of three.
pub struct Deployment {
    /// The server.
    pub server: NatsServer,
    /// What keeps copies.
    _others: Vec<NatsServer>,
}

/// A process that serves, killed when dropped.
pub struct Serving {
    child: Child,
    /// What it said of itself when it began: of `foreplan serve`, the name under which the deployment
    /// knows it.
    pub name: String,
    /// What it said before it served.
    before: Vec<String>,
}

impl Deployment {
    /// Starts a server, and sets a deployment up whose lost workers are noticed soon.
    ///
    /// # Panics
    ///
    /// If either fails.
    #[must_use]
    pub fn start() -> Self {
        let replicas = std::env::var("FOREPLAN_TEST_NATS_REPLICAS").unwrap_or_else(|_| "1".to_owned());
        let mut servers = match replicas.parse() {
            Ok(size) if size > 1 => nats::cluster(size, &[]),
            _ => vec![NatsServer::start()],
        };
        let server = servers.swap_remove(0);
        let folder = Project::empty().on(&server.url());
        let set_up = || folder.foreplan(&["nats", "setup", "--ack-wait", "3s", "--replicas", &replicas]);
        // Servers that are to choose a leader answer nothing until then.
        wait_until("the servers are one", || servers.is_empty() || set_up().code == 0);
        let set_up = set_up();
        assert_eq!(set_up.code, 0, "{set_up:?}");
        Self { server, _others: servers }
    }

    /// Lets the commands of a project use it.
    #[must_use]
    pub fn of(&self, project: Project) -> Project {
        project.on(&self.server.url())
    }

    /// Starts a process without a project: all roles but the executor's.
    #[must_use]
    pub fn agents(&self) -> (Project, Serving) {
        let folder = Project::empty().on(&self.server.url());
        let serving = serve(&folder, &["--roles", "planner,replanner,tracker"]);
        (folder, serving)
    }
}

/// Starts `foreplan serve` in a project, and returns once it serves.
#[must_use]
pub fn serve(project: &Project, args: &[&str]) -> Serving {
    Serving::said(project.start(&[&["serve"], args].concat()), "Serving as")
}

impl Serving {
    /// Starts a command, and returns once it has said a line that begins with `word`, on stdout or,
    /// of `foreplan`, on stderr.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or ends without having said it.
    #[must_use]
    pub fn start(command: &mut Command, word: &str) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self::said(child.expect("the program starts"), word)
    }

    fn said(mut child: Child, word: &str) -> Self {
        let (said, lines) = std::sync::mpsc::channel();
        let pipes: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for pipe in pipes.into_iter().flatten() {
            let said = said.clone();
            // What it says later must not fill the pipe.
            std::thread::spawn(move || {
                BufReader::new(pipe).lines().map_while(Result::ok).for_each(|line| drop(said.send(line)));
            });
        }
        drop(said);
        let mut serving = Self { child, name: String::new(), before: Vec::new() };
        for line in lines {
            if let Some(rest) = line.strip_prefix(word) {
                serving.name = rest.trim().to_owned();
                return serving;
            }
            serving.before.push(line);
        }
        panic!("it does not say `{word}`: {:?}", serving.before);
    }

    /// Returns the address under which it tells of itself.
    ///
    /// # Panics
    ///
    /// If it has none.
    #[must_use]
    pub fn address(&self) -> String {
        let address = self
            .before
            .iter()
            .find_map(|line| Some(line.strip_prefix("Health: http://")?.strip_suffix("/readyz")?.to_owned()));
        address.unwrap_or_else(|| panic!("it listens nowhere: {:?}", self.before))
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `TERM`, `STOP`, `CONT`.
    ///
    /// # Panics
    ///
    /// If it cannot be sent.
    pub fn signal(&self, name: &str) {
        let told = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "it cannot be sent {name}");
    }

    /// Waits until it ends, and returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().ok().and_then(|status| status.code())
    }

    /// Returns whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Tells it to stop, and returns its exit code.
    ///
    /// # Panics
    ///
    /// If it cannot be told.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.kill();
    }
}

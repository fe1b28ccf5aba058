//! The models that a command may ask: at their providers, or as a session file says.

use std::{
    collections::BTreeSet,
    net::{TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use foreplan_model::{Client, Configs, Models, Recorder, RecordingError, Replayer, Variables};

use super::{args::ModelArgs, error::Failure, exit::Exit, place::Place};

/// How long `doctor` waits for a server to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the models of a project. Keys are read when a model is asked for.
///
/// # Errors
///
/// If a session file cannot be used.
pub(crate) fn models(args: &ModelArgs, place: &Place) -> Result<Arc<dyn Models>, Failure> {
    let models: Arc<dyn Models> = match &args.replay_models {
        Some(path) => return Ok(Arc::new(Replayer::open(path)?)),
        None => Arc::new(client(place)),
    };
    Ok(match &args.record_models {
        Some(path) => Arc::new(Recorder::open(models, path)?),
        None => models,
    })
}

/// Returns the models of a service. One without a project has those of the providers whose keys are
/// in its environment.
///
/// # Errors
///
/// If a session file cannot be used.
pub(crate) fn serving(args: &ModelArgs, place: Option<&Place>) -> Result<Arc<dyn Models>, Failure> {
    match place {
        Some(place) => models(args, place),
        None => Ok(Arc::new(Client::new(Configs::default(), variables()))),
    }
}

fn client(place: &Place) -> Client {
    Client::new(place.project.models(), variables())
}

fn variables() -> Variables {
    Arc::new(|name: &str| std::env::var(name).ok())
}

/// What `doctor` found out about one model.
pub(crate) struct Finding {
    /// Whether it can be asked.
    pub(crate) well: bool,
    /// What was found.
    pub(crate) what: String,
}

/// Tries every model that the project names: whether it has a key, and whether its server takes
/// connections. Nothing is sent.
pub(crate) fn try_all(place: &Place) -> Vec<Finding> {
    let client = client(place);
    named(place)
        .into_iter()
        .map(|name| match client.address(&name) {
            Err(error) => Finding { well: false, what: format!("model {error}") },
            Ok(address) => match connect(&address) {
                Ok(()) => Finding { well: true, what: format!("model {name} at {address}") },
                Err(why) => {
                    Finding { well: false, what: format!("model {name}: {address} cannot be reached: {why}") }
                }
            },
        })
        .collect()
}

fn named(place: &Place) -> BTreeSet<String> {
    let file = place.project.file();
    let tables = file.models.keys().filter(|name| name.contains('/'));
    let actors = file.specialists.iter().filter_map(|specialist| specialist.model.as_ref());
    tables.chain(&file.planner.model).chain(&file.replan.model).chain(actors).cloned().collect()
}

fn connect(address: &str) -> Result<(), String> {
    let (scheme, rest) = address.split_once("://").ok_or("it is no address")?;
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_port = host.rsplit(']').next().is_some_and(|behind| behind.contains(':'));
    let target = match (has_port, scheme) {
        (true, _) => host.to_owned(),
        (false, "https") => format!("{host}:443"),
        (false, _) => format!("{host}:80"),
    };
    let addresses = target.to_socket_addrs().map_err(|e| e.to_string())?;
    let mut why = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

impl From<RecordingError> for Failure {
    fn from(error: RecordingError) -> Self {
        Self::chain(Exit::Usage, "", &error)
    }
}

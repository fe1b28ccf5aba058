//! Verbs of a deployment: `serve`, `nats setup`, `dead`.

use std::sync::Arc;

use foreplan_core::id::Capability;
use foreplan_nats::{Account, Client};
use foreplan_tools::Toolbox;

use crate::{
    Error,
    cli::{
        args::{AccountArgs, DeadArgs, Global, NatsVerb, ServeArgs, SetupArgs},
        error::Failure,
        exit::Exit,
        models,
        output::Output,
        paint::clean,
        place::{self, Place},
        signals::Signals,
        traces,
    },
    logs::Logs,
    serve::{NatsConnection, PartState, Role, Service, ServiceOptions, Setup, serve_health},
};

/// Serves a deployment until told to stop.
///
/// # Errors
///
/// If the deployment, or the project, cannot be used.
pub(crate) async fn serve(output: &mut Output, global: &Global, args: &ServeArgs) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let roles = if args.roles.is_empty() { Role::ALL.to_vec() } else { args.roles.clone() };
    let (place, options) = means(output, global, args, roles).await?;
    let connection = connect(global, place.as_ref(), "serve").await?;
    let service = Service::start(connection, options).await?;
    let health = match args.listen {
        None => None,
        Some(listen) => {
            let served = serve_health(listen, service.readiness(), service.watch().page()).await;
            let (address, task) = served
                .map_err(|e| Failure::chain(Exit::Unavailable, &format!("cannot listen on {listen}"), &e))?;
            output.note(&format!("Health: http://{address}/readyz"));
            Some(task)
        }
    };
    let section = place.as_ref().and_then(|place| place.project.file().telemetry.endpoint.clone());
    let sending = traces::metrics(section.as_deref())?
        .map(|(to, every)| tokio::spawn(service.watch().send_metrics(to, every)));
    output.note(&format!("Serving as {}", service.worker()));
    let exit = signals.next().await;
    output.note("Stopping after the steps in hand; a second signal ends them.");
    tokio::select! {
        () = service.drain() => {}
        _ = signals.next() => return Ok(exit),
    }
    health.into_iter().chain(sending).for_each(|task| task.abort());
    Ok(if exit == Exit::Terminated { Exit::Ok } else { exit })
}

/// Returns the project, where there is one, and what the process is to do.
async fn means(
    output: &mut Output,
    global: &Global,
    args: &ServeArgs,
    roles: Vec<Role>,
) -> Result<(Option<Place>, ServiceOptions), Failure> {
    let executes = roles.contains(&Role::Executor);
    let place = match Place::find(output, global, args.project.folder.as_deref()) {
        Ok(place) => Some(place),
        Err(failure) if executes => return Err(failure),
        Err(_) => None,
    };
    let toolbox: Option<Toolbox> = match &place {
        Some(place) if executes => Some(executing(place, &args.capability).await?),
        _ => None,
    };
    let log = place.as_ref().map(|place| {
        let logs = Logs::new(&place.store);
        let log: foreplan_executor::Logs = Arc::new(move |run, step, attempt| logs.open(run, step, attempt));
        log
    });
    let project = place.as_ref().map(|place| place.project.name()).unwrap_or_default();
    let models = models::serving(&global.models, place.as_ref())?;
    let traces = traces::collector(place.as_ref())?;
    let toolbox = toolbox.map(Arc::new);
    Ok((place, ServiceOptions { roles, project, toolbox, log, models, traces }))
}

/// Returns the tools, once the commands that a killed process of this project left running have ended.
async fn executing(place: &Place, capabilities: &[Capability]) -> Result<Toolbox, Failure> {
    let (toolbox, _) = place.project.connect(capabilities, Some(place.groups())).await?;
    toolbox.end_orphans().await.map_err(Error::Orphan)?;
    Ok(toolbox)
}

/// Makes or verifies what a deployment consists of, or says what its users may do.
///
/// # Errors
///
/// If the server cannot be used, or something has other settings than it needs.
pub(crate) async fn nats(output: &mut Output, global: &Global, verb: &NatsVerb) -> Result<Exit, Failure> {
    match verb {
        NatsVerb::Setup(args) => setup(output, global, *args).await,
        NatsVerb::Account(args) => account(output, global, args),
    }
}

fn account(output: &mut Output, global: &Global, args: &AccountArgs) -> Result<Exit, Failure> {
    let account = Account {
        tenant: global.tenant.clone().unwrap_or_else(|| "fp".to_owned()),
        executors: args.executor.clone(),
        clients: args.client.clone(),
    };
    output.result(&account.to_config()?);
    output.note("Include it under `accounts` of the server's configuration. Each user connects with its password and with --nats-inbox _INBOX.USER.");
    Ok(Exit::Ok)
}

async fn setup(output: &mut Output, global: &Global, args: SetupArgs) -> Result<Exit, Failure> {
    let place = Place::find(output, global, None).ok();
    let connection = connect(global, place.as_ref(), "setup").await?;
    let SetupArgs { replicas, dry_run, queues, .. } = args;
    let mut setup = Setup { replicas, dry_run, queues, ..Setup::default() };
    if let Some(ack_wait) = args.ack_wait {
        setup.work_ack_wait = ack_wait;
    }
    let parts = setup.run(&connection).await?;
    let mut text = String::new();
    for part in &parts {
        let state = match part.state {
            PartState::Present => "there",
            PartState::Created => "made",
            PartState::Missing => "missing",
        };
        text.push_str(&format!("{state:<8} {}\n", part.name));
    }
    output.result(&text);
    if args.replicas < 3 {
        output.note("One copy of everything outlives a restart of the server, and not the loss of its disk: use --replicas 3 in production, and `sync_interval: always` in the servers' configuration against a power failure.");
    }
    let is_missing = parts.iter().any(|part| part.state == PartState::Missing);
    Ok(if is_missing { Exit::Unavailable } else { Exit::Ok })
}

/// Prints what could not be processed.
///
/// # Errors
///
/// If the server cannot be used.
pub(crate) async fn dead(output: &mut Output, global: &Global, _: &DeadArgs) -> Result<Exit, Failure> {
    let place = Place::find(output, global, None).ok();
    let connection = connect(global, place.as_ref(), "dead").await?;
    let dead = Client::new(connection).dead().await?;
    if dead.is_empty() {
        output.note("Everything could be processed.");
    }
    let mut text = String::new();
    for (subject, bytes) in dead {
        text.push_str(&format!("{}\n{}\n", clean(&subject), clean(&String::from_utf8_lossy(&bytes))));
    }
    output.result(&text);
    Ok(Exit::Ok)
}

async fn connect(global: &Global, place: Option<&Place>, what: &str) -> Result<NatsConnection, Failure> {
    let project = place.map(|place| &place.project);
    let options = place::nats_options(global, project, what).ok_or_else(|| {
        Failure::usage("no server is named").next("give --nats URL, set NATS_URL, or add `url` under [bus]")
    })?;
    Ok(NatsConnection::open(&options).await?)
}

impl From<foreplan_nats::Error> for Failure {
    fn from(error: foreplan_nats::Error) -> Self {
        let exit = match &error {
            foreplan_nats::Error::Tenant(_) | foreplan_nats::Error::Credentials(_) => Exit::Usage,
            foreplan_nats::Error::Connect { .. }
            | foreplan_nats::Error::TooOld { .. }
            | foreplan_nats::Error::NoJetStream { .. }
            | foreplan_nats::Error::Denied { .. }
            | foreplan_nats::Error::NotSetUp { .. }
            | foreplan_nats::Error::Differs { .. }
            | foreplan_nats::Error::InUse { .. }
            | foreplan_nats::Error::Server { .. } => Exit::Unavailable,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<crate::serve::Error> for Failure {
    fn from(error: crate::serve::Error) -> Self {
        match error {
            crate::serve::Error::Nats(error) => error.into(),
            crate::serve::Error::Start(_) => Self::new(Exit::Internal, error.to_string()),
        }
    }
}

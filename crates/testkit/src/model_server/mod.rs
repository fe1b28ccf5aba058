//! A model server that answers from a script, over real HTTP on a free loopback port.

mod http;
mod script;
mod stream;
mod wire;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub use script::{Asked, Reply, WireFormat};

type Rule = Box<dyn FnMut(&Asked) -> Option<Reply> + Send>;

/// A model server that speaks the chat completions of `OpenAI` and the messages of Anthropic, both
/// also in pieces where a request asks for that. It ends when it is dropped.
///
/// Rules are asked in the order in which they were added; the first that has a reply answers. What no
/// rule answers gets status 400.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use foreplan_testkit::{ModelServer, Reply};
/// use serde_json::json;
///
/// let server = ModelServer::start().await;
/// server.once(|asked| asked.turns() == 0, Reply::call("read", json!({"path": "a.txt"})));
/// server.always(|asked| asked.says("a.txt"), Reply::json(&json!({"lines": 3})));
/// // [models."test/any"] base_url = server.base_url()
/// assert!(server.base_url().starts_with("http://127.0.0.1:"));
/// assert!(server.asked().is_empty());
/// # }
/// ```
#[derive(Debug)]
pub struct ModelServer {
    address: std::net::SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<Asked>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
    worked: Mutex<Duration>,
}

impl ModelServer {
    /// Starts a server without rules.
    ///
    /// # Panics
    ///
    /// If no loopback port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(State::default());
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Self { address, state, accepting }
    }

    /// Returns the address for `base_url`, up to the version of the interface.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Answers as `rule` says, for as long as it has replies.
    pub fn answer(&self, rule: impl FnMut(&Asked) -> Option<Reply> + Send + 'static) {
        lock(&self.state.rules).push(Box::new(rule));
    }

    /// Answers the first request that fits.
    pub fn once(&self, fits: impl Fn(&Asked) -> bool + Send + 'static, reply: Reply) {
        let mut reply = Some(reply);
        self.answer(move |asked| if fits(asked) { reply.take() } else { None });
    }

    /// Answers every request that fits, for ever.
    pub fn always(&self, fits: impl Fn(&Asked) -> bool + Send + 'static, reply: Reply) {
        self.answer(move |asked| fits(asked).then(|| reply.clone()));
    }

    /// Answers the next requests, whatever they are, in this order.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        let mut replies = replies.into_iter().collect::<Vec<_>>().into_iter();
        self.answer(move |_| replies.next());
    }

    /// Returns all requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state.asked).clone()
    }

    /// Returns how many requests it was working on at the same time, at most.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.state.most_running.load(Ordering::SeqCst)
    }

    /// Returns how long it has worked on requests that it answered: on each from when all of it was there
    /// until the answer was ready to be sent.
    #[must_use]
    pub fn worked(&self) -> Duration {
        *lock(&self.state.worked)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("asked", &lock(&self.asked).len()).finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Connections end with the server: the set aborts them when it is dropped.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, state.clone()));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let mut connection = http::Connection::new(stream);
    while let Some(request) = connection.read().await {
        let begun = Instant::now();
        let Some(format) = format_of(&request.path) else {
            connection.write_error(404, "no such path").await;
            continue;
        };
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            connection.write_error(400, "the body is no JSON").await;
            continue;
        };
        let asked = Asked { format, key: request.key, body };
        let running = state.running.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_running.fetch_max(running, Ordering::SeqCst);
        let (reply, number) = state.reply(&asked);
        let goes_on = match reply {
            Some(reply) => {
                tokio::time::sleep(reply.after).await;
                let response = wire::render(&reply, &asked, number);
                *lock(&state.worked) += begun.elapsed();
                connection.write(response, reply.cut).await
            }
            None => connection.write_error(400, "no rule of the script answers this request").await,
        };
        state.running.fetch_sub(1, Ordering::SeqCst);
        if !goes_on {
            return;
        }
    }
}

impl State {
    /// Notes a request and returns what the first rule that fits replies, and the request's number.
    fn reply(&self, asked: &Asked) -> (Option<Reply>, usize) {
        let reply = lock(&self.rules).iter_mut().find_map(|rule| rule(asked));
        let mut all = lock(&self.asked);
        all.push(asked.clone());
        (reply, all.len())
    }
}

fn format_of(path: &str) -> Option<WireFormat> {
    match path {
        path if path.ends_with("/chat/completions") => Some(WireFormat::OpenAi),
        path if path.ends_with("/messages") => Some(WireFormat::Anthropic),
        _ => None,
    }
}

/// A rule that panics fails its own test; the others may go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

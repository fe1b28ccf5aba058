//! A server that answers HTTP as a test says, and keeps what it was sent.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    trace::v1::Span,
};
use prost::Message as _;

/// What a request is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status, with headers that end with line ends, and a body.
    Status(u16, &'static str, String),
    /// That all spans are kept.
    Taken,
    /// That some spans are not kept, and why.
    Rejected(i64, &'static str),
    /// Nothing, as long as the answer is this.
    Silence,
    /// What is no HTTP.
    Noise,
}

/// A server on a free port of the loopback, until dropped.
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    answer: Answer,
    bodies: Vec<Vec<u8>>,
    is_over: bool,
}

impl Collector {
    /// Begins to answer.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    #[must_use]
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Mutex::new(State { answer, bodies: Vec::new(), is_over: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let inner = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if inner.lock().is_over {
                    return;
                }
                let inner = Arc::clone(&inner);
                std::thread::spawn(move || inner.serve(&client));
            }
        });
        Self { address, shared }
    }

    /// Returns where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers otherwise from now on, also those who wait.
    pub fn answer(&self, answer: Answer) {
        self.shared.lock().answer = answer;
        self.shared.changed.notify_all();
    }

    /// Returns how many requests came.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.lock().bodies.len()
    }

    /// Returns every span that came, in the order in which they did.
    ///
    /// # Panics
    ///
    /// If a request was none of OTLP.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let bodies = self.shared.lock().bodies.clone();
        let requests = bodies
            .iter()
            .map(|body| ExportTraceServiceRequest::decode(body.as_slice()).expect("a request of OTLP"));
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|r| r.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request; whoever is gone meanwhile needs no answer.
    fn serve(&self, mut client: &TcpStream) {
        let Some(body) = request(client) else { return };
        let mut state = self.lock();
        state.bodies.push(body);
        while matches!(state.answer, Answer::Silence) && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let answer = state.answer.clone();
        drop(state);
        let _ = client.write_all(&written(&answer));
    }
}

/// Returns the body of a request.
fn request(client: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(client);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).ok()? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn written(answer: &Answer) -> Vec<u8> {
    let response = |status: u16, headers: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    match answer {
        Answer::Status(status, headers, body) => response(*status, headers, body.as_bytes()),
        Answer::Taken => response(200, "", &ExportTraceServiceResponse::default().encode_to_vec()),
        Answer::Rejected(rejected_spans, why) => {
            let partial = ExportTracePartialSuccess {
                rejected_spans: *rejected_spans,
                error_message: (*why).to_owned(),
            };
            response(200, "", &ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec())
        }
        Answer::Noise => b"SSH-2.0-no collector\r\n".to_vec(),
        Answer::Silence => Vec::new(),
    }
}

//! A proxy that changes what a server and its clients say to each other: a message is dropped, or
//! another one takes its place. So a server can be had that is older, slower or stranger than the one
//! that is there.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
};

use serde_json::Value;

/// What is changed.
pub trait Alter: Send + Sync + 'static {
    /// Changes what the server says of itself.
    fn info(&self, _info: &mut Value) {}

    /// Changes a message of a client; `false` drops it.
    fn sent(&self, _message: &mut Message) -> bool {
        true
    }

    /// Changes a message of the server; `false` drops it.
    fn received(&self, _message: &mut Message) -> bool {
        true
    }
}

/// A message on its way.
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Of one of the server, the subscription.
    subscription: Option<String>,
    /// Where an answer goes.
    pub reply: Option<String>,
    /// Its headers as they are written, nothing if it has none.
    pub headers: String,
    /// What it says.
    pub payload: Vec<u8>,
}

/// A proxy on a free port of the loopback, until dropped.
pub struct Altering {
    address: std::net::SocketAddr,
    over: Arc<std::sync::atomic::AtomicBool>,
}

impl Altering {
    /// Begins to pass connections on to a server: `nats://127.0.0.1:4222`.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    #[must_use]
    pub fn to(url: &str, alter: Arc<impl Alter>) -> Self {
        let server = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let ends = [(client.try_clone(), upstream.try_clone()), (Ok(upstream), Ok(client))];
                for (is_client, (from, to)) in [true, false].into_iter().zip(ends) {
                    let (Ok(from), Ok(to)) = (from, to) else { continue };
                    let alter = Arc::clone(&alter);
                    std::thread::spawn(move || {
                        let _ = pass(&from, &to, is_client, alter.as_ref());
                        let _ = from.shutdown(Shutdown::Both);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, over }
    }

    /// Returns its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for Altering {
    fn drop(&mut self) {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn pass(from: &TcpStream, mut to: &TcpStream, is_client: bool, alter: &dyn Alter) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = String::new();
    while from.read_line(&mut line)? > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["INFO", ..] => {
                let mut info = serde_json::from_str(line["INFO".len()..].trim()).unwrap_or_default();
                alter.info(&mut info);
                to.write_all(format!("INFO {info}\r\n").as_bytes())?;
            }
            [verb @ ("PUB" | "HPUB" | "MSG" | "HMSG"), words @ ..] => {
                let mut message = read(&mut from, verb.starts_with('H'), is_client, words)?;
                let passes = if is_client { alter.sent(&mut message) } else { alter.received(&mut message) };
                if passes {
                    to.write_all(&message.written())?;
                }
            }
            _ => to.write_all(line.as_bytes())?,
        }
        line.clear();
    }
    Ok(())
}

/// Reads the rest of a message: `subject [subscription] [reply] [bytes of headers] bytes`.
fn read(
    from: &mut BufReader<&TcpStream>,
    has_headers: bool,
    is_client: bool,
    words: &[&str],
) -> std::io::Result<Message> {
    let (addresses, lengths) = words.split_at(words.len() - if has_headers { 2 } else { 1 });
    let lengths: Vec<usize> = lengths.iter().filter_map(|length| length.parse().ok()).collect();
    let (headers, all) = if has_headers { (lengths[0], lengths[1]) } else { (0, lengths[0]) };
    let mut bytes = vec![0; all + 2];
    from.read_exact(&mut bytes)?;
    bytes.truncate(all);
    let payload = bytes.split_off(headers);
    let named = if is_client { 1 } else { 2 };
    Ok(Message {
        subject: addresses[0].to_owned(),
        subscription: (!is_client).then(|| addresses[1].to_owned()),
        reply: addresses.get(named).map(|&reply| reply.to_owned()),
        headers: String::from_utf8_lossy(&bytes).into_owned(),
        payload,
    })
}

impl Message {
    /// Returns what it says, if that is JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }

    /// Returns it as it is written.
    fn written(&self) -> Vec<u8> {
        let verb = match (self.subscription.is_some(), self.headers.is_empty()) {
            (false, true) => "PUB",
            (false, false) => "HPUB",
            (true, true) => "MSG",
            (true, false) => "HMSG",
        };
        let mut words = vec![verb.to_owned(), self.subject.clone()];
        words.extend(self.subscription.clone());
        words.extend(self.reply.clone());
        if !self.headers.is_empty() {
            words.push(self.headers.len().to_string());
        }
        words.push((self.headers.len() + self.payload.len()).to_string());
        let mut bytes = words.join(" ").into_bytes();
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.headers.as_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

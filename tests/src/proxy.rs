//! A TCP proxy that cuts connections, and holds them up.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;

/// A proxy on a free port of the loopback, until dropped.
pub struct Proxy {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Vec<TcpStream>>,
    is_held_up: AtomicBool,
    is_over: AtomicBool,
}

impl Proxy {
    /// Begins to pass connections on to a server: `nats://127.0.0.1:4222`.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    #[must_use]
    pub fn to(url: &str) -> Self {
        let server = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let inner = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if inner.is_over.load(Ordering::Relaxed) {
                    return;
                }
                // A server that is down refuses; its clients come again.
                if let Ok(upstream) = TcpStream::connect(&server) {
                    inner.join(client, upstream);
                }
            }
        });
        Self { address, shared }
    }

    /// Returns its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Cuts every connection. New ones are taken.
    pub fn cut(&self) {
        let open = std::mem::take(&mut *self.shared.open.lock().unwrap_or_else(|e| e.into_inner()));
        for stream in open {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Holds everything up for a while; nothing is lost.
    pub fn hold_up(&self, span: Duration) {
        self.shared.is_held_up.store(true, Ordering::Relaxed);
        std::thread::sleep(span);
        self.shared.is_held_up.store(false, Ordering::Relaxed);
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream, upstream: TcpStream) {
        let pairs = [(client.try_clone(), upstream.try_clone()), (upstream.try_clone(), client.try_clone())];
        self.open.lock().unwrap_or_else(|e| e.into_inner()).extend([client, upstream]);
        for (from, to) in pairs {
            let (Ok(from), Ok(to)) = (from, to) else { continue };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.pass(from, to));
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = [0; CHUNK];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => {
                    while self.is_held_up.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    if to.write_all(&chunk[..read]).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

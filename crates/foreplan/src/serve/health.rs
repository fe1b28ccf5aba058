//! Whether a process lives, can do its work, and what it has done: pages for those who watch it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Longest request line that is read.
const REQUEST_BYTES_MAX: usize = 1024;

/// How long one visitor may take.
const VISIT_TIME: Duration = Duration::from_secs(5);

/// Visitors at once; more wait.
const VISITORS_MAX: usize = 16;

/// Serves `/livez`, `/readyz` and `/metrics` until dropped. Returns the address, and the task.
///
/// # Errors
///
/// If the address cannot be listened on.
pub async fn serve_health(
    listen: SocketAddr,
    is_ready: impl Fn() -> bool + Send + Sync + 'static,
    metrics: impl Fn() -> BoxFuture<'static, String> + Send + Sync + 'static,
) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let pages = Arc::new(Pages { is_ready: Box::new(is_ready), metrics: Box::new(metrics) });
    let visitors = Arc::new(Semaphore::new(VISITORS_MAX));
    let task = tokio::spawn(async move {
        loop {
            let Ok(visit) = Arc::clone(&visitors).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else { continue };
            let pages = Arc::clone(&pages);
            tokio::spawn(async move {
                let _visit = visit;
                // A visitor who leaves early has seen enough.
                let _ = tokio::time::timeout(VISIT_TIME, answer(stream, &pages)).await;
            });
        }
    });
    Ok((address, task))
}

/// What is asked for a page.
struct Pages {
    is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    metrics: Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
}

async fn answer(mut stream: TcpStream, pages: &Pages) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 256];
    while !request.contains(&b'\n') && request.len() < REQUEST_BYTES_MAX {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let line = String::from_utf8_lossy(&request);
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    let (status, body) = match path {
        "/livez" => ("200 OK", "alive\n".to_owned()),
        "/readyz" if (pages.is_ready)() => ("200 OK", "ready\n".to_owned()),
        "/readyz" => ("503 Service Unavailable", "not ready\n".to_owned()),
        "/metrics" => ("200 OK", (pages.metrics)().await),
        _ => ("404 Not Found", "there are /livez, /readyz and /metrics\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

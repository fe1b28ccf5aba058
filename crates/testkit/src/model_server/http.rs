//! As much of HTTP/1.1 as a client of models needs, with the power to break off anywhere.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{
    stream::Stream,
    wire::{Body, Response},
};

/// A connection that stays open from request to request.
pub(super) struct Connection(BufReader<TcpStream>);

/// What came over the wire.
pub(super) struct Received {
    pub(super) path: String,
    pub(super) key: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Pieces leave at once.
        let _ = stream.set_nodelay(true);
        Self(BufReader::new(stream))
    }

    /// Reads the next request; nothing if the client has gone or speaks something else.
    pub(super) async fn read(&mut self) -> Option<Received> {
        let first = self.line().await?;
        let path = first.split(' ').nth(1)?.to_owned();
        let (mut length, mut key) = (0, None);
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" => key = Some(value.trim_start_matches("Bearer ").to_owned()),
                "x-api-key" => key = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some(Received { path: path.split('?').next()?.to_owned(), key, body })
    }

    /// Sends a response, or its first half; returns whether the connection goes on.
    pub(super) async fn write(&mut self, response: Option<Response>, cut: bool) -> bool {
        let Some(response) = response else { return false };
        let Response { status, content_type, retry_after, body } = response;
        let retry_after = retry_after.map(|when| format!("retry-after: {when}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 {status} Scripted\r\ncontent-type: {content_type}\r\n{retry_after}");
        let written = match body {
            Body::Whole(body) => {
                let head = format!("{head}content-length: {}\r\n\r\n", body.len());
                let sent = if cut { &body.as_bytes()[..body.len() / 2] } else { body.as_bytes() };
                self.send(&[head.as_bytes(), sent].concat()).await
            }
            Body::Stream(stream) => {
                let head = format!("{head}transfer-encoding: chunked\r\n\r\n");
                self.send(head.as_bytes()).await && self.stream(stream, cut).await
            }
        };
        written && !cut
    }

    /// Sends the events of a stream one by one, or half of them and half of the next one.
    async fn stream(&mut self, stream: Stream, cut: bool) -> bool {
        let Stream { events, pause, stall, again } = stream;
        let half = events.len() / 2;
        for (at, event) in events.iter().enumerate() {
            wait(pause + if at == stall.0 { stall.1 } else { Duration::ZERO }).await;
            let torn = cut && at == half;
            let event = if torn { &event.as_bytes()[..event.len() / 2] } else { event.as_bytes() };
            if !self.chunk(event).await || torn {
                return false;
            }
        }
        while let Some(event) = &again {
            wait(pause).await;
            if !self.chunk(event.as_bytes()).await {
                return false;
            }
        }
        self.send(b"0\r\n\r\n").await
    }

    async fn chunk(&mut self, bytes: &[u8]) -> bool {
        let size = format!("{:x}\r\n", bytes.len());
        self.send(&[size.as_bytes(), bytes, b"\r\n"].concat()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.get_mut().write_all(bytes).await.is_ok()
    }

    pub(super) async fn write_error(&mut self, status: u16, message: &str) -> bool {
        let body = Body::Whole(serde_json::json!({"error": {"message": message}}).to_string());
        let response = Response { status, content_type: "application/json", retry_after: None, body };
        self.write(Some(response), false).await
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await {
            Ok(n) if n > 0 => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            _ => None,
        }
    }
}

async fn wait(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

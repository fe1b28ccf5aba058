//! A server whose certificate does not fit.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use foreplan_model::{Config, ErrorKind};
use foreplan_testkit::tls_acceptor;
use tokio::net::TcpListener;

use crate::common::{model, request};

/// A certificate that nobody signed, for a name that is not the server's. Its key protects nothing.
const CERTIFICATE: &[u8] = include_bytes!("data/stranger.cert.der");
const CERTIFICATE_KEY: &[u8] = include_bytes!("data/stranger.key.der");

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_named_and_not_tried_again() {
    let acceptor = tls_acceptor(CERTIFICATE, CERTIFICATE_KEY);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            // The client breaks the handshake off.
            drop(acceptor.accept(stream).await);
        }
    });
    let strange = Config { base_url: Some(format!("https://localhost:{port}/v1")), ..Config::default() };
    let error = model(strange).chat(Arc::new(request("x"))).await.unwrap_err();
    server.abort();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("certificate"), "{error}");
    assert_eq!(connections.load(Ordering::SeqCst), 1, "{error}");
}

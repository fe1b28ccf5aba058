//! A collector behind TLS, with a certificate of an authority that only its users know.

#![allow(clippy::unwrap_used, reason = "tests may")]
#![cfg(feature = "otlp")]

use std::path::Path;

use foreplan_telemetry::{OtlpSettings, OtlpSink, SendError};
use foreplan_testkit::tls_acceptor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// The certificate of `localhost`, which the authority in `ca.pem` signed. Its key protects nothing.
const CERTIFICATE: &[u8] = include_bytes!("data/collector.cert.der");
const CERTIFICATE_KEY: &[u8] = include_bytes!("data/collector.key.der");

/// What a collector answers that took everything: an empty message.
const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Starts a collector, and returns its URL.
async fn collector() -> String {
    let acceptor = tls_acceptor(CERTIFICATE, CERTIFICATE_KEY);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that trusts nobody breaks the handshake off.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(TAKEN).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    format!("https://localhost:{port}/v1/traces")
}

fn settings(url: &str, certificate: &Path) -> OtlpSettings {
    let var = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => Some(url.to_owned()),
        "OTEL_EXPORTER_OTLP_CERTIFICATE" => Some(certificate.display().to_string()),
        _ => None,
    };
    OtlpSettings::from_env(None, var).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_behind_tls_is_trusted_if_its_authority_is() {
    let url = collector().await;
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ca.pem");
    let trusting = settings(&url, &authority);
    OtlpSink::new(&trusting).unwrap().post(Vec::new()).await.unwrap();

    let strange = OtlpSettings { certificate: None, ..trusting };
    let refused = OtlpSink::new(&strange).unwrap().post(Vec::new()).await.unwrap_err();
    let SendError::Unavailable { message, .. } = refused else { panic!("{refused}") };
    assert!(message.contains("certificate"), "{message}");
}

#[test]
fn a_file_without_certificates_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (path, why) in [(folder.path().join("absent.pem"), "No such file"), (empty, "holds none")] {
        let error = OtlpSink::new(&settings("https://localhost/v1/traces", &path)).unwrap_err();
        assert!(error.contains("cannot be used") && error.contains(why), "{error}");
    }
}

//! Servers behind TLS.

use std::sync::Arc;

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};

/// Returns what takes connections under a certificate and its PKCS 8 key, both as DER.
///
/// # Panics
///
/// If the two do not belong together.
#[must_use]
pub fn tls_acceptor(certificate: &'static [u8], key: &'static [u8]) -> TlsAcceptor {
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate)], PrivatePkcs8KeyDer::from(key).into());
    TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")))
}

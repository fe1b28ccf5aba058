//! Lease tokens: what a request carries and its answer returns, so that nobody can answer for a
//! piece of work that he was not given.
//!
//! A token is an HMAC over run, task and number with the deployment's secret. The set-up makes the
//! secret; trackers alone read it.

use aws_lc_rs::{hmac, rand};
use foreplan_core::id::RunId;

use crate::{Connection, Error, error::chain};

/// The bucket of what only trackers may read.
pub(crate) const BUCKET: &str = "SECRETS";

/// The key of the secret.
const KEY: &str = "lease";

/// Bytes of the secret: as many as the hash has.
const SECRET_BYTES: usize = 32;

/// Makes and proves tokens.
pub(crate) struct Leases {
    key: hmac::Key,
}

impl Leases {
    /// Reads the deployment's secret.
    ///
    /// # Errors
    ///
    /// If it is not there, or may not be read.
    pub(crate) async fn open(connection: &Connection) -> Result<Self, Error> {
        let failed = |reason: String| Error::server("the secret of leases is read", reason);
        let secret = connection.bucket(BUCKET).await?.get(KEY).await.map_err(|e| failed(chain(&e)))?;
        let secret = secret.ok_or_else(|| failed("there is none: run `foreplan nats setup`".to_owned()))?;
        Ok(Self::new(&secret))
    }

    fn new(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// Returns the token of a piece of work.
    pub(crate) fn of(&self, run: RunId, task: &str, number: u64) -> String {
        let tag = hmac::sign(&self.key, text(run, task, number).as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns whether this is the token of a piece of work. How long that takes tells nothing of it.
    pub(crate) fn fits(&self, token: &str, run: RunId, task: &str, number: u64) -> bool {
        let Some(tag) = bytes(token) else { return false };
        hmac::verify(&self.key, text(run, task, number).as_bytes(), &tag).is_ok()
    }
}

/// Makes the secret, unless it is there.
///
/// # Errors
///
/// If the server refuses it.
pub(crate) async fn make(connection: &Connection) -> Result<(), Error> {
    let failed = |reason: String| Error::server("the secret of leases is made", reason);
    let bucket = connection.bucket(BUCKET).await?;
    if bucket.get(KEY).await.map_err(|e| failed(chain(&e)))?.is_some() {
        return Ok(());
    }
    let mut secret = [0; SECRET_BYTES];
    rand::fill(&mut secret).map_err(|_| failed("the system gives no random bytes".to_owned()))?;
    match bucket.create(KEY, secret.to_vec().into()).await {
        Ok(_) => Ok(()),
        // Another set-up was faster; its secret counts.
        Err(error) if error.kind() == async_nats::jetstream::kv::CreateErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(chain(&error))),
    }
}

/// No part of it can hold a line feed, so that no two pieces of work have one text.
fn text(run: RunId, task: &str, number: u64) -> String {
    format!("{run}\n{task}\n{number}")
}

fn bytes(token: &str) -> Option<Vec<u8>> {
    if !token.is_ascii() || token.len() != 2 * SECRET_BYTES {
        return None;
    }
    (0..SECRET_BYTES).map(|at| u8::from_str_radix(&token[2 * at..2 * at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_one_piece_of_work_and_one_deployment() {
        let (own, other) = (Leases::new(&[1; SECRET_BYTES]), Leases::new(&[2; SECRET_BYTES]));
        let (run, task) = (RunId(uuid::Uuid::from_u128(1)), "step-a");
        let token = own.of(run, task, 1);
        assert!(own.fits(&token, run, task, 1));
        assert!(!own.fits(&token, run, task, 2) && !own.fits(&token, run, "step-b", 1));
        assert!(!own.fits(&token, RunId(uuid::Uuid::from_u128(2)), task, 1));
        assert!(!other.fits(&token, run, task, 1));
        for wrong in ["", "00", "ä", &"zz".repeat(32), &token[..62]] {
            assert!(!own.fits(wrong, run, task, 1), "{wrong}");
        }
    }
}

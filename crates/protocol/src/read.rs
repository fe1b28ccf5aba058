//! Messages are read where they lie.
//!
//! Serde reads an enum whose kind is a field among others by keeping all of them in a buffer first. Here the
//! kind is found before; what comes with every step is then read directly, all else as serde does.

use std::borrow::Cow;

use foreplan_core::id::RunId;
use serde::Deserialize;
use serde_json::{Error, from_str, value::RawValue};

use crate::{Message, Reply};

#[derive(Deserialize)]
struct MessageKind<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ReplyKind<'a> {
    #[serde(borrow)]
    reply: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ReplyMessage<'a> {
    run: RunId,
    #[serde(borrow)]
    reply: &'a RawValue,
}

impl Message {
    /// Reads what [`Deserialize`] reads.
    pub(crate) fn read(json: &RawValue) -> Result<Self, Error> {
        let json = json.get();
        match &*from_str::<MessageKind<'_>>(json)?.message {
            "plan" => from_str(json).map(Self::Plan),
            "step" => from_str(json).map(Self::Step),
            "reply" => {
                let ReplyMessage { run, reply } = from_str(json)?;
                Ok(Self::Reply { run, reply: Reply::read(reply)? })
            }
            _ => from_str(json),
        }
    }
}

impl Reply {
    fn read(json: &RawValue) -> Result<Self, Error> {
        let json = json.get();
        match &*from_str::<ReplyKind<'_>>(json)?.reply {
            "step" => from_str(json).map(Self::Step),
            _ => from_str(json),
        }
    }
}

//! The verbs: each parses, asks the library, renders.

pub mod init;
pub mod schema;

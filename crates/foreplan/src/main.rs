//! The `foreplan` program.

fn main() {}

//! The `foreplan` program.

/// Agents hand many small messages from thread to thread, which the system's allocator serves slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    foreplan::cli::main()
}

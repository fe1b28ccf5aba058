//! The `foreplan` program.

fn main() -> std::process::ExitCode {
    foreplan::cli::main()
}

//! The command line, nothing else.

fn main() -> std::process::ExitCode {
    sidetone::cli::main()
}

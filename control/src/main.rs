//! The program `turnpike`.

fn main() -> std::process::ExitCode {
    control::cli::main()
}

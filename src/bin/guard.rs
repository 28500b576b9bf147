//! The administrator's tool; see guard(8).

fn main() -> std::process::ExitCode {
    modprobe_guard::cli::run()
}

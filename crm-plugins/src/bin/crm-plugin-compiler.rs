//! A compile worker and nothing else, for programs that do not want to start themselves again.

use std::process::ExitCode;

fn main() -> ExitCode {
    crm_plugins::compile_worker()
}

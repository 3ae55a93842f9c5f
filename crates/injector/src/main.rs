//! `injector`: everything is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use injector::command::Command;
use svc_runtime::log::chain;

/// Not a `Result`: std would print the error's `Debug`, with a backtrace where one is asked for.
#[tokio::main]
async fn main() -> ExitCode {
    match Command::parse().execute().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even this cannot be written, the exit code says it.
            drop(writeln!(std::io::stderr(), "error: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

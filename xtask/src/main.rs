//! All automation of this repository: `cargo xtask --help`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is what it is for"
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the test cluster is made of Linux namespaces: run cargo xtask on Linux x86_64, in a virtual machine if need be"
);

mod bench;
mod cache;
mod catalogue;
mod chart;
mod cluster;
mod command;
mod demo;
mod deny;
mod doctor;
mod fuzz;
mod image;
mod krew;
mod mutants;
mod packages;
mod poll;
mod progress;
mod python;
mod stage;
mod suite;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use workspace::{Options, Workspace};

#[derive(Debug, Parser)]
#[command(about = "All automation of this repository", max_term_width = 120)]
struct Arguments {
    #[command(flatten)]
    options: Options,

    #[command(subcommand)]
    command: command::Command,
}

fn main() -> ExitCode {
    let Arguments { options, command } = Arguments::parse();
    let outcome = Workspace::open(options).and_then(|workspace| command.run(&workspace));
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

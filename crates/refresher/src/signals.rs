//! SIGTERM and SIGINT end every subcommand at once, also as process 1 of a container, where the kernel's default
//! would be to ignore them.

use std::process::ExitCode;

use tokio::select;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Command;

/// Obeys the command until it ends or a signal says stop. Stopping is what `run` is meant to end with: status 0.
pub(crate) async fn or_until_told_to_stop(command: Command) -> ExitCode {
    let log = command.log();
    let status_when_stopped = match &command {
        Command::Run(_) => ExitCode::SUCCESS,
        Command::Once(_) | Command::Wait(_) | Command::Probe(_) => ExitCode::FAILURE,
    };
    let (mut terminate, mut interrupt) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return log.fatal("no signal handlers", &error),
    };
    select! {
        _ = terminate.recv() => status_when_stopped,
        _ = interrupt.recv() => status_when_stopped,
        status = crate::obey(command) => status,
    }
}

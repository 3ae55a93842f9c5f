//! The sidecar that keeps a fresh token in the pod.
//!
//! It reads the pod's ServiceAccount token, has the STS exchange it, and replaces the token's file, well before the
//! old one ends. It knows nothing of Kubernetes beyond the files it is given, and decides nothing about who may get
//! a token. It keeps no state but the files: it can be killed at any moment.
//!
//! ```text
//!  subject token ─▶ client ─▶ token_text ─▶ store ─▶ schedule ─▶ (rest) ─▶ again
//!     (file)        (HTTPS)   (parse exp)   (rename)  (pure)
//! ```
//!
//! Start reading at `keeper`, which holds the loop; [`wait`] is the gate that holds the application back.

use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;

pub mod client;
pub mod clock;
pub mod config;
pub mod files;
pub mod last_words;
pub mod log;
pub mod metrics;
pub mod run;
pub mod schedule;
pub mod store;
pub mod token_text;
pub mod trust;
pub mod wait;

mod addresses;
mod keeper;
mod signals;

use config::Command;

/// Reads the settings from flags and environment, does what they say, and returns the exit status.
///
/// Status 0 is success, 1 failure, 2 unusable settings.
pub fn start() -> ExitCode {
    let command = Command::load();
    // A look-up of a name blocks a thread (getaddrinfo). Two are enough, and a dead name server must not collect more.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_stack_size(256 * 1024)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return command.log().fatal("no runtime", &error),
    };
    let status = runtime.block_on(signals::or_until_told_to_stop(command));
    // Not dropped: that would wait for a look-up that hangs, and a terminating pod with it.
    runtime.shutdown_background();
    status
}

/// Look-ups are minutes apart: a thread that waits for the next one is memory, and one more wake-up.
const THREAD_KEEP_ALIVE: Duration = Duration::from_millis(10);

async fn obey(command: Command) -> ExitCode {
    match command {
        Command::Run(settings) => run::run(settings).await,
        Command::Once(settings) => run::once(settings).await,
        Command::Wait(settings) => wait::wait(settings).await,
        Command::Probe(settings) => wait::probe(&settings),
    }
}

//! The command line of `injector`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Parser;
use sts_config::{ConfigError, ConfigFile};
use svc_runtime::log::LogError;
use svc_runtime::{LogFormat, Shutdown};
use thiserror::Error;

use crate::run::{Own, RunError, Runnable, run};

/// Mutating admission webhook: gives labelled pods a sidecar that keeps a token for them.
#[derive(Debug, Parser)]
#[command(name = "injector", version)]
pub struct Command {
    /// The configuration file, the same as sts-server's
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Say whether the configuration can be run, with every problem in it, and end
    #[arg(long)]
    check_config: bool,
    /// The namespace of our own objects
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "default"
    )]
    namespace: String,
    /// The pod we run in, for Events about its configuration
    #[arg(long, value_name = "NAME", env = "POD_NAME", requires = "pod_uid")]
    pod_name: Option<String>,
    /// That pod's uid
    #[arg(long, value_name = "UID", env = "POD_UID", requires = "pod_name")]
    pod_uid: Option<String>,
    /// How log lines are written: json or text
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    log_format: LogFormat,
    /// Which log lines are written, such as info or info,injector=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// Why the command fails.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The result of `--check-config` cannot be written.
    #[error("standard output cannot be written to")]
    Output(#[source] std::io::Error),
    /// Logs cannot be written as asked for.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The injector does not run.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Command {
    /// Does what the command line says.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn execute(self) -> Result<(), CommandError> {
        let Self {
            config,
            check_config,
            namespace,
            pod_name,
            pod_uid,
            log_format,
            log,
        } = self;
        let file = ConfigFile::load(&config)?;
        if check_config {
            let runnable = Runnable::new(file.config)?;
            return report(&runnable).map_err(CommandError::Output);
        }
        svc_runtime::log::init(log_format, &log)?;
        let pod = pod_name.zip(pod_uid);
        run(file, Own { namespace, pod }, Shutdown::new())
            .await
            .map_err(Into::into)
    }
}

/// What `--check-config` says of a configuration that can be run: its warnings, and that it can. Plain
/// text, as sts-server's: people read it.
fn report(runnable: &Runnable) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for warning in runnable.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(
        out,
        "configuration can be run: {} endpoint(s)",
        runnable.endpoints()
    )
}

//! `sts-server`: reads its arguments and its configuration, then runs [`sts_server::run`].

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sts_config::Config;
use svc_runtime::LogFormat;

/// Security Token Service: exchanges pods' ServiceAccount tokens for tokens that services outside the cluster trust.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file; docs/samples has two
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
    /// How log lines are written: json or text
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    log_format: LogFormat,
    /// Which log lines are written, such as info or info,sts_server=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain alone: whoever has a mistake in the configuration is not helped by a backtrace. If stderr is closed, the exit
            // code must do.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.config)?;
    if arguments.check_config {
        return report(&config);
    }
    svc_runtime::log::init(arguments.log_format, &arguments.log)?;
    sts_server::run(config, arguments.namespace)
        .await
        .map_err(Into::into)
}

/// What `--check-config` says of a configuration that can be run: its warnings, and that it can.
fn report(config: &Config) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(
        out,
        "configuration can be run: {} endpoint(s)",
        config.endpoints.len()
    )?;
    Ok(())
}

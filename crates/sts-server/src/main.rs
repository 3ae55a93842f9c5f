//! `sts-server`: reads its arguments and its configuration, then runs [`sts_server::run`], or answers a question about it.

mod command;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use command::{Arguments, Command, ExplainArguments, Output, ServeArguments};
use sts_config::{Config, ConfigFile};
use sts_server::Own;
use sts_server::explain::{Answer, explain};

/// What [`Command::Explain`] ends with when nobody would get a token: 1 says that the question was none.
const REFUSED: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { command, serve } = Arguments::parse();
    let ended = match command {
        None => run(serve).await,
        Some(Command::CheckConfig { file }) => check(&file),
        Some(Command::Explain(arguments)) => answer(arguments),
    };
    ended.unwrap_or_else(|error| {
        // The chain alone: whoever has a mistake in the configuration is not helped by a backtrace. If stderr is closed, the exit
        // code must do.
        drop(writeln!(std::io::stderr(), "error: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn run(arguments: ServeArguments) -> anyhow::Result<ExitCode> {
    let ServeArguments {
        config,
        check_config,
        namespace,
        pod_name,
        pod_uid,
        log_format,
        log,
    } = arguments;
    let file = config.context("--config FILE is missing")?;
    if check_config {
        return check(&file);
    }
    let file = ConfigFile::load(&file)?;
    svc_runtime::log::init(log_format, &log)?;
    let pod = pod_name.zip(pod_uid);
    sts_server::run(file, Own { namespace, pod }).await?;
    Ok(ExitCode::SUCCESS)
}

/// What is said of a configuration that can be run: its warnings, and that it can.
fn check(file: &Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let mut out = std::io::stdout().lock();
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(
        out,
        "configuration can be run: {} endpoint(s)",
        config.endpoints.len()
    )?;
    Ok(ExitCode::SUCCESS)
}

fn answer(arguments: ExplainArguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config)?;
    let output = arguments.output;
    let answers = explain(&config, &arguments.into_question())?;
    let mut out = std::io::stdout().lock();
    for answer in &answers {
        match output {
            Output::Json => writeln!(out, "{}", answer.to_json())?,
            Output::Text => write!(out, "{answer}")?,
        }
    }
    Ok(if answers.iter().any(Answer::is_allowed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    })
}

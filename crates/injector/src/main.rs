//! `injector`: everything is in the library.

use clap::Parser as _;
use injector::command::Command;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Command::parse().execute().await.map_err(Into::into)
}

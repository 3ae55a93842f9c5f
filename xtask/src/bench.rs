//! `cargo xtask bench`: what our programs cost, measured, one table each.

mod admission;
mod exchange;
mod process;
mod refresher;
mod standalone;
mod table;

use anyhow::Result;

use crate::workspace::Workspace;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// The webhook: what a review costs
    Admission(admission::Options),
    /// The token service: exchanges a second, CPU, time and memory, in each mode
    Exchange(exchange::Options),
    /// The sidecar: memory, time, what each part costs, and what it adds to a pod's start
    Refresher(refresher::Options),
}

impl Bench {
    pub(crate) fn run(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Admission(options) => admission::run(workspace, &options),
            Self::Exchange(options) => exchange::run(workspace, &options),
            Self::Refresher(options) => refresher::run(workspace, &options),
        }
    }
}

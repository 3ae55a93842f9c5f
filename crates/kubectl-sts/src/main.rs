//! `kubectl-sts`, which `kubectl sts` runs.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    kubectl_sts::run().await
}

//! Whether the API server has native sidecars, where the configuration leaves the sidecar's form to that.

use std::time::Duration;

use kube::Client;
use svc_runtime::Shutdown;
use svc_runtime::log::chain;
use tokio::time::{sleep, timeout};

use crate::settings::SidecarForm;

/// The form for this API server; asks until it answers. Nothing if shutdown comes first.
pub(crate) async fn sidecar_form(client: &Client, shutdown: &Shutdown) -> Option<SidecarForm> {
    loop {
        let problem = match timeout(PATIENCE, client.apiserver_version()).await {
            Ok(Ok(version)) => {
                let form = form_of(&version.major, &version.minor);
                tracing::info!(
                    version = version.git_version,
                    ?form,
                    "form of the sidecar is chosen"
                );
                return Some(form);
            }
            Ok(Err(error)) => chain(&error).to_string(),
            Err(_elapsed) => "no answer".to_owned(),
        };
        tracing::warn!(problem, "version of the API server is not known yet");
        tokio::select! {
            () = shutdown.requested() => return None,
            () = sleep(AGAIN) => {}
        }
    }
}

/// Native sidecars are on by default from 1.29
/// (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>). A minor version may end in `+`.
fn form_of(major: &str, minor: &str) -> SidecarForm {
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    match (number(major), number(minor)) {
        (Some(1), Some(minor)) if minor < FIRST_NATIVE_MINOR => SidecarForm::Classic,
        _ => SidecarForm::Native,
    }
}

const FIRST_NATIVE_MINOR: u32 = 29;
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adm_021_native_from_1_29_and_classic_before() {
        for (major, minor, form) in [
            ("1", "28", SidecarForm::Classic),
            ("1", "28+", SidecarForm::Classic),
            ("1", "29", SidecarForm::Native),
            ("1", "36+", SidecarForm::Native),
            ("2", "0", SidecarForm::Native),
        ] {
            assert_eq!(form_of(major, minor), form, "{major}.{minor}");
        }
    }
}

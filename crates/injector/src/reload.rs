//! Takes a changed configuration over: its settings are exchanged as one, between two reviews.
//!
//! What is watched (ServiceAccounts, the STS's CA, our certificate) is set up once: a configuration that would change that is refused
//! as a whole. An endpoint that the injector does not know yet stays a refusal, as it was before.

use std::time::Duration;

use kube::Client;
use sts_config::{Config, ConfigError, injector_needs_restart};
use svc_runtime::Shutdown;
use svc_runtime::log::chain;
use svc_runtime::reload::{Cause, Refusal, Reload};
use tokio::time::timeout;

use crate::run::Runnable;
use crate::settings::{LiveSettings, SidecarForm};
use crate::version::sidecar_form;

/// A running injector, as far as its configuration goes.
pub(crate) struct Reloading {
    /// The one in use.
    pub(crate) config: Config,
    pub(crate) settings: LiveSettings,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) shutdown: Shutdown,
}

/// How long the API server may take to say its version, before the configuration is refused for now.
const PATIENCE: Duration = Duration::from_secs(10);

impl Reload for Reloading {
    async fn reload(&mut self, text: &str) -> Result<(), Refusal> {
        let runnable =
            Config::parse(text).map_err(|error: ConfigError| refusal(Cause::Invalid, &error))?;
        let runnable = Runnable::new(runnable).map_err(|error| refusal(Cause::Invalid, &error))?;
        let problems = injector_needs_restart(&self.config, runnable.config());
        if !problems.is_empty() {
            let error = ConfigError::Invalid(problems);
            return Err(refusal(Cause::NeedsRestart, &error));
        }
        let (mut settings, config) = runnable.into_parts(&self.namespace);
        if settings.sidecar.form == SidecarForm::Auto {
            let form = timeout(PATIENCE, sidecar_form(&self.client, &self.shutdown)).await;
            let form = form.ok().flatten();
            settings.sidecar.form = form.ok_or_else(|| Refusal {
                cause: Cause::NotWhole,
                problems: "injector.sidecar.form: version of the API server is not known"
                    .to_owned(),
            })?;
        }
        self.settings.replace(settings);
        self.config = config;
        Ok(())
    }
}

fn refusal(cause: Cause, error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal {
        cause,
        problems: chain(error).to_string(),
    }
}

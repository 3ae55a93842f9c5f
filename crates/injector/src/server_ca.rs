//! The certificate of the STS's CA, followed in the ConfigMap that sts-server publishes it in.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use svc_runtime::log::chain;
use svc_runtime::tls::CaBundle;
use svc_runtime::{Condition, Shutdown, follow_object};
use thiserror::Error;

/// The STS's CA, as far as it is known. A clone is a handle on the same.
#[derive(Clone, Debug, Default)]
pub struct ServerCa(Arc<ArcSwapOption<CaBundle>>);

impl ServerCa {
    /// Known from the start, for tests.
    pub fn known(bundle: CaBundle) -> Self {
        Self(Arc::new(ArcSwapOption::from_pointee(bundle)))
    }

    /// What is known now.
    pub fn snapshot(&self) -> Option<Arc<CaBundle>> {
        self.0.load_full()
    }

    fn replace(&self, bundle: CaBundle) {
        let is_new = self.snapshot().is_none_or(|known| *known != bundle);
        if is_new {
            self.0.store(Some(Arc::new(bundle)));
            tracing::info!("CA certificate of the STS is known");
        }
    }
}

/// The watch of the ConfigMap ended, which it does only with the process.
#[derive(Debug, Error)]
#[error("the watch of the ConfigMap ended")]
pub struct ServerCaError;

/// Keeps `into` as the ConfigMap's `ca.crt` says, until shutdown. What was known once stays, also
/// when the ConfigMap is emptied: pods keep getting the CA that the STS last published.
pub(crate) async fn follow(
    api: Api<ConfigMap>,
    name: String,
    into: ServerCa,
    condition: Condition,
    shutdown: Shutdown,
) -> Result<(), ServerCaError> {
    let states = follow_object(api, &name);
    tokio::pin!(states);
    loop {
        let state = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            state = states.next() => state.ok_or(ServerCaError)?,
        };
        let problem = match state {
            Ok(found) => match parse_config_map(found.as_ref()) {
                Ok(bundle) => {
                    into.replace(bundle);
                    None
                }
                Err(problem) => Some(problem),
            },
            Err(error) => Some(format!("cannot be watched: {}", chain(&error))),
        };
        tell(&name, problem, &into, &condition);
    }
}

fn tell(name: &str, problem: Option<String>, into: &ServerCa, condition: &Condition) {
    let is_known = into.snapshot().is_some();
    if is_known {
        condition.met();
    }
    let Some(problem) = problem else { return };
    tracing::warn!(
        config_map = name,
        problem,
        "CA certificate of the STS cannot be read"
    );
    if !is_known {
        condition.unmet(format!("ConfigMap {name} {problem}"));
    }
}

fn parse_config_map(found: Option<&ConfigMap>) -> Result<CaBundle, String> {
    let config_map = found.ok_or_else(|| "does not exist yet".to_owned())?;
    let text = config_map.data.as_ref().and_then(|data| data.get(KEY));
    let text = text.ok_or_else(|| format!("has no {KEY} yet"))?;
    CaBundle::parse(text.as_bytes()).map_err(|error| format!("has a bad {KEY}: {}", chain(&error)))
}

const KEY: &str = "ca.crt";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use svc_runtime::tls::Authority;

    use super::*;

    #[track_caller]
    fn parse(data: Option<(&str, &str)>) -> Result<CaBundle, String> {
        let data = data.map(|(key, value)| BTreeMap::from([(key.to_owned(), value.to_owned())]));
        parse_config_map(Some(&ConfigMap {
            data,
            ..ConfigMap::default()
        }))
    }

    #[test]
    fn reads_the_published_certificate_and_names_what_is_wrong() {
        let authority = Authority::create(
            "test",
            std::time::Duration::from_secs(3600),
            svc_runtime::clock::now(),
        )
        .unwrap();
        let pem = authority.bundle().as_pem();
        assert_eq!(
            parse(Some(("ca.crt", pem))).as_ref(),
            Ok(authority.bundle())
        );
        assert_eq!(
            parse(Some(("other", pem))),
            Err("has no ca.crt yet".to_owned())
        );
        assert_eq!(parse(None), Err("has no ca.crt yet".to_owned()));
        assert_eq!(parse_config_map(None), Err("does not exist yet".to_owned()));
        assert!(
            parse(Some(("ca.crt", "garbage")))
                .unwrap_err()
                .starts_with("has a bad ca.crt")
        );
    }
}

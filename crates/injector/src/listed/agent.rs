//! EKS Pod Identity's file: which ServiceAccounts get their credentials from the agent on their node.
//!
//! ```json
//! {"identities": [{"namespace": "default", "serviceAccount": "app"}]}
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Deserialize;
use svc_runtime::log::chain;
use svc_runtime::{Condition, Shutdown};
use tokio::time::sleep;

use crate::accounts::AccountsError;

/// The ServiceAccounts, as far as they are known. A clone is a handle on the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentList(Arc<ArcSwap<BTreeSet<String>>>);

impl AgentList {
    /// Whether a ServiceAccount, written `namespace/name`, is listed.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.load().contains(key)
    }
}

/// Keeps `into` as the file says, until shutdown. It is read again and again, since events of the file system are lost where a volume is
/// swapped as a whole. A file that is absent lists nobody; one that cannot be read changes nothing.
pub(crate) async fn follow_file(
    path: PathBuf,
    into: AgentList,
    condition: Condition,
    shutdown: Shutdown,
) -> Result<(), AccountsError> {
    loop {
        match load(&path).await {
            Ok(listed) => {
                if **into.0.load() != listed {
                    tracing::info!(file = %path.display(), entries = listed.len(), "EKS Pod Identity's file is known");
                    into.0.store(Arc::new(listed));
                }
            }
            Err(problem) => {
                tracing::warn!(file = %path.display(), problem, "EKS Pod Identity's file stays as it was");
            }
        }
        condition.met();
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = sleep(AGAIN) => {}
        }
    }
}

async fn load(path: &Path) -> Result<BTreeSet<String>, String> {
    match tokio::fs::read(path).await {
        Ok(bytes) => parse(&bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(chain(&error).to_string()),
    }
}

fn parse(bytes: &[u8]) -> Result<BTreeSet<String>, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(BTreeSet::new());
    }
    let RawList { identities } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let keys = identities
        .into_iter()
        .map(|one| format!("{}/{}", one.namespace, one.service_account));
    Ok(keys.collect())
}

#[derive(Deserialize)]
struct RawList {
    #[serde(default)]
    identities: Vec<RawIdentity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIdentity {
    namespace: String,
    service_account: String,
}

const AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_and_an_empty_file_has_none() {
        let text =
            br#"{"identities": [{"namespace": "a", "serviceAccount": "b", "more": 1}], "more": 2}"#;
        assert_eq!(parse(text).unwrap(), BTreeSet::from(["a/b".to_owned()]));
        assert_eq!(parse(b" \n").unwrap(), BTreeSet::new());
        assert!(parse(b"{\"identities\": [{}]}").is_err());
    }
}

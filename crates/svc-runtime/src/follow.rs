//! One named object of the cluster as a stream of its states.

use std::fmt::Debug;

use futures_util::{Stream, StreamExt, future};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// The states of the object `name`, starting with the present one: `Some` when it is found or changed, `None` when it does not exist
/// (any more). The stream never ends; after an error it backs off (0.8 s to 30 s) and reconnects by itself, so errors are for logs.
///
/// The list and the watch carry the field selector `metadata.name=<name>`, so RBAC can allow them for this one name with
/// `resourceNames` (Kubernetes, "Using RBAC Authorization", referring to resources).
pub fn follow_object<K>(
    api: Api<K>,
    name: &str,
) -> impl Stream<Item = Result<Option<K>, watcher::Error>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // Not `watch_object`: its config is fixed, and its watches notice a connection that died silently only after five minutes.
    let config = Config::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(WATCH_SECONDS);
    watcher(api, config)
        .default_backoff()
        .scan(false, |found, event| {
            let state = match event {
                Ok(Event::Init) => {
                    *found = false;
                    None
                }
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    *found = true;
                    Some(Ok(Some(object)))
                }
                // The list is through and the object was not in it: it is gone, or never was.
                Ok(Event::InitDone) => (!*found).then_some(Ok(None)),
                Ok(Event::Delete(_)) => Some(Ok(None)),
                Err(error) => Some(Err(error)),
            };
            future::ready(Some(state))
        })
        .filter_map(future::ready)
}

/// How long the API server keeps one watch open. A new watch is one small request.
const WATCH_SECONDS: u32 = 60;

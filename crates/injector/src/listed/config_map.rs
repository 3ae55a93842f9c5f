//! The ConfigMap of AWS's webhook: `data.config` is JSON that gives ServiceAccounts roles.
//!
//! ```json
//! {"default/app": {"RoleARN": "arn:aws:iam::123456789012:role/x", "TokenExpiration": 3600}, "*/shared": {"RoleARN": "…"}}
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::{Map, Value};
use svc_runtime::log::chain;
use svc_runtime::{Condition, Shutdown, follow_object};

use crate::accounts::AccountsError;
use crate::identity::{Account, matches};

/// The entries, as far as they are known. A clone is a handle on the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleList(Arc<ArcSwap<Entries>>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Entries {
    exact: BTreeMap<String, Arc<Account>>,
    /// With a `*` in the namespace or the name, in the order of their keys.
    patterns: Vec<(String, Arc<Account>)>,
}

impl RoleList {
    /// What is said of a ServiceAccount, written `namespace/name`; its own entry goes before any pattern.
    pub(crate) fn find(&self, key: &str) -> Option<Arc<Account>> {
        let entries = self.0.load();
        let by_pattern = || {
            let mut patterns = entries.patterns.iter();
            patterns.find(|(pattern, _)| is_like(pattern, key))
        };
        let exact = entries.exact.get(key);
        exact
            .or_else(|| by_pattern().map(|(_, account)| account))
            .cloned()
    }
}

fn is_like(pattern: &str, key: &str) -> bool {
    let (Some((namespaces, names)), Some((namespace, name))) =
        (pattern.split_once('/'), key.split_once('/'))
    else {
        return false;
    };
    matches(namespaces, namespace) && matches(names, name)
}

/// Keeps `into` as the ConfigMap says, until shutdown. A ConfigMap that is deleted lists nobody; one that cannot be read changes nothing.
pub(crate) async fn follow(
    api: Api<ConfigMap>,
    name: String,
    into: RoleList,
    condition: Condition,
    shutdown: Shutdown,
) -> Result<(), AccountsError> {
    let states = follow_object(api, &name);
    tokio::pin!(states);
    loop {
        let state = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            state = states.next() => state.ok_or(AccountsError::WatchEnded)?,
        };
        match state {
            Ok(found) => {
                condition.met();
                let text = found
                    .as_ref()
                    .and_then(|object| object.data.as_ref()?.get(KEY));
                replace(&into, &name, text.map_or("{}", String::as_str));
            }
            Err(error) => {
                tracing::warn!(config_map = name, error = %chain(&error), "ConfigMap cannot be watched");
            }
        }
    }
}

fn replace(into: &RoleList, name: &str, text: &str) {
    match parse(text) {
        Ok((entries, problems)) => {
            for problem in problems {
                tracing::warn!(config_map = name, problem, "an entry is not used");
            }
            if **into.0.load() != entries {
                let count = entries.exact.len() + entries.patterns.len();
                tracing::info!(config_map = name, entries = count, "roles are known");
                into.0.store(Arc::new(entries));
            }
        }
        Err(problem) => {
            tracing::warn!(config_map = name, problem, "roles stay as they were");
        }
    }
}

fn parse(text: &str) -> Result<(Entries, Vec<String>), String> {
    let document: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("data.{KEY}: {error}"))?;
    let mut entries = Entries::default();
    let mut problems = Vec::new();
    for (key, value) in document {
        match parse_entry(&key, &value) {
            Ok(account) if key.contains('*') => entries.patterns.push((key, Arc::new(account))),
            Ok(account) => drop(entries.exact.insert(key, Arc::new(account))),
            Err(problem) => problems.push(format!("{key:?} {problem}")),
        }
    }
    Ok((entries, problems))
}

fn parse_entry(key: &str, value: &Value) -> Result<Account, &'static str> {
    if key.split('/').filter(|part| !part.is_empty()).count() != 2 || key.split('/').count() != 2 {
        return Err("is not namespace/name");
    }
    let fields = value.as_object().ok_or("is no object")?;
    // Go reads names of fields without regard to case.
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let field = |name: &str| {
        field(name)
            .map(|(_, value)| value)
            .filter(|one| !one.is_null())
    };
    let text = |name: &str, problem| match field(name).map(Value::as_str) {
        None | Some(Some("")) => Ok(None),
        Some(Some(text)) => Ok(Some(text.to_owned())),
        Some(None) => Err(problem),
    };
    let seconds = match field("TokenExpiration").map(Value::as_i64) {
        None | Some(Some(0)) => None,
        Some(Some(seconds)) => Some(u64::try_from(seconds).unwrap_or(0).max(600)),
        Some(None) => return Err("has a TokenExpiration that is no number"),
    };
    let regional_sts = match field("UseRegionalSTS").map(Value::as_bool) {
        None => None,
        Some(Some(flag)) => Some(flag),
        Some(None) => return Err("has a UseRegionalSTS that is neither true nor false"),
    };
    let role = text("RoleARN", "has a RoleARN that is no text")?;
    Ok(Account {
        role: Some(role.ok_or("has no RoleARN")?),
        audience: text("Audience", "has an Audience that is no text")?,
        regional_sts,
        token_seconds: seconds,
        ..Account::default()
    })
}

const KEY: &str = "config";

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> RoleList {
        let list = RoleList::default();
        replace(&list, "test", text);
        list
    }

    fn role(list: &RoleList, key: &str) -> Option<String> {
        list.find(key).and_then(|account| account.role.clone())
    }

    #[test]
    fn an_entry_of_its_own_goes_before_a_pattern() {
        let list = list(
            r#"{"*/app": {"RoleARN": "any"}, "team-*/app": {"RoleARN": "team"}, "team-a/app": {"rolearn": "own"}}"#,
        );
        assert_eq!(role(&list, "team-a/app").as_deref(), Some("own"));
        assert_eq!(role(&list, "team-b/app").as_deref(), Some("any"));
        assert_eq!(role(&list, "other/app").as_deref(), Some("any"));
        assert_eq!(role(&list, "team-a/other"), None);
    }

    #[test]
    fn defaults_are_the_settings_and_expirations_are_raised_to_ten_minutes() {
        let list = list(
            r#"{"a/b": {"RoleARN": "r", "Audience": "", "TokenExpiration": 0}, "a/c": {"RoleARN": "r", "TokenExpiration": 60, "UseRegionalSTS": true}}"#,
        );
        let (b, c) = (list.find("a/b").unwrap(), list.find("a/c").unwrap());
        assert_eq!(
            (&b.audience, b.token_seconds, b.regional_sts),
            (&None, None, None)
        );
        assert_eq!((c.token_seconds, c.regional_sts), (Some(600), Some(true)));
    }

    #[test]
    fn what_crashes_awss_webhook_is_an_entry_that_is_not_used() {
        let text = r#"{"noslash": {"RoleARN": "r"}, "a/null": null, "a/b/c": {"RoleARN": "r"}, "a/none": {}, "a/b": {"RoleARN": "r"}}"#;
        let (entries, problems) = parse(text).unwrap();
        assert_eq!(entries.exact.keys().collect::<Vec<_>>(), ["a/b"]);
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn a_document_that_is_none_changes_nothing_and_one_without_entries_removes_them() {
        let list = list(r#"{"a/b": {"RoleARN": "r"}}"#);
        replace(&list, "test", "{");
        assert!(list.find("a/b").is_some());
        replace(&list, "test", "{}");
        assert!(list.find("a/b").is_none());
    }
}

//! The cluster's ServiceAccounts: their annotations by a watch of metadata, and one bounded request for one that the watch has not seen yet.

mod miss;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::Client;
use kube::api::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use sts_core::ident::{Namespace, ServiceAccountName};
use svc_runtime::log::chain;
use svc_runtime::{Condition, Shutdown};
use thiserror::Error;
use tokio::sync::{AcquireError, Semaphore};
use tokio::time::timeout;

use crate::identity::{Account, IdentityFacts, Lookup};
use crate::listed::{AgentList, RoleList};
use crate::review::PodReview;
use miss::Misses;

/// A watch ended, which it does only with the process.
#[derive(Debug, Error)]
pub enum AccountsError {
    /// That of the ServiceAccounts, or of the ConfigMap.
    #[error("the watch ended")]
    WatchEnded,
}

/// What is known of ServiceAccounts. A clone is a handle on the same.
#[derive(Clone, Debug)]
pub struct Accounts {
    known: Known,
    pub(crate) roles: RoleList,
    pub(crate) agents: AgentList,
    source: Option<Source>,
}

/// Whom to ask for a ServiceAccount that is not known.
#[derive(Clone)]
struct Source {
    client: Client,
    prefix: String,
    patience: Duration,
    /// Requests at once; others wait for their turn as long as the patience lasts.
    requests: Arc<Semaphore>,
    misses: Arc<Misses>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Source")
    }
}

/// Why a request for a ServiceAccount has no answer.
#[derive(Debug, Error)]
enum LookupError {
    /// Nobody is let through any more, which no code of ours brings about.
    #[error("no more requests are made")]
    Closed(#[source] AcquireError),
    /// The API server did not answer, or not with a ServiceAccount.
    #[error("the API server gives no answer")]
    Request(#[source] kube::Error),
}

impl Source {
    /// One request for one ServiceAccount, when its turn has come.
    async fn get(
        &self,
        namespace: &Namespace,
        name: &ServiceAccountName,
    ) -> Result<Option<Arc<Account>>, LookupError> {
        let _permit = self.requests.acquire().await.map_err(LookupError::Closed)?;
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace.as_str());
        let found = api.get_metadata_opt(name.as_str()).await;
        let found = found.map_err(LookupError::Request)?;
        Ok(found.map(|found| {
            let annotations = found.metadata.annotations.unwrap_or_default();
            Arc::new(Account::read(&self.prefix, &annotations))
        }))
    }
}

impl Accounts {
    /// Nothing known yet, and this client to ask.
    pub(crate) fn new(client: Client, prefix: &str, patience: Duration) -> Self {
        let source = Source {
            client,
            prefix: prefix.to_owned(),
            patience,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            misses: Arc::default(),
        };
        Self {
            source: Some(source),
            ..Self::fixed([])
        }
    }

    /// These and no others, for tests and benchmarks; the key is `namespace/name`.
    pub fn fixed(accounts: impl IntoIterator<Item = (String, Account)>) -> Self {
        let known = Known::default();
        known.replace(
            accounts
                .into_iter()
                .map(|(key, account)| (key, Arc::new(account)))
                .collect(),
        );
        Self {
            known,
            roles: RoleList::default(),
            agents: AgentList::default(),
            source: None,
        }
    }

    /// What is known of the ServiceAccount of the pod under review; asks for it where it is not.
    pub(crate) async fn facts(&self, review: &PodReview<'_>) -> IdentityFacts {
        let name = review.pod.spec.service_account_name.as_ref();
        let name = name.map_or("", |name| name.as_str());
        if name.is_empty() {
            return IdentityFacts {
                lookup: Lookup::Unasked,
                listed: None,
                has_agent: false,
            };
        }
        let namespace = &review.facts.namespace;
        let key = format!("{namespace}/{name}");
        let lookup = match self.known.find(&key) {
            Some(account) => Lookup::Found(account),
            None => self.ask(namespace, name).await,
        };
        IdentityFacts {
            lookup,
            listed: self.roles.find(&key),
            has_agent: self.agents.has(&key),
        }
    }

    /// What is there is not kept: the watch brings the same, and later changes with it.
    ///
    /// Whoever reaches the pod network can post a review, and kube writes both names into the request's path as they are: only what can be
    /// the name of a ServiceAccount is asked for. Nothing else can be there. Reviews that wait for one account make one request and take one
    /// turn, so a Job's pods do not turn each other away; and a flood of other names delays a pod, by no more than the patience.
    async fn ask(&self, namespace: &str, name: &str) -> Lookup {
        let Some(source) = &self.source else {
            return Lookup::Missing;
        };
        let (Ok(namespace), Ok(name)) =
            (Namespace::parse(namespace), ServiceAccountName::parse(name))
        else {
            return Lookup::Missing;
        };
        let key = format!("{namespace}/{name}");
        let looked = source.misses.look(&key, source.get(&namespace, &name));
        match timeout(source.patience, looked).await {
            Ok(Ok(Some(found))) => Lookup::Found(found),
            Ok(Ok(None)) => Lookup::Missing,
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "a ServiceAccount cannot be looked up");
                Lookup::Unanswered
            }
            Err(_elapsed) => {
                tracing::warn!("a ServiceAccount is not looked up in time");
                Lookup::Unanswered
            }
        }
    }

    /// Keeps what is known as the API server has it, until shutdown.
    pub(crate) async fn follow(
        self,
        watches: Client,
        condition: Condition,
        shutdown: Shutdown,
    ) -> Result<(), AccountsError> {
        let prefix = self
            .source
            .as_ref()
            .map_or("", |source| source.prefix.as_str());
        // Their pages are small: names, and annotations of which most are dropped at once.
        let config = Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
        let events = watcher(Api::<Metadata>::all(watches), config).default_backoff();
        tokio::pin!(events);
        let mut listing = HashMap::new();
        loop {
            let event = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                event = events.next() => event.ok_or(AccountsError::WatchEnded)?,
            };
            match event {
                Ok(Event::Init) => listing = HashMap::new(),
                Ok(Event::InitApply(object)) => listing.extend(entry(prefix, object)),
                Ok(Event::InitDone) => {
                    self.known.replace(std::mem::take(&mut listing));
                    condition.met();
                }
                Ok(Event::Apply(object)) => self.known.insert(entry(prefix, object)),
                Ok(Event::Delete(object)) => self.known.remove(entry(prefix, object)),
                // What is known stays: a ServiceAccount that is not is asked for.
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "ServiceAccounts cannot be watched");
                }
            }
        }
    }
}

type Metadata = PartialObjectMeta<ServiceAccount>;

fn entry(prefix: &str, object: Metadata) -> Option<(String, Arc<Account>)> {
    let metadata = object.metadata;
    let key = format!("{}/{}", metadata.namespace?, metadata.name?);
    let account = Account::read(prefix, &metadata.annotations.unwrap_or_default());
    Some((key, Arc::new(account)))
}

/// By `namespace/name`. Those without annotations of ours share one entry, so that a cluster of many costs little.
#[derive(Clone, Debug, Default)]
struct Known {
    accounts: Arc<RwLock<HashMap<String, Arc<Account>>>>,
    plain: Arc<Account>,
}

impl Known {
    fn find(&self, key: &str) -> Option<Arc<Account>> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.get(key).cloned()
    }

    fn replace(&self, mut accounts: HashMap<String, Arc<Account>>) {
        for account in accounts.values_mut() {
            self.share(account);
        }
        *self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner) = accounts;
    }

    fn insert(&self, entry: Option<(String, Arc<Account>)>) {
        let Some((key, mut account)) = entry else {
            return;
        };
        self.share(&mut account);
        let mut accounts = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        drop(accounts.insert(key, account));
    }

    fn remove(&self, entry: Option<(String, Arc<Account>)>) {
        let mut accounts = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        drop(entry.and_then(|(key, _)| accounts.remove(&key)));
    }

    fn share(&self, account: &mut Arc<Account>) {
        if *account == self.plain {
            *account = Arc::clone(&self.plain);
        }
    }
}

const PAGE: u32 = 500;
/// How long the API server keeps one watch open. A new watch is one small request.
const WATCH_SECONDS: u32 = 60;
/// For ServiceAccounts that are not known yet, at once.
const REQUESTS: usize = 64;

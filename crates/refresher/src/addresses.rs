//! The STS's addresses, kept from one exchange to the next as the TLS session is: a Service's never changes, and to look it up again each time would be
//! six questions to the cluster's name server, and a thread that asks them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tokio::time::Instant;

/// What each name was found to be. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(Arc<Mutex<BTreeMap<String, Found>>>);

#[derive(Debug)]
struct Found {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

impl Addresses {
    /// Every name is looked up anew: one of the addresses may be to blame for a failure.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    fn known(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let known = self.lock();
        let found = known.get(name)?;
        (Instant::now() < found.until).then(|| found.addresses.clone())
    }

    async fn look_up(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        // Of no matter for a look-up: reqwest puts the URL's port in its place.
        let port = 0;
        let addresses: Vec<_> = lookup_host((name, port)).await?.collect();
        let found = Found {
            addresses: addresses.clone(),
            until: Instant::now() + LONGEST,
        };
        self.lock().insert(name.to_owned(), found);
        Ok(addresses)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses = match this.known(name.as_str()) {
                Some(addresses) => addresses,
                None => this.look_up(name.as_str()).await?,
            };
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// So that one whose STS moves, by its name, from one place to another, while both serve, moves too.
const LONGEST: Duration = Duration::from_secs(3600);

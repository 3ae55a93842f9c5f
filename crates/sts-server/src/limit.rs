//! How often one caller may come, so that none can take the service away from the others.
//!
//! Twice: by address, before anything is looked at, which bounds what a stranger can make us compute; and by pod, once its token is
//! verified, which bounds what a pod can make us decide, sign and ask the API server, from wherever it comes, whether a rule allows it or not.

use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sts_config::RateLimit;
use sts_core::ident::{ClusterName, Uid};
use svc_runtime::server::network;

/// The limits of all endpoints. Clones share them.
#[derive(Clone)]
pub(crate) struct RateLimits {
    addresses: Limit<IpAddr>,
    /// With the cluster: one cluster's key could sign tokens with the uids of another's pods, and use up what these may.
    pods: Limit<(ClusterName, Uid)>,
}

/// A caller came too often.
#[derive(Debug)]
pub(crate) struct TooOften {
    /// When it may come again.
    pub(crate) after: Duration,
}

#[derive(Clone)]
struct Limit<K: Clone + Eq + Hash>(Option<Arc<DefaultKeyedRateLimiter<K>>>);

impl RateLimits {
    pub(crate) fn new(config: RateLimit) -> Self {
        let RateLimit {
            per_address,
            per_pod,
        } = config;
        Self {
            addresses: Limit::new(per_address),
            pods: Limit::new(per_pod),
        }
    }

    /// With other rates. A rate that stays knows on who came how often.
    pub(crate) fn changed(&self, old: RateLimit, new: RateLimit) -> Self {
        let Self { addresses, pods } = Self::new(new);
        Self {
            addresses: if old.per_address == new.per_address {
                self.addresses.clone()
            } else {
                addresses
            },
            pods: if old.per_pod == new.per_pod {
                self.pods.clone()
            } else {
                pods
            },
        }
    }

    /// One more exchange from an address.
    pub(crate) fn address(&self, source: SocketAddr) -> Result<(), TooOften> {
        self.addresses.count(&network(source.ip()))
    }

    /// One more exchange of a pod of a cluster.
    pub(crate) fn pod(&self, cluster: &ClusterName, pod: &Uid) -> Result<(), TooOften> {
        if self.pods.0.is_none() {
            return Ok(());
        }
        self.pods.count(&(cluster.clone(), pod.clone()))
    }

    /// Forgets the callers who have not come for a while. To be called now and then: what is kept of each would never go away.
    pub(crate) fn sweep(&self) {
        self.addresses.sweep();
        self.pods.sweep();
    }
}

impl<K: Clone + Eq + Hash> Limit<K> {
    fn new(per_second: Option<NonZeroU32>) -> Self {
        let limiter = |rate: NonZeroU32| {
            let burst = rate.saturating_add(rate.get());
            let quota = Quota::per_second(rate).allow_burst(burst);
            Arc::new(RateLimiter::keyed(quota))
        };
        Self(per_second.map(limiter))
    }

    fn count(&self, key: &K) -> Result<(), TooOften> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter.check_key(key).map_err(|refused| TooOften {
            after: refused.wait_time_from(DefaultClock::default().now()),
        })
    }

    fn sweep(&self) {
        if let Some(limiter) = &self.0 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_address: u32) -> RateLimits {
        RateLimits::new(RateLimit {
            per_address: NonZeroU32::new(per_address),
            per_pod: None,
        })
    }

    fn allowed(limits: &RateLimits, address: &str) -> bool {
        limits.address(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn http_020_each_address_has_its_own_allowance() {
        let limits = limits(1);
        assert!(allowed(&limits, "10.0.0.1:1"));
        assert!(allowed(&limits, "10.0.0.1:2"), "twice the rate at once");
        assert!(!allowed(&limits, "10.0.0.1:3"));
        assert!(!allowed(&limits, "[::ffff:10.0.0.1]:3"), "the same address");
        assert!(allowed(&limits, "10.0.0.2:1"));
        let wait = limits.address("10.0.0.1:1".parse().unwrap()).unwrap_err();
        assert!(wait.after <= Duration::from_secs(1), "{wait:?}");
    }

    #[test]
    fn http_020_an_ipv6_host_cannot_change_its_address_away() {
        let limits = limits(1);
        assert!(allowed(&limits, "[fd00::1]:1"));
        assert!(allowed(&limits, "[fd00::2]:1"));
        assert!(!allowed(&limits, "[fd00::3]:1"));
        assert!(allowed(&limits, "[fd00:0:0:1::1]:1"));
    }

    #[test]
    fn a_pod_of_one_cluster_does_not_use_up_what_anothers_may() {
        let limits = RateLimits::new(RateLimit {
            per_address: None,
            per_pod: NonZeroU32::new(1),
        });
        let uid = Uid::parse("22222222-2222-4333-8444-555555555555").unwrap();
        let allowed = |cluster: &str| {
            limits
                .pod(&ClusterName::parse(cluster).unwrap(), &uid)
                .is_ok()
        };
        assert!(allowed("blue") && allowed("blue"), "twice the rate at once");
        assert!(!allowed("blue"));
        assert!(allowed("green"));
    }

    #[test]
    fn a_rate_that_stays_knows_who_came() {
        let config = |per_address, per_pod| RateLimit {
            per_address: NonZeroU32::new(per_address),
            per_pod: NonZeroU32::new(per_pod),
        };
        let old = RateLimits::new(config(1, 1));
        assert!(allowed(&old, "10.0.0.1:1") && allowed(&old, "10.0.0.1:1"));
        let same = old.changed(config(1, 1), config(1, 2));
        assert!(!allowed(&same, "10.0.0.1:1"));
        let other = old.changed(config(1, 1), config(2, 1));
        assert!(allowed(&other, "10.0.0.1:1"));
    }

    #[test]
    fn no_limit_is_none() {
        let limits = limits(0);
        assert!((0..1000).all(|_| allowed(&limits, "10.0.0.1:1")));
    }
}

//! What API servers say of themselves, against what endpoints take for granted.
//!
//! An issuer that the configuration names is judged when that is read. The one that an API server names is known only while we run: what
//! would have been refused then is shown now, and no token is issued meanwhile (see `exchange`).

use std::collections::BTreeSet;

use sts_config::{Config, Endpoint};
use sts_core::ident::{Audience, ClusterName, EndpointName, Issuer};
use thiserror::Error;

/// What an endpoint takes for granted of its clusters.
#[derive(Debug)]
pub(crate) struct Terms {
    endpoint: EndpointName,
    clusters: Vec<ClusterName>,
    token_audience: Audience,
}

/// An endpoint that issues nothing, or not for all clusters, until something is changed.
#[derive(Clone, Debug, Eq, Error, Ord, PartialEq, PartialOrd)]
pub(crate) enum Conflict {
    /// The issuer alone says which cluster a token is of.
    #[error(
        "clusters {first} and {second} have one issuer, {issuer}: their tokens cannot be told apart, and none of them is taken. Give each \
         cluster an issuer of its own (kube-apiserver's --service-account-issuer), or an endpoint of its own"
    )]
    Issuer {
        endpoint: EndpointName,
        first: ClusterName,
        second: ClusterName,
        issuer: Issuer,
    },
    /// By default the issuer is the API server's audience, and so that of each pod's default token.
    #[error(
        "tokenAudience is {issuer}, the issuer that cluster {cluster} has: each pod's default token would do, and none is taken. Leave \
         tokenAudience out, and write it under `danger: {{apiServerAudiences}}` if old clients must be served"
    )]
    TokenAudience {
        endpoint: EndpointName,
        cluster: ClusterName,
        issuer: Issuer,
    },
}

impl Conflict {
    pub(crate) fn endpoint(&self) -> &EndpointName {
        match self {
            Self::Issuer { endpoint, .. } | Self::TokenAudience { endpoint, .. } => endpoint,
        }
    }

    /// Its name in metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Issuer { .. } => "issuer",
            Self::TokenAudience { .. } => "tokenAudience",
        }
    }
}

impl Terms {
    /// Those of all endpoints.
    pub(crate) fn of(config: &Config) -> Vec<Self> {
        let terms = |endpoint: &Endpoint| Self {
            endpoint: endpoint.name.clone(),
            clusters: endpoint.clusters.clone(),
            token_audience: endpoint.token_audience.clone(),
        };
        config.endpoints.iter().map(terms).collect()
    }

    /// What stands against them, of clusters whose issuers are known.
    fn conflicts(&self, issuers: &[(ClusterName, Issuer)]) -> Vec<Conflict> {
        let Self {
            endpoint,
            clusters,
            token_audience,
        } = self;
        let taken = issuers.iter().filter(|(name, _)| clusters.contains(name));
        let taken: Vec<_> = taken.collect();
        let mut conflicts = Vec::new();
        for (index, (cluster, issuer)) in taken.iter().enumerate() {
            let before = taken.iter().take(index);
            conflicts.extend(
                before
                    .filter(|(_, other)| other == issuer)
                    .map(|(first, _)| Conflict::Issuer {
                        endpoint: endpoint.clone(),
                        first: first.clone(),
                        second: cluster.clone(),
                        issuer: issuer.clone(),
                    }),
            );
            if issuer.as_str() == token_audience.as_str() {
                conflicts.push(Conflict::TokenAudience {
                    endpoint: endpoint.clone(),
                    cluster: cluster.clone(),
                    issuer: issuer.clone(),
                });
            }
        }
        conflicts
    }
}

/// What stands against any of the terms.
pub(crate) fn conflicts(terms: &[Terms], issuers: &[(ClusterName, Issuer)]) -> BTreeSet<Conflict> {
    let conflicts = terms.iter().map(|terms| terms.conflicts(issuers));
    conflicts.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(endpoint: &str, clusters: &[&str], audience: &str) -> Terms {
        Terms {
            endpoint: endpoint.parse().unwrap(),
            clusters: clusters.iter().map(|name| name.parse().unwrap()).collect(),
            token_audience: audience.parse().unwrap(),
        }
    }

    fn found(terms: &[Terms], issuers: &[(&str, &str)]) -> Vec<(String, &'static str)> {
        let issuers: Vec<_> = issuers
            .iter()
            .map(|(cluster, issuer)| (cluster.parse().unwrap(), issuer.parse().unwrap()))
            .collect();
        let conflicts = conflicts(terms, &issuers);
        let named = |conflict: &Conflict| (conflict.endpoint().to_string(), conflict.name());
        conflicts.iter().map(named).collect()
    }

    const OWN: (&str, &str) = ("own", "https://own.example.com");

    #[test]
    fn clusters_of_one_issuer_are_a_conflict_of_the_endpoints_that_take_both() {
        let all = [
            terms("both", &["own", "blue"], "x"),
            terms("one", &["blue"], "x"),
        ];
        assert!(found(&all, &[OWN, ("blue", "https://blue.example.com")]).is_empty());
        assert!(found(&all, &[("blue", OWN.1)]).is_empty(), "not known yet");
        let conflicts = found(&all, &[OWN, ("blue", OWN.1)]);
        assert_eq!(conflicts, [("both".to_owned(), "issuer")]);
    }

    #[test]
    fn an_audience_that_is_a_clusters_issuer_is_a_conflict_of_the_endpoints_that_take_it() {
        let all = [
            terms("a", &["own"], OWN.1),
            terms("b", &["own"], "https://own.example.com/"),
            terms("c", &["blue"], OWN.1),
        ];
        let issuers = [OWN, ("blue", "https://blue.example.com")];
        assert_eq!(found(&all, &issuers), [("a".to_owned(), "tokenAudience")]);
    }
}

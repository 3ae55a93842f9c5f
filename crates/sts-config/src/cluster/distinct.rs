//! What clusters and endpoints say about each other.

use std::collections::HashSet;

use super::{ApiServer, Cluster};
use crate::endpoint::{Endpoint, Verification};
use crate::problem::Problems;

/// Names are distinct, and one cluster at most is the one we run under.
pub(crate) fn check_clusters(clusters: &[Cluster], problems: &Problems) {
    let mut names = HashSet::new();
    let mut own = None;
    for cluster in clusters {
        if !names.insert(&cluster.name) {
            problems.error(cluster.place.key("name"), "is another cluster's name too");
        }
        if cluster.api_server == Some(ApiServer::Own)
            && let Some(first) = own.replace(&cluster.name)
        {
            problems.error(
                cluster.place.key("jwks"),
                format!("is the API server we run under, as that of cluster {first} is: write a `kubeconfig`, or `apiServer: {{url, caFile, tokenFile}}`"),
            );
        }
    }
}

/// Gives each endpoint that names no cluster all of them, and checks what each endpoint needs of its clusters.
pub(crate) fn resolve(clusters: &[Cluster], endpoints: &mut [Endpoint], problems: &Problems) {
    for endpoint in endpoints {
        if endpoint.clusters.is_empty() {
            endpoint.clusters = clusters
                .iter()
                .map(|cluster| cluster.name.clone())
                .collect();
        }
        let mut accepted = Vec::new();
        for name in &endpoint.clusters {
            match clusters.iter().find(|cluster| cluster.name == *name) {
                Some(cluster) => accepted.push(cluster),
                None => problems.error(
                    endpoint.place.key("clusters"),
                    format!(
                        "names {name}, which is none of the configured clusters: {}",
                        names(clusters)
                    ),
                ),
            }
        }
        check_callable(endpoint, &accepted, problems);
        check_issuers(endpoint, &accepted, problems);
        check_audience(endpoint, &accepted, problems);
    }
}

/// A cluster's issuer is by default its API server's audience, and so that of each pod's default token: what takes it is dangerous, and is
/// called so.
fn check_audience(endpoint: &Endpoint, clusters: &[&Cluster], problems: &Problems) {
    let audience = endpoint.token_audience.as_str();
    let written = clusters
        .iter()
        .filter_map(|cluster| cluster.issuer.as_ref())
        .any(|issuer| issuer.as_str() == audience);
    if written || DEFAULT_AUDIENCES.contains(&audience) {
        problems.error(
            endpoint.place.key("tokenAudience"),
            "is an API server's own, so that each pod's default token would do: leave it out, and write it under \
             `danger: {apiServerAudiences}` if old clients must be served",
        );
    }
}

/// What API servers take for themselves where nothing else is set.
const DEFAULT_AUDIENCES: [&str; 2] = [
    "https://kubernetes.default.svc",
    "https://kubernetes.default.svc.cluster.local",
];

/// Two modes call an API server, so each of the endpoint's clusters needs one.
fn check_callable(endpoint: &Endpoint, clusters: &[&Cluster], problems: &Problems) {
    let mode = match endpoint.verification {
        Verification::Jwks => return,
        Verification::TokenReview => "tokenReview",
        Verification::Watch => "watch",
    };
    let silent = clusters.iter().find(|cluster| cluster.api_server.is_none());
    if let Some(silent) = silent {
        problems.error(
            endpoint.place.key("verification"),
            format!(
                "is {mode}, but the API server of cluster {} cannot be asked: give the cluster a `kubeconfig`, or write `verification: \
                 jwks` (a deleted pod's token then stays good until it expires)",
                silent.name
            ),
        );
    }
}

/// The issuer alone says which cluster a token is of.
fn check_issuers(endpoint: &Endpoint, clusters: &[&Cluster], problems: &Problems) {
    let mut seen = HashSet::new();
    let issuers = clusters
        .iter()
        .filter_map(|cluster| cluster.issuer.as_ref());
    for issuer in issuers {
        if !seen.insert(issuer) {
            problems.error(
                endpoint.place.key("clusters"),
                format!(
                    "has two clusters with the issuer {issuer}: their tokens cannot be told apart. Give each cluster an issuer of its own \
                     (kube-apiserver's --service-account-issuer), or an endpoint of its own"
                ),
            );
        }
    }
}

fn names(clusters: &[Cluster]) -> String {
    let names: Vec<&str> = clusters
        .iter()
        .map(|cluster| cluster.name.as_str())
        .collect();
    names.join(", ")
}

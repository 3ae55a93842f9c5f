//! What of a configuration runs beside the requests, and what of that another configuration needs.
//!
//! Each part is a value of all that it depends on: equal parts are one and the same thing, which goes on with all it knows. Everything
//! else (rules, claims, danger, grace) is looked up by requests and exchanged with them as a whole.

use sts_config::{
    ApiServer, Cluster, ClusterPublish, Config, Documents, Endpoint, JwksSource, KeySource,
    Publish, Rotation, Verification,
};
use sts_core::ident::{Audience, ClusterName, EndpointName, Issuer};
use sts_core::policy::LabelKeys;
use sts_core::time::Lifetime;

/// A cluster's key set and API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClusterPart {
    pub(crate) name: ClusterName,
    issuer: Option<Issuer>,
    jwks: JwksSource,
    api_server: Option<ApiServer>,
}

/// What is followed of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct WatchPart {
    pub(crate) cluster: ClusterPart,
    /// The labels that rules ask for.
    pub(crate) labels: LabelKeys,
}

/// Who publishes a cluster's own documents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClusterPublisherPart {
    pub(crate) cluster: ClusterPart,
    publish: ClusterPublish,
}

/// An endpoint's ring of keys, who keeps it, and who reads its documents back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RingPart {
    pub(crate) endpoint: EndpointName,
    issuer: Issuer,
    key: KeySource,
    lifetime: Lifetime,
    rotation: Rotation,
    documents: Documents,
}

/// Who publishes an endpoint's documents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PublisherPart {
    pub(crate) ring: RingPart,
    audience: Audience,
    publish: Publish,
}

/// The parts of a configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Parts {
    pub(crate) clusters: Vec<ClusterPart>,
    /// Of the clusters whose pods are watched.
    pub(crate) watches: Vec<WatchPart>,
    pub(crate) cluster_publishers: Vec<ClusterPublisherPart>,
    pub(crate) rings: Vec<RingPart>,
    pub(crate) publishers: Vec<PublisherPart>,
}

/// What a change of parts means.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Change<'p, P> {
    pub(crate) stays: Vec<&'p P>,
    pub(crate) starts: Vec<&'p P>,
    pub(crate) ends: Vec<&'p P>,
}

impl<'p, P: PartialEq> Change<'p, P> {
    pub(crate) fn between(old: &'p [P], new: &'p [P]) -> Self {
        let (stays, starts) = new.iter().partition(|part| old.contains(part));
        let ends = old.iter().filter(|part| !new.contains(part)).collect();
        Self {
            stays,
            starts,
            ends,
        }
    }
}

impl ClusterPart {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self {
            name: cluster.name.clone(),
            issuer: cluster.issuer.clone(),
            jwks: cluster.jwks.clone(),
            api_server: cluster.api_server.clone(),
        }
    }
}

impl RingPart {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        Self {
            endpoint: endpoint.name.clone(),
            issuer: endpoint.template.issuer.clone(),
            key: endpoint.key.clone(),
            lifetime: endpoint.template.lifetime,
            rotation: endpoint.rotation.clone(),
            documents: endpoint.documents.clone(),
        }
    }

    /// Whether it has the same keys, on other terms: then what is in memory of them must not be lost.
    pub(crate) fn succeeds(&self, old: &Self) -> bool {
        match (&self.key, &old.key) {
            (KeySource::Secret { name, .. }, KeySource::Secret { name: before, .. }) => {
                name == before
            }
            (
                KeySource::File {
                    path, algorithm, ..
                },
                KeySource::File {
                    path: before,
                    algorithm: used,
                    ..
                },
            ) => path == before && algorithm == used,
            (KeySource::Secret { .. }, KeySource::File { .. })
            | (KeySource::File { .. }, KeySource::Secret { .. }) => false,
        }
    }
}

impl Parts {
    pub(crate) fn of(config: &Config) -> Self {
        let Config {
            clusters,
            endpoints,
            ..
        } = config;
        Self {
            clusters: clusters.iter().map(ClusterPart::of).collect(),
            watches: clusters
                .iter()
                .filter_map(|cluster| watch(cluster, endpoints))
                .collect(),
            cluster_publishers: clusters.iter().filter_map(cluster_publisher).collect(),
            rings: endpoints.iter().map(RingPart::of).collect(),
            publishers: endpoints.iter().filter_map(publisher).collect(),
        }
    }
}

/// `None` if no endpoint wants the cluster watched.
fn watch(cluster: &Cluster, endpoints: &[Endpoint]) -> Option<WatchPart> {
    cluster.api_server.as_ref()?;
    let watching = endpoints.iter().filter(|endpoint| {
        endpoint.verification == Verification::Watch && endpoint.clusters.contains(&cluster.name)
    });
    let mut watching = watching.peekable();
    watching.peek()?;
    let mut labels = LabelKeys::default();
    watching.for_each(|endpoint| labels.extend(endpoint.policy.labels()));
    Some(WatchPart {
        cluster: ClusterPart::of(cluster),
        labels,
    })
}

fn cluster_publisher(cluster: &Cluster) -> Option<ClusterPublisherPart> {
    Some(ClusterPublisherPart {
        publish: cluster.publish.clone()?,
        cluster: ClusterPart::of(cluster),
    })
}

fn publisher(endpoint: &Endpoint) -> Option<PublisherPart> {
    Some(PublisherPart {
        publish: endpoint.publish.clone()?,
        ring: RingPart::of(endpoint),
        audience: endpoint.template.audience.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
url: https://sts.test
clusters:
- {name: blue, issuer: 'https://blue.test', jwks: {file: /blue.json}}
- {name: own, jwks: {apiServer: {}}}
endpoints:
- {name: a, path: /a, audience: x, issuer: 'https://a.test', key: {secret: a}, clusters: [own], rules: [{filter: '(namespace=n)'}]}
- {name: b, path: /b, audience: x, issuer: 'https://b.test', key: {secret: b}, clusters: [own], rules: [{filter: '(namespace=n)'}]}
";

    fn parts(changes: &[(&str, &str)]) -> Parts {
        let text = changes.iter().fold(TEXT.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        Parts::of(&Config::parse(&text).unwrap())
    }

    fn endpoints(parts: &[&RingPart]) -> Vec<String> {
        let name = |part: &&RingPart| part.endpoint.as_str().to_owned();
        parts.iter().map(name).collect()
    }

    #[test]
    fn rules_and_places_change_no_part() {
        let old = parts(&[]);
        for change in [
            ("(namespace=n)", "(namespace=other)"),
            ("\nclusters:", "\n\n\nclusters:"),
            ("path: /a", "path: /other"),
        ] {
            assert_eq!(parts(&[change]), old, "{change:?}");
        }
    }

    #[test]
    fn an_endpoint_that_comes_or_goes_leaves_the_others_alone() {
        let (old, new) = (parts(&[]), parts(&[("- {name: b,", "- {name: c,")]));
        let change = Change::between(&old.rings, &new.rings);
        assert_eq!(endpoints(&change.stays), ["a"]);
        assert_eq!(endpoints(&change.starts), ["c"]);
        assert_eq!(endpoints(&change.ends), ["b"]);
        assert_eq!(
            Change::between(&old.clusters, &new.clusters).starts,
            Vec::<&ClusterPart>::new()
        );
    }

    #[test]
    fn other_terms_are_another_ring_that_has_the_same_keys() {
        let old = parts(&[]);
        let new = parts(&[("audience: x", "audience: x, lifetime: 30m")]);
        let change = Change::between(&old.rings, &new.rings);
        assert_eq!(endpoints(&change.starts), ["a"]);
        assert!(change.starts[0].succeeds(change.ends[0]));
        let other = parts(&[("secret: a", "secret: c")]);
        assert!(!other.rings[0].succeeds(&old.rings[0]));
    }

    #[test]
    fn another_label_that_a_rule_asks_for_is_another_watch() {
        let watching = |rule| {
            let with = format!("verification: watch, rules: [{{cel: \"{rule}\"}}, ");
            parts(&[("rules: [", &with)]).watches
        };
        let old = watching("namespace_labels['team'] == 'a'");
        assert_eq!(old, watching("namespace_labels['team'] == 'b'"));
        assert_ne!(old, watching("namespace_labels['tier'] == 'a'"));
    }

    #[test]
    fn a_watch_starts_and_ends_by_itself_and_with_its_cluster() {
        let old = parts(&[]);
        assert!(old.watches.is_empty());
        let watch = ("rules: [", "verification: watch, rules: [");
        let new = parts(&[watch]);
        assert_eq!(
            Change::between(&old.clusters, &new.clusters).starts.len(),
            0
        );
        assert_eq!(Change::between(&old.watches, &new.watches).starts.len(), 1);
        let moved = parts(&[
            watch,
            (
                "name: own, jwks",
                "name: own, issuer: 'https://own.test', jwks",
            ),
        ]);
        assert_eq!(
            Change::between(&new.watches, &moved.watches).starts.len(),
            1
        );
        assert_eq!(
            Change::between(&new.clusters, &moved.clusters).stays.len(),
            1
        );
    }
}

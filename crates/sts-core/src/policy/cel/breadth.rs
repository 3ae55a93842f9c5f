//! Whether an expression tells anybody from anybody. Unlike a filter it cannot be gone through case by case, so it is tried: with strangers,
//! whom no rule can mean, and, if it allows them all, with those whom it names.

use super::{Attribute, Attributes, CelError, CelRule, Truth, absent};
use crate::ident::{ClusterName, LabelKey, Namespace, ServiceAccountName};

/// How far an expression reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Breadth {
    /// It allows everybody but those whom it names.
    Excludes,
    /// It does not allow everybody whom it does not name.
    Selects,
}

/// Namespaces and ServiceAccounts that nothing connects: short and long, from the beginning of the alphabet and from its end.
const STRANGERS: [(&str, &str); 5] = [
    ("q", "zw-unheard-of"),
    ("0lb7", "x9"),
    (
        "zz-top-of-nowhere-with-a-name-about-as-long-as-names-may-get",
        "a",
    ),
    (
        "b-nobody",
        "0.dotted.and-longer-than-most-names-of-service-accounts",
    ),
    ("mid-7", "yonder"),
];
/// Their clusters, where it is not known which there are.
const CLUSTERS: [&str; 2] = ["zq-unknown", "A_strange.one"];
/// How many of those whom it names it is tried with.
const MOST_TRIED: usize = 2000;
/// What stands around a name's part.
const AROUND: [(&str, &str); 5] = [("", ""), ("", "x"), ("x", ""), ("x", "x"), ("", "-x")];

/// How far an expression reaches; `clusters` are those whose tokens are taken, where they are known.
pub(super) fn of(rule: &CelRule, clusters: Option<&[ClusterName]>) -> Result<Breadth, CelError> {
    let are_known = clusters.is_some_and(|known| !known.is_empty());
    let clusters = match clusters {
        Some(known) if !known.is_empty() => known.to_vec(),
        Some(_) | None => CLUSTERS
            .iter()
            .filter_map(|name| ClusterName::parse(name).ok())
            .collect(),
    };
    let allows = |subject: &Attributes| rule.evaluate(subject) == Truth::True;
    let strangers: Vec<Attributes> = clusters
        .iter()
        .flat_map(|cluster| strangers(rule, cluster))
        .collect();
    if !strangers.iter().all(allows) {
        return Ok(Breadth::Selects);
    }
    let is_excluded = |subject: Attributes| !allows(&subject);
    // Where the clusters are known, nobody of another one comes: to leave such a one out is to leave nobody out.
    let can_come = |subject: &Attributes| {
        !are_known
            || subject
                .values(Attribute::Cluster)
                .all(|name| clusters.iter().any(|cluster| cluster.as_str() == name))
    };
    if named(rule, &clusters, &strangers)
        .filter(can_come)
        .take(MOST_TRIED)
        .any(is_excluded)
    {
        Ok(Breadth::Excludes)
    } else {
        Err(CelError::EveryStranger)
    }
}

/// Strangers of one cluster, with what not every token says and without.
fn strangers(rule: &CelRule, cluster: &ClusterName) -> impl Iterator<Item = Attributes> {
    let known = STRANGERS.iter().filter_map(|(namespace, name)| {
        Some((
            Namespace::parse(namespace).ok()?,
            ServiceAccountName::parse(name).ok()?,
        ))
    });
    known.flat_map(|(namespace, name)| {
        let subject = subject(rule, cluster, &namespace, &name);
        let more = subject
            .clone()
            .with(Attribute::NodeName, "node-3v")
            .with(Attribute::NodeUid, "3d0f6a51-9c7e-4b02-8f6d-52c1a7e8b904")
            .with(
                Attribute::CredentialId,
                "JTI=77e0b1c9-5a3f-4d28-9b64-0c8f2e1d7a35",
            );
        [subject, more]
    })
}

fn subject(
    rule: &CelRule,
    cluster: &ClusterName,
    namespace: &Namespace,
    name: &ServiceAccountName,
) -> Attributes {
    Attributes::supposed(cluster, namespace, name)
        .complete()
        .with(Attribute::Uid, "9f1c2d3e-7a6b-4c5d-8e9f-a0b1c2d3e4f5")
        .with(Attribute::PodName, "some-pod-5x")
        .with(Attribute::PodUid, "c4b3a291-8d7e-4f60-91a2-b3c4d5e6f708")
        .with_labels(absent(rule.labels()))
}

/// Subjects that have, in one way or another, what stands in the expression.
fn named<'r>(
    rule: &'r CelRule,
    clusters: &'r [ClusterName],
    strangers: &'r [Attributes],
) -> impl Iterator<Item = Attributes> + use<'r> {
    let words = words(rule);
    let others = with_attributes(&words, strangers);
    let labelled = with_labels(rule, &words, strangers);
    others
        .into_iter()
        .chain(labelled)
        .chain(with_names(rule, &words, clusters))
}

/// The texts in an expression, their parts between characters that no name has, and names of which they are a part.
fn words(rule: &CelRule) -> Vec<String> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let mut words: Vec<String> = Vec::new();
    for text in &rule.asked.texts {
        words.push(text.clone());
        for part in text.split(|c| !in_name(c)).filter(|part| !part.is_empty()) {
            words.extend(
                AROUND
                    .iter()
                    .map(|(before, after)| format!("{before}{part}{after}")),
            );
        }
    }
    words.sort_unstable();
    words.dedup();
    words
}

/// Strangers but for one attribute. A namespace and a name are more than one: see [`with_names`].
fn with_attributes(words: &[String], strangers: &[Attributes]) -> Vec<Attributes> {
    let ones = Attribute::each().filter(|attribute| {
        !matches!(
            attribute,
            Attribute::Groups
                | Attribute::Namespace
                | Attribute::ObjectClass
                | Attribute::ServiceAccountName
                | Attribute::Subject
        )
    });
    let mut subjects = Vec::new();
    for attribute in ones {
        let fitting = words.iter().filter(|word| attribute.can_be(word));
        for word in fitting {
            subjects.extend(
                strangers
                    .last()
                    .map(|stranger| stranger.clone().with(attribute, word)),
            );
        }
    }
    subjects
}

/// Strangers but for one label.
fn with_labels(rule: &CelRule, words: &[String], strangers: &[Attributes]) -> Vec<Attributes> {
    let Some(stranger) = strangers.first() else {
        return Vec::new();
    };
    let values = || words.iter().map(String::as_str).chain(["x"]);
    let of_pod = rule.labels().pod.iter().map(|key| (key, true));
    let of_namespace = rule.labels().namespace.iter().map(|key| (key, false));
    let labelled = |(key, of_pod): (&LabelKey, bool), value: &str| {
        let mut labels = absent(rule.labels());
        let labels_of = if of_pod {
            &mut labels.pod
        } else {
            &mut labels.namespace
        };
        drop(labels_of.insert(key.clone(), Some(value.to_owned())));
        stranger.clone().with_labels(labels)
    };
    let keys = of_pod.chain(of_namespace);
    keys.flat_map(|key| values().map(move |value| labelled(key, value)))
        .collect()
}

/// Each namespace with each name that can be made of the words, in each cluster.
fn with_names<'r>(
    rule: &'r CelRule,
    words: &[String],
    clusters: &'r [ClusterName],
) -> impl Iterator<Item = Attributes> + use<'r> {
    let [(strange_namespace, strange_name), ..] = STRANGERS;
    let mut namespaces: Vec<_> = words
        .iter()
        .filter_map(|word| Namespace::parse(word).ok())
        .collect();
    namespaces.extend(Namespace::parse(strange_namespace));
    let mut names: Vec<_> = words
        .iter()
        .filter_map(|word| ServiceAccountName::parse(word).ok())
        .collect();
    names.extend(ServiceAccountName::parse(strange_name));
    names.reverse();
    names.into_iter().flat_map(move |name| {
        let namespaces = namespaces.clone();
        namespaces.into_iter().flat_map(move |namespace| {
            let name = name.clone();
            clusters
                .iter()
                .map(move |cluster| subject(rule, cluster, &namespace, &name))
        })
    })
}

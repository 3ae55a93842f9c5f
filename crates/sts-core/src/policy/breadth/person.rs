//! Made-up subjects: strangers, and those who have what a rule names.

use super::Asked;
use crate::ident::{ClusterName, LabelKey, Namespace, ServiceAccountName};
use crate::policy::{Attribute, Attributes, KnownLabels, LabelKeys};

/// Namespaces, ServiceAccounts and pods that nothing connects: short and long, from the beginning of the alphabet and from its end.
const STRANGERS: [(&str, &str, &str); 5] = [
    ("q", "zw-unheard-of", "5x"),
    ("0lb7", "x9", "0.pod-of-x9"),
    (
        "zz-top-of-nowhere-with-a-name-that-is-as-long-as-a-name-may-get",
        "a",
        "zz-7d4b9c6f5-x2k8j",
    ),
    (
        "b-nobody",
        "0.dotted.and-longer-than-most-names-of-service-accounts",
        "some-pod",
    ),
    ("mid-7", "yonder", "m"),
];
/// Their clusters, where it is not known which there are.
const CLUSTERS: [&str; 2] = ["zq-unknown", "A_strange.one"];
/// What not every cluster writes into its tokens.
const OF_NEWER_TOKENS: [(Attribute, &str); 3] = [
    (Attribute::NodeName, "node-3v"),
    (Attribute::NodeUid, "3d0f6a51-9c7e-4b02-8f6d-52c1a7e8b904"),
    (
        Attribute::CredentialId,
        "JTI=77e0b1c9-5a3f-4d28-9b64-0c8f2e1d7a35",
    ),
];

/// What a rule is tried with.
#[derive(Clone)]
pub(super) struct Person {
    /// Which of the strangers it is, or was.
    pub(super) number: usize,
    cluster: ClusterName,
    namespace: Namespace,
    name: ServiceAccountName,
    others: Vec<(Attribute, String)>,
    labels: KnownLabels,
}

impl Person {
    /// One of the strangers; `with_everything` says whether with what newer tokens say.
    fn stranger(
        labels: &LabelKeys,
        cluster: &ClusterName,
        number: usize,
        with_everything: bool,
    ) -> Option<Self> {
        let (namespace, name, pod) = STRANGERS.get(number)?;
        let digit = number.saturating_mul(3).saturating_add(1);
        let mut others = vec![
            (Attribute::PodName, (*pod).to_owned()),
            (
                Attribute::PodUid,
                format!("{digit:x}4b3a291-8d7e-4f60-91a2-b3c4d5e6f708"),
            ),
            (
                Attribute::Uid,
                format!("{digit:x}f1c2d3e-7a6b-4c5d-8e9f-a0b1c2d3e4f5"),
            ),
        ];
        if with_everything {
            let newer = OF_NEWER_TOKENS.iter();
            others.extend(newer.map(|(attribute, value)| (*attribute, (*value).to_owned())));
        }
        Some(Self {
            number,
            cluster: cluster.clone(),
            namespace: Namespace::parse(namespace).ok()?,
            name: ServiceAccountName::parse(name).ok()?,
            others,
            labels: KnownLabels::absent(labels),
        })
    }

    /// Those who become somebody whom the rule names: one with what newer tokens say, and one without.
    pub(super) fn bases(
        labels: &LabelKeys,
        clusters: &[ClusterName],
    ) -> impl Iterator<Item = Self> {
        let cluster = clusters_or_strange(clusters).into_iter().next();
        [true, false]
            .into_iter()
            .filter_map(move |with_everything| {
                Self::stranger(labels, cluster.as_ref()?, 0, with_everything)
            })
    }

    /// Whether the token says whatever a token can.
    pub(super) fn has_token_with_everything(&self) -> bool {
        let has = |wanted| {
            self.others
                .iter()
                .any(|(attribute, _)| *attribute == wanted)
        };
        has(Attribute::NodeName)
    }

    pub(super) fn attributes(&self) -> Attributes {
        let attributes =
            Attributes::supposed(&self.cluster, &self.namespace, &self.name).complete();
        let others = self.others.iter();
        others
            .fold(attributes, |attributes, (attribute, value)| {
                attributes.with(*attribute, value)
            })
            .with_labels(self.labels.clone())
    }

    /// The same with these values, as far as somebody of one of the clusters can have them.
    pub(super) fn with(&self, values: &[(Attribute, String)], clusters: &[ClusterName]) -> Self {
        let mut person = self.clone();
        let comes = |name: &str| {
            clusters.is_empty() || clusters.iter().any(|cluster| cluster.as_str() == name)
        };
        for (attribute, value) in values {
            for (attribute, value) in attribute.parts_of(value) {
                let possible = attribute.can_be(value);
                if possible && (attribute != Attribute::Cluster || comes(value)) {
                    person.set(&Slot::Attribute(attribute), value);
                }
            }
        }
        person
    }

    fn set(&mut self, slot: &Slot, value: &str) {
        let text = value.to_owned();
        match slot {
            Slot::Attribute(Attribute::Cluster) => {
                set(&mut self.cluster, ClusterName::parse(value));
            }
            Slot::Attribute(Attribute::Namespace) => {
                set(&mut self.namespace, Namespace::parse(value));
            }
            Slot::Attribute(Attribute::ServiceAccountName) => {
                set(&mut self.name, ServiceAccountName::parse(value));
            }
            Slot::Attribute(attribute) => self.others.push((*attribute, text)),
            Slot::NamespaceLabel(key) => {
                drop(self.labels.namespace.insert(key.clone(), Some(text)));
            }
            Slot::PodLabel(key) => drop(self.labels.pod.insert(key.clone(), Some(text))),
        }
    }
}

fn set<T, E>(place: &mut T, value: Result<T, E>) {
    if let Ok(value) = value {
        *place = value;
    }
}

fn clusters_or_strange(clusters: &[ClusterName]) -> Vec<ClusterName> {
    if clusters.is_empty() {
        let strange = CLUSTERS.iter().map(|name| ClusterName::parse(name));
        strange.filter_map(Result::ok).collect()
    } else {
        clusters.to_vec()
    }
}

/// Strangers of each cluster, with what newer tokens say and without.
pub(super) fn strangers(labels: &LabelKeys, clusters: &[ClusterName]) -> Vec<Person> {
    let clusters = clusters_or_strange(clusters);
    let of_cluster = |cluster: &ClusterName| {
        let of_age = |with_everything| {
            let numbers = 0..STRANGERS.len();
            numbers.filter_map(move |number| {
                Person::stranger(labels, cluster, number, with_everything)
            })
        };
        of_age(true).chain(of_age(false)).collect::<Vec<_>>()
    };
    clusters.iter().flat_map(of_cluster).collect()
}

/// One thing that a rule asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Slot {
    Attribute(Attribute),
    NamespaceLabel(LabelKey),
    PodLabel(LabelKey),
}

/// What a rule asks for, and what each can be.
pub(super) struct Slots(Vec<(Slot, Vec<String>)>);

impl Slots {
    pub(super) fn of(asked: &Asked, words: &[String], clusters: &[ClusterName]) -> Self {
        let attributes = asked.attributes.iter();
        let mut attributes: Vec<Attribute> = attributes.flat_map(|one| made_of(*one)).collect();
        attributes.sort_unstable();
        attributes.dedup();
        let values = |attribute: Attribute| {
            if attribute == Attribute::Cluster && !clusters.is_empty() {
                // Nobody of another one comes: to leave such a one out is to leave nobody out.
                clusters
                    .iter()
                    .map(|name| name.as_str().to_owned())
                    .collect()
            } else {
                let fitting = words.iter().filter(|word| attribute.can_be(word));
                fitting.cloned().collect()
            }
        };
        let attributes = attributes
            .into_iter()
            .map(|attribute| (Slot::Attribute(attribute), values(attribute)));
        let keys = asked.labels.namespace.iter();
        let labels = keys.map(|key| (Slot::NamespaceLabel(key.clone()), label_values(words)));
        let Self(of_pods) = Self::of_pod_labels(&asked.labels, words);
        Self(attributes.chain(labels).chain(of_pods).collect())
    }

    pub(super) fn of_pod_labels(labels: &LabelKeys, words: &[String]) -> Self {
        let keys = labels.pod.iter();
        let slots = keys.map(|key| (Slot::PodLabel(key.clone()), label_values(words)));
        Self(slots.collect())
    }

    /// In how many ways somebody can have these things, or not.
    pub(super) fn cases(&self) -> usize {
        let lengths = self.0.iter().map(|(_, values)| values.len());
        lengths.fold(1, |cases, length| {
            cases.saturating_mul(length.saturating_add(1))
        })
    }

    /// The person with the things of one case.
    pub(super) fn person(&self, base: &Person, case: usize) -> Person {
        let mut person = base.clone();
        let mut rest = case;
        for (slot, values) in &self.0 {
            let choices = values.len().saturating_add(1);
            let choice = rest.checked_rem(choices).unwrap_or_default();
            rest = rest.checked_div(choices).unwrap_or_default();
            // The last choice is to be as the base is.
            if let Some(value) = values.get(choice) {
                person.set(slot, value);
            }
        }
        person
    }

    /// With one of these things, and then with several.
    pub(super) fn each<'s>(&'s self, base: &'s Person) -> impl Iterator<Item = Person> + use<'s> {
        let with = move |(slot, value): (&Slot, &String)| {
            let mut person = base.clone();
            person.set(slot, value);
            person
        };
        let slots = self.0.iter();
        let ones = slots.flat_map(|(slot, values)| values.iter().map(move |value| (slot, value)));
        let cases = 0..self.cases();
        let several = cases.map(move |case| self.person(base, case));
        ones.map(with).chain(several)
    }
}

/// The attributes that an attribute's value is made of.
fn made_of(attribute: Attribute) -> Vec<Attribute> {
    if attribute == Attribute::Groups {
        vec![Attribute::Namespace]
    } else if attribute == Attribute::Subject {
        vec![Attribute::Namespace, Attribute::ServiceAccountName]
    } else if attribute == Attribute::ObjectClass {
        Vec::new()
    } else {
        vec![attribute]
    }
}

/// Any text can be a label's value, or almost.
fn label_values(words: &[String]) -> Vec<String> {
    words
        .iter()
        .map(String::as_str)
        .chain(["x"])
        .map(str::to_owned)
        .collect()
}

//! Whether a rule tells anybody from anybody. What a rule of either language leaves out cannot be read off it, so it is tried: with
//! strangers, whom no rule can mean, and, if it allows them all, with those whom it names.
//!
//! Where this errs, it refuses what leaves out somebody whom it did not think of: that can be written as rules that say who is meant.

mod person;
mod words;

use super::{Attribute, Attributes, LabelKeys};
use crate::ident::ClusterName;
use person::{Person, Slots, strangers};
pub(super) use words::Words;

/// How far a rule reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Breadth {
    /// It allows everybody but those whom it names, or whose tokens are of another age.
    Excludes,
    /// It allows everybody who gives his pod the right labels.
    PodLabels,
    /// It does not allow everybody whom it does not name.
    Selects,
}

/// How many ways of labelling a pod are tried.
const MOST_LABELLINGS: usize = 200;
/// How many of those whom it names it is tried with, at each length of the list of words.
const MOST_NAMED: usize = 2000;

/// What a rule asks for.
pub(super) struct Asked {
    pub(super) attributes: Vec<Attribute>,
    pub(super) labels: LabelKeys,
    /// What it compares with.
    pub(super) words: Words,
    /// Those who have all that a part of it asks for, by the values that they have there.
    pub(super) named: Vec<Vec<(Attribute, String)>>,
}

/// How far a rule reaches that allows those whom `allows` does; `None` if it tells nobody from anybody. `clusters` are those whose tokens
/// are taken, where they are known.
pub(super) fn of(
    asked: &Asked,
    allows: impl Fn(&Attributes) -> bool,
    clusters: Option<&[ClusterName]>,
) -> Option<Breadth> {
    let clusters = clusters.unwrap_or_default();
    let allows = |person: &Person| allows(&person.attributes());
    let (new, old): (Vec<_>, Vec<_>) = strangers(&asked.labels, clusters)
        .into_iter()
        .partition(Person::has_token_with_everything);
    match (left_out(&new, allows), left_out(&old, allows)) {
        (Few::None, Few::None) => {}
        (Few::None | Few::One, _) | (_, Few::None | Few::One) => return Some(Breadth::Excludes),
        (Few::Several, Few::Several) if allows_by_pod_labels(asked, &new, allows) => {
            return Some(Breadth::PodLabels);
        }
        (Few::Several, Few::Several) => return Some(Breadth::Selects),
    }
    leaves_out_named(asked, allows, clusters).then_some(Breadth::Excludes)
}

/// Whether somebody whom it names is not allowed.
fn leaves_out_named(
    asked: &Asked,
    allows: impl Fn(&Person) -> bool,
    clusters: &[ClusterName],
) -> bool {
    let tried = |base: &Person| {
        let by_words = |words: &[String]| {
            let slots = Slots::of(asked, words, clusters);
            let mut named = slots.each(base).take(MOST_NAMED);
            named.any(|person| !allows(&person))
        };
        let named = asked.named.iter();
        let mut named = named.map(|values| base.with(values, clusters));
        named.any(|person| !allows(&person))
            || by_words(&asked.words.written)
            || by_words(&asked.words.written_and_around())
    };
    Person::bases(&asked.labels, clusters).any(|base| tried(&base))
}

/// How many of the strangers a rule leaves out, whatever their cluster.
enum Few {
    None,
    /// It may name that one by chance, or be about what few names are, such as short.
    One,
    Several,
}

fn left_out(strangers: &[Person], allows: impl Fn(&Person) -> bool) -> Few {
    let mut left_out = strangers
        .iter()
        .filter(|stranger| !allows(stranger))
        .map(|stranger| stranger.number);
    match left_out.next() {
        None => Few::None,
        Some(first) if left_out.all(|number| number == first) => Few::One,
        Some(_) => Few::Several,
    }
}

/// Whether there are labels with which it allows whoever gives them to a pod.
fn allows_by_pod_labels(
    asked: &Asked,
    strangers: &[Person],
    allows: impl Fn(&Person) -> bool,
) -> bool {
    let slots = Slots::of_pod_labels(&asked.labels, &asked.words.written_and_around());
    (0..slots.cases().min(MOST_LABELLINGS)).any(|case| {
        let labelled = strangers
            .iter()
            .map(|stranger| slots.person(stranger, case));
        !matches!(
            left_out(&labelled.collect::<Vec<_>>(), &allows),
            Few::Several
        )
    })
}

#[cfg(test)]
mod tests;

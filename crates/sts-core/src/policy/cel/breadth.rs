//! Whether an expression tells anybody from anybody. Unlike a filter it cannot be gone through case by case, so it is tried: with strangers,
//! whom no rule can mean, and, if it allows them all, with those whom it names.
//!
//! Where this errs, it refuses what leaves out somebody whom it did not think of: that can be written as rules that say who is meant.

mod person;
mod words;

use super::{CelError, CelRule, Truth};
use crate::ident::ClusterName;
use person::{Person, Slots, strangers};
use words::Words;

/// How far an expression reaches.
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

/// How far an expression reaches; `clusters` are those whose tokens are taken, where they are known.
pub(super) fn of(rule: &CelRule, clusters: Option<&[ClusterName]>) -> Result<Breadth, CelError> {
    let clusters = clusters.unwrap_or_default();
    let words = Words::of(rule);
    let allows = |person: &Person| rule.evaluate(&person.attributes()) == Truth::True;
    let (new, old): (Vec<_>, Vec<_>) = strangers(rule, clusters)
        .into_iter()
        .partition(Person::has_token_with_everything);
    match (left_out(&new, allows), left_out(&old, allows)) {
        (Few::None, Few::None) => {}
        (Few::None | Few::One, _) | (_, Few::None | Few::One) => return Ok(Breadth::Excludes),
        (Few::Several, Few::Several) if allows_by_pod_labels(rule, &words, &new, allows) => {
            return Ok(Breadth::PodLabels);
        }
        (Few::Several, Few::Several) => return Ok(Breadth::Selects),
    }
    let base = Person::base(rule, clusters);
    let excludes = |words: &[String]| {
        let slots = Slots::of(rule, words, clusters);
        let mut named = slots.each(base.as_ref()).take(MOST_NAMED);
        named.any(|person| !allows(&person))
    };
    if excludes(&words.written) || excludes(&words.written_and_around()) {
        Ok(Breadth::Excludes)
    } else {
        Err(CelError::EveryStranger)
    }
}

/// How many of the strangers an expression leaves out, whatever their cluster.
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
    rule: &CelRule,
    words: &Words,
    strangers: &[Person],
    allows: impl Fn(&Person) -> bool,
) -> bool {
    let slots = Slots::of_pod_labels(rule, &words.written_and_around());
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

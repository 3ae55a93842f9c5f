//! Whether a filter matches everybody, or nobody, whatever the values.
//!
//! A subject is only told from another by the tests that the filter makes. So it is enough to go through every way they can come out:
//! for each attribute, each value that the filter names, or another one, or none. That is a superset of what can be, so that no useful filter
//! is refused, and `(|(namespace=a)(!(namespace=a)))` is found as well as `(saname=*)`. What all values have in common, and what one
//! attribute says of another, only [trying](super::breadth) finds.

use std::collections::BTreeMap;

use super::{Attribute, FilterErrorKind, Node, Tested, Truth, substring};
use crate::ident::ClusterName;

/// How many cases are gone through at most. A filter with more is not looked at: those whom it is tried with tell whether it is too broad.
const MOST_CASES: usize = 20_000;

/// Refuses a filter whose tests tell nobody from anybody, however they come out. `clusters` are those whose tokens are taken, where they
/// are known.
pub(super) fn check(node: &Node, clusters: Option<&[ClusterName]>) -> Result<(), FilterErrorKind> {
    let choices = choices(node, clusters);
    let cases = choices.iter().try_fold(1_usize, |product, (_, choices)| {
        product
            .checked_mul(choices.len())
            .filter(|product| *product <= MOST_CASES)
    });
    if cases.is_none() {
        return Ok(());
    }
    let mut case = Case::default();
    let mut seen = Seen::default();
    each_case(&choices, &mut case, &mut |case| {
        seen.note(node.evaluate(case));
    });
    match (seen.matching, seen.other) {
        (_, false) => Err(FilterErrorKind::EverySubject),
        (false, true) => Err(FilterErrorKind::NoSubject),
        (true, true) => Ok(()),
    }
}

#[derive(Default)]
struct Seen {
    matching: bool,
    other: bool,
}

impl Seen {
    fn note(&mut self, truth: Truth) {
        match truth {
            Truth::True => self.matching = true,
            Truth::False | Truth::Undefined => self.other = true,
        }
    }
}

/// What the value of an attribute can be, as far as the filter can tell.
#[derive(Clone)]
enum Choice<'a> {
    Absent,
    /// None that the filter names; these of its substring tests hold.
    Another(Vec<&'a [String]>),
    Named(&'a str),
}

/// One way the filter's tests can come out.
#[derive(Default)]
struct Case<'a>(BTreeMap<Attribute, Choice<'a>>);

impl Tested for Case<'_> {
    fn equal(&self, attribute: Attribute, value: &str) -> Truth {
        if attribute.common_values().contains(&value) {
            return Truth::True;
        }
        match self.0.get(&attribute) {
            Some(Choice::Absent) | None => Truth::Undefined,
            Some(Choice::Another(_)) => Truth::False,
            Some(Choice::Named(name)) => Truth::from(*name == value),
        }
    }

    fn present(&self, attribute: Attribute) -> Truth {
        Truth::from(!matches!(
            self.0.get(&attribute),
            Some(Choice::Absent) | None
        ))
    }

    fn substring(&self, attribute: Attribute, pieces: &[String]) -> Truth {
        let common = attribute.common_values();
        if common.iter().any(|value| substring(value, pieces)) {
            return Truth::True;
        }
        let anything = pieces.iter().all(String::is_empty);
        match self.0.get(&attribute) {
            Some(Choice::Absent) | None => Truth::Undefined,
            Some(Choice::Another(holding)) => Truth::from(anything || holding.contains(&pieces)),
            Some(Choice::Named(name)) => Truth::from(substring(name, pieces)),
        }
    }
}

fn each_case<'a>(
    choices: &[(Attribute, Vec<Choice<'a>>)],
    case: &mut Case<'a>,
    look: &mut impl FnMut(&Case<'a>),
) {
    let Some(((attribute, first), rest)) = choices.split_first() else {
        look(case);
        return;
    };
    for choice in first {
        drop(case.0.insert(*attribute, choice.clone()));
        each_case(rest, case, look);
    }
}

/// For each attribute that the filter asks about, what it can be.
fn choices<'a>(
    node: &'a Node,
    clusters: Option<&'a [ClusterName]>,
) -> Vec<(Attribute, Vec<Choice<'a>>)> {
    let choices = |(attribute, tests): (Attribute, Tests<'a>)| {
        let known = clusters.filter(|known| attribute == Attribute::Cluster && !known.is_empty());
        let choices = match known {
            Some(clusters) => clusters
                .iter()
                .map(|name| Choice::Named(name.as_str()))
                .collect(),
            None => tests.choices(attribute),
        };
        (attribute, choices)
    };
    Tests::of(node).into_iter().map(choices).collect()
}

/// What a filter asks about one attribute.
#[derive(Default)]
pub(super) struct Tests<'a> {
    values: Vec<&'a str>,
    substrings: Vec<&'a [String]>,
}

impl<'a> Tests<'a> {
    /// What it asks about each.
    pub(super) fn of(node: &'a Node) -> BTreeMap<Attribute, Self> {
        let mut tests = BTreeMap::new();
        collect(node, &mut tests);
        tests
    }

    /// The parts of values.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &'a str> {
        let pieces = self.substrings.iter().flat_map(|pieces| pieces.iter());
        pieces.map(String::as_str)
    }

    fn choices(mut self, attribute: Attribute) -> Vec<Choice<'a>> {
        self.substrings.sort_unstable();
        self.substrings.dedup();
        self.values.sort_unstable();
        self.values.dedup();
        self.values
            .retain(|value| !attribute.common_values().contains(value));
        let mut choices: Vec<_> = self.values.into_iter().map(Choice::Named).collect();
        // Every subset of the substring tests, up to the number that can be gone through anyway.
        let mut subsets: Vec<Vec<&[String]>> = vec![Vec::new()];
        for pieces in self.substrings {
            if subsets.len() > MOST_CASES {
                break;
            }
            let with: Vec<_> = subsets
                .iter()
                .map(|subset| [subset.as_slice(), &[pieces]].concat())
                .collect();
            subsets.extend(with);
        }
        choices.extend(subsets.into_iter().map(Choice::Another));
        if !attribute.is_always_there() {
            choices.push(Choice::Absent);
        }
        choices
    }
}

fn collect<'a>(node: &'a Node, into: &mut BTreeMap<Attribute, Tests<'a>>) {
    match node {
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| collect(node, into)),
        Node::Equal(attribute, value) => into.entry(*attribute).or_default().values.push(value),
        Node::Not(node) => collect(node, into),
        Node::Present(attribute) => drop(into.entry(*attribute).or_default()),
        Node::Substring(attribute, pieces) => {
            into.entry(*attribute).or_default().substrings.push(pieces);
        }
    }
}

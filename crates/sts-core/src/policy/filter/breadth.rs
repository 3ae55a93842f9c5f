//! How far a filter reaches.

use super::cases::{self, Tests};
use super::{Attribute, Attributes, FilterErrorKind, Node, Truth};
use crate::ident::ClusterName;
use crate::policy::LabelKeys;
use crate::policy::breadth::{self, Asked, Breadth, Words};

/// Refuses a filter that tells nobody from anybody, and says how far another one reaches. `clusters` are those whose tokens are taken,
/// where they are known.
pub(super) fn of(
    node: &Node,
    clusters: Option<&[ClusterName]>,
) -> Result<Breadth, FilterErrorKind> {
    cases::check(node, clusters)?;
    let allows = |attributes: &Attributes| node.evaluate(attributes) == Truth::True;
    breadth::of(&asked(node), allows, clusters).ok_or(FilterErrorKind::EveryStranger)
}

fn asked(node: &Node) -> Asked {
    let tests = Tests::of(node);
    let mut named = Vec::new();
    let values = name(node, &mut named);
    let pieces = tests.values().flat_map(Tests::pieces);
    let texts = values.iter().map(|(_, value)| value.as_str());
    Asked {
        attributes: tests.keys().copied().collect(),
        labels: LabelKeys::default(),
        words: Words::of(texts.chain(pieces), false),
        named,
    }
}

/// The values that a part of a filter asks for. Adds them, and those of each part of it, to `named`.
fn name(node: &Node, named: &mut Vec<Vec<(Attribute, String)>>) -> Vec<(Attribute, String)> {
    let values: Vec<_> = match node {
        Node::And(nodes) | Node::Or(nodes) => {
            nodes.iter().flat_map(|node| name(node, named)).collect()
        }
        Node::Equal(attribute, value) => vec![(*attribute, value.clone())],
        // One level less: it names the same.
        Node::Not(node) => return name(node, named),
        Node::Present(_) => Vec::new(),
        Node::Substring(attribute, pieces) => vec![(*attribute, pieces.join("0"))],
    };
    named.push(values.clone());
    values
}

#[cfg(test)]
mod tests;

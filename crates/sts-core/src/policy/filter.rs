//! LDAP search filters (RFC 4515) over a subject's attributes, with three-valued logic ([`Truth`]).
//!
//! `(!(node-name=a))` about a subject without that attribute is Undefined, and Undefined allows nothing; with two values it would
//! be true for everybody who lacks it. Values are compared byte by byte: LDAP's default would let `Team-A` pass for `team-a`.

mod breadth;
mod cases;
mod parse;

use std::fmt;

use thiserror::Error;

use super::truth::Truth;
use super::{Attribute, Attributes, Breadth};
use crate::ident::ClusterName;

/// A parsed filter. Values are data for good: matching never reads them as syntax.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter(Node);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Node {
    And(Vec<Self>),
    Equal(Attribute, String),
    Not(Box<Self>),
    Or(Vec<Self>),
    Present(Attribute),
    /// The pieces between the `*`, in order; the first is anchored at the start and the last at the end.
    Substring(Attribute, Vec<String>),
}

/// A filter that cannot be used, and where.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("at character {}: {kind}", at.saturating_add(1))]
pub struct FilterError {
    /// The byte in the filter's text, from 0.
    pub at: usize,
    /// What is wrong there.
    pub kind: FilterErrorKind,
}

/// What is wrong with a filter.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FilterErrorKind {
    /// An escape that is not `\` and two hexadecimal digits of UTF-8.
    #[error("`\\` needs two hexadecimal digits that make UTF-8")]
    BadEscape,
    /// It matches strangers, and everybody whom it names.
    #[error(
        "this matches whomever it is tried with: say who is meant, or write `allowAll: true` if everybody is"
    )]
    EveryStranger,
    /// A filter that matches every subject.
    #[error("this matches every subject: write `allowAll: true` if that is meant")]
    EverySubject,
    /// Something else should stand here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A value that no subject can have: its negation would match everybody.
    #[error("no {attribute} can be or contain {value:?}{}", hint(*attribute))]
    ImpossibleValue {
        /// What was asked about.
        attribute: Attribute,
        /// What it cannot be.
        value: String,
    },
    /// A filter that matches no subject.
    #[error("this matches no subject at all")]
    NoSubject,
    /// Text behind the filter.
    #[error("text behind the filter")]
    Trailing,
    /// Longer than 4096 bytes or nested deeper than 16.
    #[error("filter is too long or too deep")]
    TooLarge,
    /// An attribute that no subject has.
    #[error("no subject has an attribute {name:?}: known are {}", Attribute::names().collect::<Vec<_>>().join(", "))]
    UnknownAttribute {
        /// The name in the filter.
        name: String,
    },
    /// `>=`, `<=`, `~=` or `:=`, which have no meaning for these attributes.
    #[error("only `=` can be used here")]
    UnsupportedMatch,
}

/// What an operator should know who meets a value that cannot be.
fn hint(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::Groups => {
            ": a ServiceAccount is in system:authenticated, system:serviceaccounts and system:serviceaccounts:<namespace>"
        }
        Attribute::Namespace
        | Attribute::NodeName
        | Attribute::PodName
        | Attribute::ServiceAccountName => {
            ": Kubernetes' names are lower case, and compared as they are written"
        }
        Attribute::CredentialId => ": it is JTI=<jti>",
        Attribute::Subject => ": it is system:serviceaccount:<namespace>:<name>",
        Attribute::Cluster
        | Attribute::NodeUid
        | Attribute::ObjectClass
        | Attribute::PodUid
        | Attribute::Uid => "",
    }
}

impl Filter {
    /// Parses a filter.
    ///
    /// # Errors
    /// [`FilterError`] names the place. A filter that would match everybody, or nobody, is an error too.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let node = parse::parse(text)?;
        breadth::of(&node, None).map_err(|kind| FilterError { at: 0, kind })?;
        Ok(Self(node))
    }

    /// The filter for one ServiceAccount by the name that the API server gives it; `None` if no ServiceAccount can have it.
    pub fn of_subject(username: &str) -> Option<Self> {
        let attribute = Attribute::Subject;
        let node = Node::Equal(attribute, username.to_owned());
        attribute.can_be(username).then_some(Self(node))
    }

    /// How far it reaches, now that it is known which clusters' tokens are taken.
    ///
    /// # Errors
    /// When the filter matches everybody of these clusters, or nobody.
    pub fn breadth_within(&self, clusters: &[ClusterName]) -> Result<Breadth, FilterErrorKind> {
        breadth::of(&self.0, Some(clusters))
    }

    /// What the filter says of the subject; only True allows.
    pub fn evaluate(&self, attributes: &Attributes) -> Truth {
        self.0.evaluate(attributes)
    }

    /// Whether it can match anybody of a cluster, as far as it can be told when nothing else is known.
    pub(super) fn can_hold_in(&self, cluster: &ClusterName) -> bool {
        self.0.evaluate(&SomebodyOf(cluster)) != Truth::False
    }

    /// Whether a `*` in it stands for anything: such a rule also allows what will be named so later.
    pub fn has_wildcard(&self) -> bool {
        self.0.any(&|node| matches!(node, Node::Substring(..)))
    }
}

/// Whoever can say whether the filter's tests hold: a subject, or one of the [cases] that can be.
trait Tested {
    fn equal(&self, attribute: Attribute, value: &str) -> Truth;
    fn present(&self, attribute: Attribute) -> Truth;
    fn substring(&self, attribute: Attribute, pieces: &[String]) -> Truth;
}

impl Tested for Attributes {
    fn equal(&self, attribute: Attribute, value: &str) -> Truth {
        any(self.values(attribute), |actual| actual == value)
    }

    fn present(&self, attribute: Attribute) -> Truth {
        match self.values(attribute).next() {
            Some(_) => Truth::True,
            None if self.is_supposed() => Truth::Undefined,
            None => Truth::False,
        }
    }

    fn substring(&self, attribute: Attribute, pieces: &[String]) -> Truth {
        any(self.values(attribute), |actual| substring(actual, pieces))
    }
}

/// Anybody of a cluster: a test of something else than the cluster is Undefined, since it holds of one and not of another.
struct SomebodyOf<'a>(&'a ClusterName);

impl Tested for SomebodyOf<'_> {
    fn equal(&self, attribute: Attribute, value: &str) -> Truth {
        self.cluster_is(attribute, |cluster| cluster == value)
    }

    fn present(&self, _: Attribute) -> Truth {
        Truth::Undefined
    }

    fn substring(&self, attribute: Attribute, pieces: &[String]) -> Truth {
        self.cluster_is(attribute, |cluster| substring(cluster, pieces))
    }
}

impl SomebodyOf<'_> {
    fn cluster_is(&self, attribute: Attribute, holds: impl Fn(&str) -> bool) -> Truth {
        if attribute == Attribute::Cluster {
            Truth::from(holds(self.0.as_str()))
        } else {
            Truth::Undefined
        }
    }
}

/// RFC 4511, section 4.5.1.7: a test holds if it holds of one value, and is Undefined if there is none.
fn any<'a>(values: impl Iterator<Item = &'a str>, matches: impl Fn(&str) -> bool) -> Truth {
    values.fold(Truth::Undefined, |truth, value| {
        if truth == Truth::True {
            truth
        } else {
            Truth::from(matches(value))
        }
    })
}

impl Node {
    fn evaluate(&self, subject: &impl Tested) -> Truth {
        match self {
            Self::And(nodes) => nodes
                .iter()
                .fold(Truth::True, |truth, node| truth.and(node.evaluate(subject))),
            Self::Equal(attribute, value) => subject.equal(*attribute, value),
            Self::Not(node) => node.evaluate(subject).negate(),
            Self::Or(nodes) => nodes
                .iter()
                .fold(Truth::False, |truth, node| truth.or(node.evaluate(subject))),
            Self::Present(attribute) => subject.present(*attribute),
            Self::Substring(attribute, pieces) => subject.substring(*attribute, pieces),
        }
    }

    fn any(&self, wanted: &impl Fn(&Self) -> bool) -> bool {
        let below = match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().any(|node| node.any(wanted)),
            Self::Not(node) => node.any(wanted),
            Self::Equal(..) | Self::Present(_) | Self::Substring(..) => false,
        };
        below || wanted(self)
    }
}

/// RFC 4511, section 4.5.1.7.2: the pieces stand in the value in order and do not overlap.
fn substring(actual: &str, pieces: &[String]) -> bool {
    let [first, middle @ .., last] = pieces else {
        return false;
    };
    let Some(mut rest) = actual.strip_prefix(first.as_str()) else {
        return false;
    };
    for piece in middle {
        match rest.split_once(piece.as_str()) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last.as_str())
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, operator: char, nodes: &[Self]| {
            write!(f, "({operator}")?;
            nodes.iter().try_for_each(|node| node.fmt(f))?;
            f.write_str(")")
        };
        match self {
            Self::And(nodes) => list(f, '&', nodes),
            Self::Equal(attribute, value) => write!(f, "({attribute}={})", escape(value)),
            Self::Not(node) => write!(f, "(!{node})"),
            Self::Or(nodes) => list(f, '|', nodes),
            Self::Present(attribute) => write!(f, "({attribute}=*)"),
            Self::Substring(attribute, pieces) => {
                let pieces: Vec<String> = pieces.iter().map(|piece| escape(piece)).collect();
                write!(f, "({attribute}={})", pieces.join("*"))
            }
        }
    }
}

fn escape(value: &str) -> String {
    let special = |c: char| matches!(c, '(' | ')' | '*' | '\\' | '\0');
    let escaped = |c: char| {
        if special(c) {
            format!("\\{:02x}", u32::from(c))
        } else {
            c.to_string()
        }
    };
    value.chars().map(escaped).collect()
}

#[cfg(test)]
#[path = "filter/tests.rs"]
mod tests;

//! LDAP search filters (RFC 4515) over a subject's attributes, with the three-valued logic of RFC 4511, section 4.5.1.7.
//!
//! `(!(node-name=a))` about a subject without that attribute is Undefined, and Undefined allows nothing; with two values it would
//! be true for everybody who lacks it. Values are compared byte by byte: LDAP's default would let `Team-A` pass for `team-a`.

use std::fmt;

use thiserror::Error;

use super::{Attribute, Attributes};

/// The longest filter, in bytes.
const LONGEST: usize = 4096;
/// The deepest nesting.
const DEEPEST: usize = 16;

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

/// True, false, or Undefined as RFC 4511 has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Truth {
    False,
    True,
    Undefined,
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
    /// A filter that matches every subject.
    #[error("this matches every subject: write `allowAll: true` if that is meant")]
    EverySubject,
    /// Something else should stand here.
    #[error("expected {0}")]
    Expected(&'static str),
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

impl Filter {
    /// Parses a filter.
    ///
    /// # Errors
    /// [`FilterError`] names the place. A filter that would match everybody is an error too.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > LONGEST {
            return Err(FilterError {
                at: LONGEST,
                kind: FilterErrorKind::TooLarge,
            });
        }
        let mut parser = Parser { text, at: 0 };
        let node = parser.filter(0)?;
        if parser.at < text.len() {
            return Err(parser.error(FilterErrorKind::Trailing));
        }
        if node.matches_everybody() {
            return Err(FilterError {
                at: 0,
                kind: FilterErrorKind::EverySubject,
            });
        }
        Ok(Self(node))
    }

    /// Whether the filter is True about the subject; Undefined is not.
    pub fn allows(&self, attributes: &Attributes) -> bool {
        self.0.evaluate(attributes) == Truth::True
    }
}

impl Node {
    fn evaluate(&self, attributes: &Attributes) -> Truth {
        match self {
            Self::And(nodes) => nodes.iter().fold(Truth::True, |truth, node| {
                truth.and(node.evaluate(attributes))
            }),
            Self::Equal(attribute, value) => {
                compare(attributes.value(*attribute), |actual| actual == value)
            }
            Self::Not(node) => node.evaluate(attributes).not(),
            Self::Or(nodes) => nodes.iter().fold(Truth::False, |truth, node| {
                truth.or(node.evaluate(attributes))
            }),
            Self::Present(attribute) => Truth::from(attributes.value(*attribute).is_some()),
            Self::Substring(attribute, pieces) => compare(attributes.value(*attribute), |actual| {
                substring(actual, pieces)
            }),
        }
    }

    /// A conservative look: what is always true by its form, whatever the values.
    fn matches_everybody(&self) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(Self::matches_everybody),
            Self::Equal(..) => false,
            Self::Not(node) => node.matches_nobody(),
            Self::Or(nodes) => nodes.iter().any(Self::matches_everybody),
            Self::Present(attribute) => attribute.is_always_there(),
            Self::Substring(attribute, pieces) => {
                attribute.is_always_there() && pieces.iter().all(String::is_empty)
            }
        }
    }

    fn matches_nobody(&self) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().any(Self::matches_nobody),
            Self::Not(node) => node.matches_everybody(),
            Self::Or(nodes) => nodes.iter().all(Self::matches_nobody),
            Self::Equal(..) | Self::Present(_) | Self::Substring(..) => false,
        }
    }
}

fn compare(actual: Option<&str>, matches: impl Fn(&str) -> bool) -> Truth {
    actual.map_or(Truth::Undefined, |actual| Truth::from(matches(actual)))
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

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl Truth {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, Self::True) => Self::True,
            (Self::Undefined, _) | (_, Self::Undefined) => Self::Undefined,
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::True, _) | (_, Self::True) => Self::True,
            (Self::False, Self::False) => Self::False,
            (Self::Undefined, _) | (_, Self::Undefined) => Self::Undefined,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::True => Self::False,
            Self::Undefined => Self::Undefined,
        }
    }
}

/// Recursive descent over RFC 4515, section 3, bounded in depth.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, kind: FilterErrorKind) -> FilterError {
        FilterError { at: self.at, kind }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, expected: &'static str) -> Result<(), FilterError> {
        if !self.rest().starts_with(expected) {
            return Err(self.error(FilterErrorKind::Expected(expected)));
        }
        self.at = self.at.saturating_add(expected.len());
        Ok(())
    }

    fn filter(&mut self, depth: usize) -> Result<Node, FilterError> {
        if depth > DEEPEST {
            return Err(self.error(FilterErrorKind::TooLarge));
        }
        self.take("(")?;
        let below = depth.saturating_add(1);
        let node = match self.rest().chars().next() {
            Some('!') => {
                self.take("!")?;
                Node::Not(Box::new(self.filter(below)?))
            }
            Some('&') => {
                self.take("&")?;
                Node::And(self.filters(below)?)
            }
            Some('|') => {
                self.take("|")?;
                Node::Or(self.filters(below)?)
            }
            Some(_) | None => self.item()?,
        };
        self.take(")")?;
        Ok(node)
    }

    /// One or more filters. RFC 4526 gives the empty lists a meaning, TRUE and FALSE; nobody writes them on purpose.
    fn filters(&mut self, depth: usize) -> Result<Vec<Node>, FilterError> {
        let mut nodes = vec![self.filter(depth)?];
        while self.rest().starts_with('(') {
            nodes.push(self.filter(depth)?);
        }
        Ok(nodes)
    }

    fn item(&mut self) -> Result<Node, FilterError> {
        let attribute = self.attribute()?;
        self.take("=")?;
        let pieces = self.pieces()?;
        match pieces.as_slice() {
            [only] if only.is_empty() => Err(self.error(FilterErrorKind::Expected("a value"))),
            [only] => Ok(Node::Equal(attribute, only.clone())),
            [first, last] if first.is_empty() && last.is_empty() => Ok(Node::Present(attribute)),
            _ => Ok(Node::Substring(attribute, pieces)),
        }
    }

    fn attribute(&mut self) -> Result<Attribute, FilterError> {
        let end = self
            .rest()
            .find(['=', '(', ')', '~', '<', '>', ':'])
            .unwrap_or_else(|| self.rest().len());
        let (name, behind) = self.rest().split_at_checked(end).unwrap_or_default();
        if name.is_empty() {
            return Err(self.error(FilterErrorKind::Expected("an attribute's name")));
        }
        let attribute = Attribute::parse(name).ok_or_else(|| {
            self.error(FilterErrorKind::UnknownAttribute {
                name: name.to_owned(),
            })
        })?;
        if behind.starts_with(['~', '<', '>', ':']) {
            return Err(FilterError {
                at: self.at.saturating_add(end),
                kind: FilterErrorKind::UnsupportedMatch,
            });
        }
        self.at = self.at.saturating_add(end);
        Ok(attribute)
    }

    /// The assertion value, split at each `*` and unescaped piece by piece.
    fn pieces(&mut self) -> Result<Vec<String>, FilterError> {
        let end = self
            .rest()
            .find(['(', ')'])
            .unwrap_or_else(|| self.rest().len());
        let start = self.at;
        let value = self
            .text
            .get(start..start.saturating_add(end))
            .unwrap_or_default();
        let pieces = value.split('*').map(unescape).collect::<Option<Vec<_>>>();
        let pieces = pieces.ok_or_else(|| self.error(FilterErrorKind::BadEscape))?;
        self.at = start.saturating_add(end);
        Ok(pieces)
    }
}

/// RFC 4515, section 3: `\` and two hexadecimal digits stand for one byte.
fn unescape(piece: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(piece.len());
    let mut rest = piece;
    while let Some((before, behind)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (digits, behind) = behind.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
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

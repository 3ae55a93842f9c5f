//! Text → filter: recursive descent over RFC 4515, section 3, bounded in depth.

use super::{Attribute, FilterError, FilterErrorKind, Node};

/// The longest filter, in bytes.
const LONGEST: usize = 4096;
/// The deepest nesting.
const DEEPEST: usize = 16;

pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
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
    Ok(node)
}

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
        let start = self.at;
        let pieces = self.pieces()?;
        let possible = match pieces.as_slice() {
            [only] if only.is_empty() => {
                return Err(self.error(FilterErrorKind::Expected("a value")));
            }
            [only] => attribute.can_be(only),
            pieces => pieces
                .iter()
                .all(|piece| piece.chars().all(|c| attribute.can_contain(c))),
        };
        if !possible {
            let value = pieces.join("*");
            return Err(FilterError {
                at: start,
                kind: FilterErrorKind::ImpossibleValue { attribute, value },
            });
        }
        Ok(match pieces.as_slice() {
            [only] => Node::Equal(attribute, only.clone()),
            [first, last] if first.is_empty() && last.is_empty() => Node::Present(attribute),
            _ => Node::Substring(attribute, pieces),
        })
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
        let at = self.at.saturating_add(end);
        if behind.starts_with(['~', '<', '>', ':']) {
            return Err(FilterError {
                at,
                kind: FilterErrorKind::UnsupportedMatch,
            });
        }
        self.at = at;
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

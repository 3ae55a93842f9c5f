//! Which subject may ask for which role.

use std::fmt;

use thiserror::Error;

use super::{Attribute, Attributes, Decision, LabelKeys, Rule, Verdict};
use crate::ident::Role;
use crate::template::{Part, Template, TemplateError, Variable};

/// A pattern of roles, and the subjects it is for.
#[derive(Clone, Debug)]
pub struct RoleBinding {
    /// The roles.
    pub pattern: RolePattern,
    /// Whom of those that the endpoint allows; `None` for all of them.
    pub rule: Option<Rule>,
}

impl RoleBinding {
    pub(super) fn labels(&self) -> Option<&LabelKeys> {
        self.rule.as_ref().and_then(Rule::labels)
    }

    fn verdict(&self, attributes: &Attributes, role: &Role) -> Verdict {
        if !self.pattern.matches(attributes, role) {
            return Verdict::Silent;
        }
        let rule = self.rule.as_ref();
        rule.map_or(Verdict::Allows, |rule| rule.verdict(attributes))
    }
}

/// The first binding that gives the subject the role.
pub(super) fn decide(bindings: &[RoleBinding], attributes: &Attributes, role: &Role) -> Decision {
    let verdicts = bindings.iter();
    let verdicts = verdicts.map(|binding| (binding.verdict(attributes, role), &binding.pattern));
    Decision::of(verdicts)
}

/// The roles that a binding is about: text, `*` for anything without `/` and `:`, and `${namespace}`, `${saname}` or `${cluster}` for the
/// subject's own.
///
/// Invariant: the subject's part of a role cannot be told in two ways, so that no name can be chosen to get another's role.
#[derive(Clone, Debug)]
pub struct RolePattern(Template);

/// Why a text is no pattern of roles.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RolePatternError {
    /// Two subjects could have the same role without the pattern meaning it.
    #[error(
        "nothing tells where {0} ends: put a character behind it that cannot be part of it, such as `/` or `_`"
    )]
    Ambiguous(Variable),
    /// It matches every role.
    #[error("this matches every role: leave `roles` out if that is meant")]
    EveryRole,
    /// A character that no role has.
    #[error("is empty, or has characters other than printable ASCII")]
    Text,
    /// It is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A variable that says nothing of whose the role is.
    #[error("{0} cannot be used here: known are ${{cluster}}, ${{namespace}} and ${{saname}}")]
    Unfit(Variable),
    /// A `*` in the same part as a variable: together they are ambiguous.
    #[error("`*` and {0} cannot stand in one part between slashes and colons")]
    WildcardBeside(Variable),
}

impl RolePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`RolePatternError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, RolePatternError> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if text.is_empty() || !printable {
            return Err(RolePatternError::Text);
        }
        let template = Template::parse(text)?;
        if let Some(unfit) = template.variables().find(|variable| !is_fit(*variable)) {
            return Err(RolePatternError::Unfit(unfit));
        }
        if let Some(variable) = template.ambiguous() {
            return Err(RolePatternError::Ambiguous(variable));
        }
        if let Some(variable) = wildcard_beside(template.parts()) {
            return Err(RolePatternError::WildcardBeside(variable));
        }
        let says_nothing = |c: char| matches!(c, '*' | '/' | ':');
        if template.variables().next().is_none() && text.chars().all(says_nothing) {
            return Err(RolePatternError::EveryRole);
        }
        Ok(Self(template))
    }

    /// Whether the pattern names the subject's namespace: then it binds without a rule, too. The ServiceAccount's name alone does not
    /// tell whose it is, since whoever has a namespace may give a ServiceAccount any name.
    pub fn names_the_subject(&self) -> bool {
        self.0.names(Attribute::Namespace)
    }

    /// Whether the pattern names the subject's cluster, without which namespaces of the same name in two clusters are alike.
    pub fn names_cluster(&self) -> bool {
        self.0.names(Attribute::Cluster)
    }

    /// Whether the role is one of these, for that subject.
    pub fn matches(&self, attributes: &Attributes, role: &Role) -> bool {
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.chars().map(Piece::of).collect::<Vec<_>>()),
            Part::Variable(variable) => {
                let value = variable.value(attributes, None)?;
                Some(value.chars().map(Piece::Exactly).collect())
            }
        };
        let pieces: Option<Vec<_>> = self.0.parts().iter().map(part).collect();
        pieces.is_some_and(|pieces| matches(&pieces.concat(), role.as_str()))
    }
}

fn is_fit(variable: Variable) -> bool {
    matches!(
        variable,
        Variable::Attribute(
            Attribute::Cluster | Attribute::Namespace | Attribute::ServiceAccountName
        )
    )
}

/// The first variable that shares a part between slashes and colons with a `*`.
fn wildcard_beside(parts: &[Part]) -> Option<Variable> {
    let (mut variable, mut wildcard) = (None, false);
    for part in parts {
        match part {
            Part::Variable(found) => variable = Some(*found),
            Part::Text(text) => {
                for character in text.chars() {
                    match character {
                        '/' | ':' => (variable, wildcard) = (None, false),
                        '*' => wildcard = true,
                        _ => {}
                    }
                    if wildcard && variable.is_some() {
                        return variable;
                    }
                }
            }
        }
        if wildcard && variable.is_some() {
            return variable;
        }
    }
    None
}

#[derive(Clone, Copy)]
enum Piece {
    Anything,
    Exactly(char),
}

impl Piece {
    fn of(character: char) -> Self {
        if character == '*' {
            Self::Anything
        } else {
            Self::Exactly(character)
        }
    }
}

/// Whether the pieces match the whole text. `reached[i]` says whether the pieces so far can end before the text's character `i`; so the
/// work is the product of both lengths, whatever they hold.
fn matches(pieces: &[Piece], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![true];
    reached.resize(text.len().saturating_add(1), false);
    for piece in pieces {
        let mut next = Vec::with_capacity(reached.len());
        let before = std::iter::once(None).chain(text.iter().copied().map(Some));
        let mut previous = false;
        for (here, character) in reached.iter().zip(before) {
            let now = match (piece, character) {
                (Piece::Exactly(_), None) => false,
                (Piece::Exactly(wanted), Some(found)) => previous && *wanted == found,
                (Piece::Anything, None) => *here,
                (Piece::Anything, Some(found)) => {
                    let through = next.last().copied().unwrap_or(false);
                    *here || through && !matches!(found, '/' | ':')
                }
            };
            next.push(now);
            previous = *here;
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

impl fmt::Display for RolePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
#[path = "role/tests.rs"]
mod tests;

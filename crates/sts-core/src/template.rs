//! Texts with variables: `${namespace}/${saname}`, as OpenUnison's `composite` has them.

use std::fmt;

use thiserror::Error;

use crate::ident::Role;
use crate::policy::{Attribute, Attributes};

/// A text with variables, parsed once. Values are put in as they are: nothing in them is read as a variable again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Variable(Variable),
}

/// What stands in `${…}`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Variable {
    /// An attribute of the subject, which has one value.
    Attribute(Attribute),
    /// `role`: the role that the token is for, at an endpoint that binds roles.
    Role,
}

/// A template that cannot be used, and where.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("at character {}: {kind}", at.saturating_add(1))]
pub struct TemplateError {
    /// The byte in the text, from 0.
    pub at: usize,
    /// What is wrong there.
    pub kind: TemplateErrorKind,
}

/// What is wrong with a template.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TemplateErrorKind {
    /// An attribute with several values.
    #[error("{0} has several values, which make no single text")]
    SeveralValues(Attribute),
    /// `${` without `}`.
    #[error("`${{` has no `}}`")]
    Unclosed,
    /// No attribute of that name.
    #[error("there is no ${{{name}}}: known are role, {}", Attribute::names().collect::<Vec<_>>().join(", "))]
    UnknownVariable {
        /// The name.
        name: String,
    },
}

impl Template {
    /// Parses a template. A `$` that no `{` follows is a text like any other.
    ///
    /// # Errors
    /// [`TemplateError`] names the place.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let (mut rest, mut at) = (text, 0_usize);
        while let Some((before, behind)) = rest.split_once("${") {
            at = at.saturating_add(before.len());
            let error = |kind| TemplateError { at, kind };
            let (name, after) = behind
                .split_once('}')
                .ok_or_else(|| error(TemplateErrorKind::Unclosed))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Variable(Variable::parse(name).map_err(error)?));
            at = at.saturating_add(name.len()).saturating_add("${}".len());
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// A template of these parts.
    pub(crate) fn of(parts: Vec<Part>) -> Self {
        Self(parts)
    }

    /// Whether the attribute stands in it.
    pub(crate) fn names(&self, attribute: Attribute) -> bool {
        self.variables()
            .any(|variable| variable == Variable::Attribute(attribute))
    }

    /// Whether the role stands in it.
    pub(crate) fn names_role(&self) -> bool {
        self.variables().any(|variable| variable == Variable::Role)
    }

    /// The text for a subject; `None` if it does not have all that the template names.
    pub fn render(&self, attributes: &Attributes, role: Option<&Role>) -> Option<String> {
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Variable(variable) => variable.value(attributes, role).map(str::to_owned),
        };
        self.0.iter().map(part).collect()
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The variables, in their order.
    pub fn variables(&self) -> impl Iterator<Item = Variable> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable(variable) => Some(*variable),
        })
    }

    /// The texts between the variables, in their order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Variable(_) => None,
        })
    }

    /// The longest text that can come out.
    pub(crate) fn longest(&self) -> usize {
        let part = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Variable(Variable::Attribute(attribute)) => attribute.longest(),
            Part::Variable(Variable::Role) => 2048,
        };
        self.0.iter().map(part).fold(0, usize::saturating_add)
    }

    /// The first variable whose end (or the next one's beginning) nothing marks, so that two subjects could come out alike:
    /// `${namespace}-${saname}` is `a-b-c` for `a-b`, `c` and for `a`, `b-c`.
    pub(crate) fn ambiguous(&self) -> Option<Variable> {
        let marked =
            |left: Variable, mark: Option<char>| mark.is_some_and(|c| !left.can_contain(c));
        let gaps = || self.gaps();
        // Read from the front, each value ends at the first character it cannot have; or the same from the back.
        let forwards = gaps().find(|(left, text, _)| !marked(*left, text.chars().next()));
        let backwards = gaps().find(|(_, text, right)| !marked(*right, text.chars().next_back()));
        backwards.and(forwards).map(|(left, _, _)| left)
    }

    /// Each variable, the text behind it, and the variable that follows.
    fn gaps(&self) -> impl Iterator<Item = (Variable, &str, Variable)> {
        self.0
            .windows(3)
            .chain(self.0.windows(2))
            .filter_map(|parts| match parts {
                [
                    Part::Variable(left),
                    Part::Text(text),
                    Part::Variable(right),
                ] => Some((*left, text.as_str(), *right)),
                [Part::Variable(left), Part::Variable(right)] => Some((*left, "", *right)),
                _ => None,
            })
    }
}

impl Variable {
    fn parse(name: &str) -> Result<Self, TemplateErrorKind> {
        match (name, Attribute::parse(name)) {
            ("role", _) => Ok(Self::Role),
            (_, Some(Attribute::Groups)) => {
                Err(TemplateErrorKind::SeveralValues(Attribute::Groups))
            }
            (_, Some(attribute)) => Ok(Self::Attribute(attribute)),
            (_, None) => Err(TemplateErrorKind::UnknownVariable {
                name: name.to_owned(),
            }),
        }
    }

    /// Its value for a subject.
    pub(crate) fn value<'a>(
        self,
        attributes: &'a Attributes,
        role: Option<&'a Role>,
    ) -> Option<&'a str> {
        match self {
            Self::Attribute(attribute) => attributes.values(attribute).next(),
            Self::Role => role.map(Role::as_str),
        }
    }

    /// Whether every subject has it.
    pub(crate) fn is_always_there(self) -> bool {
        match self {
            Self::Attribute(attribute) => attribute.is_always_there(),
            Self::Role => false,
        }
    }

    pub(crate) fn can_contain(self, character: char) -> bool {
        match self {
            Self::Attribute(attribute) => attribute.can_contain(character),
            Self::Role => true,
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(attribute) => write!(f, "${{{attribute}}}"),
            Self::Role => f.write_str("${role}"),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Variable(variable) => variable.fmt(f),
        })
    }
}

#[cfg(test)]
#[path = "template/tests.rs"]
pub(crate) mod tests;

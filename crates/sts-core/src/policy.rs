//! An endpoint's rules: who may have its token, and for which role.

mod attribute;
mod breadth;
mod cel;
mod filter;
mod labels;
mod role;
mod truth;

use std::fmt;

use thiserror::Error;

pub use attribute::{Attribute, Attributes};
pub use breadth::Breadth;
pub use cel::{CelError, CelRule};
pub use filter::{Filter, FilterError, FilterErrorKind};
pub use labels::{KnownLabels, LabelKeys, Labels};
pub use role::{RoleBinding, RolePattern, RolePatternError};
pub use truth::Truth;

use crate::ident::{ClusterName, Role};

/// One rule: what a subject must be.
#[derive(Clone, Debug)]
pub enum Rule {
    /// An expression of CEL.
    Cel(CelRule),
    /// An LDAP filter.
    Filter(Filter),
}

impl Rule {
    /// What the rule says of the subject; only True allows.
    pub fn evaluate(&self, attributes: &Attributes) -> Truth {
        match self {
            Self::Cel(rule) => rule.evaluate(attributes),
            Self::Filter(filter) => filter.evaluate(attributes),
        }
    }

    /// The labels that it asks for, which not every way of verification knows; `None` for a filter, which cannot ask for any.
    pub fn labels(&self) -> Option<&LabelKeys> {
        match self {
            Self::Cel(rule) => Some(rule.labels()),
            Self::Filter(_) => None,
        }
    }

    /// Whether it can allow anybody of that cluster; it does not where it asks for another one in each of its alternatives.
    pub fn can_hold_in(&self, cluster: &ClusterName) -> bool {
        match self {
            Self::Cel(rule) => rule.can_hold_in(cluster),
            Self::Filter(filter) => filter.can_hold_in(cluster),
        }
    }

    fn verdict(&self, attributes: &Attributes) -> Verdict {
        match self.evaluate(attributes) {
            Truth::True => Verdict::Allows,
            Truth::Undefined if self.is_open(attributes) => Verdict::Open,
            Truth::False | Truth::Undefined => Verdict::Silent,
        }
    }

    /// Whether it may ask for something that is not known of the subject.
    fn is_open(&self, attributes: &Attributes) -> bool {
        match self {
            Self::Cel(rule) => rule.is_open(attributes),
            Self::Filter(_) => attributes.is_supposed(),
        }
    }
}

/// What one rule comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Allows,
    /// It depends on what is not known of the subject.
    Open,
    /// It does not allow the subject, and others may.
    Silent,
}

impl From<Filter> for Rule {
    fn from(filter: Filter) -> Self {
        Self::Filter(filter)
    }
}

/// As it was written; this is what the audit line names.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cel(rule) => rule.fmt(f),
            Self::Filter(filter) => filter.fmt(f),
        }
    }
}

/// Whom rules allow.
#[derive(Clone, Debug)]
pub enum Subjects {
    /// Every subject: the operator has written `allowAll: true`.
    All,
    /// Subjects that one of the rules matches. None of them: nobody.
    AnyOf(Vec<Rule>),
}

impl Subjects {
    /// The rule that decides, or why none does.
    fn decide(&self, attributes: &Attributes) -> Decision {
        let rules = match self {
            Self::All => return Decision::Allowed("allowAll".to_owned()),
            Self::AnyOf(rules) => rules,
        };
        Decision::of(rules.iter().map(|rule| (rule.verdict(attributes), rule)))
    }

    fn rules(&self) -> &[Rule] {
        match self {
            Self::All => &[],
            Self::AnyOf(rules) => rules,
        }
    }
}

/// What rules say of a subject.
enum Decision {
    Allowed(String),
    /// It depends on what is not known of the subject.
    Open(String),
    Refused,
}

impl Decision {
    /// The first that allows decides; where none does, the first that might.
    fn of<R: fmt::Display>(verdicts: impl Iterator<Item = (Verdict, R)>) -> Self {
        let mut open = None;
        for (verdict, rule) in verdicts {
            match verdict {
                Verdict::Allows => return Self::Allowed(rule.to_string()),
                Verdict::Open => open = open.or_else(|| Some(rule.to_string())),
                Verdict::Silent => {}
            }
        }
        open.map_or(Self::Refused, Self::Open)
    }
}

/// Who may have an endpoint's token, and for which role.
#[derive(Clone, Debug)]
pub struct Policy {
    subjects: Subjects,
    roles: Vec<RoleBinding>,
    labels: LabelKeys,
}

/// What a policy allows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// The rule that allows the subject.
    pub rule: String,
    /// The role it may have, and the pattern that binds it; `None` at an endpoint that binds no roles.
    pub role: Option<BoundRole>,
}

/// A role that a subject asked for and may have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BoundRole {
    /// The role.
    pub role: Role,
    /// The pattern that binds it to the subject.
    pub pattern: String,
}

/// Why a policy does not allow a subject what it asks for.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// No rule of the endpoint matches the subject.
    #[error("no rule of the endpoint allows {username}")]
    NoRuleMatches {
        /// The ServiceAccount, as the API server names it: for the log and the audit line, not for the caller.
        username: String,
    },
    /// It depends on what is not known: of a subject that somebody asks about, or of the labels around one that asks itself.
    #[error("it depends on what is not known of {username}: {rule}")]
    Open {
        /// The ServiceAccount.
        username: String,
        /// The rule that depends on it.
        rule: String,
    },
    /// The endpoint gives tokens for a role only, and none was asked for.
    #[error("{username} asked for no role, and the endpoint binds roles")]
    RoleMissing {
        /// The ServiceAccount.
        username: String,
        /// The rule that allows it.
        rule: String,
    },
    /// No binding gives the subject that role.
    #[error("no role binding of the endpoint gives {username} the role {role}")]
    RoleNotBound {
        /// The ServiceAccount.
        username: String,
        /// The rule that allows it.
        rule: String,
        /// The role: printable ASCII, since it was parsed.
        role: Role,
    },
}

impl Refusal {
    /// The stable code for metrics, audit and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRuleMatches { .. } | Self::Open { .. } => "policy_denied",
            Self::RoleMissing { .. } => "role_missing",
            Self::RoleNotBound { .. } => "role_denied",
        }
    }

    /// The rule that allows the subject, which the role alone was refused.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::NoRuleMatches { .. } | Self::Open { .. } => None,
            Self::RoleMissing { rule, .. } | Self::RoleNotBound { rule, .. } => Some(rule),
        }
    }

    /// The role that was refused.
    pub fn role(&self) -> Option<&Role> {
        match self {
            Self::RoleNotBound { role, .. } => Some(role),
            Self::NoRuleMatches { .. } | Self::Open { .. } | Self::RoleMissing { .. } => None,
        }
    }
}

impl Policy {
    /// A policy that binds no roles: whom it allows, it allows any.
    pub fn new(subjects: Subjects) -> Self {
        let mut labels = LabelKeys::default();
        subjects
            .rules()
            .iter()
            .filter_map(Rule::labels)
            .for_each(|keys| labels.extend(keys));
        Self {
            subjects,
            roles: Vec::new(),
            labels,
        }
    }

    /// Everybody.
    pub fn allow_all() -> Self {
        Self::new(Subjects::All)
    }

    /// Whom one of the filters matches.
    pub fn any_of(filters: Vec<Filter>) -> Self {
        Self::new(Subjects::AnyOf(
            filters.into_iter().map(Rule::from).collect(),
        ))
    }

    /// The same, for the roles of these bindings only. None of them: for any role.
    #[must_use]
    pub fn with_roles(self, roles: Vec<RoleBinding>) -> Self {
        let Self {
            subjects,
            roles: _,
            mut labels,
        } = self;
        roles
            .iter()
            .filter_map(RoleBinding::labels)
            .for_each(|keys| labels.extend(keys));
        Self {
            subjects,
            roles,
            labels,
        }
    }

    /// Whether a subject must ask for a role.
    pub fn binds_roles(&self) -> bool {
        !self.roles.is_empty()
    }

    /// The labels that rules and bindings ask for.
    pub fn labels(&self) -> &LabelKeys {
        &self.labels
    }

    /// Decides; the first rule that matches is the one that is named.
    ///
    /// # Errors
    /// [`Refusal`] when no rule allows the subject, or no binding the role.
    pub fn decide(
        &self,
        attributes: &Attributes,
        role: Option<&Role>,
    ) -> Result<Allowance, Refusal> {
        let username = || {
            attributes
                .value(Attribute::Subject)
                .unwrap_or_default()
                .to_owned()
        };
        let open = |rule| Refusal::Open {
            username: username(),
            rule,
        };
        let rule = match self.subjects.decide(attributes) {
            Decision::Allowed(rule) => rule,
            Decision::Open(rule) => return Err(open(rule)),
            Decision::Refused => {
                return Err(Refusal::NoRuleMatches {
                    username: username(),
                });
            }
        };
        if self.roles.is_empty() {
            return Ok(Allowance { rule, role: None });
        }
        let Some(role) = role else {
            return Err(Refusal::RoleMissing {
                username: username(),
                rule,
            });
        };
        match role::decide(&self.roles, attributes, role) {
            Decision::Allowed(pattern) => {
                let role = role.clone();
                let role = Some(BoundRole { role, pattern });
                Ok(Allowance { rule, role })
            }
            Decision::Open(rule) => Err(open(rule)),
            Decision::Refused => Err(Refusal::RoleNotBound {
                username: username(),
                rule,
                role: role.clone(),
            }),
        }
    }
}

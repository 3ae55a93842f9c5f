//! Rules in the Common Expression Language (<https://cel.dev>), over the attributes that filters have, and labels where they are known.
//!
//! `subject.namespace`, `subject.pod_name` and so on; `pod_labels['tier']`, `'tier' in namespace_labels`. An attribute that a subject does not have is a key
//! that is not there: what depends on it is an error, which allows nothing, and neither does its negation. `a || error` is true if `a` is, and `a && error` false if `a` is: the three values of [`Truth`] again.

mod names;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Program, Value};
use thiserror::Error;

use super::breadth::{self, Breadth, Words};
use super::{Attribute, Attributes, KnownLabels, LabelKeys, Labels, Truth, labels};
use crate::ident::{ClusterName, LabelKey, NameError, Namespace, ServiceAccountName};
use names::Asked;

/// The longest expression, in bytes.
const LONGEST: usize = 4096;
/// The most brackets in one another. The parser's own bound, 96, is beyond what a thread's stack of 2 MiB holds.
const MOST_BRACKETS: usize = 6;
/// The most operators that hang on one another.
const MOST_OPERATORS: usize = 32;
/// The variable with the attributes.
const SUBJECT: &str = "subject";
/// The variable with the pod's labels.
const POD_LABELS: &str = "pod_labels";
/// The variable with the namespace's labels.
const NAMESPACE_LABELS: &str = "namespace_labels";

/// The language without what rules have no use for. Built once: it is the costly part.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression, compiled once.
#[derive(Clone)]
pub struct CelRule {
    source: String,
    program: Arc<Program>,
    asked: Arc<Asked>,
}

/// Why an expression is no rule.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CelError {
    /// It is true of strangers, and of everybody whom it names.
    #[error(
        "this is true of whomever it is tried with: say who is meant, or write `allowAll: true` if everybody is"
    )]
    EveryStranger,
    /// It does not ask anything of the subject.
    #[error("this is true of every subject: write `allowAll: true` if that is meant")]
    EverySubject,
    /// `all` and the like give one of our names to something else.
    #[error("{name} is the name of something here: write another one in all, exists or exists_one")]
    Hidden {
        /// The name.
        name: &'static str,
    },
    /// A label that no object can have: its negation would be true of everybody.
    #[error("no object has a label {key:?}: it {reason}")]
    LabelKey {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// All labels at once, or a key that is not written out.
    #[error(
        "labels can only be asked for by keys that are written out: {name}['tier'], {name}.tier, or 'tier' in {name}"
    )]
    LabelsAsAWhole {
        /// Of which object.
        name: &'static str,
    },
    /// One `all`, `exists` or the like in another: five of them over long lists would never end.
    #[error(
        "all, exists and exists_one cannot stand in one another: write several rules instead, each of which allows"
    )]
    Nested,
    /// It comes out as something other than true or false, or as an error whatever the subject.
    #[error("this is not true or false of a subject: {reason}")]
    NoTruth {
        /// What the library says.
        reason: String,
    },
    /// It is false of everybody.
    #[error("this matches no subject at all")]
    NoSubject,
    /// It cannot be parsed.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the library says.
        reason: String,
    },
    /// Longer than 4096 bytes, or deeper than six brackets.
    #[error(
        "expression is too long or too deep: write several rules instead, each of which allows"
    )]
    TooLarge,
    /// A function that the language does not have, or that no rule needs.
    #[error(
        "there is no function {name:?} here: known are contains, endsWith, has, matches, size, startsWith, all, exists, exists_one"
    )]
    UnknownFunction {
        /// Its name.
        name: String,
    },
    /// An attribute that no subject has.
    #[error("no subject has an attribute {name:?}: known are {}", identifiers().join(", "))]
    UnknownAttribute {
        /// Its name.
        name: String,
    },
    /// A variable that there is not.
    #[error(
        "there is no {name:?} here: known are {SUBJECT}.<attribute>, {NAMESPACE_LABELS} and {POD_LABELS}"
    )]
    UnknownVariable {
        /// Its name.
        name: String,
    },
}

fn identifiers() -> Vec<String> {
    Attribute::each().map(Attribute::identifier).collect()
}

impl CelRule {
    /// Compiles an expression and looks whether it can be a rule.
    ///
    /// # Errors
    /// [`CelError`] says what is wrong with it, and where.
    pub fn parse(source: &str) -> Result<Self, CelError> {
        if source.len() > LONGEST || is_too_deep(source) {
            return Err(CelError::TooLarge);
        }
        let program = LANGUAGE.compile(source).map_err(|errors| syntax(&errors))?;
        let rule = Self {
            source: source.split_whitespace().collect::<Vec<_>>().join(" "),
            asked: Arc::new(names::check(program.expression())?),
            program: Arc::new(program),
        };
        rule.check_truth()?;
        rule.breadth(None)?;
        Ok(rule)
    }

    /// What the rule says of the subject; an error is Undefined.
    pub fn evaluate(&self, attributes: &Attributes) -> Truth {
        if attributes.is_supposed() && self.asked.tested.iter().any(is_unknown_of(attributes)) {
            return Truth::Undefined;
        }
        self.truth(&context(attributes, &self.asked.labels))
            .unwrap_or(Truth::Undefined)
    }

    /// Whether it asks for something that is not known of the subject.
    pub fn is_open(&self, attributes: &Attributes) -> bool {
        let Asked {
            attributes: asked,
            labels,
            ..
        } = &*self.asked;
        let unknown = attributes.is_supposed() && asked.iter().any(is_unknown_of(attributes));
        unknown || !attributes.labels().has(labels)
    }

    /// The labels that it asks for.
    pub fn labels(&self) -> &LabelKeys {
        &self.asked.labels
    }

    /// How far it reaches, now that it is known which clusters' tokens are taken.
    ///
    /// # Errors
    /// When it tells nobody of these clusters from anybody.
    pub fn breadth_within(&self, clusters: &[ClusterName]) -> Result<Breadth, CelError> {
        self.breadth(Some(clusters))
    }

    fn breadth(&self, clusters: Option<&[ClusterName]>) -> Result<Breadth, CelError> {
        let texts = self.asked.texts.iter().map(String::as_str);
        let asked = breadth::Asked {
            attributes: self.asked.attributes.clone(),
            labels: self.asked.labels.clone(),
            words: Words::of(texts, self.asked.regular_expressions),
            named: Vec::new(),
        };
        let allows = |attributes: &Attributes| self.evaluate(attributes) == Truth::True;
        breadth::of(&asked, allows, clusters).ok_or(CelError::EveryStranger)
    }

    /// Whether it can be true of anybody of a cluster, as far as it can be told when nothing else is known.
    pub(super) fn can_hold_in(&self, cluster: &ClusterName) -> bool {
        // To `has`, what is not known is not there.
        if !self.asked.tested.is_empty() {
            return true;
        }
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        let known = [(
            Attribute::Cluster.identifier(),
            Value::from(cluster.as_str()),
        )];
        context.add_variable_from_value(SUBJECT, HashMap::from(known));
        self.truth(&context) != Ok(Truth::False)
    }

    /// Whether it looks at a part of a name only: such a rule also allows what will be named so later.
    pub fn has_wildcard(&self) -> bool {
        self.asked.wildcard
    }

    /// What comes out; an error of the language's says why nothing does.
    fn truth(&self, context: &Context<'_, '_>) -> Result<Truth, String> {
        match self.program.execute(context) {
            Ok(Value::Bool(truth)) => Ok(Truth::from(truth)),
            Ok(value) => Err(format!("it is {:?}", value.type_of())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// True of a subject of whom nothing is known is true of everybody, and so with false. And a subject that has everything must come
    /// out as true or false, unless it is a label that is missing.
    fn check_truth(&self) -> Result<(), CelError> {
        let nothing = Context::with_env(Arc::clone(&LANGUAGE));
        match self.truth(&nothing) {
            Ok(Truth::True) => return Err(CelError::EverySubject),
            Ok(Truth::False) => return Err(CelError::NoSubject),
            Ok(Truth::Undefined) | Err(_) => {}
        }
        let Some(sample) = sample(&self.asked.labels) else {
            return Ok(());
        };
        let context = context(&sample, &self.asked.labels);
        match self.program.execute(&context) {
            Ok(Value::Bool(_)) | Err(cel::ExecutionError::NoSuchKey(_)) => Ok(()),
            Ok(_) | Err(_) => {
                let reason = self.truth(&context).err().unwrap_or_default();
                Err(CelError::NoTruth { reason })
            }
        }
    }
}

/// Whether a subject that somebody asks about has no value for an attribute.
fn is_unknown_of(attributes: &Attributes) -> impl Fn(&Attribute) -> bool {
    move |attribute| attributes.values(*attribute).next().is_none()
}

/// A subject that has every attribute, and none of these labels.
fn sample(labels: &LabelKeys) -> Option<Attributes> {
    let attributes = Attributes::supposed(
        &ClusterName::parse("sample").ok()?,
        &Namespace::parse("sample").ok()?,
        &ServiceAccountName::parse("sample").ok()?,
    );
    let every = Attribute::each().filter(|attribute| attributes.value(*attribute).is_none());
    let attributes = every.fold(attributes.clone(), |attributes, attribute| {
        attributes.with(attribute, "sample")
    });
    Some(attributes.with_labels(KnownLabels::absent(labels)))
}

/// What is known of the subject, as the language's variables. Labels are there if all that are asked for are known: one that nobody has
/// looked for must not count as one that is not there.
fn context(attributes: &Attributes, labels: &LabelKeys) -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::clone(&LANGUAGE));
    let mut subject: HashMap<String, Value> = HashMap::new();
    for attribute in Attribute::each() {
        let mut values: Vec<&str> = attributes.values(attribute).collect();
        if attribute == Attribute::Groups {
            drop(subject.insert(attribute.identifier(), values.into()));
        } else if let Some(value) = values.pop() {
            drop(subject.insert(attribute.identifier(), value.into()));
        }
    }
    context.add_variable_from_value(SUBJECT, subject);
    let KnownLabels { pod, namespace } = attributes.labels();
    for (name, known, keys) in [
        (POD_LABELS, pod, &labels.pod),
        (NAMESPACE_LABELS, namespace, &labels.namespace),
    ] {
        if labels::knows(known, keys) {
            context.add_variable_from_value(name, present(known));
        }
    }
    context
}

fn present(labels: &Labels) -> HashMap<String, String> {
    let text = |(key, value): (&LabelKey, &Option<String>)| {
        Some((key.as_str().to_owned(), value.clone()?))
    };
    labels.iter().filter_map(text).collect()
}

/// Whether the parser, or what follows the tree, could go deeper than a stack is. Characters inside quotes are counted like others: what is
/// refused so is no loss.
fn is_too_deep(source: &str) -> bool {
    let mut open: Vec<usize> = vec![0];
    let mut in_operator = false;
    for character in source.chars() {
        let operator = matches!(
            character,
            '.' | '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '?' | '['
        );
        match character {
            '&' | '|' | ',' => open.last_mut().into_iter().for_each(|count| *count = 0),
            ')' | ']' | '}' => drop(open.pop().filter(|_| open.len() > 1)),
            _ => {}
        }
        if let Some(count) = open.last_mut()
            && operator
            && !in_operator
        {
            *count = count.saturating_add(1);
        }
        if matches!(character, '(' | '[' | '{') {
            open.push(0);
        }
        in_operator = operator;
        let operators = open.iter().copied().fold(0, usize::saturating_add);
        if open.len() > MOST_BRACKETS.saturating_add(1) || operators > MOST_OPERATORS {
            return true;
        }
    }
    false
}

fn syntax(errors: &cel::ParseErrors) -> CelError {
    let first = errors.errors.first();
    let (line, column) = first.map_or((0, 0), |error| error.pos);
    let message = first.map_or("cannot be parsed", |error| error.msg.as_str());
    CelError::Syntax {
        line: usize::try_from(line).unwrap_or_default(),
        column: usize::try_from(column).unwrap_or_default(),
        reason: message.lines().next().unwrap_or_default().to_owned(),
    }
}

impl fmt::Debug for CelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CelRule").field(&self.source).finish()
    }
}

impl fmt::Display for CelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
#[path = "cel/tests.rs"]
mod tests;

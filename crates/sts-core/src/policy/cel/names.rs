//! The names in an expression: the library would find them missing only when a token is asked for.

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};

use super::{CelError, NAMESPACE_LABELS, POD_LABELS, SUBJECT};
use crate::ident::LabelKey;
use crate::policy::{Attribute, LabelKeys};

/// What an expression may call: operators, and the functions that tests of texts need.
const FUNCTIONS: [&str; 26] = [
    "!_",
    "-_",
    "@in",
    "@not_strictly_false",
    "_!=_",
    "_%_",
    "_&&_",
    "_*_",
    "_+_",
    "_-_",
    "_/_",
    "_<=_",
    "_<_",
    "_==_",
    "_>=_",
    "_>_",
    "_?_:_",
    "_[_]",
    "_||_",
    "contains",
    "endsWith",
    "has",
    "int",
    "matches",
    "size",
    "startsWith",
];

/// Functions that look at a part of a text, or at something that many texts have.
const OF_PARTS: [&str; 9] = [
    "_<=_",
    "_<_",
    "_>=_",
    "_>_",
    "contains",
    "endsWith",
    "matches",
    "size",
    "startsWith",
];
/// Attributes whose values whoever creates a namespace, a ServiceAccount or a pod chooses.
const CHOSEN: [Attribute; 5] = [
    Attribute::Groups,
    Attribute::Namespace,
    Attribute::PodName,
    Attribute::ServiceAccountName,
    Attribute::Subject,
];

/// What an expression asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) attributes: Vec<Attribute>,
    /// Those that `has` asks for.
    pub(super) tested: Vec<Attribute>,
    pub(super) labels: LabelKeys,
    /// The texts in it.
    pub(super) texts: Vec<String>,
    /// Whether some of them may be regular expressions.
    pub(super) regular_expressions: bool,
    /// Whether it looks at parts of names.
    pub(super) wildcard: bool,
}

/// Refuses variables, attributes, labels and functions that are not there.
pub(super) fn check(expression: &IdedExpr) -> Result<Asked, CelError> {
    let mut names = Names::default();
    names.collect(expression);
    if names.nested {
        return Err(CelError::Nested);
    }
    // What is bound would hide whom the expression is about, from us as well.
    let ours = [SUBJECT, NAMESPACE_LABELS, POD_LABELS];
    if let Some(name) = ours.into_iter().find(|name| names.bound.contains(name)) {
        return Err(CelError::Hidden { name });
    }
    if let Some(name) = names.variables.difference(&names.bound).next() {
        return Err(match label_variable(name) {
            Some(name) => CelError::LabelsAsAWhole { name },
            None => CelError::UnknownVariable {
                name: (*name).to_owned(),
            },
        });
    }
    let mut functions = names.functions.iter();
    if let Some(name) = functions.find(|name| !FUNCTIONS.contains(name)) {
        let name = (*name).to_owned();
        return Err(CelError::UnknownFunction { name });
    }
    let (mut attributes, mut tested) = (Vec::new(), Vec::new());
    for (name, is_test) in names.attributes {
        let mut each = Attribute::each();
        let attribute = each.find(|attribute| attribute.identifier() == name);
        let attribute = attribute.ok_or_else(|| CelError::UnknownAttribute {
            name: name.to_owned(),
        })?;
        attributes.push(attribute);
        if is_test {
            tested.push(attribute);
        }
    }
    let mut labels = LabelKeys::default();
    for (variable, key) in names.labels {
        let parsed = LabelKey::parse(key).map_err(|reason| CelError::LabelKey {
            key: key.to_owned(),
            reason,
        })?;
        let keys = if variable == POD_LABELS {
            &mut labels.pod
        } else {
            &mut labels.namespace
        };
        keys.insert(parsed);
    }
    let of_parts = OF_PARTS.iter().any(|name| names.functions.contains(name));
    Ok(Asked {
        wildcard: of_parts && attributes.iter().any(|one| CHOSEN.contains(one)),
        attributes,
        tested,
        labels,
        regular_expressions: names.functions.contains("matches"),
        texts: names.texts.into_iter().map(str::to_owned).collect(),
    })
}

/// The variable with an object's labels, if it is one.
fn label_variable(name: &str) -> Option<&'static str> {
    [NAMESPACE_LABELS, POD_LABELS]
        .into_iter()
        .find(|variable| *variable == name)
}

/// The labels that an expression stands for as a whole.
fn labels_of(expression: &IdedExpr) -> Option<&'static str> {
    let Expr::Ident(name) = &expression.expr else {
        return None;
    };
    label_variable(name)
}

fn text_of(expression: &IdedExpr) -> Option<&str> {
    let Expr::Literal(LiteralValue::String(text)) = &expression.expr else {
        return None;
    };
    Some(text.inner())
}

/// The label that a call asks for: `pod_labels['tier']`, or `'tier' in pod_labels`.
fn label_of(call: &CallExpr) -> Option<(&'static str, &str)> {
    let (("_[_]", [labels, key]) | ("@in", [key, labels])) =
        (call.func_name.as_str(), call.args.as_slice())
    else {
        return None;
    };
    Some((labels_of(labels)?, text_of(key)?))
}

/// The names in an expression.
#[derive(Default)]
struct Names<'e> {
    variables: BTreeSet<&'e str>,
    functions: BTreeSet<&'e str>,
    /// What is asked of the subject, and whether it is asked for by `has`.
    attributes: BTreeSet<(&'e str, bool)>,
    /// The keys that are asked for, of which object's labels.
    labels: BTreeSet<(&'static str, &'e str)>,
    texts: BTreeSet<&'e str>,
    /// The variables that `all` and the like bind themselves.
    bound: BTreeSet<&'e str>,
    /// Whether what is looked at stands in one of these.
    in_loop: bool,
    /// Whether one of them stands in another.
    nested: bool,
}

impl<'e> Names<'e> {
    fn collect(&mut self, expression: &'e IdedExpr) {
        match &expression.expr {
            Expr::Unspecified => {}
            Expr::Literal(_) => self.texts.extend(text_of(expression)),
            Expr::Call(call) => {
                self.functions.insert(&call.func_name);
                if let Some(label) = label_of(call) {
                    self.labels.insert(label);
                    return;
                }
                call.target.iter().for_each(|target| self.collect(target));
                call.args.iter().for_each(|argument| self.collect(argument));
            }
            Expr::Comprehension(part) => {
                self.bound
                    .extend([part.iter_var.as_str(), part.accu_var.as_str()]);
                self.bound.extend(part.iter_var2.as_deref());
                self.nested |= self.in_loop;
                self.in_loop = true;
                for part in [
                    &part.iter_range,
                    &part.accu_init,
                    &part.loop_cond,
                    &part.loop_step,
                    &part.result,
                ] {
                    self.collect(part);
                }
                self.in_loop = false;
            }
            Expr::Ident(name) => drop(self.variables.insert(name)),
            Expr::List(list) => list.elements.iter().for_each(|part| self.collect(part)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Expr::Select(select) => {
                if matches!(&select.operand.expr, Expr::Ident(name) if name == SUBJECT) {
                    self.attributes.insert((&select.field, select.test));
                } else if let Some(labels) = labels_of(&select.operand) {
                    self.labels.insert((labels, &select.field));
                } else {
                    self.collect(&select.operand);
                }
            }
            Expr::Struct(part) => {
                self.functions.insert(&part.type_name);
                part.entries
                    .iter()
                    .for_each(|entry| self.entry(&entry.expr));
            }
        }
    }

    fn entry(&mut self, entry: &'e EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.collect(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.collect(&entry.key);
                self.collect(&entry.value);
            }
        }
    }
}

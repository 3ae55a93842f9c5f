//! The names in an expression: the library would find them missing only when a token is asked for.

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};

use super::{CelError, NAMESPACE_LABELS, POD_LABELS, SUBJECT};
use crate::policy::Attribute;

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

/// Refuses variables, attributes and functions that are not there. Returns the attributes that `has` asks for.
pub(super) fn check(expression: &IdedExpr) -> Result<Vec<Attribute>, CelError> {
    let mut names = Names::default();
    names.collect(expression);
    let mut variables = names.variables.difference(&names.bound);
    let known = |name: &&&str| **name == POD_LABELS || **name == NAMESPACE_LABELS;
    if let Some(name) = variables.find(|name| !known(name)) {
        let name = (*name).to_owned();
        return Err(CelError::UnknownVariable { name });
    }
    let mut functions = names.functions.iter();
    if let Some(name) = functions.find(|name| !FUNCTIONS.contains(name)) {
        let name = (*name).to_owned();
        return Err(CelError::UnknownFunction { name });
    }
    let mut tested = Vec::new();
    for (name, is_test) in names.attributes {
        let mut each = Attribute::each();
        let attribute = each.find(|attribute| attribute.identifier() == name);
        let attribute = attribute.ok_or_else(|| CelError::UnknownAttribute {
            name: name.to_owned(),
        })?;
        if is_test {
            tested.push(attribute);
        }
    }
    Ok(tested)
}

/// The names in an expression.
#[derive(Default)]
struct Names<'e> {
    variables: BTreeSet<&'e str>,
    functions: BTreeSet<&'e str>,
    /// What is asked of the subject, and whether it is asked for by `has`.
    attributes: BTreeSet<(&'e str, bool)>,
    /// The variables that `all` and the like bind themselves.
    bound: BTreeSet<&'e str>,
}

impl<'e> Names<'e> {
    fn collect(&mut self, expression: &'e IdedExpr) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Call(call) => {
                self.functions.insert(&call.func_name);
                call.target.iter().for_each(|target| self.collect(target));
                call.args.iter().for_each(|argument| self.collect(argument));
            }
            Expr::Comprehension(part) => {
                self.bound
                    .extend([part.iter_var.as_str(), part.accu_var.as_str()]);
                self.bound.extend(part.iter_var2.as_deref());
                for part in [
                    &part.iter_range,
                    &part.accu_init,
                    &part.loop_cond,
                    &part.loop_step,
                    &part.result,
                ] {
                    self.collect(part);
                }
            }
            Expr::Ident(name) => drop(self.variables.insert(name)),
            Expr::List(list) => list.elements.iter().for_each(|part| self.collect(part)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Expr::Select(select) => {
                if matches!(&select.operand.expr, Expr::Ident(name) if name == SUBJECT) {
                    self.attributes.insert((&select.field, select.test));
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

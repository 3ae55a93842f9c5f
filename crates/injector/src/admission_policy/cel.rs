//! JSON → CEL (<https://kubernetes.io/docs/reference/using-api/cel/>). What the webhook writes as JSON a policy writes as an expression;
//! where the webhook puts in something of the pod, the JSON has a hole with an expression in it.

use serde_json::{Value, json};

/// Stands in a text for what an expression gives; alone it stands for a value of any type.
pub(super) fn hole(expression: &str) -> String {
    format!("{OPEN}{expression}{CLOSE}")
}

/// Stands for an element of a list or a member of an object that is not always there; the expression gives an optional.
pub(super) fn maybe(expression: &str) -> Value {
    json!({MAYBE: expression})
}

/// The value, where the condition holds.
pub(super) fn when(condition: &str, value: &Value) -> Value {
    maybe(&format!(
        "({condition} ? optional.of({}) : optional.none())",
        literal(value)
    ))
}

/// A JSON value as an expression.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => concatenation(text),
        Value::Array(elements) => {
            let are_alike = elements.iter().all(Value::is_string)
                || elements.iter().all(Value::is_object)
                || elements.iter().all(Value::is_i64);
            let element = |value: &Value| match optional(value) {
                Some(expression) => format!("?{expression}"),
                None if are_alike => literal(value),
                None => format!("dyn({})", literal(value)),
            };
            list(elements.iter().map(element))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| match optional(value) {
                Some(expression) => format!("?{}: {expression}", quote(name)),
                // Kubernetes takes no map whose values are of different types.
                None => format!("{}: dyn({})", quote(name), literal(value)),
            };
            let members: Vec<String> = members.iter().map(member).collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A text with holes as an expression.
pub(super) fn concatenation(text: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(OPEN) {
        let (expression, after) = behind.split_once(CLOSE).unwrap_or((behind, ""));
        if !before.is_empty() {
            parts.push(quote(before));
        }
        parts.push(expression.to_owned());
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(quote(rest));
    }
    parts.join(" + ")
}

/// A list of expressions.
pub(super) fn list(elements: impl Iterator<Item = String>) -> String {
    format!("[{}]", elements.collect::<Vec<_>>().join(", "))
}

/// The list of those elements whose conditions hold; each is an expression.
pub(super) fn those(choices: impl IntoIterator<Item = (String, String)>) -> String {
    let choice = |(condition, element)| format!("{condition} ? [{element}] : []");
    let choices: Vec<String> = choices.into_iter().map(choice).collect();
    if choices.is_empty() {
        return "[]".to_owned();
    }
    format!("[\n  {}\n].flatten()", choices.join(",\n  "))
}

/// A condition that holds where one of these does.
pub(super) fn any(conditions: impl IntoIterator<Item = String>) -> String {
    joined(conditions, " || ", "false")
}

/// A condition that holds where each of these does.
pub(super) fn all(conditions: impl IntoIterator<Item = String>) -> String {
    joined(conditions, " && ", "true")
}

fn joined(conditions: impl IntoIterator<Item = String>, by: &str, none: &str) -> String {
    let conditions: Vec<String> = conditions.into_iter().collect();
    if conditions.is_empty() {
        return none.to_owned();
    }
    conditions.join(by)
}

/// A string literal.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other if other.is_control() => {
                quoted.extend(format!("\\u{:04x}", u32::from(other)).chars());
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn optional(value: &Value) -> Option<&str> {
    value.as_object()?.get(MAYBE)?.as_str()
}

/// Of Unicode's last plane for private use: in nothing that a user writes.
const OPEN: char = '\u{10fff0}';
const CLOSE: char = '\u{10fff1}';
const MAYBE: &str = "\u{10fff2}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_an_expression_of_one_type_each() {
        let value = json!({"a": 1, "b": [true, "x"], "c": ["x", "y"], "d": [], "e": null});
        assert_eq!(
            literal(&value),
            r#"{"a": dyn(1), "b": dyn([dyn(true), dyn("x")]), "c": dyn(["x", "y"]), "d": dyn([]), "e": dyn(null)}"#
        );
    }

    #[test]
    fn holes_are_filled_by_expressions() {
        let value = json!({
            "path": format!("/a/{}/b", hole("v")), "whole": hole("w"),
            "some": maybe("o"), "list": [{"x": 1}, when("c", &json!({"y": 2}))],
        });
        assert_eq!(
            literal(&value),
            r#"{"list": dyn([{"x": dyn(1)}, ?(c ? optional.of({"y": dyn(2)}) : optional.none())]), "path": dyn("/a/" + v + "/b"), ?"some": o, "whole": dyn(w)}"#
        );
    }

    #[test]
    fn nothing_gets_out_of_a_literal() {
        assert_eq!(quote("a\"b\\c\nd\u{1}é"), "\"a\\\"b\\\\c\\nd\\u0001é\"");
    }
}

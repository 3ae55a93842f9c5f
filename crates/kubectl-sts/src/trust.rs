//! `check-trust-policy`: what of a role's trust policy lets in more pods than it seems to.
//!
//! A statement for `sts:AssumeRoleWithWebIdentity` has to compare the token's `aud` and its `sub` with `StringEquals`
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-idp_oidc.html>). Whatever else is written does not make up for it.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::{self, Format};

pub(crate) fn run(file: &Path, format: Format) -> Result<ExitCode> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?
    };
    let policy: Value = serde_json::from_str(&text).context("read the policy: it is no JSON")?;
    let (looked_at, findings) = check(&policy);
    ensure!(
        looked_at > 0,
        "no statement of the policy allows sts:AssumeRoleWithWebIdentity: is it the role's trust policy?"
    );
    match format {
        Format::Json => output::json(&json!({"findings": findings}))?,
        Format::Table if findings.is_empty() => output::line("the policy names whom it trusts")?,
        Format::Table => {
            for finding in &findings {
                output::line(&finding.to_string())?;
            }
        }
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Something to mend.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// The statement, counted from 1.
    statement: usize,
    problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "statement {}: {}", self.statement, self.problem)
    }
}

/// How many statements are about web identities, and what is wrong with them.
fn check(policy: &Value) -> (usize, Vec<Finding>) {
    let statements = several(policy.get("Statement"));
    let relevant: Vec<(usize, &Value)> = (1..)
        .zip(statements)
        .filter(|(_, one)| allows(one))
        .collect();
    let findings = relevant.iter().flat_map(|(statement, one)| {
        let problems = problems(one).into_iter();
        problems.map(move |problem| Finding {
            statement: *statement,
            problem,
        })
    });
    (relevant.len(), findings.collect())
}

fn allows(statement: &Value) -> bool {
    const ACTION: &str = "sts:AssumeRoleWithWebIdentity";
    let is_it = |action: &Value| {
        let action = action.as_str().unwrap_or_default();
        // The start of a name that ends in a star matches as well.
        action.eq_ignore_ascii_case(ACTION)
            || action.strip_suffix('*').is_some_and(|start| {
                let same = ACTION.get(..start.len());
                same.is_some_and(|same| same.eq_ignore_ascii_case(start))
            })
    };
    // `NotAction` names what is not allowed.
    let named = several(statement.get("Action")).into_iter().any(is_it)
        || statement.get("NotAction").is_some();
    statement.get("Effect") == Some(&json!("Allow")) && named
}

fn problems(statement: &Value) -> Vec<String> {
    let principal = statement.get("Principal");
    let federated = several(principal.and_then(|principal| principal.get("Federated")));
    let providers: Vec<&str> = federated.into_iter().filter_map(Value::as_str).collect();
    if providers.is_empty() {
        return vec!["names no identity provider: write its ARN as Principal.Federated".to_owned()];
    }
    let mut problems = Vec::new();
    for provider in providers {
        match provider.split_once(":oidc-provider/") {
            Some((_, issuer)) if !issuer.contains('*') => {
                for claim in ["aud", "sub"] {
                    problems.extend(problem_of(statement, &format!("{issuer}:{claim}")));
                }
            }
            _ => problems.push(format!(
                "{provider} is no identity provider of one issuer: write arn:aws:iam::<12 digits>:oidc-provider/<issuer>"
            )),
        }
    }
    problems
}

/// What is wrong with how a claim is compared; nothing if one `StringEquals` says exactly what it has to be.
fn problem_of(statement: &Value, key: &str) -> Option<String> {
    let mut weaker = None;
    let operators = statement.get("Condition").and_then(Value::as_object);
    for (operator, comparisons) in operators.into_iter().flatten() {
        let comparisons = comparisons.as_object().into_iter().flatten();
        let values = comparisons.filter(|(name, _)| name.eq_ignore_ascii_case(key));
        for (_, value) in values {
            match weakness(operator, &several(Some(value))) {
                None => return None,
                Some(reason) => weaker = Some(reason),
            }
        }
    }
    Some(match weaker {
        Some(reason) => format!("{key} is compared, but {reason}"),
        None => format!(
            "{key} is not compared: any token of the issuer is taken, whatever it says there; add it under StringEquals"
        ),
    })
}

/// Why a comparison does not say exactly what a claim has to be.
fn weakness(operator: &str, values: &[&Value]) -> Option<String> {
    let lower = operator.to_ascii_lowercase();
    let has_pattern = |value: &&Value| value.as_str().is_some_and(|text| text.contains(['*', '?']));
    let pattern = values.iter().any(has_pattern);
    match lower.as_str() {
        "stringequals" | "foranyvalue:stringequals" if pattern => Some(format!(
            "a star or a question mark under {operator} is nothing but that character: no pod has such a name"
        )),
        "stringequals" | "foranyvalue:stringequals" => None,
        _ if lower.starts_with("forallvalues:") || lower.ends_with("ifexists") => Some(format!(
            "{operator} is also true of a token without the claim: write StringEquals"
        )),
        _ if lower.ends_with("stringlike") && pattern => Some(format!(
            "{operator} takes every name that fits the pattern, those that somebody else may choose too: write StringEquals, with a list of names if need be"
        )),
        _ => Some(format!(
            "{operator} does not say what it has to be: write StringEquals"
        )),
    }
}

/// IAM takes one where it takes several.
fn several(value: Option<&Value>) -> Vec<&Value> {
    match value {
        None => Vec::new(),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(one) => vec![one],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "issuer.example.com/k8s";
    const SUBJECT: &str = "system:serviceaccount:apps:web";

    #[track_caller]
    fn problems_of(condition: &Value) -> Vec<String> {
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {"Federated": format!("arn:aws:iam::123456789012:oidc-provider/{ISSUER}")},
            "Condition": condition,
        }]});
        let (looked_at, findings) = check(&policy);
        assert_eq!(looked_at, 1);
        findings.iter().map(ToString::to_string).collect()
    }

    fn key(claim: &str) -> String {
        format!("{ISSUER}:{claim}")
    }

    #[track_caller]
    fn has_one(condition: &Value, words: &str) {
        let problems = problems_of(condition);
        assert!(
            matches!(problems.as_slice(), [one] if one.contains(words)),
            "{words} is not the one of {problems:?}"
        );
    }

    #[test]
    fn a_policy_that_names_audience_and_subject_is_good() {
        for condition in [
            json!({"StringEquals": {key("aud"): "sts.amazonaws.com", key("sub"): SUBJECT}}),
            json!({"StringEquals": {key("aud"): "sts.amazonaws.com"}, "ForAnyValue:StringEquals": {key("sub"): [SUBJECT, "other"]}}),
            json!({"StringEquals": {key("AUD"): "x", key("sub"): [SUBJECT]}, "StringLike": {key("sub"): "system:*"}}),
        ] {
            assert_eq!(problems_of(&condition), Vec::<String>::new());
        }
    }

    #[test]
    fn doc_001_a_subject_that_is_matched_by_pattern_is_found() {
        let aud = json!({key("aud"): "sts.amazonaws.com"});
        for (operator, subject, words) in [
            (
                "StringLike",
                "system:serviceaccount:*:web",
                "every name that fits",
            ),
            (
                "ForAnyValue:StringLike",
                "system:serviceaccount:apps:*",
                "every name that fits",
            ),
            ("StringLike", SUBJECT, "does not say what it has to be"),
            ("ForAllValues:StringEquals", SUBJECT, "without the claim"),
            ("ForAllValues:StringLike", "*", "without the claim"),
            ("StringEqualsIfExists", SUBJECT, "without the claim"),
            (
                "StringNotEquals",
                "system:serviceaccount:apps:other",
                "does not say",
            ),
        ] {
            has_one(
                &json!({"StringEquals": aud, operator: {key("sub"): subject}}),
                words,
            );
        }
        let both =
            json!({key("aud"): "sts.amazonaws.com", key("sub"): "system:serviceaccount:apps:*"});
        has_one(&json!({"StringEquals": both}), "nothing but that character");
    }

    #[test]
    fn doc_002_a_policy_without_the_subject_or_the_audience_is_found() {
        has_one(
            &json!({"StringEquals": {key("aud"): "x"}}),
            ":sub is not compared",
        );
        has_one(
            &json!({"StringEquals": {key("sub"): SUBJECT}}),
            ":aud is not compared",
        );
        // Of another issuer than the one that is trusted.
        let other = json!({"StringEquals": {key("aud"): "x", "other.example.com:sub": SUBJECT}});
        has_one(&other, ":sub is not compared");
        assert_eq!(problems_of(&json!({})).len(), 2);
    }

    #[test]
    fn statements_are_found_however_they_are_written() {
        let statement = |action: Value, principal: Value| json!({"Statement": {"Effect": "Allow", "Action": action, "Principal": principal}});
        let anybody = json!("*");
        for action in [
            json!("sts:*"),
            json!("*"),
            json!(["sts:TagSession", "sts:assumerolewithWebIdentity"]),
        ] {
            let (looked_at, findings) = check(&statement(action, anybody.clone()));
            assert_eq!((looked_at, findings.len()), (1, 1));
        }
        let (looked_at, _) = check(&statement(json!("sts:AssumeRole"), anybody.clone()));
        assert_eq!(looked_at, 0);
        let every = json!({"Federated": "arn:aws:iam::123456789012:oidc-provider/*"});
        let (_, findings) = check(&statement(json!("sts:AssumeRoleWithWebIdentity"), every));
        assert_eq!(findings.len(), 1);
    }
}

//! Claims that an operator adds: OpenUnison's `additionalAttributes`.

use serde_json::Value;
use thiserror::Error;

use crate::ident::Role;
use crate::policy::{Attribute, Attributes};
use crate::template::Template;

/// A claim that an operator adds.
#[derive(Clone, Debug)]
pub struct AdditionalClaim {
    name: ClaimName,
    source: ClaimSource,
}

/// Where its value is from.
#[derive(Clone, Debug)]
pub enum ClaimSource {
    /// OpenUnison's `user`: an attribute's value, or a list where it has several. Left out for a subject that does not have it.
    Attribute(Attribute),
    /// OpenUnison's `static`.
    Text(String),
    /// OpenUnison's `composite`. Left out for a subject that does not have all of it.
    Template(Template),
}

/// The name of a claim that we do not write ourselves.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ClaimName(String);

/// Why a claim cannot have that name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ClaimNameError {
    /// AWS acts on it: there are settings of its own for that.
    #[error("is a claim that AWS acts on: write it under `aws:`")]
    Aws,
    /// It decides what the token is good for.
    #[error("is a claim that relying parties decide by, or that tokens have already")]
    Reserved,
    /// It is empty, long, or has characters that are no printable ASCII.
    #[error("is no claim's name: 1 to 128 printable ASCII characters without spaces")]
    Shape,
}

/// Claims that are ours (RFC 7519, section 4.1; Kubernetes; OpenUnison), or that relying parties decide by (OpenID Connect Core 1.0,
/// section 2; RFC 8693, section 4; RFC 7800). AWS takes `azp` for the audience where it is there.
const RESERVED: [&str; 24] = [
    "act",
    "acr",
    "amr",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "c_hash",
    "client_id",
    "cluster",
    "cnf",
    "exp",
    "iat",
    "iss",
    "jti",
    "kubernetes.io",
    "may_act",
    "namespace",
    "nbf",
    "nonce",
    "oaud",
    "saname",
    "scope",
    "sub",
];

impl ClaimName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`ClaimNameError`] for a name that means something already.
    pub fn parse(text: &str) -> Result<Self, ClaimNameError> {
        let shape = !text.is_empty()
            && text.len() <= 128
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !shape {
            Err(ClaimNameError::Shape)
        } else if RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
            // In any case: there are readers of JSON to whom `Sub` is `sub`, and the last of them counts.
            Err(ClaimNameError::Reserved)
        } else if text.starts_with("https://aws.amazon.com/") {
            Err(ClaimNameError::Aws)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AdditionalClaim {
    /// A claim of that name.
    pub fn new(name: ClaimName, source: ClaimSource) -> Self {
        Self { name, source }
    }

    /// Its name.
    pub fn name(&self) -> &ClaimName {
        &self.name
    }

    /// Whether it names the role: then the endpoint must bind roles.
    pub fn names_role(&self) -> bool {
        match &self.source {
            ClaimSource::Attribute(_) | ClaimSource::Text(_) => false,
            ClaimSource::Template(template) => template.names_role(),
        }
    }

    /// Its value for a subject.
    pub(super) fn value(&self, attributes: &Attributes, role: Option<&Role>) -> Option<Value> {
        match &self.source {
            ClaimSource::Attribute(attribute) => {
                let mut values: Vec<Value> =
                    attributes.values(*attribute).map(Value::from).collect();
                match values.len() {
                    0 => None,
                    1 => values.pop(),
                    _ => Some(Value::Array(values)),
                }
            }
            ClaimSource::Text(text) => Some(text.as_str().into()),
            ClaimSource::Template(template) => template.render(attributes, role).map(Value::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iss_007_no_additional_claim_changes_what_a_token_is_good_for() {
        for name in RESERVED {
            for name in [name.to_owned(), name.to_ascii_uppercase()] {
                let refused = ClaimName::parse(&name);
                assert_eq!(refused, Err(ClaimNameError::Reserved), "{name}");
            }
        }
        for name in [
            "https://aws.amazon.com/tags",
            "https://aws.amazon.com/roles",
        ] {
            assert_eq!(ClaimName::parse(name), Err(ClaimNameError::Aws), "{name}");
        }
        for name in ["", "a b", "a\n", "\u{e4}"] {
            assert_eq!(
                ClaimName::parse(name),
                Err(ClaimNameError::Shape),
                "{name:?}"
            );
        }
        assert!(ClaimName::parse("https://example.com/team").is_ok());
    }
}

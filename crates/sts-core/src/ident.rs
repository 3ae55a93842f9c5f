//! Names that were checked once, at the edge: inside, a value of these types is well-formed.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Why a name was refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NameError {
    /// The name is empty.
    #[error("is empty")]
    Empty,
    /// The name is longer than its kind allows.
    #[error("is longer than {limit} characters")]
    TooLong {
        /// The limit, in bytes; all our names are ASCII or compared byte by byte.
        limit: usize,
    },
    /// The name does not have the shape of its kind.
    #[error("is not {expected}")]
    Shape {
        /// What would have been right, as a noun phrase.
        expected: &'static str,
    },
}

/// Declares a text newtype with one door, `parse`.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            /// Parses the name.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
    };
}

name!(
    /// A Kubernetes namespace: a DNS-1123 label.
    Namespace,
    |text| dns_label(text)
);
name!(
    /// A ServiceAccount's name: a DNS-1123 subdomain, so dots are allowed.
    ServiceAccountName,
    |text| dns_subdomain(text)
);
name!(
    /// A pod's name: a DNS-1123 subdomain.
    PodName,
    |text| dns_subdomain(text)
);
name!(
    /// The `metadata.uid` of a Kubernetes object: a UUID in its canonical text form.
    Uid,
    |text| uuid(text)
);
name!(
    /// An endpoint's name in the configuration: a DNS-1123 label, since objects and files are named after it.
    EndpointName,
    |text| dns_label(text)
);
name!(
    /// A cluster's name in the configuration: what the `cluster` claim and OpenUnison's `sub` carry. No `:`, which separates the parts of a `sub`.
    ClusterName,
    |text| cluster_name(text)
);
name!(
    /// An issuer identifier, compared byte by byte (OpenID Connect Core 1.0, section 2: no normalisation).
    Issuer,
    |text| printable(text, 255)
);
name!(
    /// One audience, compared byte by byte (RFC 7519, section 4.1.3).
    Audience,
    |text| printable(text, 255)
);
name!(
    /// A JWK's `kid`: an opaque text of at most 128 bytes; never a path, an address or a query.
    KeyId,
    |text| printable(text, 128)
);
name!(
    /// What a pod asks to become with its token: the ARN of an IAM role, or another service's name for such a thing.
    Role,
    |text| role(text)
);
name!(
    /// A token's `jti` (RFC 7519, section 4.1.7).
    TokenId,
    |text| printable(text, 255)
);

name!(
    /// The key of a Kubernetes label: `tier`, `app.kubernetes.io/name`.
    LabelKey,
    |text| label_key(text)
);

fn bounded(text: &str, limit: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > limit {
        return Err(NameError::TooLong { limit });
    }
    Ok(())
}

fn printable(text: &str, limit: usize) -> Result<(), NameError> {
    bounded(text, limit)?;
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(NameError::Shape {
            expected: "printable ASCII without spaces",
        })
    }
}

/// At most what fits into a pod's annotation, where the role comes from. A `*` has a meaning in patterns, and none in a role.
fn role(text: &str) -> Result<(), NameError> {
    bounded(text, 2048)?;
    let inner = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'*';
    if text.bytes().all(inner) && text.trim() == text {
        Ok(())
    } else {
        Err(NameError::Shape {
            expected: "printable ASCII without `*` and without spaces around it",
        })
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn dns_label(text: &str) -> Result<(), NameError> {
    bounded(text, 63)?;
    if is_label(text) {
        Ok(())
    } else {
        Err(NameError::Shape {
            expected: "a DNS label (lower-case letters, digits and `-`)",
        })
    }
}

fn dns_subdomain(text: &str) -> Result<(), NameError> {
    bounded(text, 253)?;
    // Kubernetes bounds the whole at 253 and not each part at 63 (`IsDNS1123Subdomain`).
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(inner)
    };
    if text.split('.').all(part) {
        Ok(())
    } else {
        Err(NameError::Shape {
            expected: "a DNS subdomain (lower-case letters, digits, `-` and `.`)",
        })
    }
}

fn cluster_name(text: &str) -> Result<(), NameError> {
    bounded(text, 63)?;
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.bytes().all(inner) {
        Ok(())
    } else {
        Err(NameError::Shape {
            expected: "letters, digits, `-`, `_` and `.`",
        })
    }
}

/// Kubernetes: `IsQualifiedName`, a name of 63 characters, and a DNS subdomain before it.
fn label_key(text: &str) -> Result<(), NameError> {
    bounded(text, 253 + 1 + 63)?;
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            dns_subdomain(prefix)?;
            name
        }
        None => text,
    };
    bounded(name, 63)?;
    let outer = |byte: &u8| byte.is_ascii_alphanumeric();
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = name.as_bytes();
    if bytes.first().is_some_and(outer)
        && bytes.last().is_some_and(outer)
        && name.bytes().all(inner)
    {
        Ok(())
    } else {
        Err(NameError::Shape {
            expected: "a label's key (letters, digits, `-`, `_` and `.`, with `<domain>/` before it or not)",
        })
    }
}

fn uuid(text: &str) -> Result<(), NameError> {
    bounded(text, 36)?;
    let shape = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'),
    };
    if text.len() == 36 && text.bytes().enumerate().all(shape) {
        Ok(())
    } else {
        Err(NameError::Shape { expected: "a UUID" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_account_names_may_have_dots_and_253_characters() {
        assert!(ServiceAccountName::parse("my.app.v1").is_ok());
        let long = format!("{}.{}", "a".repeat(126), "b".repeat(126));
        assert!(ServiceAccountName::parse(&long).is_ok());
        assert_eq!(
            ServiceAccountName::parse(&format!("{long}c")),
            Err(NameError::TooLong { limit: 253 })
        );
    }

    #[test]
    fn namespaces_are_labels() {
        let wrong = [
            "*",
            "(",
            ")",
            "\\",
            "a\0",
            "a/b",
            "..",
            "Team",
            "a\u{3002}b",
            "a.b",
            "-a",
            "a-",
            "",
        ];
        for text in wrong {
            assert!(Namespace::parse(text).is_err(), "{text:?}");
        }
        assert!(Namespace::parse(&"a".repeat(63)).is_ok());
        assert!(Namespace::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn cluster_names_cannot_hold_the_separator_of_a_subject() {
        assert!(ClusterName::parse("a:b").is_err());
        assert!(ClusterName::parse("prod-1.eu_west").is_ok());
    }

    #[test]
    fn label_keys_are_those_that_kubernetes_takes() {
        for text in ["tier", "Tier_2.x", "app.kubernetes.io/name", "a/b"] {
            assert!(LabelKey::parse(text).is_ok(), "{text:?}");
        }
        let long = "a".repeat(64);
        let wrong = [
            "", "/", "a/", "/a", "a/b/c", "-a", "a-", "a b", "Domain/a", "a*", &long,
        ];
        for text in wrong {
            assert!(LabelKey::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn uids_are_canonical_uuids() {
        assert!(Uid::parse("8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b").is_ok());
        assert!(Uid::parse("8B9E4F2A-0C1D-4E5F-8A9B-0C1D2E3F4A5B").is_err());
        assert!(Uid::parse("not-a-uid").is_err());
    }
}

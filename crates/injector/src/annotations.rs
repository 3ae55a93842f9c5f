//! Values that users write into annotations, parsed before they reach a container's environment.
//!
//! The kubelet expands `$(NAME)` in `env.value`
//! (<https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>):
//! no value with a `$` is ever accepted, so an annotation cannot read another variable.

use crate::settings::AnnotationShape;

/// The ARN of an IAM role: `^arn:aws[a-z0-9-]*:iam::[0-9]{12}:role/[A-Za-z0-9_/.@+=,-]+$`, the
/// pattern of the EKS pod identity webhook, in ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleArn(String);

impl RoleArn {
    /// Parses the whole of `text`; nothing is trimmed.
    ///
    /// # Errors
    /// [`AnnotationProblem::TooLong`] and [`AnnotationProblem::Shape`].
    pub fn parse(text: &str) -> Result<Self, AnnotationProblem> {
        if text.len() > MAX_BYTES {
            return Err(AnnotationProblem::TooLong { bytes: text.len() });
        }
        if is_role_arn(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AnnotationProblem::Shape)
        }
    }

    /// The ARN as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An annotation's value that may go into `env.value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationValue(String);

impl AnnotationValue {
    /// Parses the whole of `text` as `shape` demands; nothing is trimmed.
    ///
    /// # Errors
    /// [`AnnotationProblem`] in all its variants.
    pub fn parse(text: &str, shape: AnnotationShape) -> Result<Self, AnnotationProblem> {
        if text.trim().is_empty() {
            return Err(AnnotationProblem::Empty);
        }
        match shape {
            AnnotationShape::AwsRoleArn => RoleArn::parse(text).map(|RoleArn(arn)| Self(arn)),
            AnnotationShape::PlainText => parse_text(text),
        }
    }

    /// What somebody else puts a value in for: a text that no annotation can have.
    pub(crate) fn stand_in(text: String) -> Self {
        Self(text)
    }

    /// A `RoleSessionName`: 2 to 64 of `[A-Za-z0-9_+=,.@-]`
    /// (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>).
    pub(crate) fn session_name(text: &str) -> Option<Self> {
        let of_session = |byte: u8| byte != b'/' && is_role_byte(byte);
        let valid = (2..=64).contains(&text.len()) && text.bytes().all(of_session);
        valid.then(|| Self(text.to_owned()))
    }

    /// The value as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a value is not accepted. It never carries the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationProblem {
    /// Nothing, or white space only.
    #[error("is empty")]
    Empty,
    /// Not of the endpoint's shape.
    #[error("does not have the expected form")]
    Shape,
    /// Longer than [`MAX_BYTES`].
    #[error("has {bytes} bytes, more than 2048")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// What [`AnnotationValue::parse`] takes, but for the length, as a regular expression (RE2) of the whole.
pub(crate) fn pattern(shape: AnnotationShape) -> &'static str {
    match shape {
        AnnotationShape::AwsRoleArn => {
            "^arn:aws[a-z0-9-]*:iam::[0-9]{12}:role/[A-Za-z0-9_/.@+=,-]+$"
        }
        AnnotationShape::PlainText => r"^[!#%&(-\[\]^_a-~]([ !#%&(-\[\]^_a-~]*[!#%&(-\[\]^_a-~])?$",
    }
}

fn parse_text(text: &str) -> Result<AnnotationValue, AnnotationProblem> {
    if text.len() > MAX_BYTES {
        return Err(AnnotationProblem::TooLong { bytes: text.len() });
    }
    let padded = text.starts_with(' ') || text.ends_with(' ');
    if !padded && text.bytes().all(is_plain) {
        Ok(AnnotationValue(text.to_owned()))
    } else {
        Err(AnnotationProblem::Shape)
    }
}

fn is_role_arn(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("arn:aws") else {
        return false;
    };
    let Some((partition, rest)) = rest.split_once(":iam::") else {
        return false;
    };
    let Some((account, role)) = rest.split_once(":role/") else {
        return false;
    };
    partition
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && account.len() == ACCOUNT_DIGITS
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && !role.is_empty()
        && role.bytes().all(is_role_byte)
}

fn is_role_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'_' | b'/' | b'.' | b'@' | b'+' | b'=' | b',' | b'-')
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'$' | b'"' | b'\'' | b'`' | b'\\')
}

/// The longest value we take: the limit of an ARN's field in IAM, and enough for anything else.
pub const MAX_BYTES: usize = 2048;
const ACCOUNT_DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    proptest! {
        /// A policy in the webhook's place judges by the pattern.
        #[test]
        fn the_pattern_takes_what_the_parser_takes(
            text in prop_oneof![
                "arn:aws[a-z-]{0,3}:iam::[0-9]{11,12}:role/[A-Za-z0-9_/.@+=,$ -]{0,4}",
                "[ -~]{0,5}",
                r"[!#a\\\]\[\^_`'$ ]{0,4}",
                any::<String>(),
            ],
        ) {
            for shape in [AnnotationShape::AwsRoleArn, AnnotationShape::PlainText] {
                let parsed = AnnotationValue::parse(&text, shape).is_ok();
                let matched = Regex::new(pattern(shape)).unwrap().is_match(&text);
                prop_assert_eq!(parsed, matched, "{:?} {:?}", shape, text);
            }
        }
    }

    #[test]
    fn adm_004_role_arns_of_every_partition_and_path_are_accepted() {
        for arn in [
            "arn:aws:iam::123456789012:role/x",
            "arn:aws:iam::123456789012:role/path/x",
            "arn:aws:iam::123456789012:role/a_b.c@d+e=f,g-h",
            "arn:aws-cn:iam::123456789012:role/x",
            "arn:aws-us-gov:iam::123456789012:role/x",
            "arn:aws-iso-b:iam::123456789012:role/x",
            "arn:aws-eusc:iam::123456789012:role/x",
        ] {
            assert_eq!(
                RoleArn::parse(arn).map(|arn| arn.as_str().to_owned()),
                Ok(arn.to_owned())
            );
        }
    }

    #[test]
    fn adm_005_what_is_no_role_arn_is_refused() {
        let long = format!(
            "arn:aws:iam::123456789012:role/{}",
            "x".repeat(MAX_BYTES - 30)
        );
        assert_eq!(long.len(), 2049);
        assert_eq!(
            RoleArn::parse(&long),
            Err(AnnotationProblem::TooLong { bytes: 2049 })
        );
        for text in [
            "arn:aws:iam::12345678901:role/x",
            "arn:aws:iam::1234567890123:role/x",
            "arn:aws:iam::123456789012:user/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/x\n",
            " arn:aws:iam::123456789012:role/x",
            "arn:aws:iam::123456789012:role/x ",
            "arn:aws:iam::123456789012:role/$(HOME)",
            "arn:aws:iam::123456789012:role/\"x\"",
            "arn:aws:iam::\u{661}\u{662}\u{663}456789012:role/x",
            "arn:aws:iam::123456789012:role/x\0",
            "arn:aws:iam::123456789012:role/x:y",
            "arn:aws:iam::123456789012:role/\u{e9}",
            "arn:AWS:iam::123456789012:role/x",
            "arn:aws_x:iam::123456789012:role/x",
            "arn:aws:iam:eu-west-1:123456789012:role/x",
        ] {
            assert_eq!(
                RoleArn::parse(text),
                Err(AnnotationProblem::Shape),
                "{text:?}"
            );
        }
    }

    #[test]
    fn text_is_printable_ascii_that_the_kubelet_cannot_expand() {
        let parse = |text: &str| AnnotationValue::parse(text, AnnotationShape::PlainText);
        for text in [
            "role",
            "team a/role:1",
            "{x}",
            "a~b!c",
            &"x".repeat(MAX_BYTES),
        ] {
            assert_eq!(
                parse(text).map(|value| value.as_str().to_owned()),
                Ok(text.to_owned())
            );
        }
        for text in [
            "$(HOME)", "a$b", "a\"", "a'", "`a`", "a\\b", "a\tb", "a\n", " a", "\u{e9}",
        ] {
            assert_eq!(parse(text), Err(AnnotationProblem::Shape), "{text:?}");
        }
        assert_eq!(
            parse(&"x".repeat(MAX_BYTES + 1)),
            Err(AnnotationProblem::TooLong { bytes: 2049 })
        );
        for text in ["", " ", "\t\n"] {
            assert_eq!(parse(text), Err(AnnotationProblem::Empty), "{text:?}");
        }
    }
}

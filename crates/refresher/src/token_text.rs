//! What a token must look like before we write it, and what of a server's text may be logged.
//!
//! The payload is read for `exp` alone, to know when to come again: whether a token is any good is for those who
//! verify its signature.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use thiserror::Error;

use crate::clock::WallTime;

/// A token in the compact JWS form, with its end.
pub struct TokenText {
    text: String,
    expires: WallTime,
}

impl TokenText {
    /// Parses three base64url segments whose second is a JSON object with an integer `exp`.
    ///
    /// # Errors
    /// If it is longer than 16 KiB, is not such a token, or ended before `now`.
    pub fn parse(text: &str, now: WallTime) -> Result<Self, TokenTextError> {
        if text.len() > MAX_LENGTH {
            return Err(TokenTextError::TooLong { length: text.len() });
        }
        let expires = parse_expiry(payload(text)?)?;
        if expires <= now {
            let (exp, now) = (expires.unix_seconds(), now.unix_seconds());
            return Err(TokenTextError::Expired { exp, now });
        }
        Ok(Self {
            text: text.to_owned(),
            expires,
        })
    }

    /// The token itself. It goes into its file and nowhere else.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The same token, taken to end at `end` if that is sooner.
    #[must_use]
    pub fn ending_by(mut self, end: WallTime) -> Self {
        self.expires = self.expires.min(end);
        self
    }

    /// When it ends.
    pub const fn expires(&self) -> WallTime {
        self.expires
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText")
    }
}

/// Why a text is not a token that we write.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenTextError {
    /// It is over. Both are Unix seconds by this node's clock.
    #[error("the token ended at {exp}, and this node's clock says {now}")]
    Expired {
        /// The token's `exp`.
        exp: u64,
        /// The clock.
        now: u64,
    },
    /// There is no integer `exp`.
    #[error("the token's payload has no integer `exp`")]
    NoExpiry,
    /// It is not of the form header.payload.signature.
    #[error("not a token of three base64url segments")]
    NotCompactJws,
    /// It is longer than any token we issue.
    #[error("the token has {length} bytes; the limit is {MAX_LENGTH}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl TokenTextError {
    /// The stable name of this failure.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Expired { .. } => "token_expired",
            Self::NoExpiry => "token_without_expiry",
            Self::NotCompactJws => "token_malformed",
            Self::TooLong { .. } => "token_too_long",
        }
    }
}

/// A text from outside, fit for one log line: short, without control characters, and with nothing in it that is
/// long enough to be a token or a part of one.
pub fn render_foreign_text(text: &str) -> String {
    let clean = text
        .split(' ')
        .map(render_foreign_word)
        .collect::<Vec<_>>()
        .join(" ");
    clean.chars().take(MAX_FOREIGN_TEXT).collect()
}

fn render_foreign_word(word: &str) -> String {
    let mut longest_run = 0;
    let mut run = 0;
    for byte in word.bytes() {
        run = if is_token_byte(byte) { run + 1 } else { 0 };
        longest_run = longest_run.max(run);
    }
    if longest_run > MAX_FOREIGN_WORD {
        return "[hidden]".to_owned();
    }
    word.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The second of exactly three segments.
fn payload(text: &str) -> Result<&str, TokenTextError> {
    let segments: Vec<_> = text.split('.').collect();
    let [header, payload, signature] = segments.as_slice() else {
        return Err(TokenTextError::NotCompactJws);
    };
    let is_segment = |s: &&str| !s.is_empty() && s.bytes().all(is_base64url);
    if [header, payload, signature].into_iter().all(is_segment) {
        Ok(payload)
    } else {
        Err(TokenTextError::NotCompactJws)
    }
}

fn parse_expiry(payload: &str) -> Result<WallTime, TokenTextError> {
    #[derive(Deserialize)]
    struct Payload {
        exp: u64,
    }
    #[expect(
        clippy::map_err_ignore,
        reason = "serde's and base64's errors may quote the token"
    )]
    let json = URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| TokenTextError::NotCompactJws)?;
    #[expect(
        clippy::map_err_ignore,
        reason = "serde's and base64's errors may quote the token"
    )]
    let payload: Payload = serde_json::from_slice(&json).map_err(|_| TokenTextError::NoExpiry)?;
    Ok(WallTime::from_unix_seconds(payload.exp))
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

const fn is_token_byte(byte: u8) -> bool {
    is_base64url(byte) || byte == b'.'
}

/// The longest token we write. Ours have 1 to 2 KiB; AWS takes 20,000 characters.
const MAX_LENGTH: usize = 16 * 1024;

/// How much of a server's text one log line holds.
const MAX_FOREIGN_TEXT: usize = 300;

/// The longest run of token characters that is logged: room for a UUID or a host name.
const MAX_FOREIGN_WORD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_seconds(1000);

    fn token(payload: &str) -> String {
        format!(
            "eyJhbGciOiJSUzI1NiJ9.{}.c2ln",
            URL_SAFE_NO_PAD.encode(payload)
        )
    }

    #[track_caller]
    fn check_refused(text: &str, expected: TokenTextError) {
        assert_eq!(TokenText::parse(text, NOW).unwrap_err(), expected);
    }

    #[test]
    fn reads_the_end_of_a_token() {
        let text = token(r#"{"sub":"x","exp":1900}"#);
        let token = TokenText::parse(&text, NOW).unwrap();
        assert_eq!(token.expires().unix_seconds(), 1900);
        assert_eq!(token.expose(), text);
        assert_eq!(format!("{token:?}"), "TokenText");
    }

    #[test]
    fn refuses_what_is_not_a_compact_jws() {
        let good = token(r#"{"exp":1900}"#);
        for text in [
            "",
            "..",
            "a.b",
            "a.b.c.d",
            "<html></html>",
            &format!("{good}\n"),
            &format!(" {good}"),
            &format!("{good}="),
            &good.replace('.', "·"),
        ] {
            check_refused(text, TokenTextError::NotCompactJws);
        }
    }

    #[test]
    fn refuses_a_payload_without_an_integer_end() {
        for payload in [
            "{}",
            r#"{"exp":"1900"}"#,
            r#"{"exp":1900.5}"#,
            r#"{"exp":-1}"#,
            "[]",
            "x",
        ] {
            check_refused(&token(payload), TokenTextError::NoExpiry);
        }
    }

    #[test]
    fn refuses_a_token_that_is_over() {
        check_refused(
            &token(r#"{"exp":1000}"#),
            TokenTextError::Expired {
                exp: 1000,
                now: 1000,
            },
        );
    }

    #[test]
    fn refuses_a_token_that_is_too_long() {
        let text = token(&format!(
            r#"{{"exp":1900,"x":"{}"}}"#,
            "x".repeat(MAX_LENGTH)
        ));
        check_refused(&text, TokenTextError::TooLong { length: text.len() });
    }

    #[test]
    fn foreign_text_never_carries_a_token_or_a_line_break() {
        let text = token(r#"{"exp":1900,"padding":"so that the payload is long enough"}"#);
        let rendered = render_foreign_text(&format!("bad\ntoken \"{text}\" for pod web-0"));
        assert_eq!(rendered, "bad token [hidden] for pod web-0");
    }

    #[test]
    fn foreign_text_is_short() {
        assert_eq!(
            render_foreign_text(&"ab ".repeat(1000)).chars().count(),
            MAX_FOREIGN_TEXT
        );
    }
}

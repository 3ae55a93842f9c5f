//! One line for each event, to stderr.
//!
//! `tracing` with `tracing-subscriber` in place of these hundred lines was measured (release, static): 182 KiB more
//! program, 20 to 40 KiB more private memory in each pod.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::clock;

/// Writes events. Values must be fit for a log: what a server said goes through
/// [`render_foreign_text`](crate::token_text::render_foreign_text) first.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    format: Format,
}

impl Log {
    /// A log of this form.
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Something went as it should.
    pub fn info(self, message: &str, fields: &[(&str, String)]) {
        self.write("info", message, fields);
    }

    /// Something failed, and the pod has a token nevertheless.
    pub fn warn(self, message: &str, fields: &[(&str, String)]) {
        self.write("warn", message, fields);
    }

    /// Something failed, and the pod has no token.
    pub fn error(self, message: &str, fields: &[(&str, String)]) {
        self.write("error", message, fields);
    }

    /// The program cannot go on.
    pub fn fatal(self, message: &str, error: &dyn Error) -> ExitCode {
        self.error(message, &[("detail", render_chain(error))]);
        ExitCode::FAILURE
    }

    fn write(self, level: &str, message: &str, fields: &[(&str, String)]) {
        let time = clock::now().rfc3339();
        let mut line = match self.format {
            Format::Json => render_json(&time, level, message, fields),
            Format::Text => render_text(&time, level, message, fields),
        };
        line.push('\n');
        // One write, so that lines of `wait` and `run` do not mix. Nobody is left to be told if it fails.
        drop(io::stderr().write_all(line.as_bytes()));
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object.
    Json,
    /// `time LEVEL message key=value ...`
    Text,
}

/// What failed and why, the cause last.
pub fn render_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// A span as people read it: `350s`, `1.2s`.
pub fn render_span(span: Duration) -> String {
    if span >= Duration::from_secs(10) {
        format!("{}s", span.as_secs())
    } else {
        format!("{:.1}s", span.as_secs_f64())
    }
}

fn render_json(time: &str, level: &str, message: &str, fields: &[(&str, String)]) -> String {
    let fixed = [("time", time), ("level", level), ("message", message)];
    let own = fields.iter().map(|(key, value)| (*key, value.as_str()));
    let object: Map<_, _> = fixed
        .into_iter()
        .chain(own)
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    Value::Object(object).to_string()
}

fn render_text(time: &str, level: &str, message: &str, fields: &[(&str, String)]) -> String {
    let mut line = format!("{time} {} {message}", level.to_uppercase());
    for (key, value) in fields {
        let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '=';
        let quoted;
        let value = if !value.is_empty() && value.chars().all(is_plain) {
            value
        } else {
            quoted = format!("{value:?}");
            &quoted
        };
        line.extend([" ", key, "=", value]);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<(&'static str, String)> {
        vec![
            ("endpoint", "aws".to_owned()),
            ("detail", "say \"no\"\nlevel=info".to_owned()),
        ]
    }

    #[test]
    fn an_event_is_one_line_of_text() {
        assert_eq!(
            render_text("T", "warn", "no new token", &fields()),
            r#"T WARN no new token endpoint=aws detail="say \"no\"\nlevel=info""#
        );
    }

    #[test]
    fn an_event_is_one_json_object() {
        let line = render_json("T", "warn", "no new token", &fields());
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["detail"], "say \"no\"\nlevel=info");
        assert!(!line.contains('\n'));
    }
}

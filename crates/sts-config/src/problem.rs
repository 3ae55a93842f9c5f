//! Problems of a configuration file, with their places.

use std::cell::RefCell;
use std::fmt;

/// A place in the file: the path of keys, and the line.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    line: u64,
    path: String,
}

impl Place {
    pub(crate) fn new(path: &str, line: u64) -> Self {
        Self {
            line,
            path: path.to_owned(),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The same line, one key further down.
    pub(crate) fn key(&self, key: &str) -> Self {
        let separator = if self.path.is_empty() { "" } else { "." };
        Self {
            line: self.line,
            path: format!("{}{separator}{key}", self.path),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_str(), self.line) {
            ("", 0) => f.write_str("file"),
            ("", line) => write!(f, "line {line}"),
            (path, 0) => f.write_str(path),
            (path, line) => write!(f, "{path} (line {line})"),
        }
    }
}

/// One thing that is wrong, or hardly meant.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what to write instead: a clause that follows the place.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.message)
    }
}

pub(crate) fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("  {problem}"))
        .collect();
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    format!("configuration has {count} {noun}:\n{}", lines.join("\n"))
}

/// What was found so far. Shared by all readers of one file, which is why it is behind a cell.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Problems {
    pub(crate) fn error(&self, place: Place, message: impl Into<String>) {
        self.errors.borrow_mut().push(Problem {
            place,
            message: message.into(),
        });
    }

    pub(crate) fn warning(&self, place: Place, message: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem {
            place,
            message: message.into(),
        });
    }

    /// Errors and warnings in the file's order.
    pub(crate) fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |problems: RefCell<Vec<Problem>>| {
            let mut problems = problems.into_inner();
            problems.sort();
            problems
        };
        (sorted(self.errors), sorted(self.warnings))
    }
}

//! Reads a YAML mapping key by key, keeping every problem and its line.

mod tree;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

pub(crate) use tree::{Node, Value, parse};

use crate::problem::{Place, Problems};

/// A mapping that is being read. Each key is taken once; [`Section::finish`] reports those nobody took.
pub(crate) struct Section<'a> {
    entries: &'a [(String, Node)],
    place: Place,
    known: BTreeSet<&'static str>,
    failed: bool,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn root(node: &'a Node, problems: &'a Problems) -> Option<Self> {
        Self::of(node, Place::new("", 0), problems)
    }

    fn of(node: &'a Node, place: Place, problems: &'a Problems) -> Option<Self> {
        if let Value::Mapping(entries) = &node.value {
            return Some(Self {
                entries,
                place,
                known: BTreeSet::new(),
                failed: false,
                problems,
            });
        }
        let kind = node.value.kind();
        problems.error(
            place,
            format!("is {kind}: write a mapping of keys to values"),
        );
        None
    }

    /// Where this mapping stands.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Reports a problem of this mapping as a whole, or of a key in it.
    pub(crate) fn error(&mut self, place: Place, message: impl Into<String>) {
        self.failed = true;
        self.problems.error(place, message);
    }

    /// Reports what can be run but is hardly meant.
    pub(crate) fn warning(&self, place: Place, message: impl Into<String>) {
        self.problems.warning(place, message);
    }

    /// Where a key's value stands, or would.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        let line = self.peek(key).map_or(0, |node| node.line);
        if line == 0 {
            self.place.key(key)
        } else {
            Place::new(&self.path(key), line)
        }
    }

    /// Whether the key is there with a value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.peek(key)
            .is_some_and(|node| !matches!(node.value, Value::Null))
    }

    /// Whether the key is there with a mapping as its value.
    pub(crate) fn has_mapping(&self, key: &str) -> bool {
        self.peek(key)
            .is_some_and(|node| matches!(node.value, Value::Mapping(_)))
    }

    /// A text that must be there.
    pub(crate) fn required<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.insert(key);
            self.error(self.place.key(key), "is missing");
            return None;
        }
        self.optional(key, parse)
    }

    /// A text that may be absent.
    pub(crate) fn optional<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let node = self.take(key)?;
        let place = self.place_of(key);
        let Value::Scalar(text) = &node.value else {
            self.error(place, format!("is {}: write a text", node.value.kind()));
            return None;
        };
        parse(text)
            .map_err(|error| self.error(place, error.to_string()))
            .ok()
    }

    /// A text that may be absent, with what stands in then.
    pub(crate) fn or<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
        default: T,
    ) -> Option<T> {
        let given = self.has(key);
        let value = self.optional(key, parse);
        if given { value } else { Some(default) }
    }

    /// `true` or `false`, `false` when absent.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.or(key, parse_flag, false)
    }

    /// A mapping that may be absent.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Self> {
        let node = self.take(key)?;
        let section = Self::of(node, self.place_of(key), self.problems);
        self.failed |= section.is_none();
        section
    }

    /// A sequence of mappings that must be there and not be empty.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(Self) -> Option<T>,
    ) -> Option<Vec<Option<T>>> {
        let items = if self.has(key) {
            self.optional_list(key, read)
        } else {
            None
        };
        match items {
            Some(items) if !items.is_empty() => Some(items),
            Some(_) | None => {
                self.known.insert(key);
                self.error(
                    self.place_of(key),
                    "is missing or empty: at least one is needed",
                );
                None
            }
        }
    }

    /// A sequence of mappings that may be absent.
    pub(crate) fn optional_list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(Self) -> Option<T>,
    ) -> Option<Vec<Option<T>>> {
        let node = self.take(key)?;
        let place = self.place_of(key);
        let Value::Sequence(items) = &node.value else {
            self.error(place, format!("is {}: write a list", node.value.kind()));
            return None;
        };
        let path = self.path(key);
        let item = |(at, node): (usize, &'a Node)| {
            let place = Place::new(&format!("{path}[{at}]"), node.line);
            Self::of(node, place, self.problems).and_then(&read)
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A sequence of texts that must be there and not be empty.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let place = self.place_of(key);
        let texts = self.take(key).and_then(|node| match &node.value {
            Value::Sequence(items) => items.iter().map(Node::as_text).collect::<Option<Vec<_>>>(),
            Value::Mapping(_) | Value::Null | Value::Scalar(_) => None,
        });
        if texts.as_ref().is_none_or(Vec::is_empty) {
            self.error(place, "is no list of texts, or an empty one");
            return None;
        }
        texts
    }

    /// Takes a key whose value changes nothing here.
    pub(crate) fn pass_over(&mut self, key: &'static str) {
        self.known.insert(key);
    }

    /// Any value, as JSON: for what is handed to Kubernetes as it is.
    pub(crate) fn json(&mut self, key: &'static str) -> Option<serde_json::Value> {
        self.take(key).map(Node::to_json)
    }

    /// Reports the keys nobody asked for; `None` when anything of this mapping was wrong.
    pub(crate) fn finish(mut self) -> Option<()> {
        for (key, node) in self.entries {
            if !self.known.contains(key.as_str()) {
                let known: Vec<&str> = self.known.iter().copied().collect();
                let place = Place::new(&self.path(key), node.line);
                self.error(
                    place,
                    format!("is unknown here: known are {}", known.join(", ")),
                );
            }
        }
        (!self.failed).then_some(())
    }

    fn peek(&self, key: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, node)| node)
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.insert(key);
        self.peek(key)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    fn path(&self, key: &str) -> String {
        let place = self.place.key(key);
        place.path().to_owned()
    }
}

fn parse_flag(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false"),
    }
}

/// A duration with a unit, such as `15m`, `1h30m` or `90d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    // Days of 24 hours: who writes 90d does not mean an hour less in spring.
    let days = days.and_then(|days: u16| i64::from(days).checked_mul(24));
    let duration = days
        .map(jiff::SignedDuration::from_hours)
        .map_or_else(|| text.parse::<jiff::SignedDuration>(), Ok);
    duration
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| {
            format!("{text:?} is no duration: write a number and a unit, such as 15m, 1h or 90d")
        })
}

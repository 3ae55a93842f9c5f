//! The texts that a rule compares with, and texts that it would find like them.

use regex_syntax::hir::{Class, Hir, HirKind};

/// What stands around a name's part.
const AROUND: [(&str, &str); 4] = [("", "x"), ("x", ""), ("x", "x"), ("", "-x")];
/// How many texts are made for one regular expression.
const MOST_SAMPLES: usize = 16;
/// The longest of them.
const LONGEST_SAMPLE: usize = 64;

pub(in crate::policy) struct Words {
    /// The texts, their parts between characters that no name has, and a text for each regular expression.
    pub(super) written: Vec<String>,
    /// Names of which these are a part.
    around: Vec<String>,
}

impl Words {
    /// Of what is written in a rule. `regular_expressions` says whether some of it may be such.
    pub(in crate::policy) fn of<'t>(
        texts: impl IntoIterator<Item = &'t str>,
        regular_expressions: bool,
    ) -> Self {
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let mut written: Vec<String> = Vec::new();
        for text in texts {
            let parts = text.split(|c| !in_name(c)).filter(|part| !part.is_empty());
            written.extend(parts.map(str::to_owned));
            written.push(text.to_owned());
            if regular_expressions {
                written.extend(matching(text));
            }
        }
        let around = written.iter().flat_map(|word| {
            AROUND
                .iter()
                .map(move |(before, after)| format!("{before}{word}{after}"))
        });
        let around = once(around.collect());
        Self {
            written: once(written),
            around,
        }
    }

    pub(super) fn written_and_around(&self) -> Vec<String> {
        once([self.written.as_slice(), &self.around].concat())
    }
}

fn once(mut words: Vec<String>) -> Vec<String> {
    words.sort_unstable();
    words.dedup();
    words
}

/// Texts that a regular expression matches, one for each of its alternatives.
fn matching(pattern: &str) -> Vec<String> {
    regex_syntax::parse(pattern).map_or_else(|_| Vec::new(), |parsed| samples(&parsed))
}

/// The parser bounds the depth.
fn samples(pattern: &Hir) -> Vec<String> {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![String::new()],
        HirKind::Literal(literal) => vec![String::from_utf8_lossy(&literal.0).into_owned()],
        HirKind::Class(class) => vec![member(class)],
        HirKind::Capture(capture) => samples(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = usize::try_from(repetition.min.max(1)).unwrap_or(usize::MAX);
            let once = samples(&repetition.sub).into_iter();
            let short = |text: &String| text.len().saturating_mul(times) <= LONGEST_SAMPLE;
            once.filter(short).map(|text| text.repeat(times)).collect()
        }
        HirKind::Concat(parts) => parts.iter().fold(vec![String::new()], |texts, part| {
            let ends = samples(part);
            let longer = |text: &String| {
                let text = text.clone();
                let ends = ends.iter().map(move |end| format!("{text}{end}"));
                ends.collect::<Vec<_>>()
            };
            let longer = texts.iter().flat_map(longer);
            let short = longer.filter(|text| text.len() <= LONGEST_SAMPLE);
            short.take(MOST_SAMPLES).collect()
        }),
        HirKind::Alternation(parts) => parts.iter().flat_map(samples).take(MOST_SAMPLES).collect(),
    }
}

/// A character of the class, one of names' if it can be.
fn member(class: &Class) -> String {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        Class::Bytes(class) => class
            .ranges()
            .iter()
            .map(|range| (char::from(range.start()), char::from(range.end())))
            .collect(),
    };
    let holds = |c: &char| {
        ranges
            .iter()
            .any(|(first, last)| (first..=last).contains(&c))
    };
    let of_names = ('a'..='z').chain('0'..='9').chain(['-', '.', ':']);
    let first = ranges.first().map(|(first, _)| *first);
    let member = of_names.into_iter().find(holds).or(first);
    member.map(String::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_for_each_alternative_of_a_regular_expression() {
        for (pattern, expected) in [
            ("^kube-", vec!["kube-"]),
            ("^a[p]+$", vec!["ap"]),
            ("^(kube|openshift)-", vec!["kube-", "openshift-"]),
            ("^team-[0-9]{3}$", vec!["team-000"]),
            ("(?i)^KUBE", vec!["kube"]),
            ("a{1000}", vec![]),
            ("(", vec![]),
        ] {
            assert_eq!(matching(pattern), expected, "{pattern}");
        }
        assert_eq!(matching(&"(aa|b)".repeat(20)).len(), MOST_SAMPLES);
    }
}

//! Patterns in which `*` stands for any text, also for none.

/// Whether the whole of `text` is as `pattern` says.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(head) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        // The first place is as good as any later one: what follows has the more to choose from.
        match left.split_once(part) {
            Some((_, behind)) => left = behind,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "anything"),
            ("team-*", "team-"),
            ("team-*", "team-a"),
            ("*-team", "a-team"),
            ("a*b*c", "abc"),
            ("a*b*c", "axxbyyc"),
            ("a*bc", "abcbc"),
            ("**", "x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "ab"),
            ("", "a"),
            ("team-*", "tea"),
            ("*-team", "team"),
            ("a*b*c", "acb"),
            ("aa*aa", "aaa"),
            ("a*b*b", "ab"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}

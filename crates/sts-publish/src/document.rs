//! One document, what a store holds in its place, and what is to be done about the difference. No I/O.

/// A document to publish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a> {
    /// Where it lies behind the issuer.
    pub(crate) path: &'a str,
    /// What it is.
    pub(crate) content_type: &'static str,
    pub(crate) text: &'a str,
    /// Counts the changes of what it was written from; `None` where nothing counts them.
    pub(crate) generation: Option<u64>,
}

/// What a store holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    /// The generation it was marked with, where we wrote it and the store keeps marks.
    pub(crate) generation: Option<u64>,
    /// Content type and cache control, where the store keeps them.
    pub(crate) headers: Option<[String; 2]>,
}

/// What is to be done.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It is there.
    Keep,
    /// The store holds a later one.
    Later(u64),
    /// It is to be written.
    Write,
}

/// Compares what is held with what is wanted.
pub(crate) fn judge(
    held: Option<&Held>,
    wanted: &Document<'_>,
    cache_control: &str,
    keeps_marks: bool,
) -> Verdict {
    let Some(held) = held else {
        return Verdict::Write;
    };
    let same = held.bytes == wanted.text.as_bytes()
        && held.headers.as_ref().is_none_or(|[content_type, cached]| {
            content_type == wanted.content_type && cached == cache_control
        });
    match (held.generation, wanted.generation) {
        // Whoever is behind leaves everything as it is: the ring will tell it what others know already.
        (Some(held), Some(ours)) if held > ours && !same => Verdict::Later(held),
        (Some(held), Some(ours)) if held >= ours && same => Verdict::Keep,
        // Without the later mark, a slower replica could take these bytes for older ones than its own.
        (_, Some(_)) if keeps_marks => Verdict::Write,
        (_, _) if same => Verdict::Keep,
        (_, _) => Verdict::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Document<'static> = Document {
        path: "certs",
        content_type: "application/jwk-set+json",
        text: "new",
        generation: Some(5),
    };

    fn held(text: &str, generation: Option<u64>) -> Held {
        Held {
            bytes: text.into(),
            generation,
            headers: Some([WANTED.content_type.to_owned(), "public".to_owned()]),
        }
    }

    #[track_caller]
    fn judged(held: &Held, expected: &Verdict) {
        assert_eq!(judge(Some(held), &WANTED, "public", true), *expected);
    }

    #[test]
    fn an_older_document_is_replaced_and_a_later_one_is_not() {
        judged(&held("old", Some(4)), &Verdict::Write);
        judged(&held("later", Some(6)), &Verdict::Later(6));
        judged(&held("new", Some(6)), &Verdict::Keep);
        judged(&held("new", Some(5)), &Verdict::Keep);
    }

    #[test]
    fn a_change_by_somebody_else_is_undone() {
        judged(&held("forged", Some(5)), &Verdict::Write);
        judged(&held("by hand", None), &Verdict::Write);
    }

    #[test]
    fn the_same_document_of_an_older_generation_is_marked_anew() {
        judged(&held("new", Some(4)), &Verdict::Write);
        judged(&held("new", None), &Verdict::Write);
    }

    #[test]
    fn another_cache_lifetime_is_a_change() {
        assert_eq!(
            judge(Some(&held("new", Some(5))), &WANTED, "private", true),
            Verdict::Write
        );
    }

    #[test]
    fn a_store_without_marks_is_written_where_it_differs() {
        let bare = |text: &str| Held {
            headers: None,
            ..held(text, None)
        };
        assert_eq!(
            judge(Some(&bare("new")), &WANTED, "public", false),
            Verdict::Keep
        );
        assert_eq!(
            judge(Some(&bare("old")), &WANTED, "public", false),
            Verdict::Write
        );
        assert_eq!(judge(None, &WANTED, "public", false), Verdict::Write);
    }
}

//! From one CA to the next.

use proptest::prelude::*;

use super::super::super::content::{ISSUING_SINCE, PUBLISHED_AT, ROTATE, STORY, State};
use super::*;
use crate::tls::links::MOST_LINKS;

mod links;

/// A client's place, in which stands what the Secret says.
fn found(content: &Content) -> Published {
    let state = content.read().unwrap().unwrap();
    Published::Seen(vec![state.bundle])
}

fn state(content: &Content) -> State {
    content.read().unwrap().unwrap()
}

/// Writes until nothing is to be written, and says why each time.
fn settle(content: Content, published: &Published, now: Timestamp) -> (Content, Vec<Why>) {
    let (mut content, mut whys) = (content, Vec::new());
    while let Decision::Fill { filled, why, .. } = decide_for(&content, &names(), published, now) {
        content = filled;
        whys.push(why);
        assert!(whys.len() < 8, "no end: {whys:?}");
    }
    (content, whys)
}

fn at(day: i64) -> Timestamp {
    noon() + (24 * day).hours()
}

/// The Secret after a whole life without rotation, its certificate renewed in time: a new CA is due.
fn due() -> Content {
    settle(fresh(), &Published::Seen(Vec::new()), at(399)).0
}

/// A successor is made, and nobody has found it yet.
fn prepared() -> Content {
    prepare(due())
}

fn prepare(due: Content) -> Content {
    let (content, whys) = settle(due, &Published::Seen(Vec::new()), at(401));
    assert_eq!(whys, [Why::Due]);
    content
}

/// Clients find the successor since day 402.
fn published() -> Content {
    publish(prepared())
}

fn publish(prepared: Content) -> Content {
    let content = prepared;
    let (content, whys) = settle(content.clone(), &found(&content), at(402));
    assert_eq!(whys, [Why::Published]);
    content
}

/// The successor issues since day 503.
fn taken_over() -> Content {
    take_over(published())
}

fn take_over(published: Content) -> Content {
    let content = published;
    let (content, whys) = settle(content.clone(), &found(&content), at(503));
    assert!(whys.contains(&Why::TookOver), "{whys:?}");
    content
}

#[track_caller]
fn leaf_is_of(content: &Content, authority: &Authority, day: i64) {
    let leaf = state(content).leaf.unwrap();
    assert!(is_accepted(
        &leaf.certified,
        authority.bundle(),
        &names()[0],
        at(day)
    ));
}

#[test]
fn a_successor_is_made_an_overlap_before_it_is_to_issue() {
    let before = due();
    let (_, look_at) = kept(decide_at(&before, at(399)));
    assert_eq!(look_at, at(400), "and not looked at later than that");
    let after = prepare(before.clone());
    let (old, new) = (state(&before), state(&after));
    assert_eq!(new.issuing.certificate(), old.issuing.certificate());
    assert_eq!(text(&after, TLS_CRT), text(&before, TLS_CRT));
    let next = new.next.unwrap();
    assert_eq!(
        new.bundle.as_pem(),
        format!("{}{}", old.bundle.as_pem(), next.bundle().as_pem())
    );
}

#[test]
fn tls_005_overlap_begins_when_clients_find_the_successor_and_not_before() {
    let content = prepared();
    let nothing = Published::Seen(Vec::new());
    let old_alone = found(&due());
    for unfound in [&nothing, &old_alone] {
        let (waiting, whys) = settle(content.clone(), unfound, at(700));
        assert!(!whys.contains(&Why::Published), "{whys:?}");
        assert!(state(&waiting).next.is_some());
        leaf_is_of(&waiting, &state(&waiting).issuing, 700);
    }
    let half = Published::Seen(vec![state(&content).bundle, state(&due()).bundle]);
    let (_, whys) = settle(content.clone(), &half, at(402));
    assert_eq!(whys, [], "one of two places is not enough");
    let (content, _) = settle(content.clone(), &found(&content), at(450));
    let (content, whys) = settle(content.clone(), &found(&content), at(549));
    assert!(!whys.contains(&Why::TookOver), "{whys:?}");
    let (_, whys) = settle(content.clone(), &found(&content), at(551));
    assert!(whys.contains(&Why::TookOver), "{whys:?}");
}

#[test]
fn where_nobody_publishes_the_overlap_begins_at_once() {
    let (_, whys) = settle(due(), &Published::Nowhere, at(401));
    assert_eq!(whys, [Why::Due, Why::Published]);
}

#[test]
fn successor_does_not_take_over_while_clients_find_it_no_more() {
    let before = published();
    let old_alone = Published::Seen(vec![state(&before).issuing.bundle().clone()]);
    let (content, whys) = settle(before.clone(), &old_alone, at(600));
    assert!(!whys.contains(&Why::TookOver), "{whys:?}");
    leaf_is_of(&content, &state(&before).issuing, 600);
}

#[test]
fn when_the_successor_takes_over_the_certificate_is_its_own_and_the_old_key_is_gone() {
    let before = published();
    let after = take_over(before.clone());
    let (before, now) = (state(&before), state(&after));
    assert_eq!(
        now.issuing.certificate(),
        before.next.unwrap().certificate()
    );
    assert!(now.next.is_none());
    assert_eq!(now.bundle, before.bundle, "and clients find both");
    leaf_is_of(&after, &now.issuing, 503);
    let old_key = before.issuing.expose_key_pem();
    assert!(after.data.values().all(|value| value.0 != *old_key));
    assert!(!after.data.contains_key(NEXT_CA_KEY));
}

#[test]
fn the_old_one_is_retired_after_its_time_and_the_certificate_stays() {
    let content = taken_over();
    let (same, whys) = settle(content.clone(), &found(&content), at(552));
    assert_eq!(whys, []);
    let (content, whys) = settle(same.clone(), &found(&same), at(554));
    assert_eq!(whys, [Why::Retired]);
    assert_eq!(state(&content).bundle, *state(&content).issuing.bundle());
    assert_eq!(text(&content, TLS_CRT), text(&same, TLS_CRT));
}

/// What an operator put into `ca.crt` is not ours to take out.
#[test]
fn a_foreign_ca_in_the_bundle_outlives_retirement() {
    let mut content = taken_over();
    let foreign = Authority::create("corporate", days(3000), noon()).unwrap();
    let bundle = format!("{}{}", text(&content, CA_CRT), foreign.bundle().as_pem());
    put(&mut content, CA_CRT, bundle.as_bytes());
    let (content, whys) = settle(content.clone(), &found(&content), at(554));
    assert_eq!(whys, [Why::Retired]);
    assert!(state(&content).bundle.holds(foreign.certificate()));
}

#[test]
fn a_ca_of_the_operators_is_never_replaced_by_schedule() {
    let mut content = fresh();
    let foreign = Authority::create("corporate", days(3000), noon()).unwrap();
    put(&mut content, CA_CRT, foreign.bundle().as_pem().as_bytes());
    put(&mut content, CA_KEY, &foreign.expose_key_pem());
    let (mut content, whys) = settle(content, &Published::Nowhere, at(2900));
    assert_eq!(whys, [Why::OtherAuthority]);
    assert!(content.annotations[STORY].contains("never replaced by schedule"));
    content
        .annotations
        .insert(ROTATE.to_owned(), "x".to_owned());
    let (content, whys) = settle(content, &Published::Nowhere, at(2900));
    assert_eq!(whys, [Why::Asked, Why::Published], "but when a person asks");
    assert!(state(&content).next.unwrap().is_ours("tls"));
}

#[test]
fn any_new_value_of_the_annotation_asks_for_one_rotation() {
    let ask = |mut content: Content, value: &str| {
        content
            .annotations
            .insert(ROTATE.to_owned(), value.to_owned());
        content
    };
    let mut content = fresh();
    for (index, value) in ["now", "now, please", ""].into_iter().enumerate() {
        let day = 1 + 200 * i64::try_from(index).unwrap();
        let asked = ask(content, value);
        let (made, whys) = settle(asked.clone(), &found(&asked), at(day));
        assert!(whys.contains(&Why::Asked), "{value}: {whys:?}");
        let (overlapping, whys) = settle(made.clone(), &found(&made), at(day));
        assert_eq!(whys, [Why::Published]);
        // In the midst of a rotation the wish is fulfilled already.
        let (over, whys) = settle(
            ask(overlapping, &format!("{value} again")),
            &found(&made),
            at(day + 101),
        );
        assert!(whys.contains(&Why::TookOver), "{whys:?}");
        let (gone, whys) = settle(over.clone(), &found(&over), at(day + 152));
        assert!(whys.contains(&Why::Retired), "{whys:?}");
        assert!(!whys.contains(&Why::Asked), "{whys:?}");
        content = gone;
    }
}

/// A wish that was made to an empty Secret, or to one that was emptied, is fulfilled by filling it.
#[test]
fn an_emptied_secret_is_filled_once() {
    let mut empty = Content::default();
    empty.annotations.insert(ROTATE.to_owned(), "x".to_owned());
    let (content, whys) = settle(empty, &Published::Nowhere, noon());
    assert_eq!(whys, [Why::Empty]);
    let mut emptied = content;
    emptied.data.clear();
    let (_, whys) = settle(emptied, &Published::Nowhere, noon());
    assert_eq!(whys, [Why::Empty]);
}

/// Lost or made-up times make a rotation slower, never faster.
#[test]
fn times_that_are_lost_or_nonsense_begin_anew() {
    let future = at(9999).to_string();
    for value in [None, Some("yesterday"), Some(future.as_str())] {
        let mut content = published();
        match value {
            Some(value) => drop(
                content
                    .annotations
                    .insert(PUBLISHED_AT.to_owned(), value.to_owned()),
            ),
            None => drop(content.annotations.remove(PUBLISHED_AT)),
        }
        let (content, whys) = settle(content.clone(), &found(&content), at(503));
        assert!(whys.contains(&Why::Published), "{value:?}: {whys:?}");
        assert!(!whys.contains(&Why::TookOver), "{value:?}: {whys:?}");
        let (_, whys) = settle(content.clone(), &found(&content), at(604));
        assert!(whys.contains(&Why::TookOver), "{value:?}: {whys:?}");
    }
    let mut content = taken_over();
    content.annotations.remove(ISSUING_SINCE);
    let (_, whys) = settle(content.clone(), &found(&content), at(600));
    assert!(!whys.contains(&Why::Retired), "{whys:?}");
}

/// Five minutes: what a certificate is dated back, and what a time may lie ahead.
#[test]
fn tls_006_replicas_whose_clocks_differ_by_five_minutes_agree() {
    let ahead = at(402) + 5.minutes();
    let content = prepared();
    let (content, whys) = settle(content.clone(), &found(&content), ahead);
    assert_eq!(whys, [Why::Published]);
    let (same, whys) = settle(content.clone(), &found(&content), at(402));
    assert_eq!(whys, [], "the one behind believes it");
    assert_eq!(same.annotations, content.annotations);
    let filled = filled(decide_at(&Content::default(), ahead), Why::Empty);
    let (presentable, _) = kept(decide_at(&filled, at(402)));
    presentable.pair.parse(at(402)).unwrap();
}

#[test]
fn refuses_a_damaged_successor() {
    let other = Authority::create("tls", days(1000), noon()).unwrap();
    for damage in [&b"half a ke"[..], &other.expose_key_pem()] {
        let mut content = prepared();
        put(&mut content, NEXT_CA_KEY, damage);
        assert!(matches!(refused(&content), Refusal::NextAuthority(_)));
    }
    let mut content = prepared();
    for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY] {
        content.data.remove(key);
    }
    assert!(matches!(refused(&content), Refusal::NoAuthority));
}

/// All replicas were down while the CA ended: who trusts it alone is lost already, and the others find its successor.
#[test]
fn a_successor_takes_over_from_an_expired_ca() {
    let before = prepared();
    let (content, whys) = settle(before.clone(), &Published::Seen(Vec::new()), at(1001));
    assert_eq!(whys, [Why::TookOver]);
    leaf_is_of(&content, &state(&before).next.unwrap(), 1001);
}

#[test]
fn certificate_is_presented_through_every_step() {
    let steps = [
        (due(), 401),
        (prepared(), 402),
        (published(), 503),
        (taken_over(), 554),
    ];
    for (content, day) in steps {
        let decision = decide_for(&content, &names(), &found(&content), at(day));
        let Decision::Fill { meanwhile, why, .. } = decision else {
            panic!("nothing to do on day {day}: {decision:?}")
        };
        assert!(meanwhile.is_some(), "{why:?}");
    }
}

#[test]
fn a_person_is_told_where_it_stands() {
    let told = |content: &Content| content.annotations[STORY].clone();
    for (content, words) in [
        (due(), "its successor is made at 2027-04-05"),
        (prepared(), "waits until it is found"),
        (published(), "is published and issues from 2027-07-16"),
        (taken_over(), "the one before is retired at 2027-09-05"),
    ] {
        let told = told(&content);
        assert!(told.contains(words), "{told}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time goes by.
    Hours(u16),
    /// The place is written as the Secret says.
    Publish,
    /// Somebody empties the place.
    Clear,
    /// A replica notices what stands in the place.
    Observe,
    /// A replica does what is to be done, by what it noticed last.
    Settle,
    /// A person asks for a rotation.
    Ask,
    /// A pod is made, with the CAs that stand in the place for its life.
    Pod,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1_u16..2000).prop_map(Event::Hours),
        4 => Just(Event::Publish),
        1 => Just(Event::Clear),
        4 => Just(Event::Observe),
        6 => Just(Event::Settle),
        1 => Just(Event::Ask),
        4 => Just(Event::Pod),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, a pod younger than the overlap accepts the certificate; and so does one of any age, unless
    /// more CAs have followed than there are links for, or one of those has ended.
    #[test]
    fn tls_005_no_pod_younger_than_the_overlap_meets_a_certificate_it_does_not_trust(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut content = fresh();
        let mut now = noon();
        let (mut place, mut noticed) = (None, Published::Seen(Vec::new()));
        let mut pods: Vec<(Timestamp, CaBundle, usize)> = Vec::new();
        // Until when each CA lives that has taken over.
        let mut followers = Vec::new();
        for (index, event) in events.into_iter().enumerate() {
            match event {
                Event::Hours(hours) => now += i64::from(hours).hours(),
                Event::Publish => place = Some(state(&content).bundle),
                Event::Clear => place = None,
                Event::Observe => noticed = Published::Seen(place.iter().cloned().collect()),
                Event::Settle => {
                    // Nothing was published for a CA's whole life: then there is nothing to promise.
                    if now >= state(&content).issuing.not_after() {
                        return Ok(());
                    }
                    let (settled, whys) = settle(content, &noticed, now);
                    content = settled;
                    followers.extend(whys.contains(&Why::TookOver).then(|| state(&content).issuing.not_after()));
                }
                Event::Ask => drop(content.annotations.insert(ROTATE.to_owned(), index.to_string())),
                Event::Pod => pods.extend(place.clone().map(|bundle| (now, bundle, followers.len()))),
            }
            let leaf = state(&content).leaf.unwrap();
            let at = leaf.facts.not_before;
            for (made, bundle, known) in &pods {
                let is_young = after(*made, ROTATION.overlap) > now;
                let since = &followers[*known..];
                let is_linked = since.len() <= MOST_LINKS.into() && since.iter().all(|end| *end > now);
                if !is_young && !is_linked {
                    continue;
                }
                prop_assert!(is_accepted(&leaf.certified, bundle, &names()[0], at), "pod of {made}, now {now}");
            }
        }
    }
}

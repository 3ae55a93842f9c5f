//! What to do with the content of the Secret. Pure: it reads no clock, and writes nothing.
//!
//! A CA is followed by another in steps, each of which is one write of the whole content, so that a replica may die between any two:
//!
//! ```text
//! due or asked ─▶ made, beside the old one ─▶ seen where clients look ─▶ overlap ─▶ issues ─▶ retire_after ─▶ the old one is gone
//! ```
//!
//! A successor is always found by clients before it issues, and has a certificate by the CA before it for those who look no more. Only who
//! empties the Secret gets a CA that nobody has heard of.

use std::fmt;

use jiff::Timestamp;
use sts_config::CertificateRotation;

use super::content::{Content, Leaf, Refusal, State};
use crate::tls::authority::{Authority, AuthorityError, is_named};
use crate::tls::links::Links;
use crate::tls::pem::{CaBundle, KeyPairPem};
use crate::tls::published::Published;
use crate::tls::rotation::{after, before};
use crate::tls::trust::is_accepted;

/// What to do.
#[derive(Debug)]
pub(super) enum Decision {
    /// The content is good: present it, and look again at `look_at`.
    Keep {
        presentable: Presentable,
        look_at: Timestamp,
    },
    /// Write this content, then decide again on what was written. `meanwhile` is what can be presented until then.
    Fill {
        filled: Content,
        why: Why,
        meanwhile: Option<Presentable>,
    },
    /// The content is damaged: leave it alone.
    Refuse(Refusal),
}

/// What goes out of the Secret into the running program.
#[derive(Debug)]
pub(super) struct Presentable {
    pub(super) pair: KeyPairPem,
    /// What clients must trust.
    pub(super) bundle: CaBundle,
    /// The last second of the issuing CA.
    pub(super) authority_not_after: Timestamp,
}

/// Why the Secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The certificate is past two thirds of its life, or past all of it.
    Aged,
    /// A person asks for another CA.
    Asked,
    /// The issuing CA is to be replaced by schedule.
    Due,
    /// There is nothing in it.
    Empty,
    /// There is a CA, but no certificate of it.
    NoLeaf,
    /// The certificate is of another CA: somebody replaced `ca.crt` and `ca.key`.
    OtherAuthority,
    /// The certificate's names are not the ones we are called by.
    OtherNames,
    /// Clients find the successor.
    Published,
    /// The CA before this one has been without a certificate for long enough.
    Retired,
    /// The successor takes over.
    TookOver,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aged => "its certificate is due for renewal",
            Self::Asked => "a new CA is asked for, and published beside the present one",
            Self::Due => "its CA is due for replacement, and a new one is published beside it",
            Self::Empty => "it is empty",
            Self::NoLeaf => "it has a CA but no certificate",
            Self::OtherAuthority => "its certificate is not of its CA",
            Self::OtherNames => "its certificate is for other names",
            Self::Published => "the new CA is found where clients look, the overlap begins",
            Self::Retired => "the old CA is retired",
            Self::TookOver => "the new CA issues from now on",
        })
    }
}

/// What a decision depends on besides the content.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// What a new CA is called.
    pub(super) name: &'a str,
    /// What the server is called.
    pub(super) dns_names: &'a [String],
    pub(super) rotation: &'a CertificateRotation,
    /// Which CAs clients find.
    pub(super) published: &'a Published,
    pub(super) now: Timestamp,
}

/// Decides on the Secret's content.
///
/// # Errors
///
/// [`AuthorityError`] if a CA or a certificate is needed and cannot be made, such as without a DNS name.
pub(super) fn decide(content: &Content, context: Context<'_>) -> Result<Decision, AuthorityError> {
    let state = match content.read() {
        Ok(Some(state)) => state,
        Ok(None) => {
            let state = create(content.asked(), context)?;
            return Ok(fill(content, &state, Why::Empty, None, context));
        }
        Err(refusal) => return Ok(Decision::Refuse(refusal)),
    };
    let why = match (step(&state, context), presentable(&state, context)) {
        (Step::Wait(look_at), Some(presentable)) => {
            return Ok(Decision::Keep {
                presentable,
                look_at,
            });
        }
        (Step::Expired, _) => {
            return Ok(Decision::Refuse(Refusal::AuthorityExpired {
                not_after: state.issuing.not_after(),
            }));
        }
        (Step::Wait(_), None) => Why::NoLeaf,
        (Step::Change(why), _) => why,
    };
    let meanwhile = presentable(&state, context);
    let state = change(state, why, context)?;
    Ok(fill(content, &state, why, meanwhile, context))
}

enum Step {
    Change(Why),
    Expired,
    /// Nothing to do before this instant, or before clients find what they do not find yet.
    Wait(Timestamp),
}

fn step(state: &State, context: Context<'_>) -> Step {
    let Context { now, .. } = context;
    if now >= state.issuing.not_after() {
        // Who trusts this CA alone is locked out already.
        return match &state.next {
            Some(next) if now < next.not_after() => Step::Change(Why::TookOver),
            Some(_) | None => Step::Expired,
        };
    }
    let leaf = match why_reissue(state, context) {
        Ok(renew_at) => renew_at,
        Err(why) => return Step::Change(why),
    };
    let mut look_at = leaf;
    for (why, at) in [retire(state, context), succeed(state, context)]
        .into_iter()
        .flatten()
    {
        if at <= now {
            return Step::Change(why);
        }
        look_at = look_at.min(at);
    }
    Step::Wait(look_at)
}

/// When the certificate is to be renewed, or why it is now.
fn why_reissue(state: &State, context: Context<'_>) -> Result<Timestamp, Why> {
    let Context { dns_names, now, .. } = context;
    let Leaf {
        pair: _,
        certified,
        facts,
    } = state.leaf.as_ref().ok_or(Why::NoLeaf)?;
    let mut wanted = dns_names.to_vec();
    wanted.sort_unstable();
    if facts.dns_names != wanted {
        return Err(Why::OtherNames);
    }
    let is_trusted = |name: &String| is_accepted(certified, &state.bundle, name, facts.not_before);
    if !dns_names.first().is_some_and(is_trusted) {
        return Err(Why::OtherAuthority);
    }
    // A certificate that ends with its CA cannot be renewed by it.
    let renew_at = if facts.not_after < state.issuing.not_after() {
        facts.renew_at()
    } else {
        facts.not_after
    };
    if now >= renew_at {
        return Err(Why::Aged);
    }
    Ok(renew_at)
}

/// When what the successor's taking over left behind is to go.
fn retire(state: &State, context: Context<'_>) -> Option<(Why, Timestamp)> {
    let Context {
        name,
        rotation,
        now,
        ..
    } = context;
    let since = sane(state.marks.issuing_since, now)?;
    // The certificate must do without it too, which it does not where an operator put both CAs there.
    let leaf = state.leaf.as_ref()?;
    let first = context.dns_names.first()?;
    let own = state.issuing.bundle();
    let is_needed = !is_accepted(&leaf.certified, own, first, leaf.facts.not_before);
    let is_left = retain(state, name).is_some_and(|bundle| bundle != state.bundle);
    (is_left && !is_needed).then(|| (Why::Retired, after(since, rotation.retire_after)))
}

/// The next step from the issuing CA to its successor, and when.
fn succeed(state: &State, context: Context<'_>) -> Option<(Why, Timestamp)> {
    let Context {
        name,
        dns_names: _,
        rotation,
        published,
        now,
    } = context;
    let State {
        marks,
        issuing,
        next,
        ..
    } = state;
    let Some(next) = next else {
        if marks.asked.is_some() && marks.asked != marks.followed {
            return Some((Why::Asked, now));
        }
        let at = successor_at(state, rotation, now);
        return issuing.is_ours(name).then_some((Why::Due, at));
    };
    if !published.hold(next.certificate()) {
        return None;
    }
    Some(match sane(marks.published_at, now) {
        Some(at) => (Why::TookOver, after(at, rotation.overlap)),
        None => (Why::Published, now),
    })
}

/// When the issuing CA's successor is to be made: an overlap before it is to issue.
fn successor_at(state: &State, rotation: &CertificateRotation, now: Timestamp) -> Timestamp {
    let State { marks, issuing, .. } = state;
    let since = sane(marks.issuing_since, now).unwrap_or_else(|| issuing.not_before());
    let by_age = after(since, rotation.rotate_every);
    // The last certificate of a CA should live as long as any.
    let by_end = before(issuing.not_after(), rotation.certificate_lifetime);
    before(by_age.min(by_end), rotation.overlap)
}

/// A time that has come is believed, and one that a clock ahead of ours wrote. Any other is nonsense.
fn sane(at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    at.filter(|at| *at <= after(now, super::SKEW))
}

/// A CA and a certificate for an empty Secret. What was asked for before is fulfilled by that.
fn create(asked: Option<String>, context: Context<'_>) -> Result<State, AuthorityError> {
    let Context {
        name,
        rotation,
        now,
        ..
    } = context;
    let issuing = Authority::create(name, rotation.authority_lifetime, now)?;
    let links = Links::default();
    let leaf = issue(&issuing, &links, context)?;
    Ok(State {
        bundle: issuing.bundle().clone(),
        issuing,
        next: None,
        links,
        leaf: Some(leaf),
        marks: super::content::Marks {
            issuing_since: Some(now),
            published_at: None,
            followed: asked.clone(),
            asked,
        },
    })
}

/// The state after a change.
fn change(state: State, why: Why, context: Context<'_>) -> Result<State, AuthorityError> {
    let Context {
        name,
        rotation,
        now,
        ..
    } = context;
    match why {
        Why::Asked | Why::Due => {
            let mut state = state;
            let lifetime = rotation.authority_lifetime;
            let (next, link) = state.issuing.create_successor(name, lifetime, now)?;
            // A CA of an operator's may be trusted by many others, for whom ours is not to be one.
            if state.issuing.is_ours(name) {
                state.links = state.links.with(link);
            }
            state.bundle = state.bundle.with(next.certificate());
            state.next = Some(next);
            state.marks.published_at = None;
            Ok(state)
        }
        Why::Published => {
            let mut state = state;
            state.marks.published_at = Some(now);
            Ok(state)
        }
        Why::TookOver => take_over(state, context),
        Why::Retired => {
            let bundle = retain(&state, name).unwrap_or_else(|| state.bundle.clone());
            Ok(State { bundle, ..state })
        }
        Why::Aged | Why::Empty | Why::NoLeaf | Why::OtherAuthority | Why::OtherNames => {
            let leaf = Some(issue(&state.issuing, &state.links, context)?);
            Ok(State { leaf, ..state })
        }
    }
}

/// The successor issues. A request that came meanwhile is fulfilled by that.
fn take_over(state: State, context: Context<'_>) -> Result<State, AuthorityError> {
    let State {
        bundle,
        issuing,
        next,
        links,
        leaf: _,
        mut marks,
    } = state;
    let issuing = next.unwrap_or(issuing);
    let links = links.leading_from(issuing.certificate(), context.now);
    marks.issuing_since = Some(context.now);
    marks.published_at = None;
    marks.followed.clone_from(&marks.asked);
    Ok(State {
        bundle,
        leaf: Some(issue(&issuing, &links, context)?),
        issuing,
        next: None,
        links,
        marks,
    })
}

/// The bundle without what we put there and need no longer; `None` if it cannot be read.
fn retain(state: &State, name: &str) -> Option<CaBundle> {
    let next = state.next.as_ref().map(Authority::certificate);
    let issuing = state.issuing.certificate();
    let stays = |certificate: &_| {
        certificate == issuing || Some(certificate) == next || !is_named(certificate, name)
    };
    let all = state.bundle.certificates().ok()?;
    let mut left = all.iter().filter(|certificate| stays(certificate));
    let first = CaBundle::of(left.next()?);
    Some(left.fold(first, |bundle, certificate| bundle.with(certificate)))
}

/// A certificate, with what clients of former CAs need to trust it.
fn issue(
    authority: &Authority,
    links: &Links,
    context: Context<'_>,
) -> Result<Leaf, AuthorityError> {
    let lifetime = context.rotation.certificate_lifetime;
    let pair = authority.issue(context.dns_names, lifetime, context.now)?;
    let links = links.leading_from(authority.certificate(), context.now);
    Ok(Leaf::parse(pair.followed_by(links.certificates()))?)
}

fn fill(
    content: &Content,
    state: &State,
    why: Why,
    meanwhile: Option<Presentable>,
    context: Context<'_>,
) -> Decision {
    Decision::Fill {
        filled: content.with(state, tell(state, context)),
        why,
        meanwhile,
    }
}

/// What clients accept under our names, if there is such a certificate: it is presented whatever else is to be done.
fn presentable(state: &State, context: Context<'_>) -> Option<Presentable> {
    let leaf = state.leaf.as_ref()?;
    let pair = leaf.pair.clone();
    match why_reissue(state, context) {
        Ok(_) | Err(Why::Aged) => Some(Presentable {
            pair,
            bundle: state.bundle.clone(),
            authority_not_after: state.issuing.not_after(),
        }),
        Err(_) => None,
    }
}

/// Where the rotation stands and what it waits for, for people.
fn tell(state: &State, context: Context<'_>) -> String {
    let State {
        issuing,
        next,
        marks,
        ..
    } = state;
    let Context { rotation, now, .. } = context;
    let serial = issuing.serial();
    let Some(next) = next else {
        let at = successor_at(state, rotation, now);
        let successor = if issuing.is_ours(context.name) {
            format!("its successor is made at {at:.0}")
        } else {
            "it is not ours and is never replaced by schedule".to_owned()
        };
        return match retire(state, context) {
            Some((_, at)) => {
                format!(
                    "CA {serial} issues; the one before is retired at {at:.0}; then {successor}"
                )
            }
            None => format!("CA {serial} issues; {successor}"),
        };
    };
    let next = next.serial();
    match marks.published_at {
        None => format!(
            "CA {serial} issues; its successor {next} is made and waits until it is found where clients look"
        ),
        Some(at) => {
            let at = after(at, rotation.overlap);
            format!("CA {serial} issues; its successor {next} is published and issues from {at:.0}")
        }
    }
}

#[cfg(test)]
mod tests;

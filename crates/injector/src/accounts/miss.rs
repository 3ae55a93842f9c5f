//! ServiceAccounts that the watch does not have: each is asked for once, however many reviews name it.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::identity::Account;

/// How long it is remembered that an account is not there: a flood of reviews that name it costs one request in that time.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How many questions are remembered. Where all are in use, one more is asked without being remembered: what is posted must not fill our
/// memory.
const MOST: usize = 1024;

/// The questions that are open or were answered just now, by `namespace/name`.
#[derive(Default)]
pub(super) struct Misses {
    questions: std::sync::Mutex<HashMap<String, Question>>,
}

type Answer = Option<Arc<Account>>;

#[derive(Clone)]
struct Question {
    asked: Instant,
    answer: Arc<OnceCell<Answer>>,
}

impl Question {
    /// Open, or answered just now. One that nobody but the map holds and that has no answer was given up.
    fn counts(&self, now: Instant) -> bool {
        if self.answer.initialized() {
            now.duration_since(self.asked) < REMEMBERED
        } else {
            Arc::strong_count(&self.answer) > 1
        }
    }
}

impl Misses {
    /// Asks, or waits for the answer that somebody else is about to get. If that one gets none, the next one asks.
    pub(super) async fn look<E>(
        &self,
        key: &str,
        ask: impl Future<Output = Result<Answer, E>>,
    ) -> Result<Answer, E> {
        let question = self.question(key, Instant::now());
        let answer = question.answer.get_or_try_init(|| ask).await.cloned();
        // Only that it is not there is remembered. What is there the watch brings, and later changes with it.
        if !matches!(answer, Ok(None)) {
            self.forget(key, &question);
        }
        answer
    }

    fn question(&self, key: &str, now: Instant) -> Question {
        let mut questions = self.lock();
        if let Some(question) = questions.get(key)
            && question.counts(now)
        {
            return question.clone();
        }
        if questions.len() >= MOST {
            questions.retain(|_, question| question.counts(now));
        }
        let question = Question {
            asked: now,
            answer: Arc::default(),
        };
        if questions.len() < MOST || questions.contains_key(key) {
            drop(questions.insert(key.to_owned(), question.clone()));
        }
        question
    }

    fn forget(&self, key: &str, question: &Question) {
        let mut questions = self.lock();
        let same = |found: &Question| Arc::ptr_eq(&found.answer, &question.answer);
        if questions.get(key).is_some_and(same) {
            drop(questions.remove(key));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Question>> {
        self.questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn what_is_remembered_of_missing_accounts_is_bounded() {
        let misses = Misses::default();
        for number in 0..3 * MOST {
            let missing = async { Ok::<_, Infallible>(None) };
            drop(misses.look(&format!("apps/a{number}"), missing).await);
        }
        assert!(misses.lock().len() <= MOST);
    }
}

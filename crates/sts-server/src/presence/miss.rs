//! Objects that the index does not have: asked for once, however many ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::index::Entry;
use crate::api_server::CallError;

/// How long it is remembered that an object is not there: a dead pod's token that is presented again and again costs one call in that time.
const REMEMBERED: Duration = Duration::from_secs(1);
/// From how many entries on those that say nothing any more are taken out.
const SWEEP: usize = 1024;

/// The questions that are open or were answered just now.
#[derive(Default)]
pub(super) struct Misses {
    questions: Mutex<HashMap<u128, Question>>,
}

#[derive(Clone)]
struct Question {
    asked: Instant,
    answer: Arc<OnceCell<Answer>>,
}

/// What there is of the object; `None` if it is not there.
type Answer = Option<Entry>;

impl Misses {
    /// Asks, or waits for the answer that somebody else is about to get. If that one gets none, the next one asks.
    pub(super) async fn look(
        &self,
        object: u128,
        ask: impl Future<Output = Result<Answer, CallError>>,
    ) -> Result<Answer, CallError> {
        let question = self.question(object, Instant::now());
        let answer = question.answer.get_or_try_init(|| ask).await.cloned();
        // That it is not there stays true. That it is there is for the watch to say from now on.
        if !matches!(answer, Ok(None)) {
            self.forget(object, &question);
        }
        answer
    }

    fn question(&self, object: u128, now: Instant) -> Question {
        let young = |question: &Question| {
            !question.answer.initialized() || now.duration_since(question.asked) < REMEMBERED
        };
        let mut questions = self.lock();
        if questions.len() >= SWEEP {
            // One that nobody holds and that has no answer was given up.
            questions.retain(|_, question| {
                let held = Arc::strong_count(&question.answer) > 1;
                held || (question.answer.initialized() && young(question))
            });
        }
        let fresh = || Question {
            asked: now,
            answer: Arc::default(),
        };
        let question = questions.entry(object).or_insert_with(fresh);
        if !young(question) {
            *question = fresh();
        }
        question.clone()
    }

    fn forget(&self, object: u128, question: &Question) {
        let mut questions = self.lock();
        let same = |found: &Question| Arc::ptr_eq(&found.answer, &question.answer);
        if questions.get(&object).is_some_and(same) {
            drop(questions.remove(&object));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u128, Question>> {
        self.questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use tokio::time::{advance, sleep};

    use super::*;

    /// An API server that takes its time.
    #[derive(Default)]
    struct Asked(AtomicU32);

    impl Asked {
        async fn ask(&self, answer: Answer) -> Result<Answer, CallError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(50)).await;
            Ok(answer)
        }

        fn times(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn live_022_a_hundred_who_ask_at_once_cost_one_call() {
        let (misses, asked) = (Misses::default(), Asked::default());
        let look = || misses.look(1, asked.ask(Some(Entry::default())));
        let answers = join_all((0..100).map(|_| look())).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Some(_)))));
        assert_eq!(asked.times(), 1);
        assert!(look().await.is_ok());
        assert_eq!(asked.times(), 2, "life is not remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn that_it_is_not_there_is_remembered_for_a_second() {
        let (misses, asked) = (Misses::default(), Asked::default());
        let look = || misses.look(1, asked.ask(None));
        for _ in 0..10 {
            assert!(matches!(look().await, Ok(None)));
        }
        assert_eq!(asked.times(), 1);
        advance(REMEMBERED).await;
        drop(look().await);
        assert_eq!(asked.times(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let (misses, asked) = (Misses::default(), Asked::default());
        for object in 0..u128::try_from(3 * SWEEP).unwrap() {
            drop(misses.look(object, asked.ask(None)).await);
        }
        assert!(misses.lock().len() <= SWEEP);
    }
}

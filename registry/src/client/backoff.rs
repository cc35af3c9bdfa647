//! How long to wait before asking again.

use std::{
    hash::{BuildHasher, RandomState},
    thread,
    time::Duration,
};

use crate::Error;

const FIRST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(15);

/// Counts tries; waits twice as long each time, and never as long as everybody else does.
#[derive(Debug)]
pub(crate) struct Backoff {
    left: u32,
    next: Duration,
    cap: Duration,
}

impl Backoff {
    pub(crate) fn new(retries: u32, cap: Duration) -> Self {
        Self { left: retries, next: FIRST, cap }
    }

    /// Waits, if the error may pass and there are tries left; says whether to try again.
    pub(crate) fn wait_after(&mut self, error: &Error) -> bool {
        error.is_temporary() && self.wait(error)
    }

    /// The same in the middle of a transfer that has been going well.
    pub(crate) fn wait_after_interruption(&mut self, error: &Error) -> bool {
        error.is_interruption() && self.wait(error)
    }

    fn wait(&mut self, error: &Error) -> bool {
        let Some(wait) = self.wait_for(error) else { return false };
        log::info!("{error}; trying again in {:.1} s", wait.as_secs_f32());
        thread::sleep(wait);
        true
    }

    fn wait_for(&mut self, error: &Error) -> Option<Duration> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let ours = jittered(self.next);
        self.next = (self.next * 2).min(LONGEST);
        match error.retry_after() {
            Some(asked) if asked > self.cap => None,
            Some(asked) => Some(asked + jittered(FIRST)),
            // A limit without an end in sight: asking again only makes it worse.
            None if matches!(error, Error::RateLimited { .. }) => None,
            None => Some(ours),
        }
    }

    /// Starts over: something went well in between.
    pub(crate) fn reset(&mut self, retries: u32) {
        (self.left, self.next) = (retries, FIRST);
    }
}

/// Between half of a time and all of it. `RandomState` is the standard library's only source of chance, and
/// clients that fail together must not come back together.
fn jittered(time: Duration) -> Duration {
    let chance = u32::try_from(RandomState::new().hash_one(0) % 1000).unwrap_or_default();
    time / 2 + time / 2 * chance / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(wait: Option<u64>) -> Error {
        let wait = wait.map(Duration::from_secs);
        Error::RateLimited { registry: "x".into(), wait, with_credentials: false }
    }

    fn stalled() -> Error {
        Error::Stalled { doing: "x".into(), after: FIRST }
    }

    #[test]
    fn waits_grow_up_to_a_limit_and_end() {
        let mut backoff = Backoff::new(9, Duration::from_secs(60));
        let waits: Vec<_> = std::iter::from_fn(|| backoff.wait_for(&stalled())).collect();
        assert_eq!(waits.len(), 9);
        assert!(waits.iter().all(|wait| (FIRST / 2..=LONGEST).contains(wait)), "{waits:?}");
        assert!(waits[4] > waits[0]);
    }

    #[test]
    fn a_registry_may_ask_for_a_minute_and_not_for_an_hour() {
        let mut backoff = Backoff::new(5, Duration::from_secs(60));
        assert!(backoff.wait_for(&limited(Some(60))).is_some_and(|wait| wait.as_secs() >= 60));
        assert_eq!(backoff.wait_for(&limited(Some(61))), None);
        assert_eq!(backoff.wait_for(&limited(None)), None);
        assert!(!backoff.wait_after(&Error::BadPlatform("x".into())));
    }
}

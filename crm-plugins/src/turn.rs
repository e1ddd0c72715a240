//! Turns of guests that compute: who has used more than a little of the processor waits for one of
//! a few turns before each further slice, so that guests that spin leave processors to everybody
//! else.
//!
//! A slice is one poll of a guest's future, which the engine's epochs end within a tick.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// What a run may compute before it waits for turns.
const FREE: Duration = Duration::from_millis(2);
/// The part of the time it waits for the host that it may compute beside.
const SHARE: u32 = 8;

/// The turns of one host: as many as half of its processors.
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }

    /// The guest, taking turns.
    pub(crate) fn take<'a, T>(
        &self,
        guest: impl Future<Output = T> + Send + 'a,
    ) -> impl Future<Output = T> + Send + 'a
    where
        T: 'a,
    {
        Taking {
            guest: Box::pin(guest),
            turns: PollSemaphore::new(self.0.clone()),
            computed: Duration::ZERO,
            free: FREE,
            paused: None,
        }
    }
}

struct Taking<'a, T> {
    guest: BoxFuture<'a, T>,
    turns: PollSemaphore,
    computed: Duration,
    /// What it may compute without a turn.
    free: Duration,
    /// Since when it waits for the host.
    paused: Option<Instant>,
}

impl<T> Future for Taking<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if let Some(paused) = this.paused.take() {
            this.free += paused.elapsed() / SHARE;
        }
        // Given back behind the slice: nobody waits for the host with a turn in hand.
        let _turn = match this.computed > this.free {
            true => ready!(this.turns.poll_acquire(context)),
            false => None,
        };
        let began = Instant::now();
        let polled = this.guest.as_mut().poll(context);
        let ended = Instant::now();
        this.computed += ended - began;
        this.paused = Some(ended);
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use futures::task::noop_waker_ref;

    use super::*;

    /// Computes so long in each of its slices, and is done behind so many.
    fn guest(slice: Duration, slices: u32) -> impl Future<Output = ()> + Send {
        let mut left = slices;
        poll_fn(move |context| {
            let began = Instant::now();
            while began.elapsed() < slice {
                std::hint::spin_loop();
            }
            left -= 1;
            context.waker().wake_by_ref();
            match left {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
    }

    /// How often it has to be asked until it is done, of at most so often.
    fn polls(guest: impl Future<Output = ()>, most: u32) -> Option<u32> {
        let mut guest = std::pin::pin!(guest);
        let mut context = Context::from_waker(noop_waker_ref());
        (1..=most).find(|_| guest.as_mut().poll(&mut context).is_ready())
    }

    fn turns(count: usize) -> Turns {
        Turns(Arc::new(Semaphore::new(count)))
    }

    #[test]
    fn who_computes_little_waits_for_no_turn() {
        let none = turns(0);
        assert_eq!(polls(none.take(guest(Duration::ZERO, 100)), 100), Some(100));
    }

    #[test]
    fn who_computes_much_goes_on_in_its_turns_and_gives_each_back() {
        let hog = || guest(FREE * 2, 4);
        let none = turns(0);
        assert_eq!(polls(none.take(hog()), 50), None);
        let one = turns(1);
        assert_eq!(polls(one.take(hog()), 50), Some(4));
        assert_eq!(one.0.available_permits(), 1);
    }
}

//! Places for runs: so many at once, shared fairly among tenants.
//!
//! What somebody waits for, what follows from events, and trials have a lane each, so that many
//! reactions delay nobody's writes. In a lane a tenant holds its share at most; whoever finds no
//! place waits in a queue of the tenant's own, bounded in length and time, and the queues are
//! served in turn.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::id::TenantId;

/// Of a lane's places, one tenant holds one in so many at most.
const SHARE: usize = 3;

/// The lanes of a process.
pub(super) struct Lanes {
    /// For judges of a write, which waits for them.
    pub(super) answering: Lane,
    /// For what follows from events, from the clock, from other systems, and from actions: they
    /// write, and judges of what they write need places of their own.
    pub(super) reacting: Lane,
    /// For replays and rehearsals.
    pub(super) trying: Lane,
    /// For judging uploads: one of a tenant at a time, and each tenant in its turn.
    pub(super) judging: Lane,
    /// For components that are not ready to run: one of a tenant at a time, so that who has many of
    /// them, or large ones, stands once in the host's queue.
    pub(super) preparing: Lane,
}

impl Lanes {
    /// Half of the host's places, a third, a twelfth; the rest is for the descriptions of uploads.
    pub(super) fn new(places: usize) -> Self {
        Self {
            answering: Lane::new(places / 2, 64, Duration::from_secs(1)),
            reacting: Lane::new(places / 3, 64, Duration::from_secs(5)),
            trying: Lane::new(places / 12, 4, Duration::from_secs(5)),
            judging: Lane::new(SHARE, 2, Duration::from_secs(60)),
            preparing: Lane::shared(64, 1, (64, Duration::from_secs(60))),
        }
    }
}

/// Places of one kind.
#[derive(Clone)]
pub(super) struct Lane(Arc<Inner>);

struct Inner {
    share: usize,
    queue: usize,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: usize,
    held: HashMap<TenantId, usize>,
    waiting: HashMap<TenantId, VecDeque<oneshot::Sender<Place>>>,
    /// The tenants that wait, in the order in which they are served.
    turns: VecDeque<TenantId>,
}

/// A place of a lane, given back when dropped.
pub(super) struct Place {
    /// None of one that was given back already.
    lane: Option<Lane>,
    tenant: TenantId,
    /// Whether it took a wait.
    pub(super) waited: bool,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    /// So many wait already.
    Full(usize),
    /// None became free within this time.
    Late(Duration),
    /// The fuel that is left of the day is set aside for runs under way.
    Fuel,
    /// It was stopped before it began.
    Stopped,
}

impl Lane {
    /// So many places, so many that wait for each tenant, each so long.
    fn new(places: usize, queue: usize, patience: Duration) -> Self {
        let places = places.max(1);
        Self::shared(places, places.div_ceil(SHARE), (queue, patience))
    }

    /// So many places, of which a tenant holds its share at most; so many wait for each, each so
    /// long.
    fn shared(places: usize, share: usize, (queue, patience): (usize, Duration)) -> Self {
        let state = State {
            free: places,
            ..State::default()
        };
        Self(Arc::new(Inner {
            share,
            queue,
            patience,
            state: Mutex::new(state),
        }))
    }

    /// A place, when it is the tenant's turn.
    ///
    /// # Errors
    /// [`Busy`], when too many wait already or it takes too long.
    pub(super) async fn enter(&self, tenant: TenantId) -> Result<Place, Busy> {
        let place = {
            let mut state = self.0.state.lock();
            if state.free > 0 && state.may_take(tenant, self.0.share) {
                state.take(tenant);
                return Ok(self.place(tenant, false));
            }
            state.queue_up(tenant, self.0.queue)?
        };
        match tokio::time::timeout(self.0.patience, place).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Busy::Late(self.0.patience)),
        }
    }

    /// How many of the tenant wait.
    #[cfg(test)]
    pub(super) fn waiting(&self, tenant: TenantId) -> usize {
        let state = self.0.state.lock();
        let queue = state.waiting.get(&tenant).into_iter().flatten();
        queue.filter(|waiter| !waiter.is_closed()).count()
    }

    fn place(&self, tenant: TenantId, waited: bool) -> Place {
        Place {
            lane: Some(self.clone()),
            tenant,
            waited,
        }
    }

    /// Hands free places to those whose turn it is.
    fn serve(&self, state: &mut State) {
        while state.free > 0
            && let Some((tenant, waiter)) = state.next(self.0.share)
        {
            state.take(tenant);
            if let Err(mut unwanted) = waiter.send(self.place(tenant, true)) {
                unwanted.lane = None;
                state.give_back(tenant);
            }
        }
    }
}

impl State {
    /// Whether the tenant holds less than its share, and nobody of it waits.
    fn may_take(&self, tenant: TenantId, share: usize) -> bool {
        let held = self.held.get(&tenant).copied().unwrap_or(0);
        held < share && !self.waiting.contains_key(&tenant)
    }

    fn take(&mut self, tenant: TenantId) {
        self.free -= 1;
        *self.held.entry(tenant).or_default() += 1;
    }

    fn give_back(&mut self, tenant: TenantId) {
        self.free += 1;
        let held = self.held.entry(tenant).or_default();
        *held = held.saturating_sub(1);
        if *held == 0 {
            self.held.remove(&tenant);
        }
    }

    fn queue_up(
        &mut self,
        tenant: TenantId,
        most: usize,
    ) -> Result<oneshot::Receiver<Place>, Busy> {
        let new = !self.waiting.contains_key(&tenant);
        let queue = self.waiting.entry(tenant).or_default();
        queue.retain(|waiter| !waiter.is_closed());
        if queue.len() >= most {
            return Err(Busy::Full(most));
        }
        let (waiter, place) = oneshot::channel();
        queue.push_back(waiter);
        if new {
            self.turns.push_back(tenant);
        }
        Ok(place)
    }

    /// Who is served next: the first of the first tenant that holds less than its share, which then
    /// stands last.
    fn next(&mut self, share: usize) -> Option<(TenantId, oneshot::Sender<Place>)> {
        for _ in 0..self.turns.len() {
            let tenant = self.turns.pop_front()?;
            if self.held.get(&tenant).is_some_and(|held| *held >= share) {
                self.turns.push_back(tenant);
                continue;
            }
            let queue = self.waiting.get_mut(&tenant)?;
            let waiter = loop {
                match queue.pop_front() {
                    Some(waiter) if waiter.is_closed() => {}
                    other => break other,
                }
            };
            match queue.is_empty() {
                true => drop(self.waiting.remove(&tenant)),
                false => self.turns.push_back(tenant),
            }
            if let Some(waiter) = waiter {
                return Some((tenant, waiter));
            }
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            let mut state = lane.0.state.lock();
            state.give_back(self.tenant);
            lane.serve(&mut state);
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(most) => write!(
                f,
                "{most} runs of the tenant's plugins wait for a place already; the plugin was not run"
            ),
            Self::Late(patience) => write!(
                f,
                "no place to run became free within {} s; the plugin was not run",
                patience.as_secs()
            ),
            Self::Fuel => f.write_str(
                "the fuel that is left of this day is set aside for runs under way; the plugin was not \
                 run",
            ),
            Self::Stopped => {
                f.write_str("the plugin was switched off before it began; it was not run")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(uuid::Uuid::from_u128(number))
    }

    fn lane(places: usize, queue: usize) -> Lane {
        Lane::new(places, queue, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_tenant_holds_its_share_and_leaves_the_rest_to_others() {
        let lane = lane(6, 1);
        let (one, two) = (tenant(1), tenant(2));
        let _first = lane
            .enter(one)
            .await
            .unwrap_or_else(|busy| panic!("{busy}"));
        let _second = lane
            .enter(one)
            .await
            .unwrap_or_else(|busy| panic!("{busy}"));
        let mut third = Box::pin(lane.enter(one));
        assert!((&mut third).now_or_never().is_none(), "it waits");
        assert_eq!(lane.enter(one).await.err(), Some(Busy::Full(1)));
        assert!(lane.enter(two).await.is_ok());
        drop(_first);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn tenants_that_wait_are_served_in_turn() {
        let lane = lane(1, 8);
        let place = lane.enter(tenant(9)).await.ok();
        let mut waiting = Vec::new();
        for number in [1, 1, 1, 2, 3] {
            let mut waiter = Box::pin(lane.enter(tenant(number)));
            assert!((&mut waiter).now_or_never().is_none());
            waiting.push((number, waiter));
        }
        drop(place);
        let mut served = Vec::new();
        while !waiting.is_empty() {
            let mut next = None;
            for (at, (number, waiter)) in waiting.iter_mut().enumerate() {
                if let Some(place) = waiter.now_or_never() {
                    next = Some((at, *number, place));
                    break;
                }
            }
            let (at, number, place) = next.expect("somebody is served");
            served.push(number);
            drop(waiting.remove(at));
            drop(place);
        }
        assert_eq!(served, [1, 2, 3, 1, 1]);
    }

    #[tokio::test]
    async fn whoever_left_takes_no_place() {
        let lane = lane(1, 2);
        let place = lane.enter(tenant(1)).await.ok();
        let mut left = Box::pin(lane.enter(tenant(2)));
        assert!((&mut left).now_or_never().is_none());
        let mut late = Box::pin(lane.enter(tenant(2)));
        assert!((&mut late).now_or_never().is_none());
        drop(left);
        drop(place);
        // One that was handed over and never looked at comes back, too.
        drop(late);
        assert!(lane.enter(tenant(3)).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let patience = Duration::from_millis(1);
        let lane = Lane::new(1, 8, patience);
        let _place = lane.enter(tenant(1)).await.ok();
        let late = lane.enter(tenant(2)).await.err();
        assert_eq!(late, Some(Busy::Late(patience)));
    }

    #[tokio::test]
    async fn who_has_much_to_make_ready_stands_once_in_the_queue() {
        let (lanes, busy) = (Lanes::new(12), tenant(1));
        let first = lanes.preparing.enter(busy).await.ok();
        let mut second = Box::pin(lanes.preparing.enter(busy));
        assert!((&mut second).now_or_never().is_none(), "one at a time");
        let others = (2..20).map(|number| lanes.preparing.enter(tenant(number)).now_or_never());
        let others: Vec<_> = others.collect();
        assert!(others.iter().all(|place| matches!(place, Some(Ok(_)))));
        drop(first);
        assert!(second.await.is_ok());
    }

    /// The places that are taken at once, each by a tenant of its own.
    async fn places(lane: &Lane) -> Vec<Place> {
        let mut held = Vec::new();
        while let Some(Ok(place)) = lane.enter(tenant(held.len() as u128)).now_or_never() {
            held.push(place);
        }
        held
    }

    #[tokio::test]
    async fn what_runs_leaves_descriptions_their_share() {
        for slots in [12, 24, 64] {
            let lanes = Lanes::new(slots);
            let runs = [&lanes.answering, &lanes.reacting, &lanes.trying];
            let mut held = Vec::new();
            for lane in runs {
                held.extend(places(lane).await);
            }
            assert!(
                held.len() + slots / 12 <= slots,
                "{} of {slots}",
                held.len()
            );
        }
    }

    #[tokio::test]
    async fn who_uploads_much_takes_no_place_of_what_runs() {
        let (lanes, busy) = (Lanes::new(12), tenant(1));
        let _judged = lanes.judging.enter(busy).await.ok();
        let mut waiting = [lanes.judging.enter(busy), lanes.judging.enter(busy)].map(Box::pin);
        for waiter in &mut waiting {
            assert!(waiter.now_or_never().is_none(), "one at a time");
        }
        let refused = lanes.judging.enter(busy).now_or_never();
        assert_eq!(refused.and_then(Result::err), Some(Busy::Full(2)));
        for lane in [&lanes.answering, &lanes.reacting, &lanes.trying] {
            let place = lane.enter(busy).now_or_never();
            assert!(place.is_some_and(|place| place.is_ok()));
        }
        let other = lanes.judging.enter(tenant(2)).now_or_never();
        assert!(other.is_some_and(|place| place.is_ok()));
    }
}

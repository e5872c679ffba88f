//! The queue in front of a pool: decides which request is next, and what it can get (an idle connection, a permit to
//! open one, or an error).
//!
//! A request that leaves the head of the queue, served or not, wakes the next one. So no permit can be lost.

use super::Pool;
use super::lease::Lease;
use super::model::{LinedUp, Permits, Priority};
use crate::limit::{Limit, Permit, PermitRequest};
use crate::line::{Full, Ticket};
use crate::open::OpenError;
use crate::rank::Rank;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long a request waits for connections of its own core before it asks other cores.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

pub(super) struct Waiter {
    rank: Rank,
    points: i8,
    /// Another request has taken its place.
    sent_away: bool,
    pub(super) since: Instant,
    waker: Option<Waker>,
    /// It is not woken when another core gives back a permit.
    idle_only: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) joins: VecDeque<Waiter>,
    pub(super) new: VecDeque<Waiter>,
    next_ticket: u64,
}

impl Queue {
    fn of(&mut self, priority: Priority) -> &mut VecDeque<Waiter> {
        match priority {
            Priority::Join => &mut self.joins,
            Priority::New(_) => &mut self.new,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.joins.len() + self.new.len()
    }

    /// Whether there is a request with this priority (`points`) that may be sent away.
    pub(super) fn has(&self, points: i8) -> bool {
        let mut new = self.new.iter();
        new.any(|waiter| waiter.points == points && !waiter.sent_away)
    }

    /// Tells the newest request with this priority to leave.
    pub(super) fn send_away(&mut self, points: i8) {
        // Requests of one priority stand in the order in which they came.
        let mut newest = self.new.iter_mut().rev();
        if let Some(waiter) = newest.find(|w| w.points == points && !w.sent_away) {
            waiter.sent_away = true;
            if let Some(waker) = &waiter.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes the requests that may be next. `news`: there is something that they can get.
    pub(super) fn wake_heads(&self, news: bool) {
        // The head of the new requests is woken, too: a join at the head may be unable to use what a new one could use,
        // never the other way round.
        for head in [self.joins.front(), self.new.front()].into_iter().flatten() {
            // Without news, a request that has become the head is woken only so that it listens for permits of other
            // cores, if it does that.
            if let Some(waker) = head.waker.as_ref().filter(|_| news || !head.idle_only) {
                waker.wake_by_ref();
            }
        }
    }
}

pub(super) enum Turn<N: Send + 'static> {
    Idle(Lease<N>),
    Open(Permits, Option<Permit>),
    Resting(Arc<OpenError>),
    SentAway,
}

/// Where a request stands in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Head,
    Behind,
    SentAway,
}

/// How a request enters the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It has not waited yet.
    New,
    /// It has waited before, or must be let in whatever the queue's length is.
    Again,
}

/// A place in the queue. When it is dropped, the next request is woken.
pub struct Place<N: Default + Send + 'static> {
    pool: Rc<Pool<N>>,
    priority: Priority,
    rank: Rank,
    _ticket: Option<Ticket>,
}

impl<N: Default + Send + 'static> Place<N> {
    pub(super) fn in_line(
        pool: &Rc<Pool<N>>,
        priority: Priority,
        (entry, since): (Entry, Instant),
        idle_only: bool,
    ) -> Result<Self, Full> {
        let (points, ticket) = match priority {
            Priority::New(points) if entry == Entry::Again || pool.paused.get() => {
                (points, Some(pool.line.enter_again(points)))
            }
            Priority::New(points) => (points, Some(pool.line.enter(points)?)),
            Priority::Join => (0, None),
        };
        if pool.line.calls() {
            pool.send_away();
        }
        let mut queue = pool.queue.borrow_mut();
        let rank = Rank::new(since, points, queue.next_ticket);
        queue.next_ticket += 1;
        let line = queue.of(priority);
        // The request that was the head until now need not be told: it checks its position whenever it is woken, and
        // the new head asks for its turn at once.
        let position = line.partition_point(|w| w.rank < rank);
        let waiter = Waiter {
            rank,
            points,
            sent_away: false,
            since,
            waker: None,
            idle_only,
        };
        line.insert(position, waiter);
        drop(queue);
        Ok(Self {
            pool: Rc::clone(pool),
            priority,
            rank,
            _ticket: ticket,
        })
    }

    /// Since when the request has been in the queue, or that another request has taken its place.
    pub fn lined_up(&self) -> LinedUp {
        let mut queue = self.pool.queue.borrow_mut();
        let line = queue.of(self.priority);
        match place_of(self.rank, line).map(|at| &line[at]) {
            Some(waiter) if !waiter.sent_away => LinedUp::Since(waiter.since),
            _ => LinedUp::SentAway,
        }
    }

    /// The next connection that is given back, once it is this request's turn. `None` if there is something else to do
    /// than to wait for one. For requests that entered by [`Pool::line_up`].
    pub fn poll_idle(&self, cx: &Context<'_>) -> Poll<Option<Lease<N>>> {
        match self.stand(cx) {
            Stand::Behind => return Poll::Pending,
            Stand::SentAway => return Poll::Ready(None),
            Stand::Head => {}
        }
        if self.pool.paused.get() {
            return Poll::Ready(None);
        }
        if self.joins_wait() {
            return Poll::Pending;
        }
        match self.pool.take_idle_for(self.priority) {
            Some(lease) => Poll::Ready(Some(lease)),
            None if self.pool.may_open(self.priority) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Where the request stands. Whoever makes it the first, or sends it away, wakes it.
    fn stand(&self, cx: &Context<'_>) -> Stand {
        let mut queue = self.pool.queue.borrow_mut();
        let line = queue.of(self.priority);
        let position = place_of(self.rank, line).expect("a place stays in line until it is left");
        match &mut line[position].waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        match position {
            _ if line[position].sent_away => Stand::SentAway,
            0 => Stand::Head,
            _ => Stand::Behind,
        }
    }

    /// Whether requests of the other queue go first: joins go before new requests.
    fn joins_wait(&self) -> bool {
        self.priority != Priority::Join && !self.pool.queue.borrow().joins.is_empty()
    }

    /// Waits until the request can get something. `elsewhere` means the same as in [`Asking`](super::Asking). Cancel
    /// safe.
    pub(super) async fn turn(&self, elsewhere: bool) -> Turn<N> {
        let limit = Arc::clone(&self.pool.limit);
        match tokio::time::timeout(PATIENCE, self.some_turn(&limit, elsewhere)).await {
            Ok(turn) => turn,
            // It asks the other cores only after this wait. Otherwise cores under a light load would exchange
            // connections all the time.
            Err(_) => {
                let _hungry = self.hungry();
                self.some_turn(&limit, elsewhere).await
            }
        }
    }

    /// Tells the other cores that this pool waits for a connection that they may hold, until the result is dropped.
    /// Which of the limits is used up may change in the meantime; nobody gives up anything for a limit that has room.
    fn hungry(&self) -> Vec<PermitRequest> {
        let own = self.pool.own();
        let spare = self.pool.spare_for(self.priority);
        let outer = self.pool.outer.borrow();
        let around = outer.open.iter().map(|limit| limit.hungry(own, 0));
        std::iter::once(self.pool.limit.hungry(own, spare))
            .chain(around)
            .collect()
    }

    async fn some_turn(&self, limit: &Limit, elsewhere: bool) -> Turn<N> {
        loop {
            let mut freed = pin!(limit.freed());
            // This is registered before the attempt, so that no wake-up is lost between the two.
            freed.as_mut().enable();
            if let Some(turn) = poll_fn(|cx| self.poll_turn(cx, freed.as_mut(), elsewhere)).await {
                return turn;
            }
        }
    }

    /// Ready(None) when a permit was freed on another core, and everything has to be tried again.
    fn poll_turn(
        &self,
        cx: &mut Context<'_>,
        freed: Pin<&mut tokio::sync::futures::Notified<'_>>,
        elsewhere: bool,
    ) -> Poll<Option<Turn<N>>> {
        // A request that leaves the head wakes the next one. If all requests listened for permits, each freed permit
        // would wake a whole queue.
        match self.stand(cx) {
            Stand::Behind => return Poll::Pending,
            Stand::SentAway => return Poll::Ready(Some(Turn::SentAway)),
            Stand::Head => {}
        }
        if !self.joins_wait()
            && let Some(turn) = self.pool.try_turn(self.priority, elsewhere)
        {
            return Poll::Ready(Some(turn));
        }
        freed.poll(cx).map(|()| None)
    }
}

impl<N: Default + Send + 'static> Drop for Place<N> {
    fn drop(&mut self) {
        let mut queue = self.pool.queue.borrow_mut();
        let line = queue.of(self.priority);
        if let Some(position) = place_of(self.rank, line) {
            line.remove(position);
        }
        let news = self.pool.idle.get() > 0 || self.pool.may_open(self.priority);
        queue.wake_heads(news);
    }
}

/// The position in the queue, which is sorted by rank. No two ranks are equal.
fn place_of(rank: Rank, line: &VecDeque<Waiter>) -> Option<usize> {
    line.binary_search_by_key(&rank, |w| w.rank).ok()
}

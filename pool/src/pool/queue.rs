//! The queue before a pool: whose turn it is, and what he can have.
//!
//! Who leaves the head, served or not, wakes the next one, so that no grant can be lost.

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

/// How long a core waits for its own connections before it asks other cores.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

pub(super) struct Waiter {
    rank: Rank,
    points: i8,
    /// Another one has its place.
    sent_away: bool,
    pub(super) since: Instant,
    waker: Option<Waker>,
    /// It does not listen to permits that other cores give back.
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

    /// Whether a request with so many points may be sent away.
    pub(super) fn has(&self, points: i8) -> bool {
        let mut new = self.new.iter();
        new.any(|waiter| waiter.points == points && !waiter.sent_away)
    }

    /// Tells the newest request with so many points to leave.
    pub(super) fn send_away(&mut self, points: i8) {
        // Equal ones stand in the order in which they came.
        let mut newest = self.new.iter_mut().rev();
        if let Some(waiter) = newest.find(|w| w.points == points && !w.sent_away) {
            waiter.sent_away = true;
            if let Some(waker) = &waiter.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes whose turn it may be; `news` if there is something to be had.
    pub(super) fn wake_heads(&self, news: bool) {
        // The head of the new ones too: a join at the head may be unable to use
        // what a new one could, never the other way round.
        for head in [self.joins.front(), self.new.front()].into_iter().flatten() {
            // Who has become head without that is told to listen for permits of other cores, if it does.
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

/// Where a request stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Head,
    Behind,
    SentAway,
}

/// How a request comes into line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It has not waited before.
    New,
    /// It has, or has to.
    Again,
}

/// A place in the queue; leaving it wakes the next one.
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
        // Who was the head until now need not be told: he looks where he is whenever he
        // is woken, and the new head asks for his turn at once.
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

    /// Since when it has stood here, or that another request has taken its place.
    pub fn lined_up(&self) -> LinedUp {
        let mut queue = self.pool.queue.borrow_mut();
        let line = queue.of(self.priority);
        match place_of(self.rank, line).map(|at| &line[at]) {
            Some(waiter) if !waiter.sent_away => LinedUp::Since(waiter.since),
            _ => LinedUp::SentAway,
        }
    }

    /// The next connection that is given back, when it is this one's turn: `None` when something else than to wait for
    /// that has to be done. For who stands in line by [`Pool::line_up`].
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

    /// Where in its line this is. Whoever makes it the first or sends it away wakes it.
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

    /// Whether somebody goes before it who is in another line.
    fn joins_wait(&self) -> bool {
        self.priority != Priority::Join && !self.pool.queue.borrow().joins.is_empty()
    }

    /// Waits for something usable; `elsewhere` is that of [`Asking`](super::Asking). Cancel safe.
    pub(super) async fn turn(&self, elsewhere: bool) -> Turn<N> {
        let limit = Arc::clone(&self.pool.limit);
        match tokio::time::timeout(PATIENCE, self.some_turn(&limit, elsewhere)).await {
            Ok(turn) => turn,
            // Only now, or cores under a little load would trade connections all the time.
            Err(_) => {
                let _hungry = self.hungry();
                self.some_turn(&limit, elsewhere).await
            }
        }
    }

    /// Says, until dropped, that this pool waits for a connection that others may keep.
    /// Which of the limits it lacks may change meanwhile; nobody gives anything for one with room.
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
            // Registered before the try, so that no wake-up falls between.
            freed.as_mut().enable();
            if let Some(turn) = poll_fn(|cx| self.poll_turn(cx, freed.as_mut(), elsewhere)).await {
                return turn;
            }
        }
    }

    /// Ready(None) when a permit was freed on another core and all must be tried anew.
    fn poll_turn(
        &self,
        cx: &mut Context<'_>,
        freed: Pin<&mut tokio::sync::futures::Notified<'_>>,
        elsewhere: bool,
    ) -> Poll<Option<Turn<N>>> {
        // Who leaves the head wakes the next one. Were all to listen for permits, each
        // that is freed would wake a whole queue.
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

/// Where in line: it is kept in the order of ranks, and no two are equal.
fn place_of(rank: Rank, line: &VecDeque<Waiter>) -> Option<usize> {
    line.binary_search_by_key(&rank, |w| w.rank).ok()
}

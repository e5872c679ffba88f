//! One connection to a server: a socket, the ledger of the replies that the server owes, and what the server has said
//! about itself.
//!
//! `N` is the router's notes about the connection (settings applied, statements prepared); this crate only carries
//! them. [`ServerConnection::is_clean`] alone decides whether the connection may go back to its pool.

mod requests;

pub use requests::Requests;

use crate::pool::Permits;
use crate::refusal::{Refusal, is_open, refusal};
use crate::standing::Standing;
use crate::wire::Wire;
use mothership_proto::backend::{self, TxStatus, tag};
use mothership_proto::frame::{self, Frame, FrameError, Next};
use mothership_proto::ledger::{Audience, Desync, Event, Ledger, Passed, Step, Until};
use mothership_proto::report::Fields;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::Notify;

/// The longest message that a server may send. PostgreSQL allocates (palloc) at most 1 GB for a value, and a row is a
/// little longer.
pub const MAX_SERVER_MESSAGE: usize = 0x4000_0000 + (1 << 20);

/// The key by which a cancel request names a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendKey {
    /// The backend's process id.
    pub pid: i32,
    /// Its secret: 4 bytes in protocol 3.0, longer in 3.2.
    pub secret: Vec<u8>,
}

/// How to cancel what a connection does, and how many cancel requests are under way.
///
/// The connection shares it with everybody who may cancel its work.
#[derive(Debug)]
pub struct CancelTarget {
    /// The key that a cancel request must name.
    pub key: BackendKey,
    in_flight: AtomicU32,
    /// A cancel request may still come, though nobody waits for its end any longer.
    is_astray: AtomicBool,
    /// Told when the last cancel request that was under way has ended.
    ended: Notify,
}

impl CancelTarget {
    fn new(key: BackendKey) -> Arc<Self> {
        Arc::new(Self {
            key,
            in_flight: AtomicU32::new(0),
            is_astray: AtomicBool::new(false),
            ended: Notify::new(),
        })
    }

    /// Counts one more cancel request as under way, until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> CancelGuard {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        CancelGuard(Arc::clone(self))
    }

    /// True while the server may still receive a cancel request that was meant for the previous client.
    pub fn is_pending(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    /// True if a cancel request was sent and nobody saw its end: the server may receive it at any time, whatever it does
    /// then.
    pub fn is_astray(&self) -> bool {
        self.is_astray.load(Ordering::Acquire)
    }

    /// Waits until no cancel request is under way. Each of them ends within `pool.cancel_timeout`.
    pub async fn settled(&self) {
        loop {
            let ended = self.ended.notified();
            if !self.is_pending() {
                return;
            }
            ended.await;
        }
    }
}

/// A cancel request under way.
#[derive(Debug)]
pub struct CancelGuard(Arc<CancelTarget>);

impl CancelGuard {
    /// The request may have been sent, and its end was not seen.
    pub fn goes_astray(&self) {
        self.0.is_astray.store(true, Ordering::Release);
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

/// Why a server connection cannot be used any longer.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The server closed the connection.
    #[error("server closed the connection")]
    Closed,
    /// The socket failed.
    #[error("connection to server failed")]
    Io(#[from] io::Error),
    /// A message has an impossible length.
    #[error("server sent a message of impossible length")]
    Frame(#[from] FrameError),
    /// A message came that nobody asked for.
    #[error("server broke the protocol: {0}")]
    Desync(#[from] Desync),
    /// The server committed, but perhaps did not wait for a synchronous standby. If the server is lost, the commit may
    /// be lost with it. So the client is told that the outcome is unknown.
    #[error("server did not wait for the commit to be replicated")]
    Unreplicated,
    /// A BEGIN of the router's own failed, with this error: somebody cancelled it, or a time limit of the session was over.
    /// Nothing was done of what followed it.
    #[error("server did not begin a transaction")]
    Unbegun(Vec<u8>),
}

/// What a server reported by ParameterStatus: name and value, in the order of the first report.
///
/// `in_hot_standby` is always noted as `off`, whatever the server reported. It describes the server and not the
/// session, and a client gets another server from read to read. For the router's address, which takes writes, `off` is
/// true.
pub type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

/// Servers of version 14 and later report by this parameter whether they are a hot standby.
/// <https://www.postgresql.org/docs/current/hot-standby.html>
pub const IN_HOT_STANDBY: &[u8] = b"in_hot_standby";

/// Why a server itself ends a connection.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// 57P01: the server shuts down, or somebody has ended this backend.
    Ended,
    /// 57P02: another backend has crashed.
    Crash,
    /// 57P03: the server does not accept connections yet, or no longer.
    NotReady,
    /// 57P05: the connection was idle for longer than `idle_session_timeout`. If a request arrived at that moment,
    /// nothing of it was done.
    Idle,
}

/// A logged-in connection.
pub struct ServerConnection<N> {
    /// The socket with its buffers.
    wire: Wire,
    /// The replies that the server owes. Only [`requests`] enters anything, with the bytes that ask for it.
    ledger: Ledger,
    /// The unnamed statement that the server has, by the router's number; `None` if it has none, or one without a number.
    pub unnamed: Option<u64>,
    /// How to cancel what the connection does.
    pub cancel: Arc<CancelTarget>,
    /// What the server reported. Connections with equal lists may share one list: whoever finds two equal ones shares
    /// them.
    pub parameters: Arc<Parameters>,
    /// The transaction status of the last ReadyForQuery.
    pub status: TxStatus,
    /// The router's notes.
    pub notes: N,
    /// When its login began. The server may have read its defaults at that moment, and a server that shuts down may have
    /// started the backend before: what happens during the login finds the connection too old, not too young.
    pub opened: Instant,
    /// When the connection is too old to be lent again.
    pub expires: Instant,
    /// When it was last given back to the pool.
    pub idle_since: Instant,
    /// What others, such as the console, see of the connection.
    pub standing: Arc<Standing>,
    /// Set when the protocol state is no longer certain; never cleared.
    doubtful: bool,
    /// The length of the longest message that is accepted from the server, with its header.
    pub longest: usize,
    pub(crate) _permits: Option<Permits>,
}

impl<N> Drop for ServerConnection<N> {
    fn drop(&mut self) {
        self.standing.close();
    }
}

impl<N> ServerConnection<N> {
    /// A connection that has just become ready.
    pub fn new(
        wire: Wire,
        key: BackendKey,
        parameters: Parameters,
        notes: N,
        expires: Instant,
    ) -> Self {
        let cancel = CancelTarget::new(key);
        Self {
            standing: Standing::new(&wire, Arc::clone(&cancel)),
            wire,
            ledger: Ledger::default(),
            unnamed: None,
            cancel,
            parameters: Arc::new(parameters),
            status: TxStatus::Idle,
            notes,
            opened: Instant::now(),
            expires,
            idle_since: Instant::now(),
            doubtful: false,
            longest: MAX_SERVER_MESSAGE,
            _permits: None,
        }
    }

    /// The replies that the server owes.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// See [`Ledger::take_unforgotten`].
    pub fn take_unforgotten(&mut self) -> Vec<u64> {
        self.ledger.take_unforgotten()
    }

    /// True when the server owes nothing, no transaction is open, no message is half sent or half read, no cancel may
    /// still come, and nothing has ever gone wrong.
    pub fn is_clean(&self) -> bool {
        !self.doubtful
            && !self.cancel.is_astray()
            && self.ledger.is_empty()
            && !self.ledger.is_in_segment()
            && self.status == TxStatus::Idle
            && self.wire.unsent() == 0
            && self.wire.input().is_empty()
    }

    /// Notes that the protocol state is no longer certain: the connection is never clean again.
    pub fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// True after [`Self::doubt`].
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Hands every complete message that has arrived to `reader`, with what the ledger says of it, and the router's own
    /// answers at their places, until `reader` says stop. If there is no complete message, reads from the socket until
    /// there is one.
    ///
    /// Ready after at least one message. Cancel safe: what was not handed out stays in the buffer. An error leaves the
    /// connection doubtful.
    pub fn poll_messages(
        &mut self,
        cx: &mut Context<'_>,
        mut reader: impl Reader,
    ) -> Poll<Result<(), Broken>> {
        let result = loop {
            if !self.wire.input().is_empty() || self.ledger.has_answer() {
                match self.drain(&mut reader) {
                    Ok(true) => break Ok(()),
                    Ok(false) => {}
                    Err(error) => break Err(error),
                }
            }
            match self.wire.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => break Err(Broken::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => break Err(Broken::Io(error)),
            }
        };
        if result.is_err() {
            self.doubtful = true;
        }
        Poll::Ready(result)
    }

    /// Handles what is in the buffer. True if `reader` got a message.
    fn drain(&mut self, reader: &mut impl Reader) -> Result<bool, Broken> {
        // The messages from here to `used` are to pass on, and `reader` has not got them yet.
        let mut passing = 0;
        let mut used = 0;
        let mut any = false;
        let input = self.wire.input();
        let result = loop {
            while let Some(bytes) = self.ledger.next_answer() {
                let step = Step {
                    event: Event::Own,
                    to: Audience::Client,
                };
                reader.message(&input[passing..used], Frame { bytes: &bytes }, step);
                passing = used;
                any = true;
            }
            let frame = match frame::next(&input[used..], self.longest) {
                Ok(Next::Whole(frame)) => frame,
                Ok(Next::Partial { .. }) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            let is_at_begin = self.ledger.is_at_begin();
            let step = match self.ledger.on(frame.tag(), frame.body()) {
                Ok(step) => step,
                Err(error) => break Err(error.into()),
            };
            match step.event {
                Event::Notice if Fields::read(frame.body()).is_unreplicated() => {
                    break Err(Broken::Unreplicated);
                }
                Event::Ready(status) => self.status = status,
                Event::Parameter => {
                    if let Ok((name, value)) = backend::parameter(frame.body()) {
                        remember(Arc::make_mut(&mut self.parameters), name, value);
                    }
                }
                _ => {}
            }
            let (flow, fate) = reader.message(&input[passing..used], frame, step);
            used += frame.bytes.len();
            any = true;
            if fate == Fate::Used {
                passing = used;
            }
            // After a FATAL error the server closes the connection itself.
            if is_at_begin && step.event == Event::Failed && !Fields::read(frame.body()).is_fatal()
            {
                break Err(Broken::Unbegun(frame.body().to_vec()));
            }
            if flow == Flow::Stop {
                break Ok(());
            }
        };
        if passing < used {
            reader.pass(&input[passing..used]);
        }
        self.wire.consume(used);
        result.map(|()| any)
    }

    /// Passes messages on to `client` that need no more than that (see [`Ledger::pass`]). Reads from the socket until
    /// there are some. `columns` writes another RowDescription in place of the server's. With `unseen`, the client has
    /// seen nothing of the answer yet: if the server [announces its end](Self::says_farewell) behind these messages,
    /// none of them is passed on.
    ///
    /// Ready when something has passed, or when [`Self::poll_messages`] has to judge the next message. Cancel safe. An
    /// error leaves the connection doubtful.
    pub fn poll_passing(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Wire,
        columns: Option<impl Fn(Frame<'_>, &mut Vec<u8>)>,
        unseen: bool,
    ) -> Poll<Result<Passed, Broken>> {
        self.poll_some(cx, |connection| {
            match unseen && connection.says_farewell() {
                true => Passed {
                    bytes: 0,
                    parsed: false,
                    until: Until::Judgement,
                },
                false => connection.pass(client, columns.as_ref()),
            }
        })
    }

    /// Ready with true when the connection has ended, or when the server [announces its end](Self::says_farewell); with
    /// false when something else has arrived. Takes nothing from the buffer.
    pub fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while is_open(self.wire.input(), self.longest) {
            match self.wire.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(true),
                Poll::Ready(Ok(_)) => {}
            }
        }
        Poll::Ready(self.says_farewell())
    }

    /// Whether the server has [announced its end](Self::farewell).
    pub fn says_farewell(&self) -> bool {
        self.farewell().is_some()
    }

    /// Why the server ends the connection, if that is among the messages that have arrived.
    pub fn farewell(&self) -> Option<Farewell> {
        let mut rest = self.wire.input();
        while let Ok(Next::Whole(frame)) = frame::next(rest, self.longest) {
            if matches!(frame.tag(), tag::ERROR | tag::NOTICE) {
                let fields = Fields::read(frame.body());
                match (fields.code, fields.is_fatal()) {
                    (Some(b"57P01"), true) => return Some(Farewell::Ended),
                    (Some(b"57P03"), true) => return Some(Farewell::NotReady),
                    (Some(b"57P05"), true) => return Some(Farewell::Idle),
                    // The server sends this one as a warning, not as a FATAL.
                    (Some(b"57P02"), _) => return Some(Farewell::Crash),
                    _ if frame.tag() == tag::ERROR => return None,
                    _ => {}
                }
            }
            rest = &rest[frame.bytes.len()..];
        }
        None
    }

    /// Why the server has refused the request at hand, if its answer begins with such a refusal.
    pub fn refusal(&self) -> Option<Refusal> {
        refusal(self.wire.input(), self.longest)
    }

    /// Hands messages for the router that the ledger need not judge (see [`Ledger::pass`]) to `take`, one by one. Reads
    /// from the socket until there are some.
    ///
    /// Ready when something was taken, or when [`Self::poll_messages`] has to judge the next message. Cancel safe. An
    /// error leaves the connection doubtful.
    pub fn poll_taking(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Frame<'_>),
    ) -> Poll<Result<Passed, Broken>> {
        self.poll_some(cx, |connection| connection.take(&mut take))
    }

    /// Reads from the socket until `some` takes something from the buffer, or says that the next message has to be
    /// judged.
    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        mut some: impl FnMut(&mut Self) -> Passed,
    ) -> Poll<Result<Passed, Broken>> {
        let error = loop {
            if !self.wire.input().is_empty() {
                let passed = some(self);
                if passed.bytes > 0 || passed.until != Until::Partial {
                    return Poll::Ready(Ok(passed));
                }
            }
            match self.wire.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => break Broken::Closed,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => break Broken::Io(error),
            }
        };
        self.doubtful = true;
        Poll::Ready(Err(error))
    }

    /// Hands out the messages for the router that are in the buffer.
    fn take(&mut self, take: &mut impl FnMut(Frame<'_>)) -> Passed {
        let input = self.wire.input();
        let taken = self
            .ledger
            .pass(Audience::Router, input, self.longest, false);
        let mut rest = &input[..taken.bytes];
        while let Ok(Next::Whole(frame)) = frame::next(rest, self.longest) {
            take(frame);
            rest = &rest[frame.bytes.len()..];
        }
        self.wire.consume(taken.bytes);
        taken
    }

    /// Passes on the messages for the client that are in the buffer.
    fn pass(
        &mut self,
        client: &mut Wire,
        columns: Option<&impl Fn(Frame<'_>, &mut Vec<u8>)>,
    ) -> Passed {
        let mut all = Passed {
            bytes: 0,
            parsed: false,
            until: Until::Partial,
        };
        let input = self.wire.input();
        loop {
            let rest = &input[all.bytes..];
            let passed = self
                .ledger
                .pass(Audience::Client, rest, self.longest, columns.is_some());
            client.send(&rest[..passed.bytes]);
            all.bytes += passed.bytes;
            all.parsed |= passed.parsed;
            all.until = passed.until;
            let next = frame::next(&rest[passed.bytes..], self.longest);
            let (Until::Columns, Some(columns), Ok(Next::Whole(frame))) =
                (passed.until, columns, next)
            else {
                break;
            };
            if self.ledger.on(frame.tag(), frame.body()).is_err() {
                all.until = Until::Judgement;
                break;
            }
            client.with_output(|out| columns(frame, out));
            all.bytes += frame.bytes.len();
        }
        self.wire.consume(all.bytes);
        all
    }

    /// The last reported value of a parameter.
    pub fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_slice())
    }

    /// Handles what arrived while the connection was idle in the pool. True if the connection is still usable. If
    /// nothing arrived, this costs no system call.
    pub fn survives_idling(&mut self) -> bool {
        if !self.wire.has_news() {
            return true;
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // A server that was asked nothing sends an error only before it closes the connection. The close may not have
        // arrived yet.
        let mut says_error = false;
        loop {
            let polled = self.poll_messages(&mut cx, |frame: Frame<'_>, _: Step| {
                says_error |= frame.tag() == tag::ERROR;
                Flow::Continue
            });
            match polled {
                _ if says_error => return false,
                Poll::Pending => return self.is_clean(),
                Poll::Ready(Ok(())) if self.is_clean() => {}
                Poll::Ready(_) => return false,
            }
        }
    }
}

/// Whether a reader wants the next message, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Hand out the next message.
    Continue,
    /// Leave the rest in the buffer.
    Stop,
}

/// What a reader does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The reader is done with it.
    Used,
    /// The message passes on as it is, in one piece with its neighbours.
    Passes,
}

/// Takes what a server sends.
///
/// Most messages pass on as they are. They are handed over in one piece: for each of them the reader returns
/// [`Fate::Passes`], and later gets them together, from [`Reader::pass`] or with the first message that does not pass.
pub trait Reader {
    /// One message, and what the ledger says of it. `before` are messages that have to pass on before it. If the reader
    /// does not let this message pass, too, it first hands `before` on.
    fn message(&mut self, before: &[u8], frame: Frame<'_>, step: Step) -> (Flow, Fate);

    /// Complete messages, one after the other, that have to pass on.
    fn pass(&mut self, messages: &[u8]);
}

/// A reader that passes nothing on.
impl<F: FnMut(Frame<'_>, Step) -> Flow> Reader for F {
    fn message(&mut self, _: &[u8], frame: Frame<'_>, step: Step) -> (Flow, Fate) {
        (self(frame, step), Fate::Used)
    }

    fn pass(&mut self, messages: &[u8]) {
        debug_assert!(messages.is_empty(), "every message was used");
    }
}

/// Notes the latest value of a reported parameter. [`Parameters`] describes the exception.
pub fn remember(parameters: &mut Parameters, name: &[u8], value: &[u8]) {
    let value = if name == IN_HOT_STANDBY {
        b"off"
    } else {
        value
    };
    match parameters.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) if old == value => {}
        Some((_, old)) => *old = value.to_vec(),
        None => parameters.push((name.to_vec(), value.to_vec())),
    }
}

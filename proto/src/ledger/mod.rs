//! The ledger of a server connection: which replies the server still owes, and to whom.
//!
//! Every request to a server is entered here, and every message from the server is compared with the first entry. In:
//! one entry per request, then the tag and body of each reply. Out: who gets the message, and what it means. The
//! connection may go back to its pool only when the ledger is empty. A reply that fits no entry is a [`Desync`]: the
//! connection must be closed, because nobody can say any longer who gets the next bytes.
//!
//! The rules are those of the chapter "Message Flow" of PostgreSQL's manual. In the extended protocol an error makes
//! the server skip everything up to the next Sync. During COPY FROM STDIN it ignores Flush and Sync.

mod pass;

pub use pass::{Passed, Until};

use crate::backend::{TxStatus, tag};
use std::borrow::Cow;
use std::collections::VecDeque;

/// Who asked, and so who gets the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The client: the reply is passed on.
    Client,
    /// The router: the reply is swallowed.
    Router,
}

/// One request whose reply is outstanding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Parse, with the router's number of the statement.
    Parse(u64, Audience),
    /// Bind.
    Bind(Audience),
    /// Close of a statement or portal.
    Close(Audience),
    /// Close of a statement of the router's own, with its number.
    Forget(u64),
    /// Describe of a statement.
    DescribeStatement(Audience),
    /// Describe of a portal.
    DescribePortal(Audience),
    /// Execute.
    Execute(Audience),
    /// Sync.
    Sync(Audience),
    /// A simple query, up to its ReadyForQuery.
    Query(Audience),
    /// BEGIN of the router's own, as Parse, Bind and Execute without Sync. Another request may follow it at once, a simple
    /// query too: if it fails, the server reads nothing more up to a Sync. A simple query BEGIN that failed would be
    /// followed by that request all the same, which would then be a transaction of its own.
    Begin,
    /// A function call, up to its ReadyForQuery.
    FunctionCall,
    /// The server owes nothing: the router itself answers this request, when its turn comes.
    Answer(Cow<'static, [u8]>),
}

impl Owed {
    fn audience(&self) -> Audience {
        match self {
            Self::Parse(_, to)
            | Self::Bind(to)
            | Self::Close(to)
            | Self::DescribeStatement(to)
            | Self::DescribePortal(to)
            | Self::Execute(to)
            | Self::Sync(to)
            | Self::Query(to) => *to,
            Self::Forget(_) | Self::Begin => Audience::Router,
            Self::FunctionCall | Self::Answer(_) => Audience::Client,
        }
    }

    /// True for requests whose failure makes the server skip to the next Sync.
    fn is_extended(&self) -> bool {
        !matches!(self, Self::Sync(_) | Self::Query(_) | Self::FunctionCall)
    }

    /// Whether the server has a transaction open behind this request, until Sync; `None` if this request changes nothing
    /// about it. PostgreSQL begins one for each message of a segment but Close.
    fn leaves_segment_open(&self) -> Option<bool> {
        match self {
            Self::Parse(..)
            | Self::Bind(_)
            | Self::DescribeStatement(_)
            | Self::DescribePortal(_)
            | Self::Execute(_) => Some(true),
            Self::Sync(_) | Self::Query(_) | Self::Begin | Self::FunctionCall => Some(false),
            Self::Close(_) | Self::Forget(_) | Self::Answer(_) => None,
        }
    }
}

/// What one message from the server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A notice. It belongs to no request, and goes to the client that is being served.
    Notice,
    /// A ParameterStatus: the connection's settings changed.
    Parameter,
    /// A notification of LISTEN.
    Notification,
    /// Part of an answer with more to come: rows, descriptions, COPY data.
    Part,
    /// The statement was prepared.
    Parsed(u64),
    /// A Bind, Close or Describe was answered.
    Answered,
    /// A statement succeeded: CommandComplete or EmptyQueryResponse.
    Completed,
    /// A portal reached its row limit.
    Suspended,
    /// The server waits for COPY data.
    CopyIn,
    /// The statement failed.
    Failed,
    /// The server is ready, with its transaction status.
    Ready(TxStatus),
    /// An answer of the router, whose turn has come. It is not from the server.
    Own,
}

/// The ledger's judgement of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the message means.
    pub event: Event,
    /// Who gets it.
    pub to: Audience,
}

/// The server sent a message that is not owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server sent message {:?} while {owing} was owed", *tag as char)]
pub struct Desync {
    /// The message's tag.
    pub tag: u8,
    /// What the server owed.
    pub owing: &'static str,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Normal,
    /// The first request takes COPY data.
    CopyIn,
    /// An extended request failed and its Sync is not sent yet.
    Skipping,
}

/// How much of the answer to the first request (a query or an Execute) has arrived. Not every message may follow every
/// other one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Heard {
    /// Nothing; for an Execute, perhaps rows.
    #[default]
    Nothing,
    /// A RowDescription of a simple query, and perhaps rows.
    Columns,
    /// CopyOutResponse.
    CopyOut,
    /// The end of a statement of a simple query. Another statement may begin.
    Completed,
    /// An error of a simple query. Only its ReadyForQuery is left.
    Failed,
}

impl Heard {
    /// Whether the answer to a statement of a simple query may begin.
    fn may_begin(self) -> bool {
        matches!(self, Self::Nothing | Self::Completed)
    }

    /// Whether a simple query may be over.
    fn may_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// The replies that the server of one connection owes, in order.
#[derive(Debug, Default)]
pub struct Ledger {
    queue: VecDeque<Owed>,
    mode: Mode,
    heard: Heard,
    /// Statements whose Close was skipped.
    unforgotten: Vec<u64>,
    /// A segment has begun, and its Sync was not entered yet.
    in_segment: bool,
}

impl Ledger {
    /// Enters a request that was sent, or an answer that the router gives when its turn comes.
    ///
    /// While the ledger is skipping, only Sync may be entered: the server reads nothing else.
    pub fn push(&mut self, owed: Owed) {
        if self.mode == Mode::Skipping {
            debug_assert!(
                matches!(owed, Owed::Sync(_)),
                "the server skips everything but Sync"
            );
            self.mode = Mode::Normal;
        }
        if let Owed::Forget(_) = owed {
            // The memory is reserved here, so that messages from the server allocate none.
            let others = self.queue.iter().filter(|o| matches!(o, Owed::Forget(_)));
            self.unforgotten.reserve(others.count() + 1);
        }
        if let Some(open) = owed.leaves_segment_open() {
            self.in_segment = open;
        }
        self.queue.push_back(owed);
    }

    /// Whether the server is in a segment without its Sync. It has a transaction open then, even if all is answered and
    /// its last ReadyForQuery said that it is idle.
    pub fn is_in_segment(&self) -> bool {
        self.in_segment
    }

    /// True when nothing is owed and the protocol is between requests.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.mode == Mode::Normal
    }

    /// What is owed, in order.
    pub fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.queue.iter()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True after an error in the extended protocol, until Sync is sent.
    pub fn is_skipping(&self) -> bool {
        self.mode == Mode::Skipping
    }

    /// True while the server takes COPY data.
    pub fn is_copy_in(&self) -> bool {
        self.mode == Mode::CopyIn
    }

    /// The statements that the server still has, because it skipped their Close. Returns them once.
    pub fn take_unforgotten(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.unforgotten)
    }

    /// Whether the next answer is that of [`Owed::Begin`].
    pub fn is_at_begin(&self) -> bool {
        matches!(self.queue.front(), Some(Owed::Begin))
    }

    /// True if the turn of an answer of the router's own has come.
    pub fn has_answer(&self) -> bool {
        matches!(self.queue.front(), Some(Owed::Answer(_)))
    }

    /// The router's own answer, if its turn has come.
    pub fn next_answer(&mut self) -> Option<Cow<'static, [u8]>> {
        if !self.has_answer() {
            return None;
        }
        match self.queue.pop_front() {
            Some(Owed::Answer(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Compares one message with the ledger.
    pub fn on(&mut self, message: u8, body: &[u8]) -> Result<Step, Desync> {
        match message {
            tag::NOTICE => return Ok(self.aside(Event::Notice)),
            tag::PARAMETER_STATUS => return Ok(self.aside(Event::Parameter)),
            tag::NOTIFICATION => return Ok(self.aside(Event::Notification)),
            _ => {}
        }
        let Some(front) = self.queue.front() else {
            return match message {
                // The server says why it closes the connection.
                tag::ERROR => Ok(Step {
                    event: Event::Failed,
                    to: Audience::Client,
                }),
                _ => Err(Desync {
                    tag: message,
                    owing: "nothing",
                }),
            };
        };
        let to = front.audience();
        let event = self.judge(message, body)?;
        Ok(Step { event, to })
    }

    fn aside(&self, event: Event) -> Step {
        let to = self.queue.front().map_or(Audience::Client, Owed::audience);
        Step { event, to }
    }

    fn judge(&mut self, message: u8, body: &[u8]) -> Result<Event, Desync> {
        let front = self.queue.front().expect("the caller found a front entry");
        if message == tag::ERROR {
            return Ok(self.fail());
        }
        let desync = |owing| {
            Err(Desync {
                tag: message,
                owing,
            })
        };
        match (front, message) {
            (Owed::Parse(id, _), tag::PARSE_COMPLETE) => {
                let id = *id;
                Ok(self.pop(Event::Parsed(id)))
            }
            (Owed::Parse(..), _) => desync("ParseComplete"),
            (Owed::Bind(_), tag::BIND_COMPLETE) => Ok(self.pop(Event::Answered)),
            (Owed::Bind(_), _) => desync("BindComplete"),
            (Owed::Close(_) | Owed::Forget(_), tag::CLOSE_COMPLETE) => {
                Ok(self.pop(Event::Answered))
            }
            (Owed::Close(_) | Owed::Forget(_), _) => desync("CloseComplete"),
            (Owed::DescribeStatement(_), tag::PARAMETER_DESCRIPTION) => Ok(Event::Part),
            (
                Owed::DescribeStatement(_) | Owed::DescribePortal(_),
                tag::ROW_DESCRIPTION | tag::NO_DATA,
            ) => Ok(self.pop(Event::Answered)),
            (Owed::DescribeStatement(_) | Owed::DescribePortal(_), _) => desync("RowDescription"),
            (Owed::Query(_), tag::READY) if !self.heard.may_end() => {
                desync("the end of a statement")
            }
            (Owed::Query(_), message) if message != tag::READY && self.heard == Heard::Failed => {
                desync("ReadyForQuery")
            }
            (Owed::Begin, tag::PARSE_COMPLETE | tag::BIND_COMPLETE) => Ok(Event::Part),
            (Owed::Begin, tag::COMMAND_COMPLETE) => Ok(self.pop(Event::Ready(TxStatus::Open))),
            (Owed::Begin, _) => desync("the result of BEGIN"),
            (Owed::Execute(_), tag::COMMAND_COMPLETE | tag::EMPTY_QUERY) => {
                self.mode = Mode::Normal;
                self.heard = Heard::Nothing;
                Ok(self.pop(Event::Completed))
            }
            (Owed::Execute(_), tag::PORTAL_SUSPENDED) => Ok(self.pop(Event::Suspended)),
            (Owed::Execute(_), tag::COPY_IN) => {
                self.mode = Mode::CopyIn;
                self.forget_ignored_syncs();
                Ok(Event::CopyIn)
            }
            (Owed::Query(_), tag::COPY_IN) if self.heard.may_begin() => {
                self.mode = Mode::CopyIn;
                Ok(Event::CopyIn)
            }
            (Owed::Query(_), tag::COMMAND_COMPLETE | tag::EMPTY_QUERY) => {
                self.mode = Mode::Normal;
                self.heard = Heard::Completed;
                Ok(Event::Completed)
            }
            (Owed::Query(_), tag::ROW_DESCRIPTION) if self.heard.may_begin() => {
                self.heard = Heard::Columns;
                Ok(Event::Part)
            }
            (Owed::Query(_), tag::DATA_ROW) if self.heard == Heard::Columns => Ok(Event::Part),
            // Execute is answered without a RowDescription.
            (Owed::Execute(_), tag::DATA_ROW) => Ok(Event::Part),
            (Owed::Execute(_) | Owed::Query(_), tag::COPY_OUT) if self.heard.may_begin() => {
                self.heard = Heard::CopyOut;
                Ok(Event::Part)
            }
            (Owed::Execute(_) | Owed::Query(_), tag::COPY_DATA | tag::COPY_DONE)
                if self.heard == Heard::CopyOut =>
            {
                Ok(Event::Part)
            }
            (Owed::FunctionCall, tag::FUNCTION_RESULT) => Ok(Event::Part),
            (Owed::Query(_) | Owed::Sync(_) | Owed::FunctionCall, tag::READY) => {
                let status = TxStatus::read(body).map_err(|_| Desync {
                    tag: message,
                    owing: "a transaction status",
                })?;
                self.mode = Mode::Normal;
                self.heard = Heard::Nothing;
                Ok(self.pop(Event::Ready(status)))
            }
            (Owed::Execute(_), _) => desync("the result of Execute"),
            (Owed::Query(_), _) => desync("the result of Query"),
            (Owed::FunctionCall, _) => desync("the result of FunctionCall"),
            (Owed::Sync(_), _) => desync("ReadyForQuery"),
            (Owed::Answer(_), _) => desync("the router's own answer"),
        }
    }

    fn pop(&mut self, event: Event) -> Event {
        self.queue.pop_front();
        event
    }

    /// An error ends the first request. In the extended protocol the server skips what follows up to Sync, simple queries
    /// too. The router's own answers in between are not given either, because the requests that they answer are skipped.
    fn fail(&mut self) -> Event {
        self.mode = Mode::Normal;
        self.heard = match self.queue.front() {
            Some(Owed::Query(_)) => Heard::Failed,
            _ => Heard::Nothing,
        };
        if self.queue.front().is_some_and(Owed::is_extended) {
            let skipped = |owed: &Owed| !matches!(owed, Owed::Sync(_));
            while self.queue.front().is_some_and(skipped) {
                if let Some(Owed::Forget(id)) = self.queue.pop_front() {
                    self.unforgotten.push(id);
                }
            }
            if self.queue.is_empty() {
                self.mode = Mode::Skipping;
            }
        }
        Event::Failed
    }

    /// A Sync that was already on its way when COPY began is ignored by the server,
    /// "for the convenience of client libraries" (manual, COPY Operations).
    fn forget_ignored_syncs(&mut self) {
        while matches!(self.queue.get(1), Some(Owed::Sync(_))) {
            self.queue.remove(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Audience::{Client, Router};

    fn replies(ledger: &mut Ledger, tags: &[u8]) -> Vec<Event> {
        tags.iter()
            .map(|&t| {
                let body: &[u8] = if t == tag::READY { b"I" } else { b"" };
                ledger.on(t, body).expect("the reply is owed").event
            })
            .collect()
    }

    #[test]
    fn a_segment_is_open_until_its_sync_however_much_is_answered() {
        let mut ledger = Ledger::default();
        for begins in [
            Owed::Parse(1, Client),
            Owed::Bind(Client),
            Owed::DescribeStatement(Client),
            Owed::DescribePortal(Router),
            Owed::Execute(Router),
        ] {
            assert!(!ledger.is_in_segment());
            ledger.push(begins.clone());
            let answer: &[u8] = match begins {
                Owed::Parse(..) => b"1",
                Owed::Bind(_) => b"2",
                Owed::DescribeStatement(_) => b"tn",
                Owed::DescribePortal(_) => b"n",
                _ => b"C",
            };
            replies(&mut ledger, answer);
            assert!(ledger.is_empty() && ledger.is_in_segment(), "{begins:?}");
            ledger.push(Owed::Close(Client));
            assert!(ledger.is_in_segment(), "{begins:?}");
            ledger.push(Owed::Sync(Client));
            replies(&mut ledger, b"3Z");
        }
        ledger.push(Owed::Close(Client));
        assert!(!ledger.is_in_segment());
    }

    #[test]
    fn what_cannot_follow_in_the_answer_to_a_query_is_not_owed() {
        for (before, wrong) in [
            ("", "D"),
            ("", "d"),
            ("", "c"),
            ("", "Z"),
            ("T", "T"),
            ("TD", "T"),
            ("TD", "d"),
            ("TD", "G"),
            ("TD", "Z"),
            ("TDC", "D"),
            ("H", "D"),
            ("E", "C"),
            ("E", "D"),
            ("TE", "T"),
        ] {
            let mut ledger = Ledger::default();
            ledger.push(Owed::Query(Client));
            replies(&mut ledger, before.as_bytes());
            let bytes = wrong.as_bytes();
            assert!(ledger.on(bytes[0], b"I").is_err(), "{wrong} after {before}");
        }
        for wrong in *b"Tdc" {
            let mut ledger = Ledger::default();
            ledger.push(Owed::Execute(Client));
            assert!(ledger.on(wrong, b"").is_err());
        }
        let mut ledger = Ledger::default();
        for answer in ["TDDCTCIHddcCZ", "GCZ", "TDEZ", "EEZ"] {
            ledger.push(Owed::Query(Client));
            replies(&mut ledger, answer.as_bytes());
            assert!(ledger.is_empty(), "{answer}");
        }
    }

    #[test]
    fn a_pipeline_is_answered_entry_by_entry() {
        let mut ledger = Ledger::default();
        for owed in [
            Owed::Parse(7, Client),
            Owed::Bind(Client),
            Owed::DescribePortal(Client),
            Owed::Execute(Client),
            Owed::Sync(Client),
        ] {
            ledger.push(owed);
        }
        assert_eq!(
            replies(&mut ledger, b"12TDDCZ"),
            [
                Event::Parsed(7),
                Event::Answered,
                Event::Answered,
                Event::Part,
                Event::Part,
                Event::Completed,
                Event::Ready(TxStatus::Idle)
            ]
        );
        assert!(ledger.is_empty());
    }

    // See: pgbouncer#759, pgdog#876
    #[test]
    fn an_error_skips_to_sync_and_no_further() {
        let mut ledger = Ledger::default();
        for owed in [
            Owed::Bind(Client),
            Owed::Execute(Client),
            Owed::Answer(Cow::Borrowed(b"1")),
            Owed::Sync(Client),
            Owed::Query(Client),
        ] {
            ledger.push(owed);
        }
        assert_eq!(
            replies(&mut ledger, b"2E"),
            [Event::Answered, Event::Failed]
        );
        assert_eq!(ledger.next_answer(), None);
        assert_eq!(ledger.len(), 2);
        assert_eq!(
            replies(&mut ledger, b"ZTDCCZ").last(),
            Some(&Event::Ready(TxStatus::Idle))
        );
        assert!(ledger.is_empty());
    }

    /// A byte that the network has changed may make another message of the end of a statement.
    #[test]
    fn a_query_is_not_over_before_a_statement_of_it_is() {
        for early in [&b""[..], b"TDD", b"T"] {
            let mut ledger = Ledger::default();
            ledger.push(Owed::Query(Client));
            ledger.push(Owed::Query(Client));
            replies(&mut ledger, b"ICZ");
            replies(&mut ledger, early);
            let desync = ledger.on(tag::READY, b"I").unwrap_err();
            assert_eq!(desync.owing, "the end of a statement");
            replies(&mut ledger, b"EZ");
            assert!(ledger.is_empty());
        }
    }

    #[test]
    fn a_statement_whose_close_was_skipped_is_told() {
        let mut ledger = Ledger::default();
        for owed in [
            Owed::Forget(1),
            Owed::Bind(Client),
            Owed::Forget(2),
            Owed::Parse(3, Client),
            Owed::Sync(Client),
            Owed::Forget(4),
        ] {
            ledger.push(owed);
        }
        replies(&mut ledger, b"3E");
        assert_eq!(ledger.take_unforgotten(), [2]);
        replies(&mut ledger, b"Z3");
        assert_eq!(ledger.take_unforgotten(), []);
        assert!(ledger.is_empty());
    }

    #[test]
    fn after_an_error_without_sync_the_connection_is_not_free() {
        let mut ledger = Ledger::default();
        ledger.push(Owed::Parse(1, Client));
        replies(&mut ledger, b"E");
        assert!(ledger.is_skipping() && !ledger.is_empty());
        ledger.push(Owed::Sync(Client));
        replies(&mut ledger, b"Z");
        assert!(ledger.is_empty());
    }

    #[test]
    fn answers_of_the_router_wait_for_their_turn() {
        let mut ledger = Ledger::default();
        ledger.push(Owed::Bind(Client));
        ledger.push(Owed::Answer(Cow::Borrowed(b"x")));
        ledger.push(Owed::Sync(Client));
        assert_eq!(ledger.next_answer(), None);
        replies(&mut ledger, b"2");
        assert_eq!(ledger.next_answer().as_deref(), Some(&b"x"[..]));
        replies(&mut ledger, b"Z");
        assert!(ledger.is_empty());
    }

    // See: pgbouncer#1025, pgbouncer#1470
    #[test]
    fn copy_in_swallows_the_sync_that_was_under_way() {
        let mut ledger = Ledger::default();
        ledger.push(Owed::Execute(Client));
        ledger.push(Owed::Sync(Client));
        assert_eq!(replies(&mut ledger, b"G"), [Event::CopyIn]);
        assert!(ledger.is_copy_in());
        assert_eq!(ledger.len(), 1);
        replies(&mut ledger, b"C");
        ledger.push(Owed::Sync(Client));
        replies(&mut ledger, b"Z");
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_failed_copy_of_a_simple_query_still_owes_ready() {
        let mut ledger = Ledger::default();
        ledger.push(Owed::Query(Client));
        replies(&mut ledger, b"GE");
        assert!(!ledger.is_copy_in() && !ledger.is_empty());
        replies(&mut ledger, b"Z");
        assert!(ledger.is_empty());
    }

    // See: pgbouncer#144
    #[test]
    fn what_nobody_asked_for_is_a_desync() {
        let mut ledger = Ledger::default();
        assert!(ledger.on(tag::READY, b"I").is_err());
        assert!(ledger.on(tag::DATA_ROW, b"").is_err());
        ledger.push(Owed::Sync(Client));
        assert!(ledger.on(tag::DATA_ROW, b"").is_err());
        assert!(ledger.on(tag::READY, b"X").is_err());
    }

    #[test]
    fn every_message_goes_to_who_asked() {
        let mut ledger = Ledger::default();
        ledger.push(Owed::Query(Router));
        ledger.push(Owed::Query(Client));
        assert_eq!(ledger.on(tag::COMMAND_COMPLETE, b"").unwrap().to, Router);
        assert_eq!(ledger.on(tag::PARAMETER_STATUS, b"").unwrap().to, Router);
        assert_eq!(ledger.on(tag::READY, b"I").unwrap().to, Router);
        assert_eq!(ledger.on(tag::COMMAND_COMPLETE, b"").unwrap().to, Client);
    }

    #[test]
    fn what_follows_a_begin_that_fails_is_skipped_up_to_sync() {
        let begun = |ledger: &mut Ledger| {
            for (tag, event) in [
                (tag::PARSE_COMPLETE, Event::Part),
                (tag::BIND_COMPLETE, Event::Part),
                (tag::COMMAND_COMPLETE, Event::Ready(TxStatus::Open)),
            ] {
                assert!(ledger.is_at_begin());
                assert_eq!(ledger.on(tag, b"").unwrap().event, event);
            }
        };
        let mut ledger = Ledger::default();
        ledger.push(Owed::Begin);
        ledger.push(Owed::Query(Client));
        begun(&mut ledger);
        assert_eq!(ledger.len(), 1);
        assert!(!ledger.is_at_begin() && !ledger.is_in_segment());

        let mut ledger = Ledger::default();
        ledger.push(Owed::Begin);
        ledger.push(Owed::Query(Client));
        let failed = ledger.on(tag::ERROR, b"").unwrap();
        assert_eq!((failed.event, failed.to), (Event::Failed, Router));
        assert!(ledger.is_skipping() && ledger.owed().next().is_none());

        let mut ledger = Ledger::default();
        ledger.push(Owed::Begin);
        ledger.push(Owed::Bind(Client));
        ledger.push(Owed::Sync(Client));
        ledger.on(tag::ERROR, b"").unwrap();
        assert!(!ledger.is_skipping() && ledger.len() == 1);
        let mut ledger = Ledger::default();
        ledger.push(Owed::Begin);
        assert!(ledger.on(tag::READY, b"I").is_err());
    }
}

//! Takes many replies of a server at once, if they only have to be passed on.
//!
//! Most of what a server sends are rows and the few messages around them, and whoever asked for them only wants to get
//! them. [`Ledger::pass`] checks as many of these messages as it can against the ledger, and says how many bytes they
//! are. The ledger is then in the same state as if [`Ledger::on`] had seen each of them.

use super::{Audience, Heard, Ledger, Mode, Owed};
use crate::backend::{TxStatus, tag};
use crate::frame::{self, Next};

/// The result of [`Ledger::pass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// So many bytes at the beginning of the input only have to be passed on.
    pub bytes: usize,
    /// ParseComplete is among these messages.
    pub parsed: bool,
    /// Why it stopped there.
    pub until: Until,
}

/// Why [`Ledger::pass`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The next message has not arrived in full.
    Partial,
    /// [`Ledger::on`] has to see the next message. It is an error, a message outside of the answer (a notice, for
    /// example), a message that is not owed or that somebody else waits for, or the end of a request that leaves a
    /// transaction open.
    Judgement,
    /// The next message is a RowDescription, and `leave_columns` was set.
    Columns,
    /// The last message that passes is ReadyForQuery, and no transaction is open.
    Ready,
}

impl Ledger {
    /// Takes complete messages from the beginning of `input` that are owed to `to` and only have to be passed on.
    /// `limit` is the length of the longest allowed message, with its header. With `leave_columns`, whoever waits gets
    /// another RowDescription than the server's, so `pass` stops before it.
    pub fn pass(
        &mut self,
        to: Audience,
        input: &[u8],
        limit: usize,
        leave_columns: bool,
    ) -> Passed {
        let mut bytes = 0;
        let mut parsed = false;
        let until = loop {
            let frame = match frame::next(&input[bytes..], limit) {
                Ok(Next::Whole(frame)) => frame,
                Ok(Next::Partial { .. }) => break Until::Partial,
                Err(_) => break Until::Judgement,
            };
            let (Mode::Normal, Some(front)) = (self.mode, self.queue.front()) else {
                break Until::Judgement;
            };
            match (front, frame.tag()) {
                (front, _) if front.audience() != to => break Until::Judgement,
                (Owed::Query(_), tag::ROW_DESCRIPTION) if !self.heard.may_begin() => {
                    break Until::Judgement;
                }
                (Owed::Query(_) | Owed::DescribePortal(_), tag::ROW_DESCRIPTION)
                    if leave_columns =>
                {
                    break Until::Columns;
                }
                (Owed::Query(_), tag::ROW_DESCRIPTION) => self.heard = Heard::Columns,
                (Owed::Query(_), tag::DATA_ROW) if self.heard == Heard::Columns => {}
                (Owed::Execute(_), tag::DATA_ROW) => {}
                (Owed::Query(_), tag::COMMAND_COMPLETE) if self.heard != Heard::Failed => {
                    self.heard = Heard::Completed;
                }
                (Owed::Query(_), tag::READY) if !self.heard.may_end() => break Until::Judgement,
                (Owed::Execute(_), tag::COMMAND_COMPLETE) => {
                    self.heard = Heard::Nothing;
                    self.queue.pop_front();
                }
                (Owed::Bind(_), tag::BIND_COMPLETE)
                | (Owed::DescribePortal(_), tag::ROW_DESCRIPTION | tag::NO_DATA) => {
                    self.queue.pop_front();
                }
                (Owed::Parse(..), tag::PARSE_COMPLETE) => {
                    self.queue.pop_front();
                    parsed = true;
                }
                (Owed::Query(_) | Owed::Sync(_), tag::READY)
                    if TxStatus::read(frame.body()) == Ok(TxStatus::Idle) =>
                {
                    self.queue.pop_front();
                    self.heard = Heard::Nothing;
                    bytes += frame.bytes.len();
                    break Until::Ready;
                }
                _ => break Until::Judgement,
            }
            bytes += frame.bytes.len();
        };
        Passed {
            bytes,
            parsed,
            until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::put(&mut out, tag, |out| out.extend_from_slice(body));
        out
    }

    fn owed() -> impl Strategy<Value = Owed> {
        let to = prop_oneof![4 => Just(Audience::Client), 1 => Just(Audience::Router)];
        (0..9, to).prop_map(|(kind, to)| match kind {
            0 => Owed::Parse(7, to),
            1 => Owed::Bind(to),
            2 => Owed::DescribePortal(to),
            3 => Owed::DescribeStatement(to),
            4 => Owed::Execute(to),
            5 => Owed::Sync(to),
            6 => Owed::Query(to),
            7 => Owed::Begin,
            _ => Owed::Answer((&b"own"[..]).into()),
        })
    }

    /// A message of a server. Most of them fit the answer to a segment or a simple query.
    fn sent() -> impl Strategy<Value = Vec<u8>> {
        let tags = prop::sample::select(b"1122TTnDDDDCCZZsINESAGHt3".to_vec());
        (
            tags,
            prop::sample::select(vec!["I", "I", "I", "T", "E", "X"]),
        )
            .prop_map(|(tag, status)| {
                let body: &[u8] = match tag {
                    tag::READY => status.as_bytes(),
                    _ => b"body",
                };
                message(tag, body)
            })
    }

    proptest! {
        /// `pass` takes only messages that `on` accepts one by one, and leaves the ledger in the same state.
        #[test]
        fn many_at_once_are_judged_as_one_by_one(
            owed in prop::collection::vec(owed(), 0..8),
            sent in prop::collection::vec(sent(), 0..12),
            cut in 0_usize..8,
            to in prop_oneof![3 => Just(Audience::Client), 1 => Just(Audience::Router)],
            leave_columns: bool,
        ) {
            let (mut at_once, mut singly) = (Ledger::default(), Ledger::default());
            for entry in owed {
                at_once.push(entry.clone());
                singly.push(entry);
            }
            let mut stream = sent.concat();
            stream.truncate(stream.len().saturating_sub(cut));
            let passed = at_once.pass(to, &stream, 1 << 20, leave_columns);
            let mut taken = 0;
            let mut parsed = false;
            let mut last = None;
            while taken < passed.bytes {
                let Ok(Next::Whole(frame)) = frame::next(&stream[taken..], 1 << 20) else {
                    panic!("only whole messages pass");
                };
                prop_assert!(!singly.has_answer(), "an answer of the router comes first");
                let step = singly.on(frame.tag(), frame.body());
                let step = step.expect("only what is owed passes");
                prop_assert_eq!(step.to, to);
                parsed |= matches!(step.event, super::super::Event::Parsed(_));
                last = Some(step.event);
                taken += frame.bytes.len();
                prop_assert!(!leave_columns || frame.tag() != tag::ROW_DESCRIPTION);
            }
            prop_assert_eq!(taken, passed.bytes);
            prop_assert_eq!(parsed, passed.parsed);
            prop_assert_eq!(&at_once.queue, &singly.queue);
            prop_assert_eq!(at_once.mode, singly.mode);
            prop_assert_eq!(at_once.heard, singly.heard);
            let ended = last == Some(super::super::Event::Ready(TxStatus::Idle));
            prop_assert_eq!(ended, passed.until == Until::Ready);
            let rest = frame::next(&stream[taken..], 1 << 20);
            match (passed.until, rest) {
                (Until::Partial, rest) => {
                    let partial = matches!(rest, Ok(Next::Partial { .. }));
                    prop_assert!(partial, "{:?}", rest);
                }
                (Until::Columns, Ok(Next::Whole(frame))) => {
                    prop_assert!(leave_columns && frame.tag() == tag::ROW_DESCRIPTION);
                    let step = singly.on(frame.tag(), frame.body());
                    prop_assert_eq!(step.expect("it is owed").to, to);
                }
                (Until::Columns, rest) => prop_assert!(false, "{:?}", rest),
                (Until::Judgement | Until::Ready, _) => {}
            }
        }
    }

    #[test]
    fn a_segment_and_a_query_pass_whole() {
        use Audience::Client;
        let stream = |tags: &[u8]| -> Vec<u8> {
            let message = |tag: &u8| message(*tag, if *tag == tag::READY { b"I" } else { b"" });
            tags.iter().flat_map(message).collect()
        };
        let mut ledger = Ledger::default();
        for owed in [
            Owed::Parse(0, Client),
            Owed::Bind(Client),
            Owed::DescribePortal(Client),
            Owed::Execute(Client),
            Owed::Sync(Client),
        ] {
            ledger.push(owed);
        }
        let bytes = stream(b"12TDDCZ");
        let passed = ledger.pass(Client, &bytes, 100, false);
        assert_eq!((passed.bytes, passed.parsed), (bytes.len(), true));
        assert!(passed.until == Until::Ready && ledger.is_empty());
        ledger.push(Owed::Query(Client));
        let bytes = stream(b"TDCZN");
        let passed = ledger.pass(Client, &bytes, 100, false);
        assert_eq!((passed.bytes, passed.parsed), (bytes.len() - 5, false));
        assert!(passed.until == Until::Ready && ledger.is_empty());
    }

    #[test]
    fn what_leaves_a_transaction_open_is_judged() {
        let mut ledger = Ledger::default();
        ledger.push(Owed::Query(Audience::Client));
        let bytes = [
            message(tag::COMMAND_COMPLETE, b"BEGIN\0"),
            message(tag::READY, b"T"),
        ];
        let passed = ledger.pass(Audience::Client, &bytes.concat(), 100, false);
        assert_eq!(
            (passed.bytes, passed.until),
            (bytes[0].len(), Until::Judgement)
        );
        assert_eq!(ledger.len(), 1);
    }
}

//! One client on one side: sends a group and takes what is said to each message of it.
//!
//! Which message an answer belongs to is told by the protocol alone, and so is when all is said: after an error of the
//! extended protocol everything up to Sync is skipped.

use crate::sent::Sent;
use mothership_tests::wire::Silence;
use mothership_tests::{Endpoint, Frame, Wire, message};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What was said to each message of a group.
pub type Answers = Vec<Vec<Frame>>;

/// A client.
pub struct Side {
    wire: Wire,
    /// What the server has told of its settings.
    pub told: BTreeMap<String, String>,
    /// By the last ReadyForQuery.
    pub status: char,
}

/// A group whose answers did not all come.
#[derive(Debug)]
pub struct Lost {
    pub silence: Silence,
    pub answers: Answers,
}

impl Side {
    /// Logs in.
    pub fn new(endpoint: &Endpoint) -> Side {
        let mut wire = Wire::connect(endpoint.port);
        let frames = wire.try_login(endpoint, message::V3_0, &[]);
        let frames = frames.unwrap_or_else(|error| panic!("login refused: {error}"));
        let mut side = Side {
            wire,
            told: BTreeMap::new(),
            status: 'I',
        };
        frames.iter().for_each(|frame| side.note(frame));
        side
    }

    /// Sends all of it, in one piece up to each Wait, and takes the answers.
    pub fn play(&mut self, group: &[Sent]) -> Result<Answers, Lost> {
        let mut answers: Answers = vec![Vec::new(); group.len()];
        let mut at = 0;
        for end in 1..=group.len() {
            if end < group.len() && group[end - 1] != Sent::Wait {
                continue;
            }
            let begin = group[..end - 1]
                .iter()
                .rposition(|sent| *sent == Sent::Wait);
            let begin = begin.map_or(0, |wait| wait + 1);
            let bytes: Vec<u8> = group[begin..end].iter().flat_map(Sent::bytes).collect();
            let sent = self.wire.try_send(&bytes);
            let silence = match sent {
                Err(_) => Some(Silence::Closed),
                Ok(()) => self.take(group, end, &mut at, &mut answers).err(),
            };
            if let Some(silence) = silence {
                return Err(Lost { silence, answers });
            }
        }
        Ok(answers)
    }

    /// Takes answers up to that of message `end`.
    fn take(
        &mut self,
        group: &[Sent],
        end: usize,
        at: &mut usize,
        answers: &mut Answers,
    ) -> Result<(), Silence> {
        loop {
            while group.get(*at).is_some_and(Sent::is_silent) {
                *at += 1;
            }
            if *at >= end {
                return Ok(());
            }
            let frame = self.wire.try_frame(LIMIT)?;
            self.note(&frame);
            let (kind, sent) = (frame.kind, &group[*at]);
            answers[*at].push(frame);
            if kind == b'E' && sent.is_extended() {
                let sync = group[*at..].iter().position(|sent| *sent == Sent::Sync);
                *at += sync.expect("a group with extended messages ends with Sync");
            } else if sent.is_ended_by(kind) {
                *at += 1;
            }
        }
    }

    fn note(&mut self, frame: &Frame) {
        match frame.kind {
            b'Z' => self.status = frame.transaction(),
            b'S' => {
                let mut parts = frame.body.split(|byte| *byte == 0);
                let mut part =
                    || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
                let name = part();
                self.told.insert(name, part());
            }
            _ => {}
        }
    }

    /// Leaves as a client does that is done.
    pub fn leave(mut self) {
        let _ = self.wire.try_send(&message::terminate());
    }
}

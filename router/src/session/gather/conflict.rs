//! Computed writes that meet others. MongoDB undoes the whole transaction then, where PostgreSQL would let one wait: a
//! statement that is all of its transaction runs again.

use super::GatherWork;
use crate::plan::gather::Ending;
use crate::session::Session;
use crate::session::state::Block;
use rand::RngExt;
use std::time::Duration;

/// How often a statement is tried, before the client is told.
const ATTEMPTS: u32 = 12;
/// The first pause in between; it doubles.
const PAUSE: Duration = Duration::from_millis(2);

/// What becomes of a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::session) enum Conflict {
    /// The client is told.
    #[default]
    IsTold,
    /// The statement may run again.
    Repeats,
    /// There was one, and nobody was told.
    Met,
}

/// How often a statement may still run again.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::session) struct Attempts {
    left: u32,
}

impl Session {
    /// How often a statement may run that begins now.
    pub(super) fn attempts(&mut self, work: &GatherWork) -> Attempts {
        let in_segment = self.servers.iter().any(|server| server.inbox.in_segment);
        let alone = self.state.block == Block::None && !in_segment;
        let attempts = match work.plan.ending {
            Ending::Change(_) if alone => Attempts { left: ATTEMPTS - 1 },
            _ => Attempts::default(),
        };
        self.allow(&attempts);
        attempts
    }

    /// The statement that runs next may meet others so often.
    pub(super) fn allow(&mut self, attempts: &Attempts) {
        self.conflict = match attempts.left {
            0 => Conflict::IsTold,
            _ => Conflict::Repeats,
        };
    }

    /// Whether the statement that has ended met another write and is to run again: then all that it did is undone.
    pub(super) async fn met_conflict(&mut self, attempts: &mut Attempts) -> bool {
        if std::mem::take(&mut self.conflict) != Conflict::Met {
            return false;
        }
        self.rollback_all().await;
        self.active = None;
        // It is still the transaction of this statement.
        self.state.block = Block::Begun;
        self.state.settings.begin();
        let most = PAUSE * 2_u32.saturating_pow(ATTEMPTS - 1 - attempts.left).min(128);
        let pause = rand::rng().random_range(PAUSE / 2..=most);
        tokio::time::sleep(pause).await;
        attempts.left -= 1;
        self.allow(attempts);
        true
    }
}

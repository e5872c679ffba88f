//! A request whose server is gone before the client has seen anything of the answer.
//!
//! Where a catalog is known it is proven to only read, and it is still in the input: as if it had never been sent. It is
//! taken again, as `session::repeat` says.

use super::Fast;
use super::send::ALONE;
use crate::session::Session;

impl Session {
    /// Lets go of a server that is lost, if the request may be sent once more. Nothing has changed if it may not.
    pub(super) fn repeats(&mut self) -> bool {
        let proven = self.world.is_some() && !self.repeated;
        if !matches!(&self.fast, Some(Fast::UnderWay(way)) if proven && !way.passed) {
            return false;
        }
        let Some(Fast::UnderWay(under_way)) = self.fast.take() else {
            return false;
        };
        self.repeated = true;
        let mut leg = under_way.leg;
        leg.lease.doubt();
        self.report_lost(leg.shard, ALONE);
        self.nobody_works();
        self.state.tally.repeats();
        true
    }
}

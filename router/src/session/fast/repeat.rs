//! A request whose server is gone before the client has seen anything of the answer.
//!
//! Where a catalog is known it is proven to only read, and it is still in the input: as if it had never been sent. It is
//! taken again, as `session::repeat` says.

use super::send::ALONE;
use super::{Fast, UnderWay};
use crate::session::Session;
use crate::session::repeat::renew;

impl Session {
    /// Lets go of a server that is lost, if the request may be sent once more. Nothing has changed if it may not.
    pub(super) fn repeats(&mut self) -> bool {
        let unseen = |way: &UnderWay| {
            let leg = &way.leg;
            !way.passed
                && self.request.may_repeat(&leg.lease)
                && !self.topology.was_silent(leg.shard, ALONE)
        };
        if !matches!(&self.fast.request, Some(Fast::UnderWay(way)) if self.known.model.is_some() && unseen(way))
        {
            return false;
        }
        let Some(Fast::UnderWay(under_way)) = self.fast.request.take() else {
            return false;
        };
        let mut leg = under_way.leg;
        self.request.count_repeat(&mut self.state, &leg.lease);
        renew(&mut leg.lease);
        self.topology.report_broken(leg.shard, ALONE);
        self.nobody_works();
        true
    }
}

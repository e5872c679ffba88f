//! Statements that need a shard of which nothing is known are refused; others go on.

use super::{Halt, Servers};
use crate::log::Chain;
use crate::model::DatabaseModel;
use crate::topology::Topology;
use mothership_plan::Route;
use mothership_pool::health::WhyNot;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::{ShardId, ShardSet};

impl Topology {
    /// A failure to reach a shard, with its name.
    pub(super) fn named(&self, shard: ShardId, report: Report) -> Report {
        let name = format!("shard \"{}\"", self.shards[shard].name);
        // Its own words while it starts or ends are of class 57.
        let unreachable =
            report.code == sqlstate::CONNECTION_FAILURE || report.code.starts_with("57P");
        if !unreachable || self.shards.len() < 2 || report.message.contains(&name) {
            return report;
        }
        let detail = match &report.detail {
            Some(detail) => format!("{name}: {detail}"),
            None => name,
        };
        report.detail(detail)
    }
}

impl Servers {
    /// Fails if a route leads to a shard that is away, or the transaction works on one. What any shard answers goes to
    /// one that is there.
    pub(super) fn check_away(
        &self,
        topology: &Topology,
        model: &DatabaseModel,
        route: &mut Route,
    ) -> Result<(), Halt> {
        let mut at_work = self.iter().map(|attached| attached.shard);
        if let Some(away) = at_work.find(|shard| model.why_away(*shard).is_some()) {
            return Err(is_away(topology, model, away).into());
        }
        if route.anywhere {
            let other = model.some_known();
            route.shards = other.map_or_else(|| route.shards.clone(), ShardSet::one);
        }
        let mut shards = route.shards.iter();
        match shards.find(|shard| model.why_away(*shard).is_some()) {
            Some(away) => Err(is_away(topology, model, away).into()),
            None => Ok(()),
        }
    }
}

/// What a client is told whose statement needs it.
fn is_away(topology: &Topology, model: &DatabaseModel, shard: ShardId) -> Report {
    let name = &topology.shards[shard].name;
    // Whoever asked may have given up before it was known to be down.
    let down = topology.primary(shard).is_err_and(WhyNot::is_lost);
    let why = model.why_away(shard);
    let code = match down || why.is_some_and(|why| why.is_unreachable()) {
        true => sqlstate::CONNECTION_FAILURE,
        false => sqlstate::CANNOT_CONNECT_NOW,
    };
    let report = Report::error(
        code,
        format!("shard \"{name}\" is away: its catalog cannot be read"),
    );
    let report = match model.why_away(shard) {
        Some(why) => report.detail(Chain(why).to_string()),
        None => report,
    };
    report.hint("Statements that do not need it go on. It is asked again every second.")
}

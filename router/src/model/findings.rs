//! What administrators should know of a model.

use super::DatabaseModel;
use mothership_catalog::Drift;

impl DatabaseModel {
    /// A difference between the shards in words.
    pub fn told(&self, drift: &Drift) -> String {
        let shards = self.map().shards();
        let name = |at: usize| shards.get(at).map_or("?", String::as_str);
        drift.told(name(self.compared_with), name(drift.shard))
    }

    /// All that administrators should know: the [warnings](Self::warnings), and which tables do not fit their declarations.
    pub fn findings(&self) -> Vec<String> {
        let misfits = self.misfits().iter();
        let misfits = misfits
            .map(|misfit| format!("{}; statements that name it are refused", misfit.mistake));
        misfits.chain(self.warnings()).collect()
    }

    /// What works, but not as it should: which shards are away, what differs between the others, and constraints
    /// that they cannot enforce.
    pub fn warnings(&self) -> Vec<String> {
        let drift = self.drift.iter().map(|drift| self.told(drift));
        let unenforced = self.planner().unenforced().into_iter();
        let unenforced = unenforced.map(|refusal| match &refusal.detail {
            Some(detail) => format!("{}: {detail}", refusal.message()),
            None => refusal.message().to_owned(),
        });
        let away = self.away().map(|(shard, why)| {
            let name = self
                .map()
                .shards()
                .get(shard.index())
                .map_or("?", String::as_str);
            let why = crate::log::Chain(why);
            format!("shard {name} is away, and statements that need it fail: {why}")
        });
        away.chain(drift).chain(unenforced).collect()
    }
}

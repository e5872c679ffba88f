//! Control connections for the ends of commits.

use super::Shared;
use crate::commit::doubt::Site;
use crate::commit::errand::{Servers, Unreachable};
use crate::control::{Control, Lent};

/// Lends control connections to the primaries of sites, for the ends of commits.
pub struct Primaries<'a> {
    control: &'a Control,
    shared: &'a Shared,
    /// Whether databases that are to be empty are left alone.
    spares: bool,
}

impl<'a> Primaries<'a> {
    /// By these connections, as the configuration in force says.
    pub fn new(control: &'a Control, shared: &'a Shared) -> Self {
        Self {
            control,
            shared,
            spares: false,
        }
    }

    /// The same for recovery, which can look later: it is in no database that somebody is about to drop.
    pub fn sparing(control: &'a Control, shared: &'a Shared) -> Self {
        Self {
            spares: true,
            ..Self::new(control, shared)
        }
    }
}

impl Servers for Primaries<'_> {
    type Lent = Lent;

    async fn lend(&self, site: &Site) -> Result<Self::Lent, Unreachable> {
        let is_waited_for = || self.shared.doubts.has(site);
        if self.spares && self.shared.is_left_alone(&site.database) && !is_waited_for() {
            let why = format!("database \"{}\" is to be empty", site.database);
            return Err(Unreachable(why));
        }
        let topology = self.shared.topology();
        let shard = topology.shards.named(&site.shard);
        let shard =
            shard.ok_or_else(|| Unreachable(format!("no shard is called {}", site.shard)))?;
        let lent = self.control.lend(&topology, shard, &site.database).await;
        lent.map_err(|error| Unreachable(crate::log::Chain(&error).to_string()))
    }

    fn discard(&self, lent: Self::Lent) {
        // Not cancelled: COMMIT PREPARED would be told as done before a standby has it.
        lent.close();
    }

    fn has_documents(&self, site: &Site) -> bool {
        let topology = self.shared.topology();
        let (_, documents) = topology.shards.split_at(topology.postgres);
        documents.iter().any(|shard| shard.name == site.shard)
    }
}

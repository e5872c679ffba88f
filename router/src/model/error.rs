//! Why a database cannot be known, or one of its shards.

use super::documents::DocumentsError;
use super::load::LoadError;
use super::owned::OwnedError;
use crate::commit::schema::SchemaError;
use crate::config::MapMistake;
use crate::control::{ControlError, is_gone};
use crate::directory::DirectoryError;
use std::sync::Arc;
use std::time::Duration;

/// Why a database cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A shard cannot be asked.
    #[error("catalog of shard {shard}")]
    Control {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: Box<ControlError>,
    },
    /// A shard's catalog cannot be read.
    #[error("catalog of shard {shard}")]
    Load {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: LoadError,
    },
    /// A shard's cluster cannot be identified.
    #[error("cluster of shard {shard}")]
    Cluster {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: tokio_postgres::Error,
    },
    /// The server takes no writes.
    #[error(
        "the server of shard {shard} is in recovery, so its catalog may lack what clients were told of"
    )]
    InRecovery {
        /// Which.
        shard: String,
    },
    /// The decision table of two-phase commit cannot be installed.
    #[error("decision table of shard {shard}")]
    Schema {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: SchemaError,
    },
    /// It is configured as another shard than it was when its rows were stored.
    #[error("shard {shard} of database \"{database}\"")]
    Owned {
        /// Which.
        shard: String,
        /// In which database.
        database: String,
        /// Why.
        #[source]
        cause: OwnedError,
    },
    /// The tables that stand for documents cannot be made.
    #[error("tables of documents on shard {shard}")]
    Documents {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: DocumentsError,
    },
    /// It has more than may be known.
    #[error("shard {shard} has {relations} relations, and catalog.relations is {most}")]
    TooMany {
        /// Which.
        shard: String,
        /// How many it has.
        relations: usize,
        /// How many it may have.
        most: u32,
    },
    /// It took too long.
    #[error("reading the catalog of shard {shard} took longer than {limit:?}")]
    TimedOut {
        /// Which.
        shard: String,
        /// How long was waited.
        limit: Duration,
    },
    /// What an earlier router has left there is not known.
    #[error("the prepared transactions of shard {shard} cannot be read: {why}")]
    LeftBehind {
        /// Which.
        shard: String,
        /// Why not.
        why: String,
    },
    /// It may lack what was committed.
    #[error("shard {shard} holds a prepared transaction whose outcome only shard {decider} knows")]
    Undecided {
        /// Which.
        shard: String,
        /// Who cannot be asked.
        decider: String,
    },
    /// Nothing can be planned without the home shard.
    #[error("without the home shard {shard} nothing is planned, because {because}")]
    WithoutHome {
        /// Which that is.
        shard: String,
        /// Why what was known of it does not do.
        because: &'static str,
        /// Why it could not be asked.
        #[source]
        cause: Arc<ModelError>,
    },
    /// A lookup table cannot be read.
    #[error("directory of keys")]
    Directory(#[source] DirectoryError),
    /// The declarations do not fit the catalog.
    #[error("declared tables do not fit the catalog: {}", list(.0))]
    Map(Vec<MapMistake>),
}

impl ModelError {
    /// Whether nobody there could be reached, which is another thing than one who is there and does not say.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Control { cause, .. } if cause.is_unreachable())
    }

    /// Whether a shard was reached, and then was not there any longer to answer.
    pub(super) fn lost_its_connection(&self) -> bool {
        if matches!(self, Self::Control { .. }) {
            return false;
        }
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
                return is_gone(error);
            }
            cause = error.source();
        }
        false
    }

    /// Whether it says no more than that one shard cannot be asked.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Control { .. }
            | Self::Load { .. }
            | Self::Cluster { .. }
            | Self::InRecovery { .. }
            | Self::Schema { .. }
            | Self::Documents { .. }
            | Self::TimedOut { .. }
            | Self::LeftBehind { .. }
            | Self::Undecided { .. } => true,
            Self::Owned { .. }
            | Self::TooMany { .. }
            | Self::WithoutHome { .. }
            | Self::Directory(_)
            | Self::Map(_) => false,
        }
    }
}

pub(super) fn list(mistakes: &[MapMistake]) -> String {
    let each: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    each.join("; ")
}

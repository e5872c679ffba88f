//! What is known of one database at one moment: the shards' catalog, the shard map,
//! and a planner that has looked at both.
//!
//! A [`DatabaseModel`] is immutable. A change of definitions makes a new one; statements
//! that are under way keep theirs. Without any declaration there is no model and
//! nothing to plan: every statement belongs to the home shard.
//!
//! A shard that could not be asked is away in it (`away`): plans do not look at it, and
//! a statement that needs it is refused.

mod away;
pub mod documents;
mod error;
mod findings;
mod load;
mod own_schema;
pub mod owned;
mod reading;

pub use error::ModelError;
pub use load::LoadError;
pub use own_schema::{OwnSchema, SchemaSeen};
pub use reading::{Ask, How, catalog_of, look, read};

use crate::config::{Config, KeyUpdates, KnownTable, MapMistake, Misfit, TablePattern};
use crate::directory::Directories;
use error::list;
use mothership_catalog::NOWHERE;
use mothership_catalog::behind::Behind;
use mothership_catalog::custom_settings::CustomSettings;
use mothership_catalog::drift::Difference;
use mothership_catalog::lasting::{Lasting, SetsLocally};
use mothership_catalog::one_server::tells_server;
use mothership_catalog::outside::Outside;
use mothership_catalog::prepared::shows_prepared;
use mothership_catalog::times::Times;
use mothership_catalog::types::may_name;
use mothership_catalog::{Catalog, Drift, Fingerprint, Name, Oids, Relation, RelationKind};
use mothership_documents::Collection;
use mothership_plan::shaped::PlanResult;
use mothership_plan::{Plan, PlanContext, Planner, Reason, Refusal};
use mothership_shardmap::{Declared, KeyType, Placement, ShardId, ShardMap, Strategy};
use mothership_sql::shape::Literal;
use self_cell::self_cell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// What a planner looks at.
pub struct Known {
    /// The home shard's catalog.
    pub catalog: Catalog,
    /// Which shard owns what.
    pub map: ShardMap,
    /// Declared tables that do not exist yet and whose key types nobody knows.
    pub pending: Vec<TablePattern>,
    /// Tables that do not fit their declaration.
    pub misfits: Vec<Misfit>,
    /// An UPDATE may lead rows to other shards.
    pub moves_rows: bool,
    /// What tables of documents are.
    pub documents: Vec<Arc<Collection>>,
}

self_cell! {
    struct Snapshot {
        owner: Known,
        #[covariant]
        dependent: Planner,
    }
}

self_cell! {
    /// A planner that takes unqualified names for fewer things: see [`Planner::without`].
    struct Narrower {
        owner: Arc<Snapshot>,
        #[covariant]
        dependent: Planner,
    }
}

/// So many of them are kept, one for each set of schemas.
const NARROWER: usize = 16;

/// One database as planning sees it.
pub struct DatabaseModel {
    /// Goes up with each model of the process; part of what a cached plan is keyed by.
    pub version: u64,
    /// Changes of definitions that had gone through this router when it was read.
    pub epoch: u64,
    /// When reading it began.
    pub read: Instant,
    /// The last look at the router's own schema.
    pub schema_seen: Option<SchemaSeen>,
    /// What differs between the shards.
    pub drift: Vec<Drift>,
    /// The shard with which the others were compared for that.
    compared_with: usize,
    /// What is known of each shard.
    parts: Vec<Part>,
    /// What the map was made by; asked again when a pending table is created.
    config: Arc<Config>,
    /// The lookup tables that the map uses.
    directories: Directories,
    snapshot: Arc<Snapshot>,
    /// Planners without the functions of these schemas.
    narrower: Mutex<HashMap<BTreeSet<String>, Arc<Narrower>>>,
    /// What [`Doubts::none_since`](crate::commit::doubt::Doubts::none_since) said before it was read.
    pub doubts: Option<u64>,
    /// A newer one may be in force, or none.
    superseded: AtomicBool,
    /// What asks for the time, looked for when somebody wants to know.
    times: OnceLock<Times>,
    /// What leaves something behind in a session, likewise.
    lasting: OnceLock<Lasting>,
    /// What may set something for the transaction, likewise.
    sets_locally: OnceLock<SetsLocally>,
    /// Settings of the application's own that code may read, likewise.
    custom_settings: OnceLock<CustomSettings>,
    outside: OnceLock<Outside>,
    shows_prepared: OnceLock<Behind>,
    names: OnceLock<u64>,
    tells_server: OnceLock<Behind>,
}

/// What one shard has said about itself.
pub struct ShardReport {
    /// Its catalog.
    pub catalog: Catalog,
    /// The PostgreSQL cluster that holds it (`system_identifier`).
    pub cluster: i64,
    /// Tells whether the catalog has changed since.
    pub fingerprint: Fingerprint,
}

/// What is known of one shard.
#[derive(Clone)]
enum Part {
    /// It was asked.
    Known {
        /// The PostgreSQL cluster that holds it.
        cluster: i64,
        /// Tells whether its catalog is another one later.
        fingerprint: Fingerprint,
        /// How its object ids differ from the home shard's, if they do.
        oids: Option<Arc<Oids>>,
    },
    /// It could not be asked.
    Away {
        /// Why.
        why: Arc<ModelError>,
        /// As it was known last: a cursor that is open there still speaks of them.
        oids: Option<Arc<Oids>>,
    },
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl DatabaseModel {
    /// A model of what the shards have said, in their order; by the home shard's catalog statements are planned.
    ///
    /// # Errors
    /// When the declarations do not fit the catalog.
    ///
    /// # Panics
    /// Without the home shard.
    pub fn new(
        config: &Arc<Config>,
        home: ShardId,
        seen: Vec<Result<ShardReport, Arc<ModelError>>>,
        directories: Directories,
        epoch: u64,
    ) -> Result<Self, Vec<MapMistake>> {
        let version = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut parts = Vec::with_capacity(seen.len());
        // Those that have said something, and which they are.
        let (mut catalogs, mut shards) = (Vec::new(), Vec::new());
        for (shard, seen) in seen.into_iter().enumerate() {
            let oids = None;
            parts.push(match seen {
                Ok(seen) => {
                    catalogs.push(seen.catalog);
                    shards.push(shard);
                    Part::Known {
                        cluster: seen.cluster,
                        fingerprint: seen.fingerprint,
                        oids,
                    }
                }
                Err(why) => Part::Away { why, oids },
            });
        }
        let some_away = catalogs.len() < parts.len();
        let at_home = shards.iter().position(|shard| *shard == home.index());
        let at_home = at_home.expect("the home shard was asked");
        for (catalog, shard) in catalogs.iter().zip(&shards) {
            if let Part::Known { oids, .. } = &mut parts[*shard] {
                *oids = Oids::between(catalog, &catalogs[at_home]).map(Arc::new);
            }
        }
        let known: Vec<KnownTable> = known_tables(&catalogs[at_home]);
        let built = config.shard_map(version, &known, &|strategy| directories.of(strategy))?;
        let everywhere = |relation: &Relation| {
            let declared = built
                .map
                .declared(&relation.name.schema, &relation.name.name);
            match declared {
                Declared::Home | Declared::Placement(Placement::Home) => false,
                Declared::Placement(Placement::Sharded(sharded)) => {
                    !built.map.has_documents(&sharded.shards)
                }
                // What only the home shard has lives there.
                Declared::Auto => {
                    let has = |catalog: &Catalog| catalog.relation(&relation.name).is_some();
                    let mut others = catalogs
                        .iter()
                        .zip(&shards)
                        .filter(|(_, s)| **s != home.index());
                    some_away || others.any(|(catalog, _)| has(catalog))
                }
                Declared::Placement(Placement::Reference) => true,
            }
        };
        let mut drift = mothership_catalog::drift(&catalogs, everywhere);
        for difference in &mut drift {
            difference.shard = shards[difference.shard];
        }
        let text_order_differs = drift.iter().any(|d| d.what == Difference::TextOrder)
            || catalogs.iter().any(|catalog| catalog.text_order_differs);
        let mut catalog = catalogs.swap_remove(at_home);
        catalog.text_order_differs = text_order_differs;
        // Statements are planned by this one, and run on the others as well.
        for other in &catalogs {
            contain_what_all_do(&mut catalog, other);
        }
        // The others, in whatever order.
        let missing = |name: &Name| catalogs.iter().any(|other| other.relation(name).is_none());
        catalog.home_only = catalog
            .relations
            .keys()
            .filter(|name| missing(name))
            .cloned()
            .collect();
        // One that is away may have it: what would be read at home alone is refused then.
        let others = some_away || !catalogs.is_empty();
        let on_all = |name: &&Name| others && !missing(name);
        catalog.everywhere = catalog.relations.keys().filter(on_all).cloned().collect();
        let names = built.misfits.iter();
        let names = names.map(|misfit| Name::new(&misfit.schema, &misfit.table));
        catalog.misfits = names.collect();
        let known = Known {
            catalog,
            map: built.map,
            pending: built.pending,
            misfits: built.misfits,
            moves_rows: config.tables.key_updates == KeyUpdates::Move,
            documents: config.collections().into_iter().map(Arc::clone).collect(),
        };
        Ok(Self {
            version,
            epoch,
            read: Instant::now(),
            schema_seen: None,
            drift,
            compared_with: shards[0],
            parts,
            config: Arc::clone(config),
            directories,
            snapshot: Arc::new(Snapshot::new(known, |known| {
                let planner = Planner::with_pending(&known.catalog, &known.map, &known.pending)
                    .with_documents(&known.documents);
                if known.moves_rows {
                    planner.moving_rows()
                } else {
                    planner
                }
            })),
            narrower: Mutex::default(),
            doubts: None,
            superseded: AtomicBool::new(false),
            times: OnceLock::new(),
            lasting: OnceLock::new(),
            custom_settings: OnceLock::new(),
            sets_locally: OnceLock::new(),
            outside: OnceLock::new(),
            shows_prepared: OnceLock::new(),
            names: OnceLock::new(),
            tells_server: OnceLock::new(),
        })
    }

    /// Whether a table is there whose rows are stored by the slots of shards.
    pub fn stores_by_slots(&self) -> bool {
        let (catalog, map) = (self.catalog(), self.map());
        let tables = catalog.relations.values();
        let mut tables = tables.filter(|relation| relation.kind == RelationKind::Table);
        tables.any(|table| {
            let name = &table.name;
            match map.declared(&name.schema, &name.name) {
                Declared::Placement(Placement::Sharded(sharded)) => {
                    matches!(sharded.strategy, Strategy::Hash(_))
                        && !map.has_documents(&sharded.shards)
                }
                Declared::Auto => catalog.everywhere.contains(name),
                Declared::Placement(Placement::Home | Placement::Reference) | Declared::Home => {
                    false
                }
            }
        })
    }

    /// The same by other catalogs of its shards: those that one transaction sees. A shard without one is as it was.
    ///
    /// # Errors
    /// When the declarations do not fit them.
    pub fn with_catalogs(
        &self,
        home: ShardId,
        catalogs: Vec<Option<Catalog>>,
        epoch: u64,
    ) -> Result<Self, ModelError> {
        let as_it_was: Vec<bool> = catalogs.iter().map(Option::is_none).collect();
        let seen = catalogs.into_iter().zip(&self.parts);
        let seen = seen.map(|(catalog, part)| match (catalog, part) {
            (None, Part::Away { why, .. }) => Err(Arc::clone(why)),
            (catalog, part) => Ok(ShardReport {
                catalog: catalog.unwrap_or_else(|| self.elsewhere()),
                cluster: part.cluster().unwrap_or_default(),
                fingerprint: Fingerprint::default(),
            }),
        });
        let (seen, directories) = (seen.collect(), self.directories.clone());
        let model = Self::new(&self.config, home, seen, directories, epoch);
        let mut model = model.map_err(ModelError::Map)?;
        for (shard, as_it_was) in as_it_was.into_iter().enumerate() {
            if as_it_was {
                model.parts[shard].clone_from(&self.parts[shard]);
            }
        }
        Ok(model)
    }

    /// The catalog of other shards than the home shard, as far as plans look at it.
    fn elsewhere(&self) -> Catalog {
        let mut catalog = self.catalog().clone();
        let home_only = std::mem::take(&mut catalog.home_only);
        catalog
            .relations
            .retain(|name, _| !home_only.contains(name));
        catalog
    }

    /// It is not in force any longer.
    pub fn supersede(&self) {
        self.superseded.store(true, Ordering::SeqCst);
    }

    /// Whether another may be in force.
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::SeqCst)
    }

    /// The shard map.
    pub fn map(&self) -> &ShardMap {
        &self.snapshot.borrow_owner().map
    }

    /// A number of the names that statements can mean something by: relations, types, functions and operators of users. A
    /// server that has prepared a statement goes on with what its names meant then, also when a new object comes first in
    /// the search path; so it prepares it anew when this number has changed.
    pub fn names(&self) -> u64 {
        *self.names.get_or_init(|| {
            let catalog = self.catalog();
            let mut hasher = DefaultHasher::new();
            for name in catalog.relations.keys().chain(catalog.types.keys()) {
                name.hash(&mut hasher);
            }
            for name in catalog.functions.keys() {
                name.hash(&mut hasher);
            }
            catalog
                .operators
                .keys()
                .for_each(|name| name.hash(&mut hasher));
            hasher.finish()
        })
    }

    /// The home shard's catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.snapshot.borrow_owner().catalog
    }

    /// What asks for the time of its transaction.
    pub fn times(&self) -> &Times {
        self.times.get_or_init(|| Times::of(self.catalog()))
    }

    /// Works out what would else be worked out while clients wait.
    pub fn look_ahead(&self) {
        self.times();
        self.lasting();
        self.sets_locally();
        self.outside();
        self.shows_prepared();
        self.tells_server();
    }

    /// What may set something for the transaction.
    pub fn sets_locally(&self) -> &SetsLocally {
        self.sets_locally
            .get_or_init(|| SetsLocally::of(self.catalog()))
    }

    /// Settings of the application's own that code may read.
    pub fn custom_settings(&self) -> &CustomSettings {
        self.custom_settings
            .get_or_init(|| CustomSettings::of(self.catalog()))
    }

    /// What leaves something behind in the session.
    pub fn lasting(&self) -> &Lasting {
        self.lasting.get_or_init(|| Lasting::of(self.catalog()))
    }

    /// What has an effect that its transaction's end does not undo.
    pub fn outside(&self) -> &Outside {
        self.outside.get_or_init(|| Outside::of(self.catalog()))
    }

    /// What shows the prepared statements of a server connection.
    pub fn shows_prepared(&self) -> &Behind {
        let shows = || shows_prepared(self.catalog());
        self.shows_prepared.get_or_init(shows)
    }

    /// What tells about the server that answers.
    pub fn tells_server(&self) -> &Behind {
        let tells = || tells_server(self.catalog());
        self.tells_server.get_or_init(tells)
    }

    /// How the object ids of a shard differ from the home shard's; `None` if they do not.
    pub fn oids(&self, shard: ShardId) -> Option<&Arc<Oids>> {
        match self.parts.get(shard.index())? {
            Part::Known { oids, .. } | Part::Away { oids, .. } => oids.as_ref(),
        }
    }

    /// The lookup tables that the map uses.
    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Plans one statement.
    pub fn plan(&self, sql: &str, context: &PlanContext) -> Plan {
        let plan = self.planner().plan(sql, context);
        match &plan {
            Plan::Refuse(refusal) if refusal.reason == Reason::KeyTypeUnknown => {
                self.plan_creation(sql, context).unwrap_or(plan)
            }
            Plan::Refuse(_) => match self.narrower(sql, context) {
                Some(narrower) => narrower.borrow_dependent().plan(sql, context),
                None => plan,
            },
            _ => plan,
        }
    }

    /// The same of a text and of its shape.
    pub fn plan_shape(&self, sql: &str, literals: &[Literal], context: &PlanContext) -> PlanResult {
        let planned = self.planner().plan_shape(sql, literals, context);
        match &planned.own {
            Plan::Refuse(_) => match self.narrower(sql, context) {
                Some(narrower) => narrower
                    .borrow_dependent()
                    .plan_shape(sql, literals, context),
                None => planned,
            },
            _ => planned,
        }
    }

    /// Whether a statement does what `does` says, which gets the schemas whose functions the statement does not mean. It is
    /// asked first without any, which is the rule.
    pub fn does(
        &self,
        sql: &str,
        context: &PlanContext,
        does: impl Fn(&BTreeSet<String>) -> bool,
    ) -> bool {
        does(&NOWHERE) && {
            let apart = self.apart(sql, context);
            apart.is_empty() || does(&apart)
        }
    }

    /// Whether a text has more than so many bytes, together with the definitions of the views that it may name.
    pub fn is_longer_with_views(&self, sql: &str, most: usize) -> bool {
        self.planner().is_longer_with_views(sql, most)
    }

    /// The schemas whose functions a statement does not mean.
    pub fn apart(&self, sql: &str, context: &PlanContext) -> BTreeSet<String> {
        let mut apart = self.planner().not_meant(sql, context);
        if !apart.is_empty() {
            let lower = sql.to_ascii_lowercase();
            apart.retain(|schema| !may_name(&lower, &schema.to_ascii_lowercase()));
        }
        apart
    }

    /// The planner that takes unqualified names only for what the search path has. `None` if it would know no better.
    fn narrower(&self, sql: &str, context: &PlanContext) -> Option<Arc<Narrower>> {
        let schemas = self.planner().not_meant(sql, context);
        if schemas.is_empty() {
            return None;
        }
        let kept = || self.narrower.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(narrower) = kept().get(&schemas) {
            return Some(Arc::clone(narrower));
        }
        let snapshot = Arc::clone(&self.snapshot);
        let narrower = Arc::new(Narrower::new(snapshot, |snapshot| {
            snapshot.borrow_dependent().without(&schemas)
        }));
        let mut kept = kept();
        if kept.len() >= NARROWER {
            kept.clear();
        }
        kept.insert(schemas, Arc::clone(&narrower));
        Some(narrower)
    }

    /// Plans the CREATE TABLE of a pending table by the map that will hold when it is there: the key's types are
    /// those of the columns in the statement.
    fn plan_creation(&self, sql: &str, context: &PlanContext) -> Option<Plan> {
        let mut known = known_tables(self.catalog());
        let created = self.planner().created(sql, context)?;
        let (schema, table) = (created.schema.clone(), created.name.clone());
        known.push(created);
        let directory = |strategy: &_| self.directories.of(strategy);
        let built = self.config.shard_map(self.version, &known, &directory);
        let of_it = |misfit: &Misfit| misfit.schema == schema && misfit.table == table;
        let (built, mistakes) = match built {
            Ok(built) => {
                let own = built.misfits.iter().filter(|misfit| of_it(misfit));
                let own: Vec<_> = own.map(|misfit| misfit.mistake.clone()).collect();
                (Some(built), own)
            }
            Err(mistakes) => (None, mistakes),
        };
        let Some(built) = built.filter(|_| mistakes.is_empty()) else {
            let refusal = Refusal::about(Reason::KeyType, list(&mistakes));
            return Some(Plan::Refuse(refusal));
        };
        let planner = Planner::with_pending(self.catalog(), &built.map, &built.pending);
        Some(planner.plan(sql, context))
    }

    /// What plans.
    pub fn planner(&self) -> &Planner<'_> {
        self.snapshot.borrow_dependent()
    }

    /// Tables that do not fit their declaration: statements that name them are refused.
    pub fn misfits(&self) -> &[Misfit] {
        &self.snapshot.borrow_owner().misfits
    }

    /// Declared tables that do not exist yet and whose key types nobody knows.
    pub fn pending(&self) -> &[TablePattern] {
        &self.snapshot.borrow_owner().pending
    }
}

/// What is not proven of a table on one shard is not proven of the table, nor of what it is a partition of.
fn contain_what_all_do(catalog: &mut Catalog, other: &Catalog) {
    let in_doubt = other.relations.values().filter(|relation| {
        !relation.contained
            || relation.has_rules
            || relation.row_security.is_some()
            || !relation.triggers.is_empty()
    });
    for relation in in_doubt {
        let mut at = Some(relation);
        // A broken catalog may have a circle.
        for _ in 0..32 {
            let Some(relation) = at else { break };
            if let Some(ours) = catalog.relations.get_mut(&relation.name) {
                ours.contained = false;
            }
            at = relation
                .parent
                .as_ref()
                .and_then(|parent| other.relation(parent));
        }
    }
}

fn known_tables(catalog: &Catalog) -> Vec<KnownTable> {
    catalog
        .relations
        .values()
        .filter(|relation| relation.kind == RelationKind::Table)
        .map(|relation| KnownTable {
            schema: relation.name.schema.clone(),
            name: relation.name.name.clone(),
            columns: relation
                .columns
                .iter()
                .map(|column| {
                    let oid = catalog.base_type(column.type_oid);
                    (column.name.clone(), KeyType::from_oid(oid))
                })
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests;

//! One world: a plain PostgreSQL database and the router with its shards, the same
//! tables and rows in both; and the check that they are still the same.

use crate::code;
use crate::compare::{Form, Inner, Types};
use crate::expr::Gen;
use crate::judge::refusal;
use crate::limits;
use crate::mix;
use crate::partition_ddl::Partitions;
use crate::run::{self, simple};
use crate::schema::{ALT_PATH, Kind, Layout, Schema, Table, sets};
use crate::values::quote;
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::{Endpoint, Router, Shards, Wire, poll_until};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Both sides.
pub struct World {
    pub schema: Schema,
    pub layout: Layout,
    pub shards: usize,
    /// The plain database.
    pub o: Wire,
    /// Through the router.
    pub r: Wire,
    /// What the client has set on both.
    pub settings: Vec<String>,
    /// Another client, who has set something else.
    other: Client,
    /// Through the router as well: nothing is ever set there.
    asking: Wire,
    pub o_types: Types,
    pub r_types: Types,
    /// What was found wrong while it was filled.
    pub faults: Vec<String>,
    /// The views that the router did not make, by its word.
    pub refused_views: BTreeMap<String, u64>,
    homes: BTreeMap<String, String>,
    databases: Vec<Wire>,
    // In this order: the router is ended before its databases are dropped.
    pub router: Router,
    _databases: Shards,
}

/// The connections of one client, and what it has set on both.
struct Client {
    o: Wire,
    r: Wire,
    settings: Vec<String>,
}

impl Client {
    fn new(plain: &Endpoint, routed: &Endpoint) -> Client {
        let (mut o, mut r) = (Wire::login(plain), Wire::login(routed));
        must(&mut o, PATIENCE);
        must(&mut r, TIMEOUT);
        Client {
            o,
            r,
            settings: Vec::new(),
        }
    }
}

/// How long something may be left behind.
const SOON: Duration = Duration::from_secs(10);
/// How long a statement may run on the one PostgreSQL. What takes longer is not compared.
const PATIENCE: &str = "SET statement_timeout = '1s'";
/// A view of more rows makes too many of those that read it slow.
const MAX_ROWS: u64 = 400;
/// And through the router, far less than an answer is waited for.
const TIMEOUT: &str = "SET statement_timeout = '8s'";

impl World {
    /// Made and filled, with so many views at random.
    pub fn new(seed: u64, layout: Layout, shards: usize, views: u64) -> World {
        let schema = Schema::new(seed, layout, shards);
        let databases = Shards::new(shards + 1);
        let mut direct: Vec<Wire> = (0..=shards)
            .map(|at| Wire::login(&databases.endpoint(at)))
            .collect();
        for (at, wire) in direct.iter_mut().enumerate() {
            // So that object ids differ from one to the next.
            for number in 0..at {
                must(wire, &format!("CREATE DOMAIN other{number} AS int4"));
            }
            schema
                .everywhere
                .iter()
                .filter(|sql| !sql.starts_with("CREATE VIEW"))
                .for_each(|sql| must(wire, sql));
            if at == 0 || at == shards {
                schema.at_home.iter().for_each(|sql| must(wire, sql));
            }
            if at == shards {
                schema.in_one.iter().for_each(|sql| must(wire, sql));
            }
            if at == 0 {
                schema.lookup.iter().for_each(|sql| must(wire, sql));
            }
            schema
                .everywhere
                .iter()
                .filter(|sql| sql.starts_with("CREATE VIEW"))
                .for_each(|sql| must(wire, sql));
        }
        let set = match layout {
            Layout::Mongodb => Some(SET.as_ref().expect("there is a mongod")),
            _ => None,
        };
        let router = Router::start(&config(&databases, shards, &schema, set));
        let endpoint = Endpoint {
            database: "app".into(),
            ..databases.endpoint(0).at_port(router.port())
        };
        let plain = databases.endpoint(shards);
        let Client {
            mut o,
            mut r,
            settings,
        } = Client::new(&plain, &endpoint);
        let (o_types, mut r_types) = (types(&mut o), types(&mut r));
        for wire in &mut direct[..shards] {
            r_types.inside.extend(types(wire).inside);
        }
        let mut world = World {
            schema,
            layout,
            shards,
            o,
            r,
            settings,
            other: Client::new(&plain, &endpoint),
            asking: Wire::login(&endpoint),
            o_types,
            r_types,
            faults: Vec::new(),
            refused_views: BTreeMap::new(),
            homes: BTreeMap::new(),
            databases: direct,
            router,
            _databases: databases,
        };
        world.fill();
        world.write_code(seed);
        world.define(seed, views);
        world
    }

    fn fill(&mut self) {
        let rows = self.schema.rows.clone();
        rows.iter().for_each(|sql| self.store(sql));
        if !self.schema.alike.is_empty() {
            let path = format!("SET search_path = {ALT_PATH}");
            let bases: Vec<&Table> = self.schema.tables.iter().collect();
            let is_hidden = |table: &&&Table| {
                let name = [table.name().to_owned()];
                self.schema.alike_of(&name).next().is_some()
            };
            let hidden = bases.iter().filter(is_hidden);
            let hidden: Vec<String> = hidden
                .map(|table| format!("INSERT INTO {} ", table.name()))
                .collect();
            for wire in [&mut self.o, &mut self.r] {
                must(wire, &path);
            }
            for sql in rows {
                if hidden.iter().any(|into| sql.starts_with(into)) {
                    self.store(&sql);
                }
            }
            for wire in [&mut self.o, &mut self.r] {
                must(wire, "RESET search_path");
            }
        }
        let tables: Vec<String> = self
            .schema
            .tables
            .iter()
            .map(|table| table.name().to_owned())
            .collect();
        let wrong = self.differing(&tables);
        self.faults.extend(wrong);
    }

    /// Stores rows on both sides, or on neither.
    fn store(&mut self, sql: &str) {
        match simple(&mut self.r, sql) {
            Ok(answer) if answer.error.is_none() => must(&mut self.o, sql),
            // Rows that it does not take are on neither side.
            Ok(answer) if refusal(None, &answer).is_some() => {}
            Ok(answer) if self.layout == Layout::Mongodb && limits::limit(&answer).is_some() => {}
            said => self.faults.push(format!("{sql}: {said:?}")),
        }
    }

    /// Whether names mean other tables for this client than without its settings.
    pub fn has_other_names(&self) -> bool {
        let mut set = self.settings.iter().rev();
        let path = set.find(|sql| sql.contains("search_path"));
        !self.schema.alike.is_empty() && path.is_some_and(|sql| sql.contains(ALT_PATH))
    }

    /// Functions and triggers at random. What the router refuses is on neither side.
    fn write_code(&mut self, seed: u64) {
        for number in 0..3 {
            let name = format!("fun{number}");
            let create = Gen::new(mix(seed, number, 8), &self.schema).function(&name);
            if self.is_made_on_both(&create, &format!("DROP FUNCTION {name}")) {
                self.schema.add_function(name);
            }
        }
        let at = usize::try_from(mix(seed, 0, 10)).unwrap_or_default();
        let table = self.schema.tables[at % self.schema.tables.len()].clone();
        let drops = at.is_multiple_of(3);
        if let Some([function, trigger]) = code::trigger(&table, drops) {
            let name = table.name();
            let undone = format!("DROP FUNCTION changes_{name}");
            if self.is_made_on_both(&function, &undone) {
                self.is_made_on_both(&trigger, &format!("DROP TRIGGER changes ON {name}"));
            }
        }
    }

    /// Makes something on the one database and through the router; what the router refuses is `undone` on the other.
    fn is_made_on_both(&mut self, sql: &str, undone: &str) -> bool {
        let is_made = |said: &Result<run::Answer, run::Lost>| matches!(said, Ok(answer) if answer.error.is_none());
        if !is_made(&simple(&mut self.o, sql)) {
            return false;
        }
        let said = simple(&mut self.r, sql);
        if is_made(&said) {
            return true;
        }
        must(&mut self.o, undone);
        match &said {
            Ok(answer) if refusal(None, answer).is_some() => {
                let reason = refusal(None, answer).unwrap_or_default();
                *self.refused_views.entry(reason).or_default() += 1;
            }
            Ok(answer) if self.layout == Layout::Mongodb && limits::limit(answer).is_some() => {}
            said => self.faults.push(format!("{sql}: {said:?}")),
        }
        false
    }

    /// Views at random, each made through the router and on the one database. What one of them does not make is on
    /// neither side, nor is a view of more rows than are worth while.
    fn define(&mut self, seed: u64, views: u64) {
        for number in 0..views {
            let name = format!("view{number}");
            let view = Gen::new(mix(seed, number, 7), &self.schema).view(&name);
            let create = format!("CREATE VIEW {name} AS {}", view.text);
            let is_made = |said: &Result<run::Answer, run::Lost>| matches!(said, Ok(answer) if answer.error.is_none());
            if !is_made(&simple(&mut self.o, &create)) {
                continue;
            }
            let counted = format!("SELECT count(*) <= {MAX_ROWS} FROM {name}");
            let counted = simple(&mut self.o, &counted);
            let is_small = matches!(counted, Ok(answer) if answer.rows.first() == Some(&vec![Some(b"t".to_vec())]));
            let said = match is_small {
                true => simple(&mut self.r, &create),
                false => Ok(run::Answer::default()),
            };
            if is_small && is_made(&said) {
                self.schema.add(view);
                continue;
            }
            must(&mut self.o, &format!("DROP VIEW {name}"));
            match &said {
                _ if !is_small => {}
                Ok(answer) => match refusal(None, answer) {
                    Some(message) => *self.refused_views.entry(message).or_default() += 1,
                    None => self.faults.push(format!("{create}: {said:?}")),
                },
                Err(_) => self.faults.push(format!("{create}: {said:?}")),
            }
        }
        if views > 0 {
            (self.o_types, self.r_types) = (types(&mut self.o), types(&mut self.r));
            for wire in &mut self.databases[..self.shards] {
                self.r_types.inside.extend(types(wire).inside);
            }
        }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            database: "app".into(),
            ..self._databases.endpoint(0).at_port(self.router.port())
        }
    }

    /// Both connections anew, when the router's is lost: they begin at the same moment.
    pub fn reconnect(&mut self) {
        let settings = std::mem::take(&mut self.settings);
        let client = Client::new(&self._databases.endpoint(self.shards), &self.endpoint());
        (self.o, self.r, self.settings) = (client.o, client.r, client.settings);
        for sql in settings {
            must(&mut self.r, &sql);
            must(&mut self.o, &sql);
            self.settings.push(sql);
        }
    }

    /// Changes what new sessions begin with, on both sides; the other client is a new one from then on. What went wrong.
    pub fn begin_with(&mut self, of_role: bool, default: &str) -> Option<String> {
        let change = |database: &str| match of_role {
            true => format!("ALTER ROLE CURRENT_USER IN DATABASE {database} {default}"),
            false => format!("ALTER DATABASE {database} {default}"),
        };
        let name = |world: &World, at: usize| world._databases.endpoint(at).database;
        // A database has another name on each shard here, so that no statement reaches all of them. The router learns of
        // it by that of the home shard.
        for at in 1..=self.shards {
            let sql = change(&name(self, at));
            must(&mut self.databases[at], &sql);
        }
        let home = name(self, 0);
        let said = simple(&mut self.asking, &change(&home));
        self.other = Client::new(&self._databases.endpoint(self.shards), &self.endpoint());
        match said {
            Ok(answer) if answer.error.is_none() => None,
            said => Some(format!("{}: {said:?}", change(&home))),
        }
    }

    /// The other client goes on.
    pub fn swap(&mut self) {
        std::mem::swap(&mut self.o, &mut self.other.o);
        std::mem::swap(&mut self.r, &mut self.other.r);
        std::mem::swap(&mut self.settings, &mut self.other.settings);
    }

    /// In which of these tables the shards together have other rows than the one
    /// database, or one where it does not belong.
    pub fn differing(&mut self, tables: &[String]) -> Vec<String> {
        let tables: Vec<Table> = self
            .schema
            .tables
            .iter()
            .filter(|table| tables.iter().any(|name| name == table.name()))
            .chain(self.schema.alike_of(tables))
            .cloned()
            .collect();
        let mut found: Vec<String> = tables
            .iter()
            .filter_map(|table| self.differs(table))
            .collect();
        let partitions = self.schema.partitions.iter();
        let detached: Vec<String> = partitions.flat_map(Partitions::detached).collect();
        found.extend(detached.iter().filter_map(|name| self.differs_apart(name)));
        found
    }

    /// Whether a partition that was detached has other rows on all shards together.
    fn differs_apart(&mut self, name: &str) -> Option<String> {
        let sql = format!("SELECT x::text FROM {name} AS x");
        let mut all = one_column(&mut self.databases[self.shards], &sql);
        let shards = self.databases[..self.shards].iter_mut();
        let mut union: Vec<String> = shards.flat_map(|wire| one_column(wire, &sql)).collect();
        all.sort();
        union.sort();
        (union != all).then(|| format!("{name}: {union:?}, and not {all:?}"))
    }

    fn differs(&mut self, table: &Table) -> Option<String> {
        let name = table.name();
        if self.layout.has_documents(name) {
            let columns = table.relation.columns.iter();
            let columns: Vec<String> = columns
                .map(|(column, _)| format!("coalesce({column}::text, '~')"))
                .collect();
            let sql = format!("SELECT concat_ws('|', {}) FROM {name}", columns.join(", "));
            // Clients that have set nothing: there are settings by which documents are not read.
            let mut all = one_column(&mut self.databases[self.shards], &sql);
            let mut documents = one_column(&mut Wire::login(&self.endpoint()), &sql);
            all.sort();
            documents.sort();
            let differ = all != documents;
            return differ.then(|| format!("{name}: {documents:?}, and not {all:?}"));
        }
        let sql = format!("SELECT x::text FROM {name} AS x");
        let mut all = one_column(&mut self.databases[self.shards], &sql);
        all.sort();
        let shards = match table.kind {
            Kind::Home => 1,
            _ => self.shards,
        };
        let mut parts = Vec::new();
        for wire in &mut self.databases[..shards] {
            parts.push(one_column(wire, &sql));
        }
        if table.kind == Kind::Reference {
            for (shard, mut rows) in parts.into_iter().enumerate() {
                rows.sort();
                if rows != all {
                    return Some(format!(
                        "{name} on s{}: {rows:?}, and not {all:?}",
                        shard + 1
                    ));
                }
            }
            return None;
        }
        let mut union = parts.concat();
        union.sort();
        if union != all {
            let more: Vec<_> = union.iter().filter(|row| !all.contains(row)).collect();
            let less: Vec<_> = all.iter().filter(|row| !union.contains(row)).collect();
            let counts = format!("{} rows on shards, {} in one", union.len(), all.len());
            return Some(format!(
                "{name}: {counts}; only on shards {more:?}; only in one {less:?}"
            ));
        }
        if table.kind == Kind::Sharded {
            return self.misplaced(table);
        }
        None
    }

    /// A row that does not lie where the router would look for it.
    fn misplaced(&mut self, table: &Table) -> Option<String> {
        let columns: Vec<(String, &str)> = table
            .key
            .iter()
            .map(|at| &table.relation.columns[*at])
            .map(|(name, ty)| (name.clone(), ty.name()))
            .collect();
        let key: Vec<String> = columns
            .iter()
            .map(|(name, _)| format!("{name}::text"))
            .collect();
        let sql = format!("SELECT DISTINCT {} FROM {}", key.join(", "), table.name());
        for shard in 0..self.shards {
            for values in run::rows(&mut self.databases[shard], &sql) {
                let condition: Vec<String> = columns
                    .iter()
                    .zip(&values)
                    .map(|((name, ty), value)| format!("{name} = {}::{ty}", quote(value)))
                    .collect();
                let route = format!(
                    "EXPLAIN (ROUTE) SELECT 1 FROM {} WHERE {}",
                    table.name(),
                    condition.join(" AND ")
                );
                let expected = format!("Shards: s{}", shard + 1);
                if !self.homes.contains_key(&route) {
                    let lines = run::rows(&mut self.asking, &route).concat();
                    let told = lines
                        .iter()
                        .find(|line| line.starts_with("Shards"))
                        .cloned();
                    self.homes.insert(route.clone(), told.unwrap_or_default());
                }
                if self.homes[&route] != expected {
                    return Some(format!(
                        "{}: {values:?} lies on s{}, but {:?}",
                        table.name(),
                        shard + 1,
                        self.homes[&route]
                    ));
                }
            }
        }
        None
    }

    /// What should not be left behind on shards. What goes away by itself soon is not left: the router reads catalogs
    /// in transactions of its own, whenever it likes.
    pub fn leftovers(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        poll_until(SOON, || {
            found = self.on_shards();
            found.is_empty()
        });
        // Whatever somebody has set for the session or for all new ones has the same value on both sides.
        let set = "SELECT name FROM pg_settings WHERE name <> 'statement_timeout' \
            AND source IN ('session', 'database', 'user', 'database user')";
        let names = [one_column(&mut self.o, set), one_column(&mut self.r, set)].concat();
        let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
        let values = format!(
            "SELECT name || '=' || setting FROM pg_settings WHERE name IN ({}) ORDER BY 1",
            names.join(", ")
        );
        let (o, r) = (
            one_column(&mut self.o, &values),
            one_column(&mut self.r, &values),
        );
        if o != r {
            found.push(format!("settings {r:?}, and not {o:?}"));
        }
        found
    }

    fn on_shards(&mut self) -> Vec<String> {
        let sql = "SELECT 'prepared ' || gid FROM pg_prepared_xacts WHERE database = current_database() \
            UNION ALL SELECT 'temporary ' || relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r' \
            UNION ALL SELECT 'open ' || query FROM pg_stat_activity WHERE datname = current_database() \
            AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL \
            AND state LIKE 'idle in%'";
        let shards = self.databases[..self.shards].iter_mut().enumerate();
        let found = shards.flat_map(|(at, wire)| {
            let left = one_column(wire, sql).into_iter();
            left.map(move |what| format!("s{}: {what}", at + 1))
        });
        found.collect()
    }

    /// The kind of plan that the router has for it.
    pub fn plan(&mut self, sql: &str) -> Option<String> {
        let answer = simple(&mut self.r, &format!("EXPLAIN (ROUTE) {sql}")).ok()?;
        let first = answer.rows.first()?.first()?.as_ref()?;
        let text = String::from_utf8_lossy(first).into_owned();
        Some(text.strip_prefix("Plan: ").unwrap_or(&text).to_owned())
    }
}

/// A replica set for all worlds that have documents, each in databases of its own.
static SET: LazyLock<Option<ReplicaSet>> = LazyLock::new(|| ReplicaSet::start("oracle", 1));

fn config(databases: &Shards, shards: usize, schema: &Schema, set: Option<&ReplicaSet>) -> String {
    let direct = databases.endpoint(0);
    let (user, password, host, port) = (&direct.user, &direct.password, &direct.host, direct.port);
    let mut config = format!(
        "[tables]\nkey_updates = \"move\"\n{}[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
         [control]\nuser = \"{user}\"\npassword = \"{password}\"\n",
        schema.config
    );
    let mut on = Vec::new();
    for shard in 0..shards {
        let name = shard + 1;
        config += &format!(
            "[[shard]]\nname = \"s{name}\"\n[[shard.server]]\naddress = \"{host}:{port}\"\n"
        );
        on.push(format!(
            "s{name} = \"{}\"",
            databases.endpoint(shard).database
        ));
    }
    if let Some(set) = set {
        static WORLD: AtomicUsize = AtomicUsize::new(0);
        let world = WORLD.fetch_add(1, Ordering::Relaxed);
        let address = &set.addresses()[0];
        for shard in 1..=sets(shards) {
            config += &format!(
                "[[shard]]\nname = \"d{shard}\"\nengine = \"mongodb\"\n\
                 [[shard.server]]\naddress = \"{address}\"\n"
            );
            on.push(format!("d{shard} = \"world_{world}_{shard}\""));
        }
    }
    config
        + &format!(
            "[[database]]\nname = \"app\"\non = {{ {} }}\n",
            on.join(", ")
        )
}

fn must(wire: &mut Wire, sql: &str) {
    let answer = simple(wire, sql).unwrap_or_else(|lost| panic!("{sql}: {lost:?}"));
    assert!(answer.error.is_none(), "{sql}: {:?}", answer.error);
}

fn one_column(wire: &mut Wire, sql: &str) -> Vec<String> {
    run::rows(wire, sql)
        .into_iter()
        .map(|mut row| row.remove(0))
        .collect()
}

/// Users' types by their object ids.
fn types(wire: &mut Wire) -> Types {
    let sql = "SELECT oid, format_type(oid, NULL), \
        CASE WHEN typsubscript = 'array_subscript_handler'::regproc THEN 'a' ELSE typtype END \
        FROM pg_type WHERE oid >= 16384 AND format_type(oid, NULL) NOT LIKE '%other%'";
    let inside: BTreeMap<u32, Inner> = run::rows(wire, sql)
        .into_iter()
        .map(|row| {
            let form = match row[2].as_str() {
                "a" => Form::Array,
                "c" => Form::Record,
                _ => Form::Plain,
            };
            let name = row[1].clone();
            (row[0].parse().unwrap(), Inner { name, form })
        })
        .collect();
    let names = inside.iter().map(|(oid, inner)| (*oid, inner.name.clone()));
    Types {
        names: names.collect(),
        inside,
    }
}

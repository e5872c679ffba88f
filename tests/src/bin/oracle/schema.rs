//! The tables of one world: which there are, which rows they have at first, and how
//! the router is told to lay them out.
//!
//! All by seed. What is made here is text: SQL for the databases, TOML for the router.

use crate::mix;
use crate::partition_ddl::Partitions;
use crate::values::{self, PRELUDE, Ty, quote};
use crate::views::View;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

/// How tables lie on shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// By the primary key.
    Pk,
    /// By a column that repeats.
    Nonpk,
    /// Beside reference tables and tables of the home shard.
    Mixed,
    /// Everything on one shard, by ranges.
    Uneven,
    /// By ranges.
    Range,
    /// By lists.
    List,
    /// By two columns.
    Composite,
    /// By a lookup table.
    Directory,
    /// In MongoDB, but for one table. It is played when it is asked for.
    Mongodb,
}

/// All of PostgreSQL alone, in the order in which worlds take turns.
pub const LAYOUTS: [Layout; 8] = [
    Layout::Pk,
    Layout::Mixed,
    Layout::Nonpk,
    Layout::Range,
    Layout::Composite,
    Layout::Uneven,
    Layout::List,
    Layout::Directory,
];

impl Layout {
    /// As it is written in the environment and in the report.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Whether the rows of a table are documents.
    pub fn has_documents(self, table: &str) -> bool {
        self == Layout::Mongodb && ["t", "u"].contains(&table)
    }
}

/// The types that documents have.
const STORED: [Ty; 16] = [
    Ty::Int2,
    Ty::Int4,
    Ty::Int8,
    Ty::Numeric,
    Ty::Float4,
    Ty::Float8,
    Ty::Bool,
    Ty::Text,
    Ty::Varchar,
    Ty::Uuid,
    Ty::Bytea,
    Ty::Date,
    Ty::Timestamp,
    Ty::Timestamptz,
    Ty::Jsonb,
    Ty::Texts,
];

/// A schema where some names mean other tables.
pub const ALT: &str = "alt";
/// The search path by which they do.
pub const ALT_PATH: &str = "alt, public";

/// Where a table's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sharded,
    Reference,
    Home,
}

/// A table or view as a FROM clause sees it.
#[derive(Debug, Clone)]
pub struct Relation {
    pub name: String,
    pub columns: Vec<(String, Ty)>,
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    pub relation: Relation,
    pub kind: Kind,
    /// Places of the key columns; empty where there is no key.
    pub key: Vec<usize>,
    /// Places of the primary key's columns; empty where there is none.
    pub unique: Vec<usize>,
    /// Values for each column.
    pub pools: Vec<Vec<String>>,
}

impl Table {
    pub fn name(&self) -> &str {
        &self.relation.name
    }
}

/// Everything of one world.
#[derive(Debug, Clone)]
pub struct Schema {
    pub tables: Vec<Table>,
    /// Tables of the schema [`ALT`] with the names of some tables; they lie elsewhere, and hide them where the search
    /// path begins with it.
    pub alike: Vec<Table>,
    pub views: Vec<Relation>,
    /// The views that were made at random.
    pub random_views: Vec<View>,
    /// Functions of one int8 that give one.
    pub functions: Vec<String>,
    /// For every database.
    pub everywhere: Vec<String>,
    /// For the home shard and the one database that has everything.
    pub at_home: Vec<String>,
    /// For the one database that has everything: the shards have documents instead.
    pub in_one: Vec<String>,
    /// Of the lookup table, for the home shard alone.
    pub lookup: Vec<String>,
    /// Views' names with their definitions, to make them again.
    pub view_texts: Vec<(String, String)>,
    /// Rows, as statements to be run through the router and on the one database.
    pub rows: Vec<String>,
    /// The tables for the router.
    pub config: String,
    /// Those of one sharded table, in some worlds.
    pub partitions: Option<Partitions>,
}

impl Schema {
    /// The world of this seed.
    pub fn new(seed: u64, layout: Layout, shards: usize) -> Schema {
        Maker {
            rng: StdRng::seed_from_u64(seed),
            layout,
            shards,
            schema: Schema {
                tables: Vec::new(),
                alike: Vec::new(),
                views: Vec::new(),
                random_views: Vec::new(),
                functions: Vec::new(),
                everywhere: vec![PRELUDE.to_owned()],
                at_home: Vec::new(),
                in_one: Vec::new(),
                lookup: Vec::new(),
                view_texts: Vec::new(),
                rows: Vec::new(),
                config: String::new(),
                partitions: None,
            },
            partitioned: StdRng::seed_from_u64(mix(seed, 0, 12)).random_bool(0.4),
        }
        .make()
    }

    /// One more view, of both sides.
    pub fn add(&mut self, view: View) {
        let name = view.relation.name.clone();
        self.view_texts.push((name, view.text.clone()));
        self.views.push(view.relation.clone());
        self.random_views.push(view);
    }

    /// How many of a hundred names in FROM are views.
    pub fn share_of_views(&self) -> u32 {
        match self.random_views.is_empty() {
            true => 12,
            false => 60,
        }
    }

    /// The definitions of the views at random that a text names, and of those that these name.
    pub fn definitions(&self, text: &str) -> Vec<String> {
        let mut open = vec![text.to_owned()];
        let mut found: Vec<String> = Vec::new();
        while let Some(text) = open.pop() {
            for view in &self.random_views {
                let name = &view.relation.name;
                let told = format!("CREATE VIEW {name} AS {}", view.text);
                if crate::views::names(&text, name) && !found.contains(&told) {
                    open.push(view.text.clone());
                    found.push(told);
                }
            }
        }
        found
    }

    /// The tables of [`ALT`] with these names.
    pub fn alike_of<'s>(&'s self, names: &'s [String]) -> impl Iterator<Item = &'s Table> {
        self.alike.iter().filter(move |table| {
            let name = table.name().strip_prefix(ALT);
            let name = name.and_then(|name| name.strip_prefix('.'));
            names.iter().any(|one| Some(one.as_str()) == name)
        })
    }

    /// All tables and views.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.tables
            .iter()
            .map(|table| &table.relation)
            .chain(&self.views)
    }
}

/// How many shards of documents there are beside so many of PostgreSQL: one in most worlds, for of those on several few
/// can be written together.
pub fn sets(shards: usize) -> usize {
    match shards {
        3 => 3,
        _ => 1,
    }
}

/// A table of documents for the router; its first column is its key.
fn documents(name: &str, shards: usize, columns: &[(String, Ty)]) -> String {
    let shards: Vec<String> = (1..=shards).map(|shard| format!("\"d{shard}\"")).collect();
    let shards = shards.join(", ");
    let mut config =
        format!("[[table]]\nname = {name:?}\nkind = \"documents\"\nshards = [{shards}]\n");
    for (at, (column, ty)) in columns.iter().enumerate() {
        let path = if at == 0 { "path = \"_id\"\n" } else { "" };
        let ty = stored(at, *ty);
        config += &format!("[[table.column]]\nname = {column:?}\nsql_type = {ty:?}\n{path}");
    }
    config
}

/// The type of a document's column at a place, as it is declared: every other time is rounded.
fn stored(at: usize, ty: Ty) -> String {
    let rounded = match ty {
        Ty::Timestamp | Ty::Timestamptz if at % 2 == 1 => "(3)",
        _ => "",
    };
    format!("{}{rounded}", ty.declared())
}

struct Maker {
    rng: StdRng,
    layout: Layout,
    shards: usize,
    schema: Schema,
    /// Whether a table has partitions.
    partitioned: bool,
}

const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

impl Maker {
    fn make(mut self) -> Schema {
        let main = match self.layout {
            Layout::Range | Layout::Uneven | Layout::List => {
                *[Ty::Int8, Ty::Int4, Ty::Text, Ty::Date, Ty::Numeric]
                    .choose(&mut self.rng)
                    .unwrap()
            }
            Layout::Directory => *[Ty::Int8, Ty::Text, Ty::Uuid]
                .choose(&mut self.rng)
                .unwrap(),
            _ => *values::KEYS[..11].choose(&mut self.rng).unwrap(),
        };
        self.strategy(main);
        self.sharded("t", main, true);
        self.sharded("u", main, true);
        let other = *values::KEYS.choose(&mut self.rng).unwrap();
        self.sharded("w", other, false);
        if self.layout == Layout::Mixed || self.rng.random_bool(0.5) {
            self.plain("r", Kind::Reference);
        }
        if self.layout == Layout::Mixed {
            self.plain("q", Kind::Reference);
        }
        if self.layout == Layout::Mixed || self.rng.random_bool(0.3) {
            self.plain("h", Kind::Home);
        }
        if self.layout != Layout::Mongodb {
            self.views();
        }
        self.schema.everywhere.push(format!("CREATE SCHEMA {ALT}"));
        // Partitions are changed by their names alone.
        let may = self.layout != Layout::Mongodb && self.schema.partitions.is_none();
        if may && self.rng.random_bool(0.5) {
            self.alike();
        }
        self.schema
    }

    /// The named strategy of the main tables, where the layout wants one.
    fn strategy(&mut self, key: Ty) {
        let shards = self.shards;
        let name = |shard: usize| format!("s{}", shard % shards + 1);
        let (key_type, pool) = (key.name(), key.key_pool());
        let text = match self.layout {
            Layout::Range => {
                let bounds = match key {
                    Ty::Text => ["a", "kd", "ke", "kg", "ki", "kk"]
                        .map(str::to_owned)
                        .to_vec(),
                    Ty::Date => [1, 3, 4, 6, 8, 9].map(|n| format!("2024-03-0{n}")).to_vec(),
                    Ty::Numeric => ["0", "1", "2.25", "4", "5", "1000"]
                        .map(str::to_owned)
                        .to_vec(),
                    _ => [0, 2, 5, 6, 9, 12].map(|n| n.to_string()).to_vec(),
                };
                let bounds = &bounds[..self.rng.random_range(2..=bounds.len())];
                let mut lines = vec![format!("{{ below = {:?}, shard = \"s1\" }}", bounds[0])];
                for (at, pair) in bounds.windows(2).enumerate() {
                    let (from, below) = (&pair[0], &pair[1]);
                    lines.push(format!(
                        "{{ from = {from:?}, below = {below:?}, shard = {:?} }}",
                        name(at + 1)
                    ));
                }
                let last = bounds.last().unwrap();
                lines.push(format!(
                    "{{ from = {last:?}, shard = {:?} }}",
                    name(bounds.len())
                ));
                format!(
                    "kind = \"range\"\nkey_type = {key_type:?}\nrange = [{}]\n",
                    lines.join(", ")
                )
            }
            Layout::Uneven => {
                // All but what is smaller than everything else: on the last shard, and the others are empty.
                let low = match key {
                    Ty::Text => "",
                    Ty::Date => "-infinity",
                    Ty::Numeric => "-1000000",
                    _ => "-1000000",
                };
                format!(
                    "kind = \"range\"\nkey_type = {key_type:?}\nother = \"s1\"\nrange = [{{ from = {low:?}, shard = {:?} }}]\n",
                    name(shards - 1)
                )
            }
            Layout::List => {
                let mut lists = vec![Vec::new(); shards];
                for key in &pool {
                    // A few are left to `other`.
                    if self.rng.random_bool(0.8) {
                        lists[self.rng.random_range(0..shards)].push(format!("{key:?}"));
                    }
                }
                let lists: Vec<String> = (0..shards)
                    .filter(|at| !lists[*at].is_empty())
                    .map(|at| {
                        format!(
                            "{{ keys = [{}], shard = {:?} }}",
                            lists[at].join(", "),
                            name(at)
                        )
                    })
                    .collect();
                format!(
                    "kind = \"list\"\nkey_type = {key_type:?}\nother = {:?}\nlist = [{}]\n",
                    name(shards - 1),
                    lists.join(", ")
                )
            }
            Layout::Directory => {
                let mut rows = Vec::new();
                for key in &pool {
                    let shard = name(self.rng.random_range(0..shards));
                    rows.push(format!("({}, '{shard}')", quote(key)));
                }
                self.schema.lookup = vec![
                    format!("CREATE TABLE places (k {key_type} PRIMARY KEY, shard text NOT NULL)"),
                    format!("INSERT INTO places VALUES {}", rows.join(", ")),
                ];
                "kind = \"directory\"\ntable = \"places\"\nkey_column = \"k\"\nshard_column = \"shard\"\n".to_owned()
            }
            _ => return,
        };
        self.schema.config += &format!("[[strategy]]\nname = \"main\"\n{text}");
    }

    fn sharded(&mut self, name: &str, key: Ty, main: bool) {
        let mut columns = vec![("id".to_owned(), key)];
        let (mut keys, mut unique) = (vec![0], vec![0]);
        match self.layout {
            Layout::Composite if main => {
                columns.push(("k2".to_owned(), Ty::Text));
                (keys, unique) = (vec![0, 1], vec![0, 1]);
            }
            Layout::Nonpk => {
                columns.push(("n".to_owned(), Ty::Int4));
                unique = if self.rng.random_bool(0.6) {
                    vec![1, 0]
                } else {
                    Vec::new()
                };
            }
            _ => {}
        }
        let named = matches!(
            self.layout,
            Layout::Range | Layout::Uneven | Layout::List | Layout::Directory
        );
        let list = |of: Vec<String>| format!("[{}]", of.join(", "));
        let quoted = |at: &usize| format!("{:?}", columns[*at].0);
        let types = |at: &usize| format!("{:?}", columns[*at].1.name());
        let mut config = format!(
            "[[table]]\nname = {name:?}\nkey = {}\n",
            list(keys.iter().map(quoted).collect())
        );
        if self.rng.random_bool(0.5) {
            config += &format!("key_type = {}\n", list(keys.iter().map(types).collect()));
        }
        if self.layout.has_documents(name) {
            // Its columns are not known yet.
            config = String::new();
        }
        if main && named {
            config += "strategy = \"main\"\n";
        } else if name == "u" && self.layout != Layout::Mongodb && self.rng.random_bool(0.3) {
            config += "colocate = \"t\"\n";
        }
        self.schema.config += &config;
        self.table(name, Kind::Sharded, columns, keys, unique);
    }

    /// One or two names mean another table in another schema.
    fn alike(&mut self) {
        let mut tables = self.schema.tables.clone();
        tables.shuffle(&mut self.rng);
        tables.truncate(self.rng.random_range(1..=2));
        for mut table in tables {
            let (base, name) = (table.name().to_owned(), format!("{ALT}.{}", table.name()));
            let kinds: &[Kind] = match table.kind {
                // The others do not have the table that it is like.
                Kind::Home => &[Kind::Home],
                Kind::Reference => &[Kind::Home, Kind::Reference],
                Kind::Sharded => &[Kind::Home, Kind::Home, Kind::Reference, Kind::Sharded],
            };
            table.kind = *kinds.choose(&mut self.rng).unwrap();
            let create = format!("CREATE TABLE {name} (LIKE {base} INCLUDING ALL)");
            match table.kind {
                Kind::Home => self.schema.at_home.push(create),
                Kind::Reference | Kind::Sharded => self.schema.everywhere.push(create),
            }
            let key = table.key.iter().map(|at| &table.relation.columns[*at].0);
            let key: Vec<String> = key.map(|column| format!("{column:?}")).collect();
            self.schema.config += &match table.kind {
                Kind::Home => String::new(),
                Kind::Reference => {
                    format!("[[table]]\nname = {name:?}\nkind = \"reference\"\n")
                }
                Kind::Sharded => {
                    format!("[[table]]\nname = {name:?}\nkey = [{}]\n", key.join(", "))
                }
            };
            table.relation.name = name;
            self.schema.alike.push(table);
        }
    }

    fn plain(&mut self, name: &str, kind: Kind) {
        let key = *[Ty::Int4, Ty::Int8, Ty::Text]
            .choose(&mut self.rng)
            .unwrap();
        if kind == Kind::Reference {
            self.schema.config += &format!("[[table]]\nname = {name:?}\nkind = \"reference\"\n");
        }
        self.table(
            name,
            kind,
            vec![("id".to_owned(), key)],
            Vec::new(),
            vec![0],
        );
    }

    /// More columns, the definition, and rows.
    fn table(
        &mut self,
        name: &str,
        kind: Kind,
        mut columns: Vec<(String, Ty)>,
        key: Vec<usize>,
        unique: Vec<usize>,
    ) {
        let table = name;
        let mut names = NAMES.to_vec();
        names.shuffle(&mut self.rng);
        let common = [Ty::Int4, Ty::Text, Ty::Numeric, Ty::Float8];
        for name in &names[..self.rng.random_range(3..=7)] {
            let ty = if self.rng.random_bool(0.4) {
                *common.choose(&mut self.rng).unwrap()
            } else {
                match self.layout.has_documents(table) {
                    true => *STORED.choose(&mut self.rng).unwrap(),
                    false => *values::ALL.choose(&mut self.rng).unwrap(),
                }
            };
            columns.push(((*name).to_owned(), ty));
        }
        let pools: Vec<Vec<String>> = columns
            .iter()
            .enumerate()
            .map(
                |(at, (_, ty))| match key.contains(&at) || unique.contains(&at) {
                    true => {
                        let mut pool = ty.key_pool();
                        pool.shuffle(&mut self.rng);
                        let most = if key.len() > 1 { 5 } else { 24 };
                        pool.truncate(most);
                        pool
                    }
                    false => ty.pool().iter().map(|v| (*v).to_owned()).collect(),
                },
            )
            .collect();
        let mut lines: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, (name, ty))| {
                let null = if key.contains(&at) { " NOT NULL" } else { "" };
                // As tables of documents have it, because MongoDB compares bytes.
                let is_text = matches!(ty, Ty::Text | Ty::Varchar | Ty::Texts);
                let collation = match is_text && self.layout.has_documents(table) {
                    true => " COLLATE \"C\"",
                    false => "",
                };
                let declared = match self.layout.has_documents(table) {
                    true => stored(at, *ty),
                    false => ty.declared().to_owned(),
                };
                format!("{name} {declared}{collation}{null}")
            })
            .collect();
        if !unique.is_empty() {
            let names: Vec<&str> = unique.iter().map(|at| columns[*at].0.as_str()).collect();
            lines.push(format!("PRIMARY KEY ({})", names.join(", ")));
        }
        let create = format!("CREATE TABLE {name} ({})", lines.join(", "));
        if self.layout.has_documents(name) {
            self.schema.config += &documents(name, sets(self.shards), &columns);
        }
        match kind {
            _ if self.layout.has_documents(name) => self.schema.in_one.push(create),
            Kind::Home => self.schema.at_home.push(create),
            Kind::Sharded if self.partitioned && name == "w" => {
                let by = &columns[key[0]].0;
                let create = format!("{create} PARTITION BY HASH ({by})");
                self.schema.everywhere.push(create);
                self.schema.everywhere.extend(Partitions::creates(name));
                self.schema.partitions = Some(Partitions::new(name));
            }
            _ => self.schema.everywhere.push(create),
        }
        let table = Table {
            relation: Relation {
                name: name.to_owned(),
                columns,
            },
            kind,
            key,
            unique,
            pools,
        };
        self.fill(&table);
        self.schema.tables.push(table);
    }

    fn fill(&mut self, table: &Table) {
        let count = *[0, 1, 5, 12, 18, 25].choose(&mut self.rng).unwrap();
        let mut taken = std::collections::BTreeSet::new();
        let mut rows = Vec::new();
        for _ in 0..count {
            let (row, unique) = self.row(table);
            if unique.is_empty() || taken.insert(unique) {
                rows.push(row);
            }
        }
        // Of documents there are rows that cannot be stored.
        let together = if self.layout.has_documents(table.name()) {
            1
        } else {
            7
        };
        for rows in rows.chunks(together) {
            let into = format!("INSERT INTO {} VALUES {}", table.name(), rows.join(", "));
            self.schema.rows.push(into);
        }
    }

    fn row(&mut self, table: &Table) -> (String, Vec<String>) {
        let mut values = Vec::new();
        for (at, pool) in table.pools.iter().enumerate() {
            let needed = table.key.contains(&at) || table.unique.contains(&at);
            if !needed && self.rng.random_bool(0.15) {
                values.push("NULL".to_owned());
            } else {
                values.push(quote(pool.choose(&mut self.rng).unwrap()));
            }
        }
        let unique = table.unique.iter().map(|at| values[*at].clone()).collect();
        (format!("({})", values.join(", ")), unique)
    }

    fn views(&mut self) {
        let of = |name: &str, schema: &Schema| {
            let table = schema.tables.iter().find(|table| table.name() == name);
            table.map(|table| table.relation.columns.clone())
        };
        let t = of("t", &self.schema).unwrap();
        let names = |columns: &[(String, Ty)]| {
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            names.join(", ")
        };
        let mut views = vec![
            (
                "tv",
                format!("SELECT {} FROM t", names(&t)),
                t.clone(),
                false,
            ),
            (
                "tn",
                "SELECT id AS x, count(*) AS n FROM t GROUP BY id".to_owned(),
                vec![("x".to_owned(), t[0].1), ("n".to_owned(), Ty::Int8)],
                false,
            ),
        ];
        let u = of("u", &self.schema).unwrap();
        let last = |columns: &[(String, Ty)]| columns.last().unwrap().clone();
        let (tl, ul) = (last(&t), last(&u));
        let both = if self.layout == Layout::Composite {
            " AND t.k2 = u.k2"
        } else {
            ""
        };
        views.push((
            "tu",
            format!(
                "SELECT t.id, t.{} AS x, u.{} AS y FROM t JOIN u ON t.id = u.id{both}",
                tl.0, ul.0
            ),
            vec![
                ("id".to_owned(), t[0].1),
                ("x".to_owned(), tl.1),
                ("y".to_owned(), ul.1),
            ],
            false,
        ));
        if let Some(h) = of("h", &self.schema) {
            views.push(("hv", format!("SELECT {} FROM h", names(&h)), h, true));
        }
        for (name, text, columns, home) in views {
            let create = format!("CREATE VIEW {name} AS {text}");
            match home {
                true => self.schema.at_home.push(create),
                false => self.schema.everywhere.push(create),
            }
            self.schema.view_texts.push((name.to_owned(), text));
            self.schema.views.push(Relation {
                name: name.to_owned(),
                columns,
            });
        }
    }
}

//! Every reason for which the planner refuses a statement.
//!
//! One variant per reason, each with a code that never changes its meaning, an
//! SQLSTATE, a message in PostgreSQL's manner and a hint. `docs/refused.md` is
//! made from this file (`table`), and a test compares them. The list may only
//! shrink: a refusal is work not yet done, never an approximation.

use std::fmt;

use mothership_catalog::Name;

/// Why a statement is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the known reasons.
    pub reason: Reason,
    /// What it is about in this statement: names of tables and columns, never values.
    pub detail: Option<String>,
}

impl Refusal {
    /// A refusal without a detail.
    pub fn new(reason: Reason) -> Refusal {
        Refusal {
            reason,
            detail: None,
        }
    }

    /// A refusal that names what it is about.
    pub fn about(reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            detail: Some(detail.into()),
        }
    }

    /// A refusal about a table.
    pub fn of_table(reason: Reason, table: &Name) -> Refusal {
        Refusal::about(reason, format!("table \"{}\"", table.name))
    }

    /// A refusal about a column of a table.
    pub fn of_column(reason: Reason, table: &Name, column: &str) -> Refusal {
        let detail = format!("column \"{column}\" of table \"{}\"", table.name);
        Refusal::about(reason, detail)
    }

    /// A constraint that only a server with all the rows can enforce.
    pub fn is_unenforced(&self) -> bool {
        matches!(
            self.reason,
            Reason::UnenforcedUnique
                | Reason::UnenforcedExclude
                | Reason::UnenforcedForeignKey
                | Reason::ForeignKeyAction
        )
    }

    /// The SQLSTATE for the client.
    pub fn sqlstate(&self) -> &'static str {
        self.reason.text().sqlstate
    }

    /// The message for the client.
    pub fn message(&self) -> &'static str {
        self.reason.text().message
    }

    /// The hint for the client.
    pub fn hint(&self) -> &'static str {
        self.reason.text().hint
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason.text().code)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// Refuses, where the reason says it all.
pub fn refuse<T>(reason: Reason) -> Result<T, Refusal> {
    Err(Refusal::new(reason))
}

/// Refuses what is not understood.
pub fn not_understood<T>() -> Result<T, Refusal> {
    refuse(Reason::NotUnderstood)
}

/// What is said about a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Stable, in kebab case; metrics and `docs/refused.md` use it.
    pub code: &'static str,
    /// Five characters.
    pub sqlstate: &'static str,
    /// Lower case, factual, no period.
    pub message: &'static str,
    /// What to do instead.
    pub hint: &'static str,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $state:literal, $message:literal, $hint:literal;)*) => {
        /// The reasons, in the order of `docs/refused.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// What is said about it.
            pub fn text(self) -> Text {
                match self {
                    $(Reason::$variant => Text { code: $code, sqlstate: $state, message: $message, hint: $hint },)*
                }
            }
        }
    };
}

reasons! {
    /// sqlparser does not know the grammar.
    NotUnderstood = "not-understood", "0A000",
        "this statement is not understood well enough to be routed to shards",
        "Write it in plainer SQL, or run it on one shard directly.";
    /// The parser's tree and PostgreSQL's precedence table disagree.
    OperatorsUnclear = "operators-unclear", "0A000",
        "the precedence of operators in this statement is not certain",
        "Put parentheses around the operands.";
    /// Nested too deeply for a bounded stack, or too large for bounded work.
    TooComplex = "too-complex", "54001",
        "this statement is too deeply nested or refers to too many tables to be routed",
        "Simplify the statement.";
    /// A name can mean several things.
    NameUnclear = "name-unclear", "0A000",
        "a table name in this statement cannot be resolved with certainty",
        "Qualify the name with its schema.";
    /// A relation whose definition the router does not know.
    Unread = "unread", "55P03",
        "the definition of a relation in this statement cannot be read at the moment",
        "Try again when nobody holds a lock on it or on a table in it. Very long definitions are never read: see the limits of the catalog.";
    /// A sharded table that the shards do not have.
    NotInCatalog = "not-in-catalog", "0A000",
        "a table is declared in the configuration, and the shards do not have it",
        "Create the table through the router. If it was created on the shards directly, wait until the router has read the catalog again (catalog.refresh_interval).";
    /// Keys of a statement that must run on one shard lie on several.
    SeveralShards = "several-shards", "0A000",
        "the keys of this statement lie on several shards",
        "Use keys of one shard, or split the statement.";
    /// ORDER BY without a key.
    OrderBy = "order-by-over-shards", "0A000",
        "the rows of this ORDER BY lie on several shards, and the router cannot sort them",
        "Add an equality on the shard key, or sort in the client.";
    /// LIMIT, OFFSET or FETCH without a key.
    Limit = "limit-over-shards", "0A000",
        "the rows of this LIMIT lie on several shards, and the router cannot choose among them",
        "Add an equality on the shard key.";
    /// DISTINCT without a key.
    Distinct = "distinct-over-shards", "0A000",
        "the rows of this DISTINCT lie on several shards, and the router cannot compare them",
        "Add an equality on the shard key.";
    /// GROUP BY or HAVING without a key.
    GroupBy = "group-by-over-shards", "0A000",
        "the rows of this GROUP BY or HAVING lie on several shards, and the router cannot merge the groups",
        "Add an equality on the shard key.";
    /// An aggregate that is not merged natively.
    Aggregate = "aggregate-over-shards", "0A000",
        "the rows of this aggregate lie on several shards, and the router cannot merge its results",
        "Add an equality on the shard key.";
    /// A window function without a key.
    Window = "window-over-shards", "0A000",
        "the rows of this window function lie on several shards",
        "Add an equality on the shard key.";
    /// UNION and the like without a key in each arm.
    SetOperation = "set-operation-over-shards", "0A000",
        "the rows of this UNION, INTERSECT or EXCEPT lie on several shards",
        "Give each SELECT of it an equality on its shard key, all of one shard.";
    /// A subquery, CTE or derived table reads a sharded table that is not bound.
    Subquery = "subquery-over-shards", "0A000",
        "a subquery reads a sharded table that is not bound to one shard",
        "Add an equality on its shard key, with a value or with the shard key of the outer query.";
    /// A join that is not along the shard key.
    Join = "join-over-shards", "0A000",
        "joined sharded tables are not joined on their shard keys",
        "Join colocated tables by equality of their whole shard keys.";
    /// An outer join whose unmatched rows would appear once per shard.
    OuterJoin = "outer-join-over-shards", "0A000",
        "this outer join would repeat unmatched rows on every shard",
        "Put the sharded table on the preserved side, or add an equality on the shard key.";
    /// A home-shard table together with a sharded one.
    HomeAndSharded = "home-and-sharded", "0A000",
        "a table of the home shard is used together with a sharded table",
        "Declare it as a reference table, or query them separately.";
    /// PostgreSQL would see another statement in it if it ran on gathered rows.
    GatherDiffers = "gather-differs", "0A000",
        "this statement would mean something else on rows of several shards",
        "Add an equality on the shard key, or write it in plainer SQL.";
    /// What would be computed on gathered rows, where no shard is of PostgreSQL.
    WithoutPostgresql = "without-postgresql", "0A000",
        "rows of documents would have to be gathered for this statement, and there is no shard of PostgreSQL to do so",
        "Write it as a statement on one table of documents, or add a shard of PostgreSQL to the router's configuration.";
    /// What MongoDB cannot compute as PostgreSQL does, and what cannot be gathered either.
    Documents = "documents", "0A000",
        "MongoDB has no command that does the same as this statement on documents",
        "Write it in plainer SQL. The router cannot gather the documents for this form.";
    /// A write to documents that is no single command, and cannot be computed either.
    DocumentsWrite = "documents-write", "0A000",
        "MongoDB has no command that does the same as this write to documents",
        "Do not change the primary key, and write it in plainer SQL. The router cannot compute this form on the documents.";
    /// A write to documents of several replica sets, which have no common transaction.
    DocumentsShards = "documents-shards", "0A000",
        "a write to documents on several replica sets is not supported",
        "Write rows of one shard key at a time.";
    /// A statement other than SELECT, INSERT, UPDATE, DELETE, MERGE and COPY about documents, or MERGE of documents into
    /// another table.
    DocumentsStatement = "documents-statement", "0A000",
        "tables of documents support only SELECT, INSERT, UPDATE, DELETE, MERGE into them, COPY, GRANT, REVOKE and OWNER TO",
        "To change the definition of such a table, change the router's configuration.";
    /// Policies of a table of documents: PostgreSQL would have to see the rows.
    DocumentsRowSecurity = "documents-row-security", "0A000",
        "row security of tables of documents is not supported",
        "Grant rights on the table or on columns of it, or let a rule of the router's configuration refuse statements.";
    /// FOR UPDATE and the like of documents, where the lock would have to be there when the statement has ended.
    DocumentsLocks = "documents-locks", "0A000",
        "these row locks on documents are not supported",
        "Lock only documents of the outermost query, outside of a transaction block. Within one, UPDATE the documents so that a value changes, for example a counter: that locks them.";
    /// FOR UPDATE and the like over several shards, where more rows or only some copies would be locked.
    Locking = "locking-over-shards", "0A000",
        "these row locks over several shards are not supported",
        "Lock sharded tables only (FOR UPDATE OF), at most one in a subquery, without NOWAIT if there is a LIMIT, joined along the shard key; or add an equality on the shard key.";
    /// A function whose answer or effect belongs to one server.
    FunctionOfServer = "function-of-one-server", "0A000",
        "this function depends on or changes the state of one server and is used with a sharded table",
        "Call the function in a statement of its own.";
    /// A user function that may read or write tables.
    FunctionUnproven = "function-unproven", "0A000",
        "a user function may touch tables and cannot be proven to stay on one shard",
        "Declare it IMMUTABLE if it touches no tables, or run its statements directly.";
    /// A volatile function in a subquery.
    ComputedOnce = "computed-once", "0A000",
        "PostgreSQL calls a volatile function in a subquery once for all rows, and here each shard would call it",
        "Call the function in a statement of its own, and give its value as a parameter.";
    /// CALL or DO that may touch sharded tables.
    CodeUnproven = "code-unproven", "0A000",
        "a procedure or DO block may touch sharded tables",
        "Run its statements directly.";
    /// SELECT INTO, CREATE TABLE AS from sharded tables.
    CreateFromSharded = "create-from-sharded", "0A000",
        "a new table or view would be made of rows that lie on several shards",
        "Create the table first, then fill it with INSERT ... SELECT.";
    /// A cursor over several shards.
    Cursor = "cursor-over-shards", "0A000",
        "the rows of this cursor lie on several shards, and cannot be gathered on one server",
        "Add an equality on the shard key.";
    /// EXPLAIN of a statement over several shards.
    Explain = "explain-over-shards", "0A000",
        "EXPLAIN of this statement over several shards is not supported",
        "Use EXPLAIN (ROUTE), or add an equality on the shard key.";
    /// A parameter whose type is only known where its row is.
    ParameterType = "parameter-type", "0A000",
        "the rows of this INSERT lie on several shards and the type of a parameter is not certain",
        "Declare the parameter types, or cast the parameters.";
    /// INSERT that names no key.
    InsertWithoutKey = "insert-without-key", "0A000",
        "INSERT into a sharded table needs a value for the shard key",
        "Give a constant or a parameter for every shard key column.";
    /// INSERT whose key is an expression.
    InsertKey = "insert-key-not-constant", "0A000",
        "the shard key of an inserted row is not a constant or a parameter that can be read with certainty",
        "Give a plain constant or a parameter.";
    /// INSERT with NULL as key.
    InsertNullKey = "insert-null-key", "0A000",
        "the shard key of an inserted row is null",
        "Give a value for every shard key column.";
    /// A write on several shards that fires a trigger for all of its rows at once.
    StatementTrigger = "statement-trigger-over-shards", "0A000",
        "a statement-level trigger is fired once for all rows of this statement, and they lie on several shards",
        "Write rows of one shard with each statement, or make it a trigger FOR EACH ROW.";
    /// A key for which the map has no shard.
    NoOwner = "no-shard-for-key", "0A000",
        "no shard is declared for this key",
        "Extend the map by a range, list or directory entry.";
    /// A column filled from a sequence of one shard.
    InsertSequence = "insert-needs-sequence", "0A000",
        "a column of a sharded table takes its default from a sequence where the router cannot write it",
        "Use INSERT ... VALUES as a statement of its own, or give the value.";
    /// INSERT ... SELECT that is not bound to one shard.
    InsertSelect = "insert-select-over-shards", "0A000",
        "the rows that this INSERT ... SELECT reads are not known to lie where it writes them, and cannot be gathered",
        "Select the shard key from a colocated table, or run the SELECT first and insert its rows.";
    /// RETURNING of rows that may be divided, as the rows of COPY.
    ReturningSplit = "returning-over-shards", "0A000",
        "RETURNING of an INSERT into a sharded table is not supported within COPY",
        "Run the INSERT by itself; its rows are its answer.";
    /// ON CONFLICT whose arbiter does not hold the key.
    Conflict = "conflict-without-key", "0A000",
        "ON CONFLICT on a sharded table needs a unique constraint that contains the shard key",
        "Name a conflict target that contains every shard key column.";
    /// A row would change its shard.
    KeyUpdate = "key-update", "0A000",
        "this UPDATE of the shard key may lead a row to another shard",
        "Delete the row and insert it with the new key, or see the setting tables.key_updates.";
    /// Writes within WITH that cannot be taken apart.
    WritesWithin = "writes-within-with", "0A000",
        "writes within WITH over several shards would not all see the same rows",
        "Run them one after the other in a transaction.";
    /// A reference table would get different rows.
    ReferenceWrite = "reference-write-differs", "0A000",
        "this write of a reference table could store other rows on each shard",
        "Use constants and parameters instead of volatile functions, subqueries and LIMIT; in INSERT ... VALUES a sequence may fill a column.";
    /// What each shard has of its own decides what is written on several.
    SystemColumn = "system-column", "0A000",
        "a write on several shards names a system column or looks up an object by its name, and each shard has its own",
        "Select rows by their keys: ctid and xmin differ on each shard.";
    /// A trigger that is not proven to stay with its row.
    Trigger = "trigger-unproven", "0A000",
        "a trigger of a sharded or reference table may touch other tables or change the shard key",
        "Remove the trigger, or write to the shard directly.";
    /// Rules or views that rewrite writes.
    Rules = "rewritten-write", "0A000",
        "this writes to a declared table through a view or through rules",
        "Write to the table itself.";
    /// Row security that looks at other tables.
    RowSecurity = "row-security-unproven", "0A000",
        "a row security policy looks at tables that may live on another shard",
        "Let the policy use settings, columns of its own table and reference tables only.";
    /// MERGE.
    Merge = "merge-over-shards", "0A000",
        "this MERGE cannot be divided by the shard key",
        "Join by equality of the whole shard key, and insert rows with the key that they are joined by.";
    /// COPY with something that cannot be divided.
    Copy = "copy-not-divisible", "0A000",
        "this COPY cannot be divided by the shard key",
        "Copy every shard key column from STDIN without FREEZE.";
    /// Cascades and partitions of one statement lie in different places.
    MixedTables = "mixed-tables", "0A000",
        "this statement names tables that lie on different shards",
        "Use one statement per table.";
    /// A bound of a partition is not the same on all shards.
    BoundsDiffer = "bounds-differ", "0A000",
        "the bounds of this partition are computed by each shard, and need not be the same",
        "Give the bounds as constants.";
    /// Shards would choose different names.
    NameChosen = "name-differs", "0A000",
        "PostgreSQL chooses a name here, and would choose another one on the home shard, where the first choice is taken",
        "Name the constraint or index in the statement, or rename what has that name.";
    /// A unique constraint without the key.
    UnenforcedUnique = "unique-without-key", "0A000",
        "a unique constraint of a sharded table must contain the shard key",
        "Add the shard key columns to the constraint.";
    /// An exclusion constraint without equality on the key.
    UnenforcedExclude = "exclude-without-key", "0A000",
        "an exclusion constraint of a sharded table must compare the shard key by equality",
        "Add the shard key columns to the constraint WITH =.";
    /// A foreign key over shards.
    UnenforcedForeignKey = "foreign-key-over-shards", "0A000",
        "this foreign key cannot be enforced over shards",
        "Refer to a reference table, or to a colocated table by columns that contain both shard keys.";
    /// An action of a foreign key that sets the shard key where the row is.
    ForeignKeyAction = "foreign-key-sets-key", "0A000",
        "an action of a foreign key would change the shard key of the rows that refer to another one",
        "Leave out ON UPDATE CASCADE, SET NULL and SET DEFAULT for the columns of the shard key.";
    /// A key column that cannot route.
    KeyType = "key-type", "0A000",
        "the shard key column has a type or collation that cannot be a shard key",
        "Use an integer, text with a deterministic collation, uuid, date, timestamp, bytea, boolean or numeric.";
    /// A table is created whose key types nobody knows.
    KeyTypeUnknown = "key-type-unknown", "0A000",
        "a table is declared as sharded and the type of its shard key is not known",
        "Give key_type in the configuration, or create the table with a plain list of columns.";
    /// The configuration declares another type.
    KeyTypeOther = "key-type-other", "0A000",
        "the shard key column has another type than the router's configuration declares",
        "Create the column with the declared key_type, or correct the configuration first.";
    /// A key column is missing.
    KeyMissing = "key-missing", "0A000",
        "the shard key column is not among the columns of the table",
        "Create the table with its declared shard key columns.";
    /// A change of the key column.
    KeyChange = "key-change", "0A000",
        "this would change or remove the shard key column of a table",
        "Create a new table with the wanted key and copy the rows.";
    /// A table that is on all shards, and that nothing divides any longer.
    KeyGone = "key-gone", "0A000",
        "a table is on all shards and has no primary key that tells where its rows are",
        "Give it its primary key again on every shard, or declare its shard key.";
    /// A declared table whose columns are others than its declaration says.
    KeyMisfit = "key-misfit", "0A000",
        "a table does not fit its declaration: its shard key column is missing or of another type",
        "Mend the table on every shard, or its declaration; the log and check-config --connect say what is wrong.";
    /// A table that may have been a partition.
    LeftUnclear = "left-unclear", "0A000",
        "a table is on all shards without being declared, and may have been a partition of a declared one",
        "Declare it in the router's configuration: by its shard key, or with kind = \"home\" if it never was a partition.";
    /// A table would lie elsewhere than its rows do.
    PlaceChange = "place-change", "0A000",
        "the configuration would place this table on other shards than those that hold its rows",
        "Declare the new name in the router's configuration as the table is declared, or create a new table and copy the rows.";
    /// A statement about tables that is not known.
    DdlNotUnderstood = "ddl-not-understood", "0A000",
        "this change of a declared table is not understood well enough to be applied to all shards",
        "Use plain CREATE, ALTER or DROP statements, one change at a time.";
    /// ALTER TABLE that would fill a column of the rows that are there.
    DdlFillsRows = "ddl-fills-rows", "0A000",
        "this change fills a column of existing rows with values that each shard would compute for itself",
        "Add the column without a default, fill it with UPDATE, then set the default.";
    /// A view over tables in different places.
    ViewMixed = "view-over-mixed-tables", "0A000",
        "a view over declared tables and over tables of the home shard is not supported",
        "Declare all tables of the view: sharded, or as reference tables.";
    /// A view of which only one server can compute the rows, of tables that the client may not read.
    ViewRights = "view-owner-rights", "0A000",
        "this view reads tables with its owner's rights, and its rows would have to be gathered with yours",
        "Grant SELECT on the tables that the view reads.";
    /// A time that each shard would tell for itself.
    TimeHidden = "time-over-shards", "0A000",
        "a statement or transaction over several shards asks for the time where the router cannot give all shards the same one",
        "Call now() or CURRENT_TIMESTAMP in the statement itself, give the value as a parameter, or keep the transaction to one shard.";
    /// A definition with a string that PostgreSQL reads as the time and keeps as a constant.
    TimeConstant = "time-constant", "0A000",
        "this definition stores the present time as a constant, and each shard would store another one",
        "Call now() or CURRENT_TIMESTAMP, or give the time as a constant.";
    /// The view of prepared transactions, of which each shard has its own.
    PreparedOverShards = "prepared-over-shards", "0A000",
        "pg_prepared_xacts would show the prepared transactions of one shard only",
        "Finish a transaction by its name, COMMIT PREPARED finds its shard; or read the view on each shard's primary.";
    /// The number of the client's process is asked for where it cannot be put.
    ProcessHidden = "process-hidden", "0A000",
        "the router cannot put the number of your process (pg_backend_pid()) into this statement",
        "Call pg_backend_pid() in a statement that reads or writes rows, and read pg_stat_activity or pg_locks.";
    /// Something about another client's process, whose number is known only where the server computes it, or which works
    /// on other servers.
    ProcessOfAnother = "process-of-another", "0A000",
        "the process of another client can be named only in a statement of its own, and is known on the home shard only",
        "Send SELECT pg_cancel_backend(number), pg_terminate_backend(number) or pg_blocking_pids(number) alone, with the number as a literal or a parameter.";
}

/// The document `docs/refused.md`, made from the reasons.
pub fn table() -> String {
    let mut out = String::from(
        "# What is refused\n\n\
         The planner refuses a statement that it cannot answer exactly as one PostgreSQL would, and nothing of it is \
         executed. These are its reasons; `EXPLAIN (ROUTE)` shows them. Pooling has refusals of its own: see \
         [pooling.md](pooling.md) and [differences.md](differences.md). The table is made from `router/plan/src/refuse.rs` by \
         `UPDATE_DOCS=1 cargo test -p mothership-plan refused_md`.\n\n\
         | reason | SQLSTATE | message | hint |\n|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let text = reason.text();
        out += &format!(
            "| `{}` | {} | {} | {} |\n",
            text.code, text.sqlstate, text.message, text.hint
        );
    }
    out
}

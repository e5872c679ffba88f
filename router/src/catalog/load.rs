//! Reads a catalog from one shard.
//!
//! The queries are constants, every name in them is qualified and every operator too, and
//! they run in a read-only transaction with an empty search path, so nothing that a user
//! created is ever called. They answer in text; `decode` makes a `Catalog` of the rows
//! without a server, so that it can be tested.
//!
//! To print the definition of a view, a check or a policy PostgreSQL locks the tables in it, and so waits for whoever
//! holds one: any client may, for hours. What waits like that is left out ([`LOCKED`]); `unread` says what becomes of it.
//! Texts have a bound each, bodies of functions one in sum, and all answers together have one, because everybody who may
//! make a function or a view decides how long they are: 64 KiB for a body and 4 MiB for all of them, older functions
//! first, 256 KiB for a view.

use futures_util::TryStreamExt;
use std::pin::pin;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::sql::functions::{Trait, special};

use super::types::words;
use super::{
    Action, Catalog, Check, Collation, Column, DefaultKind, Events, Fingerprint, ForeignKey,
    FromSequence, Function, FunctionKind, Handed, Held, Key, Leaf, LeafBound, Name, Partitioning,
    Persistence, Policy, Relation, RelationKind, Strategy, Trigger, TypeInfo, TypeKind, Volatility,
};

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server refused or the connection failed. May be tried again.
    #[error("read the catalog: {what}")]
    Server {
        /// Which of the queries.
        what: &'static str,
        /// What happened.
        #[source]
        cause: tokio_postgres::Error,
    },
    /// The answers are too long.
    #[error("the catalog is larger than {most} bytes (catalog.size)")]
    TooLarge {
        /// The limit.
        most: usize,
    },
    /// A row has another form than its query gives.
    #[error("a row of the catalog query {what} cannot be read")]
    Row {
        /// Which of the queries.
        what: &'static str,
    },
}

/// Begins one snapshot for all queries, and makes `pg_get_viewdef` qualify every name. What is locked after [`LOCKED`]
/// has looked is not waited for long: all is asked again then.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL search_path = ''; SET LOCAL lock_timeout = 500";

/// Notes which relations and functions cannot be printed now without waiting: those that somebody has locked so that
/// they cannot be read, or waits to, and whatever depends on one.
pub const LOCKED: &str = "WITH RECURSIVE locked (class, oid) AS ( \
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, l.relation FROM pg_catalog.pg_locks l \
        WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock' \
        AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() \
        AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d \
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
        UNION SELECT CASE WHEN d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
                THEN d.classid ELSE 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid END, \
            COALESCE(w.ev_class, p.polrelid, d.objid) \
        FROM locked k \
        JOIN pg_catalog.pg_depend d ON k.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND d.refclassid OPERATOR(pg_catalog.=) k.class \
            AND d.refobjid OPERATOR(pg_catalog.=) k.oid \
            AND d.classid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_rewrite', 'pg_catalog.pg_policy', \
                'pg_catalog.pg_proc']::pg_catalog.regclass[]::pg_catalog.oid[]) \
        LEFT JOIN pg_catalog.pg_rewrite w ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
            AND w.oid OPERATOR(pg_catalog.=) d.objid \
        LEFT JOIN pg_catalog.pg_policy p ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass \
            AND p.oid OPERATOR(pg_catalog.=) d.objid) \
    SELECT pg_catalog.set_config('mothership.unread', COALESCE(pg_catalog.array_agg(l.oid) FILTER \
            (WHERE l.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass)::pg_catalog.text, '{}'), true), \
        pg_catalog.set_config('mothership.unread_functions', COALESCE(pg_catalog.array_agg(l.oid) FILTER \
            (WHERE l.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass)::pg_catalog.text, '{}'), true) \
    FROM locked l";

/// Whether [`LOCKED`] has noted a relation, or by the other setting a function.
macro_rules! unread {
    ($oid:literal) => {
        unread!($oid, "mothership.unread")
    };
    ($oid:literal, $setting:literal) => {
        concat!(
            $oid,
            " OPERATOR(pg_catalog.=) ANY (COALESCE(NULLIF(pg_catalog.current_setting('",
            $setting,
            "', true), ''), '{}')::pg_catalog.oid[])"
        )
    };
}

/// Ends it.
pub const END: &str = "ROLLBACK";

/// The server's version, and all that decides the order of its texts. Which of these columns pg_database has depends on
/// the version; what a library's collations are versioned by is the same for all of them.
pub const VERSION: &str = "SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.concat_ws(' ', \
    pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, \
    pg_catalog.row_to_json(d) OPERATOR(pg_catalog.->>) 'datlocprovider', \
    pg_catalog.row_to_json(d) OPERATOR(pg_catalog.->>) 'daticulocale', \
    pg_catalog.row_to_json(d) OPERATOR(pg_catalog.->>) 'datlocale', \
    pg_catalog.row_to_json(d) OPERATOR(pg_catalog.->>) 'daticurules', \
    (SELECT pg_catalog.max(pg_catalog.pg_collation_actual_version(c.oid)) FROM pg_catalog.pg_collation c \
        WHERE c.collprovider OPERATOR(pg_catalog.=) 'c'::pg_catalog.\"char\"), \
    (SELECT pg_catalog.max(pg_catalog.pg_collation_actual_version(c.oid)) FROM pg_catalog.pg_collation c \
        WHERE c.collname OPERATOR(pg_catalog.=) 'und-x-icu')) \
    FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

/// Schemas outside the system's.
pub const SCHEMAS: &str = "SELECT n.nspname FROM pg_catalog.pg_namespace n \
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'";

/// Types of users: name, object id, array's object id, kind, base, base's name, modifier, enum labels,
/// default, a domain's constraints.
pub const TYPES: &str = "SELECT n.nspname, t.typname, t.oid, t.typarray, t.typtype, t.typbasetype, \
    CASE WHEN t.typbasetype OPERATOR(pg_catalog.<>) 0::pg_catalog.oid \
        THEN pg_catalog.format_type(t.typbasetype, NULL) END, t.typtypmod, \
    (SELECT pg_catalog.string_agg(e.enumlabel, E'\\n' ORDER BY e.enumsortorder) \
        FROM pg_catalog.pg_enum e WHERE e.enumtypid OPERATOR(pg_catalog.=) t.oid), \
    pg_catalog.pg_get_expr(t.typdefaultbin, 0::pg_catalog.oid), \
    (SELECT pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(k.oid), E'\\n' ORDER BY k.conname) \
        FROM pg_catalog.pg_constraint k WHERE k.contypid OPERATOR(pg_catalog.=) t.oid) \
    FROM pg_catalog.pg_type t \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace \
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
    AND t.typtype OPERATOR(pg_catalog.<>) 'p'::pg_catalog.\"char\" \
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_type el WHERE el.typarray OPERATOR(pg_catalog.=) t.oid)";

/// Functions of users: name, volatility, kind, strictness, set, language, body, extension, defaults of arguments. An
/// aggregate is declared immutable and does what its functions do: it has the volatility of the worst of them, and their
/// names, a line each, as its body. A body that is not read is NULL.
pub const FUNCTIONS: &str = concat!(
    "SELECT n.nspname, p.proname, COALESCE(a.volatility, p.provolatile::pg_catalog.text), \
    p.prokind, p.proisstrict, p.proretset, l.lanname, \
    CASE WHEN a.called IS NOT NULL THEN a.called WHEN ",
    unread!("p.oid", "mothership.unread_functions"),
    " \
            OR pg_catalog.octet_length(p.prosrc) OPERATOR(pg_catalog.>) 65536 \
            OR pg_catalog.sum(CASE WHEN pg_catalog.octet_length(p.prosrc) OPERATOR(pg_catalog.<=) 65536 \
                THEN pg_catalog.octet_length(p.prosrc) END) OVER (ORDER BY p.oid) OPERATOR(pg_catalog.>) 4194304 THEN NULL \
        WHEN p.prosrc OPERATOR(pg_catalog.=) '' \
        AND p.prokind OPERATOR(pg_catalog.=) ANY (ARRAY['f', 'p']::pg_catalog.\"char\"[]) \
        THEN (SELECT CASE WHEN pg_catalog.octet_length(d.body) OPERATOR(pg_catalog.<=) 65536 THEN d.body END \
            FROM (SELECT pg_catalog.pg_get_functiondef(p.oid) OFFSET 0) d (body)) ELSE p.prosrc END, \
    (SELECT x.extname FROM pg_catalog.pg_depend d \
        JOIN pg_catalog.pg_extension x ON x.oid OPERATOR(pg_catalog.=) d.refobjid \
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
        AND d.objid OPERATOR(pg_catalog.=) p.oid \
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass \
        AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog.\"char\" LIMIT 1), \
    CASE WHEN p.pronargdefaults OPERATOR(pg_catalog.>) 0::pg_catalog.int2 \
        THEN pg_catalog.pg_get_expr(p.proargdefaults, 0::pg_catalog.oid) END \
    FROM pg_catalog.pg_proc p \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    LEFT JOIN LATERAL (SELECT pg_catalog.max(f.provolatile::pg_catalog.text) AS volatility, \
            pg_catalog.string_agg(DISTINCT f.proname::pg_catalog.text, E'\\n') AS called \
        FROM pg_catalog.pg_aggregate g \
        JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) ANY (ARRAY[g.aggtransfn, g.aggfinalfn, \
            g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, \
            g.aggmfinalfn]::pg_catalog.oid[]) \
        WHERE g.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.=) p.oid) a ON TRUE \
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'"
);

/// Operators of users, by symbol, with the name of their function, and whether an operand is of PostgreSQL's own types.
pub const OPERATORS: &str = "SELECT DISTINCT o.oprname, p.proname, \
    o.oprleft OPERATOR(pg_catalog.<) 16384::pg_catalog.oid OR o.oprright OPERATOR(pg_catalog.<) 16384::pg_catalog.oid \
    FROM pg_catalog.pg_operator o \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace \
    LEFT JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode::pg_catalog.oid \
    WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'";

/// The functions of users by which casts are made.
pub const CASTS: &str = "SELECT DISTINCT p.proname FROM pg_catalog.pg_cast k \
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) k.castfunc \
    WHERE k.castfunc OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid";

/// Extended statistics: name and table.
pub const STATISTICS: &str = "SELECT sn.nspname, s.stxname, n.nspname, c.relname FROM pg_catalog.pg_statistic_ext s \
    JOIN pg_catalog.pg_namespace sn ON sn.oid OPERATOR(pg_catalog.=) s.stxnamespace \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.stxrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace";

/// Extensions with their versions.
pub const EXTENSIONS: &str = "SELECT x.extname, x.extversion FROM pg_catalog.pg_extension x";

/// Relations: name, object id, kind, persistence, rules, row security, owner, definition, parent,
/// partition bound, partition strategy, partition columns (a line each, empty for an expression), whether it has children,
/// whether it is left out, and a digest of what its definitions are printed from.
pub const RELATIONS: &str = concat!(
    "SELECT n.nspname, c.relname, c.oid, c.relkind, c.relpersistence, \
    EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite w WHERE w.ev_class OPERATOR(pg_catalog.=) c.oid \
        AND w.rulename OPERATOR(pg_catalog.<>) '_RETURN'), c.relrowsecurity, \
    pg_catalog.pg_get_userbyid(c.relowner), \
    CASE WHEN c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['v', 'm']::pg_catalog.\"char\"[]) \
        AND NOT ",
    unread!("c.oid"),
    " \
        THEN (SELECT CASE WHEN pg_catalog.octet_length(v.body) OPERATOR(pg_catalog.<=) 262144 THEN v.body END \
            FROM (SELECT pg_catalog.pg_get_viewdef(c.oid) OFFSET 0) v (body)) END, \
    (SELECT pn.nspname FROM pg_catalog.pg_inherits i \
        JOIN pg_catalog.pg_class pc ON pc.oid OPERATOR(pg_catalog.=) i.inhparent \
        JOIN pg_catalog.pg_namespace pn ON pn.oid OPERATOR(pg_catalog.=) pc.relnamespace \
        WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid ORDER BY i.inhseqno LIMIT 1), \
    (SELECT pc.relname FROM pg_catalog.pg_inherits i \
        JOIN pg_catalog.pg_class pc ON pc.oid OPERATOR(pg_catalog.=) i.inhparent \
        WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid ORDER BY i.inhseqno LIMIT 1), \
    pg_catalog.pg_get_expr(c.relpartbound, 0::pg_catalog.oid), k.partstrat, \
    (SELECT pg_catalog.string_agg(COALESCE(a.attname, ''), E'\\n' ORDER BY u.position) \
        FROM pg_catalog.unnest(k.partattrs::pg_catalog.int2[]) WITH ORDINALITY u(attnum, position) \
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid \
            AND a.attnum OPERATOR(pg_catalog.=) u.attnum), c.relhassubclass, \
    ",
    unread!("c.oid"),
    ", \
    pg_catalog.md5(pg_catalog.concat_ws('|', \
        (SELECT pg_catalog.string_agg(w.ev_action::pg_catalog.text, '|' ORDER BY w.oid) \
            FROM pg_catalog.pg_rewrite w WHERE w.ev_class OPERATOR(pg_catalog.=) c.oid), \
        (SELECT pg_catalog.string_agg(pg_catalog.concat(x.conname, x.conbin), '|' ORDER BY x.oid) \
            FROM pg_catalog.pg_constraint x WHERE x.conrelid OPERATOR(pg_catalog.=) c.oid), \
        (SELECT pg_catalog.string_agg(pg_catalog.concat(y.polname, y.polqual, '|', y.polwithcheck), '|' ORDER BY y.oid) \
            FROM pg_catalog.pg_policy y WHERE y.polrelid OPERATOR(pg_catalog.=) c.oid), \
        (SELECT pg_catalog.string_agg(pg_catalog.concat(z.tgname, z.tgfoid, z.tgtype, z.tgqual), '|' ORDER BY z.oid) \
            FROM pg_catalog.pg_trigger z WHERE z.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT z.tgisinternal), \
        (SELECT pg_catalog.string_agg(f.adbin::pg_catalog.text, '|' ORDER BY f.adnum) \
            FROM pg_catalog.pg_attrdef f WHERE f.adrelid OPERATOR(pg_catalog.=) c.oid))) \
    FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    LEFT JOIN pg_catalog.pg_partitioned_table k ON k.partrelid OPERATOR(pg_catalog.=) c.oid \
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v', 'm', 'f', 'S']::pg_catalog.\"char\"[]) \
    AND c.relpersistence OPERATOR(pg_catalog.<>) 't'::pg_catalog.\"char\" \
    AND n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'"
);

/// Columns: table, name, type, type's name, modifier, collation, whether deterministic, NOT NULL, default (that of a
/// domain where the column has none, and nothing of a generated one), identity, generated; the type without and with its modifier, its collation where that is not the type's own, and
/// whether arrays of it must be handed over as texts; the sequence of an identity or that a default names; what a generated
/// one is computed by.
pub const COLUMNS: &str = concat!(
    "SELECT n.nspname, c.relname, a.attname, a.atttypid, \
    pg_catalog.format_type(a.atttypid, NULL), a.atttypmod, l.collname, l.collisdeterministic, a.attnotnull, \
    COALESCE(CASE WHEN a.attgenerated OPERATOR(pg_catalog.=) ''::pg_catalog.\"char\" \
            THEN pg_catalog.pg_get_expr(d.adbin, 0::pg_catalog.oid) END, \
        pg_catalog.pg_get_expr(t.typdefaultbin, 0::pg_catalog.oid)), \
    a.attidentity, a.attgenerated, \
    pg_catalog.format_type(a.atttypid, -1), pg_catalog.format_type(a.atttypid, a.atttypmod), \
    CASE WHEN a.attcollation OPERATOR(pg_catalog.<>) t.typcollation THEN \
        (SELECT pg_catalog.concat(pg_catalog.quote_ident(cn.nspname), '.', pg_catalog.quote_ident(co.collname)) \
            FROM pg_catalog.pg_collation co \
            JOIN pg_catalog.pg_namespace cn ON cn.oid OPERATOR(pg_catalog.=) co.collnamespace \
            WHERE co.oid OPERATOR(pg_catalog.=) a.attcollation) END, \
    t.typcategory OPERATOR(pg_catalog.=) 'A'::pg_catalog.\"char\" \
        OR t.typname OPERATOR(pg_catalog.~) '^(reg|aclitem)', s.nspname, s.relname, \
    CASE WHEN a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog.\"char\" AND NOT ",
    unread!("a.attrelid"),
    " THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END \
    FROM pg_catalog.pg_attribute a \
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid \
        AND d.adnum OPERATOR(pg_catalog.=) a.attnum \
    LEFT JOIN pg_catalog.pg_collation l ON l.oid OPERATOR(pg_catalog.=) a.attcollation \
        AND l.collname OPERATOR(pg_catalog.<>) 'default' \
    LEFT JOIN LATERAL (SELECT sn.nspname, sc.relname FROM ( \
            SELECT y.objid AS sequence FROM pg_catalog.pg_depend y \
            WHERE a.attidentity OPERATOR(pg_catalog.<>) ''::pg_catalog.\"char\" \
            AND y.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND y.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND y.refobjid OPERATOR(pg_catalog.=) a.attrelid \
            AND y.refobjsubid OPERATOR(pg_catalog.=) a.attnum::pg_catalog.int4 \
            AND y.deptype OPERATOR(pg_catalog.=) 'i'::pg_catalog.\"char\" \
            UNION ALL SELECT y.refobjid FROM pg_catalog.pg_depend y \
            WHERE d.oid IS NOT NULL \
            AND y.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass \
            AND y.objid OPERATOR(pg_catalog.=) d.oid \
            AND y.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass) u \
        JOIN pg_catalog.pg_class sc ON sc.oid OPERATOR(pg_catalog.=) u.sequence \
            AND sc.relkind OPERATOR(pg_catalog.=) 'S'::pg_catalog.\"char\" \
        JOIN pg_catalog.pg_namespace sn ON sn.oid OPERATOR(pg_catalog.=) sc.relnamespace LIMIT 1) s ON TRUE \
    WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
    AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v', 'm', 'f']::pg_catalog.\"char\"[]) \
    AND n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
    ORDER BY a.attrelid, a.attnum"
);

/// Indexes: table, index, primary, unique, exclusion, its plain key columns (a line each).
pub const INDEXES: &str = "SELECT n.nspname, c.relname, ic.relname, i.indisprimary, i.indisunique, i.indisexclusion, \
    (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY u.position) \
        FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY u(attnum, position) \
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid \
            AND a.attnum OPERATOR(pg_catalog.=) u.attnum \
        WHERE u.position OPERATOR(pg_catalog.<=) i.indnkeyatts) \
    FROM pg_catalog.pg_index i \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indrelid \
    JOIN pg_catalog.pg_class ic ON ic.oid OPERATOR(pg_catalog.=) i.indexrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'";

/// Foreign keys and checks: table, name, kind, columns, target, target's columns, actions, expression, the columns that
/// ON DELETE sets (a column of pg_constraint that not every version has).
pub const CONSTRAINTS: &str = concat!(
    "SELECT n.nspname, c.relname, k.conname, k.contype, \
    (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY u.position) \
        FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY u(attnum, position) \
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.conrelid \
            AND a.attnum OPERATOR(pg_catalog.=) u.attnum), \
    fn.nspname, fc.relname, \
    (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY u.position) \
        FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY u(attnum, position) \
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.confrelid \
            AND a.attnum OPERATOR(pg_catalog.=) u.attnum), \
    k.confdeltype, k.confupdtype, CASE WHEN NOT ",
    unread!("k.conrelid"),
    " \
        THEN pg_catalog.pg_get_expr(k.conbin, k.conrelid) END, \
    CASE WHEN k.confdeltype OPERATOR(pg_catalog.=) ANY (ARRAY['n', 'd']::pg_catalog.\"char\"[]) THEN \
        (SELECT pg_catalog.string_agg(a.attname, E'\\n') FROM pg_catalog.pg_attribute a \
            WHERE a.attrelid OPERATOR(pg_catalog.=) k.conrelid \
            AND pg_catalog.to_jsonb(k) OPERATOR(pg_catalog.->) 'confdelsetcols' \
                OPERATOR(pg_catalog.@>) pg_catalog.to_jsonb(a.attnum)) END \
    FROM pg_catalog.pg_constraint k \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    LEFT JOIN pg_catalog.pg_class fc ON fc.oid OPERATOR(pg_catalog.=) k.confrelid \
    LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid OPERATOR(pg_catalog.=) fc.relnamespace \
    WHERE k.contype OPERATOR(pg_catalog.=) ANY (ARRAY['f', 'c']::pg_catalog.\"char\"[]) \
    AND n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'"
);

/// Triggers of users: table, name, function, the bits of `tgtype`, the definition of those that have a condition.
pub const TRIGGERS: &str = concat!(
    "SELECT n.nspname, c.relname, t.tgname, pn.nspname, p.proname, t.tgtype, \
    CASE WHEN t.tgqual IS NOT NULL AND NOT ",
    unread!("t.tgrelid"),
    " \
        THEN pg_catalog.pg_get_triggerdef(t.oid) END \
    FROM pg_catalog.pg_trigger t \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid \
    JOIN pg_catalog.pg_namespace pn ON pn.oid OPERATOR(pg_catalog.=) p.pronamespace \
    WHERE NOT t.tgisinternal"
);

/// Row security policies: table, name, expressions.
pub const POLICIES: &str = concat!(
    "SELECT n.nspname, c.relname, p.polname, \
    CASE WHEN NOT ",
    unread!("p.polrelid"),
    " THEN pg_catalog.pg_get_expr(p.polqual, p.polrelid) END, \
    CASE WHEN NOT ",
    unread!("p.polrelid"),
    " THEN pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) END \
    FROM pg_catalog.pg_policy p \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
);

/// Tables of which it is not certain that using them does no more than the statement says: a foreign key changes rows
/// of another table, a table inherits, or a default, a constraint, an index or a column's type may run a user's code.
/// A cast or an operator of a user may stand for any that is written, so that with one all tables are in doubt; those
/// of extensions are left alone if they are immutable.
pub const ENTANGLED: &str = "SELECT n.nspname, c.relname FROM ( \
    SELECT k.confrelid AS relation FROM pg_catalog.pg_constraint k \
        WHERE k.confdeltype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'n', 'd']::pg_catalog.\"char\"[]) \
        OR k.confupdtype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'n', 'd']::pg_catalog.\"char\"[]) \
    UNION SELECT u.relation FROM pg_catalog.pg_inherits i \
        JOIN pg_catalog.pg_class child ON child.oid OPERATOR(pg_catalog.=) i.inhrelid \
        CROSS JOIN LATERAL (VALUES (i.inhrelid), (i.inhparent)) u(relation) \
        WHERE NOT child.relispartition \
    UNION SELECT a.attrelid FROM pg_catalog.pg_attribute a \
        JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
        WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
        AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
        AND t.typtype OPERATOR(pg_catalog.<>) 'e'::pg_catalog.\"char\" \
    UNION SELECT COALESCE(x.indrelid, f.adrelid, k.conrelid, d.objid) FROM pg_catalog.pg_depend d \
        LEFT JOIN pg_catalog.pg_index x \
            ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND x.indexrelid OPERATOR(pg_catalog.=) d.objid \
        LEFT JOIN pg_catalog.pg_attrdef f \
            ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass \
            AND f.oid OPERATOR(pg_catalog.=) d.objid \
        LEFT JOIN pg_catalog.pg_constraint k \
            ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass \
            AND k.oid OPERATOR(pg_catalog.=) d.objid \
        LEFT JOIN pg_catalog.pg_type t \
            ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass \
            AND t.oid OPERATOR(pg_catalog.=) d.refobjid \
        WHERE d.refobjid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
        AND d.classid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_class', 'pg_catalog.pg_attrdef', \
            'pg_catalog.pg_constraint']::pg_catalog.regclass[]::pg_catalog.oid[]) \
        AND (t.typtype OPERATOR(pg_catalog.<>) 'e'::pg_catalog.\"char\" \
            OR d.refclassid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc', 'pg_catalog.pg_operator', \
            'pg_catalog.pg_opclass', 'pg_catalog.pg_am']::pg_catalog.regclass[]::pg_catalog.oid[])) \
    UNION SELECT r.oid FROM pg_catalog.pg_class r WHERE EXISTS (SELECT 1 FROM ( \
            SELECT k.castfunc AS function FROM pg_catalog.pg_cast k \
                WHERE k.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
                AND k.castmethod OPERATOR(pg_catalog.=) 'f'::pg_catalog.\"char\" \
            UNION ALL SELECT o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator o \
                WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) u \
        JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) u.function \
        WHERE p.provolatile OPERATOR(pg_catalog.<>) 'i'::pg_catalog.\"char\" \
        OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d \
            WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
            AND d.objid OPERATOR(pg_catalog.=) p.oid \
            AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog.\"char\")) \
    ) e \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) e.relation \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'";

/// Tables that stand for documents, with the roles that may read all of one, and whether they may INSERT, UPDATE and
/// DELETE. Both are cut: anybody may make a table look so by its comment, and about whom is left out the home shard is
/// asked. A role whose sessions begin as another one is none of them.
pub const RIGHTS: &str = "SELECT t.nspname, t.relname, r.rolname, \
    pg_catalog.has_table_privilege(r.oid, t.oid, 'INSERT'), pg_catalog.has_table_privilege(r.oid, t.oid, 'UPDATE'), \
    pg_catalog.has_table_privilege(r.oid, t.oid, 'DELETE') \
    FROM (SELECT n.nspname, n.oid AS schema, c.relname, c.oid FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
        JOIN pg_catalog.pg_description d ON d.objoid OPERATOR(pg_catalog.=) c.oid \
            AND d.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND d.objsubid OPERATOR(pg_catalog.=) 0 \
        WHERE c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog.\"char\" \
        AND pg_catalog.starts_with(d.description, 'rows are documents of MongoDB, ') \
        ORDER BY c.oid LIMIT 100) t \
    CROSS JOIN (SELECT a.oid, a.rolname FROM pg_catalog.pg_roles a \
        WHERE NOT pg_catalog.starts_with(a.rolname::pg_catalog.text, 'pg_') \
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) w(setting) \
            WHERE s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[a.oid, 0::pg_catalog.oid]) \
            AND w.setting OPERATOR(pg_catalog.~*) '^(role|session_authorization)=') \
        ORDER BY a.oid LIMIT 500) r \
    WHERE pg_catalog.has_table_privilege(r.oid, t.oid, 'SELECT') \
    AND pg_catalog.has_schema_privilege(r.oid, t.schema, 'USAGE')";

/// The queries in the order in which `decode` wants their rows.
pub const QUERIES: [(&str, &str); 16] = [
    ("version", VERSION),
    ("schemas", SCHEMAS),
    ("types", TYPES),
    ("functions", FUNCTIONS),
    ("operators", OPERATORS),
    ("casts", CASTS),
    ("statistics", STATISTICS),
    ("extensions", EXTENSIONS),
    ("relations", RELATIONS),
    ("columns", COLUMNS),
    ("indexes", INDEXES),
    ("constraints", CONSTRAINTS),
    ("triggers", TRIGGERS),
    ("policies", POLICIES),
    ("entangled tables", ENTANGLED),
    ("rights on documents", RIGHTS),
];

/// A row as text, None for NULL.
pub type Row = Vec<Option<String>>;

/// Reads the catalog of the client's database, and what tells whether it has changed since. Answers of more than `most`
/// bytes are not read. Not cancel safe: a dropped call leaves the connection in a transaction, so it must then be closed.
///
/// # Errors
/// [`LoadError`]; the connection may be in a transaction then.
pub async fn load(client: &Client, most: usize) -> Result<(Catalog, Fingerprint), LoadError> {
    let server = |what| move |cause| LoadError::Server { what, cause };
    client.batch_execute(BEGIN).await.map_err(server("begin"))?;
    client.simple_query(LOCKED).await.map_err(server("locks"))?;
    let mut answers = Vec::with_capacity(QUERIES.len());
    let mut bytes = 0;
    for (what, sql) in QUERIES {
        let messages = client.simple_query_raw(sql).await.map_err(server(what))?;
        let mut messages = pin!(messages);
        let mut rows: Vec<Row> = Vec::new();
        while let Some(message) = messages.try_next().await.map_err(server(what))? {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            let cells = (0..row.len()).map(|i| row.get(i).map(str::to_owned));
            let row: Row = cells.collect();
            bytes += row.iter().flatten().map(String::len).sum::<usize>();
            if bytes > most {
                return Err(LoadError::TooLarge { most });
            }
            rows.push(row);
        }
        answers.push(rows);
    }
    client.batch_execute(END).await.map_err(server("end"))?;
    // Beside the loop of the core: a large catalog takes a while.
    let decoded = tokio::task::spawn_blocking(move || {
        let catalog = decode(&answers);
        catalog.map(|catalog| (catalog, Fingerprint::of(&answers)))
    });
    decoded
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

impl LoadError {
    /// Whether somebody has locked what was to be printed, after it was looked for locks.
    pub fn is_of_a_lock(&self) -> bool {
        match self {
            Self::Server { cause, .. } => cause.code() == Some(&SqlState::LOCK_NOT_AVAILABLE),
            Self::TooLarge { .. } | Self::Row { .. } => false,
        }
    }
}

/// Makes a catalog of the answers to `QUERIES`, in their order.
pub fn decode(answers: &[Vec<Row>]) -> Result<Catalog, LoadError> {
    let mut catalog = Catalog::default();
    let steps: [fn(&mut Catalog, &Cells<'_>) -> Option<()>; 16] = [
        version, schema, user_type, function, operator, cast, statistics, extension, relation,
        column, index, constraint, trigger, policy, entangled, right,
    ];
    for (((what, _), step), rows) in QUERIES.iter().zip(steps).zip(answers) {
        for row in rows {
            step(&mut catalog, &Cells(row)).ok_or(LoadError::Row { what })?;
        }
    }
    leaves(&mut catalog);
    Ok(catalog)
}

struct Cells<'r>(&'r Row);

impl Cells<'_> {
    fn maybe(&self, at: usize) -> Option<&str> {
        self.0.get(at)?.as_deref()
    }

    fn text(&self, at: usize) -> Option<String> {
        self.maybe(at).map(str::to_owned)
    }

    fn number<N: std::str::FromStr>(&self, at: usize) -> Option<N> {
        self.maybe(at)?.parse().ok()
    }

    fn flag(&self, at: usize) -> bool {
        self.maybe(at) == Some("t")
    }

    fn name(&self, at: usize) -> Option<Name> {
        Some(Name::new(self.maybe(at)?, self.maybe(at + 1)?))
    }

    fn lines(&self, at: usize) -> Vec<String> {
        self.maybe(at)
            .map(|text| text.split('\n').map(str::to_owned).collect())
            .unwrap_or_default()
    }
}

fn version(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    catalog.server_version = row.number(0)?;
    catalog.text_order = row.text(1)?;
    Some(())
}

fn schema(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    catalog.schemas.insert(row.text(0)?);
    Some(())
}

fn user_type(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let kind = match row.maybe(4)? {
        "e" => TypeKind::Enum(row.lines(8)),
        "d" => TypeKind::Domain {
            base: row.number(5)?,
            base_name: row.text(6)?,
            typmod: row.number(7)?,
            default: row.text(9),
            checks: row.text(10).unwrap_or_default(),
        },
        _ => TypeKind::Other,
    };
    let info = TypeInfo {
        oid: row.number(2)?,
        array_oid: row.number(3)?,
        kind,
    };
    catalog.types.insert(row.name(0)?, info);
    Some(())
}

fn function(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let Some(body) = row.text(7) else {
        let functions = catalog.functions.entry(row.name(0)?).or_default();
        functions.push(Function::unread());
        return Some(());
    };
    let function = Function {
        volatility: match row.maybe(2)? {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        kind: match row.maybe(3)? {
            "a" => FunctionKind::Aggregate,
            "w" => FunctionKind::Window,
            "p" => FunctionKind::Procedure,
            _ => FunctionKind::Function,
        },
        strict: row.flag(4),
        returns_set: row.flag(5),
        language: row.text(6)?,
        body,
        extension: row.text(8),
        defaults: row.text(9).unwrap_or_default(),
    };
    catalog
        .functions
        .entry(row.name(0)?)
        .or_default()
        .push(function);
    Some(())
}

fn right(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let held = Held {
        select: true,
        insert: row.flag(3),
        update: row.flag(4),
        delete: row.flag(5),
    };
    catalog.rights.note(row.name(0)?, row.text(2)?, held);
    Some(())
}

fn cast(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    catalog.cast_functions.insert(row.text(0)?);
    Some(())
}

fn statistics(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    catalog.statistics.insert(row.name(0)?, row.name(2)?);
    Some(())
}

fn operator(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let symbol = row.text(0)?;
    let compares = matches!(symbol.as_str(), "=" | "<>" | "<" | "<=" | ">" | ">=");
    catalog.compares_otherwise |= compares && row.flag(2);
    let functions = catalog.operators.entry(symbol).or_default();
    functions.extend(row.text(1));
    Some(())
}

fn extension(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    catalog.extensions.insert(row.text(0)?, row.text(1)?);
    Some(())
}

fn relation(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let name = row.name(0)?;
    let mut relation = Relation::table(name.clone());
    relation.oid = row.number(2)?;
    relation.kind = match row.maybe(3)? {
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "f" => RelationKind::ForeignTable,
        "S" => RelationKind::Sequence,
        _ => RelationKind::Table,
    };
    relation.persistence = match row.maybe(4)? {
        "u" => Persistence::Unlogged,
        "t" => Persistence::Temporary,
        _ => Persistence::Permanent,
    };
    relation.has_rules = row.flag(5);
    // Until a later query says otherwise.
    relation.contained = relation.kind == RelationKind::Table;
    relation.row_security = row.flag(6).then(Vec::new);
    relation.owner = row.text(7)?;
    relation.definition = row
        .text(8)
        .map(|d| d.trim_end().trim_end_matches(';').to_owned());
    relation.parent = row.name(9);
    relation.has_children = row.flag(14);
    let is_view = matches!(
        relation.kind,
        RelationKind::View | RelationKind::MaterializedView
    );
    relation.unread = row.flag(15) || is_view && relation.definition.is_none();
    relation.stamp = row.text(16)?;
    if let Some(strategy) = row.maybe(12) {
        let strategy = match strategy {
            "h" => Strategy::Hash,
            "r" => Strategy::Range,
            _ => Strategy::List,
        };
        let columns = row.lines(13);
        // An expression in the key makes the leaf unknown.
        let columns = if columns.iter().any(String::is_empty) {
            Vec::new()
        } else {
            columns
        };
        relation.partitioning = Some(Partitioning {
            strategy,
            columns,
            leaves: Vec::new(),
        });
    }
    if let (Some(parent), Some(bound)) = (&relation.parent, row.maybe(11)) {
        // Parents may come later: the leaves are given to them at the end.
        relation.checks.push(Check {
            name: BOUND.to_owned(),
            expression: bound.to_owned(),
        });
        debug_assert!(!parent.name.is_empty());
    }
    catalog.relations.insert(name, relation);
    Some(())
}

/// Holds a partition's bound until its parent is known.
const BOUND: &str = "\0bound";

fn leaves(catalog: &mut Catalog) {
    let mut found: Vec<(Name, Leaf)> = Vec::new();
    for relation in catalog.relations.values_mut() {
        let Some(at) = relation.checks.iter().position(|c| c.name == BOUND) else {
            continue;
        };
        let text = relation.checks.remove(at).expression;
        if let Some(parent) = &relation.parent {
            let bound = hash_bound(&text).unwrap_or(LeafBound::Text(text));
            found.push((
                parent.clone(),
                Leaf {
                    name: relation.name.clone(),
                    bound,
                },
            ));
        }
    }
    for (parent, leaf) in found {
        let parent = catalog.relations.get_mut(&parent);
        if let Some(partitioning) = parent.and_then(|p| p.partitioning.as_mut()) {
            partitioning.leaves.push(leaf);
        }
    }
}

/// `FOR VALUES WITH (modulus 3, remainder 0)`
fn hash_bound(text: &str) -> Option<LeafBound> {
    let lower = text.to_ascii_lowercase();
    let after = |word: &str| -> Option<u64> {
        let rest = &lower[lower.find(word)? + word.len()..];
        rest.trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    Some(LeafBound::Hash {
        modulus: after("modulus")?,
        remainder: after("remainder")?,
    })
}

fn column(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let default = default_kind(catalog, row.maybe(9), (row.maybe(10)?, row.name(16)));
    let generated = row.maybe(11).is_some_and(|g| !g.is_empty());
    let column = Column {
        name: row.text(2)?,
        type_oid: row.number(3)?,
        type_name: row.text(4)?,
        typmod: row.number(5)?,
        collation: match row.maybe(6) {
            None => Collation::Default,
            Some("C" | "POSIX" | "ucs_basic") => Collation::Bytes,
            Some(name) => Collation::Named {
                name: name.to_owned(),
                deterministic: row.flag(7),
            },
        },
        not_null: row.flag(8),
        default: match generated {
            true => DefaultKind::None,
            false => default,
        },
        generated: generated.then(|| row.text(18).unwrap_or_default()),
        handed: Handed {
            base: row.text(12)?,
            full: row.text(13)?,
            collate: row.maybe(14).map(str::to_owned),
            as_text: row.flag(15),
        },
    };
    // A table made after the relations were read cannot be: it is one snapshot. Temporary ones are left out.
    if let Some(relation) = catalog.relations.get_mut(&row.name(0)?) {
        relation.columns.push(column);
    }
    Some(())
}

/// What kind of default an expression is, by the functions that it calls. `sequence` is that of an identity, or one
/// that the expression names.
pub fn default_kind(
    catalog: &Catalog,
    expression: Option<&str>,
    (identity, sequence): (&str, Option<Name>),
) -> DefaultKind {
    if !identity.is_empty() {
        return DefaultKind::Sequence(FromSequence {
            sequence,
            always: identity == "a",
            identity: true,
        });
    }
    let Some(expression) = expression else {
        return DefaultKind::None;
    };
    let lower = expression.to_ascii_lowercase();
    let mut kind = DefaultKind::Constant(expression.to_owned());
    for word in words(&lower) {
        let user = catalog.functions_named(word).map(|f| f.volatility).max();
        match (special(word.as_bytes()), user) {
            (Some(Trait::Sequence | Trait::SequenceSession), _) => {
                return DefaultKind::Sequence(FromSequence {
                    sequence: sequence.filter(|_| is_next_value(expression)),
                    always: false,
                    identity: false,
                });
            }
            (Some(_), _) | (_, Some(Volatility::Volatile)) if !is_time(word) => {
                kind = DefaultKind::Volatile(expression.to_owned());
            }
            _ if is_time(word) || user == Some(Volatility::Stable) => {
                if matches!(kind, DefaultKind::Constant(_)) {
                    kind = DefaultKind::Stable(expression.to_owned());
                }
            }
            _ => {}
        }
    }
    // pgcrypto's and uuid-ossp's functions are users' functions, and volatile; so are all others that are not known.
    kind
}

/// `nextval('s'::regclass)` and nothing around it, as PostgreSQL prints it.
fn is_next_value(expression: &str) -> bool {
    let inner = expression.strip_prefix("nextval('");
    let inner = inner.and_then(|inner| inner.strip_suffix("'::regclass)"));
    inner.is_some_and(|name| !name.contains('\''))
}

fn is_time(word: &str) -> bool {
    matches!(
        word,
        "now"
            | "current_timestamp"
            | "current_date"
            | "current_time"
            | "localtime"
            | "localtimestamp"
            | "transaction_timestamp"
            | "statement_timestamp"
            | "current_user"
            | "session_user"
            | "current_role"
            | "user"
            | "today"
            | "tomorrow"
            | "yesterday"
            | "age"
    )
}

fn index(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let table = row.name(0)?;
    let name = row.text(2)?;
    catalog
        .indexes
        .insert(Name::new(&table.schema, &name), table.clone());
    let (primary, unique, exclusion) = (row.flag(3), row.flag(4), row.flag(5));
    let key = Key {
        name,
        columns: row.lines(6),
        primary,
    };
    if let Some(relation) = catalog.relations.get_mut(&table) {
        if exclusion {
            relation.exclusions.push(key);
        } else if unique {
            relation.keys.push(key);
        }
    }
    Some(())
}

fn constraint(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let relation = catalog.relations.get_mut(&row.name(0)?)?;
    let name = row.text(2)?;
    if row.maybe(3)? == "c" {
        relation.checks.push(Check {
            name,
            expression: row.text(10).unwrap_or_default(),
        });
        return Some(());
    }
    let action = |at| match row.maybe(at) {
        Some("c") => Action::Cascade,
        Some("n" | "d") => Action::Set,
        _ => Action::Nothing,
    };
    relation.foreign_keys.push(ForeignKey {
        name,
        columns: row.lines(4),
        target: row.name(5)?,
        target_columns: row.lines(7),
        on_delete: action(8),
        on_update: action(9),
        delete_sets: row.lines(11),
    });
    Some(())
}

/// Bits of `pg_trigger.tgtype`.
const TRIGGER_BEFORE: i32 = 1 << 1;
const TRIGGER_INSERT: i32 = 1 << 2;
const TRIGGER_DELETE: i32 = 1 << 3;
const TRIGGER_UPDATE: i32 = 1 << 4;
const TRIGGER_TRUNCATE: i32 = 1 << 5;
const TRIGGER_INSTEAD: i32 = 1 << 6;

fn trigger(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let bits: i32 = row.number(5)?;
    let trigger = Trigger {
        name: row.text(2)?,
        function: row.name(3)?,
        may_change_row: bits & (TRIGGER_BEFORE | TRIGGER_INSTEAD) != 0,
        events: Events {
            insert: bits & TRIGGER_INSERT != 0,
            update: bits & TRIGGER_UPDATE != 0,
            delete: bits & TRIGGER_DELETE != 0,
            truncate: bits & TRIGGER_TRUNCATE != 0,
        },
        condition: row.text(6),
    };
    if let Some(relation) = catalog.relations.get_mut(&row.name(0)?) {
        relation.triggers.push(trigger);
    }
    Some(())
}

fn policy(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let expression = format!(
        "{} {}",
        row.maybe(3).unwrap_or(""),
        row.maybe(4).unwrap_or("")
    );
    let policy = Policy {
        name: row.text(2)?,
        expression: expression.trim().to_owned(),
    };
    if let Some(relation) = catalog.relations.get_mut(&row.name(0)?)
        && let Some(policies) = &mut relation.row_security
    {
        policies.push(policy);
    }
    Some(())
}

fn entangled(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    if let Some(relation) = catalog.relations.get_mut(&row.name(0)?) {
        relation.contained = false;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_operator_in_the_queries_is_qualified() {
        for (what, sql) in QUERIES {
            // Strings aside, a bare comparison would be resolved along a search path.
            let code: String = sql.split('\'').step_by(2).collect();
            let bare = code.replace("OPERATOR(pg_catalog.", "");
            for operator in [" = ", " <> ", " < ", " > ", " ~ "] {
                assert!(!bare.contains(operator), "{what}: {operator}");
            }
            for word in ["FROM pg_", "JOIN pg_"] {
                let all = code.matches(word).count();
                assert_eq!(
                    all,
                    code.matches(&format!("{word}catalog.")).count(),
                    "{what}: {word}"
                );
            }
        }
    }

    #[test]
    fn defaults_are_told_apart_by_what_they_call() {
        let catalog = super::super::text::parse(
            "function public.v volatile sql SELECT 1\nfunction public.s stable sql SELECT 1",
        )
        .unwrap();
        let kind = |e| default_kind(&catalog, Some(e), ("", Some(Name::new("public", "s"))));
        assert!(matches!(kind("'x'::text"), DefaultKind::Constant(_)));
        assert!(matches!(kind("(5 + 1)"), DefaultKind::Constant(_)));
        assert!(matches!(kind("now()"), DefaultKind::Stable(_)));
        assert!(matches!(kind("CURRENT_TIMESTAMP"), DefaultKind::Stable(_)));
        assert!(matches!(kind("public.s()"), DefaultKind::Stable(_)));
        assert!(matches!(kind("public.v()"), DefaultKind::Volatile(_)));
        assert!(matches!(
            kind("gen_random_uuid()"),
            DefaultKind::Volatile(_)
        ));
        assert!(matches!(
            kind("clock_timestamp() + now()"),
            DefaultKind::Volatile(_)
        ));
        let sequence = || Some(Name::new("public", "s"));
        let of = |sequence, always, identity| {
            DefaultKind::Sequence(FromSequence {
                sequence,
                always,
                identity,
            })
        };
        for (expression, is_next_value) in [
            ("nextval('x'::regclass)", true),
            ("nextval('x'::text)", false),
            ("(nextval('x'::regclass) + 1)", false),
            ("(nextval('x'::regclass))::text", false),
            (
                "COALESCE(nextval('x'::regclass), nextval('y'::regclass))",
                false,
            ),
            ("currval('x'::regclass)", false),
        ] {
            let expected = of(sequence().filter(|_| is_next_value), false, false);
            assert_eq!(kind(expression), expected, "{expression}");
        }
        let identity = |kind| default_kind(&catalog, None, (kind, sequence()));
        assert_eq!(identity("a"), of(sequence(), true, true));
        assert_eq!(identity("d"), of(sequence(), false, true));
        assert_eq!(default_kind(&catalog, None, ("", None)), DefaultKind::None);
    }

    #[test]
    fn a_short_row_is_an_error_and_no_panic() {
        let mut answers = vec![Vec::new(); QUERIES.len()];
        answers[0] = vec![vec![Some("150004".to_owned()), Some("UTF8 C C".to_owned())]];
        assert_eq!(decode(&answers).unwrap().server_version, 150_004);
        for at in 0..QUERIES.len() {
            let mut broken = answers.clone();
            broken[at] = vec![Vec::new()];
            assert!(decode(&broken).is_err(), "{at}");
        }
    }

    /// `MOTHERSHIP_TEST_POSTGRES` names the connection; the end-to-end tests have servers of their own.
    #[test]
    #[ignore = "needs a server: make test-planner"]
    fn the_queries_are_understood_by_a_real_server() {
        let dsn = std::env::var("MOTHERSHIP_TEST_POSTGRES").expect("MOTHERSHIP_TEST_POSTGRES");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (catalog, _) = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
                .await
                .unwrap();
            tokio::select! {
                done = connection => panic!("the connection ended: {done:?}"),
                catalog = load(&client, usize::MAX) => catalog.unwrap(),
            }
        });
        assert!(catalog.server_version >= 130_000 && catalog.schemas.contains("public"));
        assert!(catalog.text_order.contains("UTF8 "));
        println!("{catalog:#?}");
    }
}

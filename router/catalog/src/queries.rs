//! The questions whose answers make a catalog.
//!
//! They are constants, every name in them is qualified and every operator too, and
//! they run in a read-only transaction with an empty search path, so nothing that a user
//! created is ever called. They answer in text; [`decode`](super::decode) makes a `Catalog` of the rows.
//!
//! To print the definition of a view, a check or a policy PostgreSQL locks the tables in it, and so waits for whoever
//! holds one: any client may, for hours. What waits like that is left out ([`LOCKED`]); `unread` says what becomes of it.
//! Everybody who may make a function or a view decides how long its definition is, so definitions have bounds: 64 KiB for
//! a function's body and 4 MiB for all bodies; 256 KiB for the text of a view, 4 MiB for what PostgreSQL stores of the
//! definitions of one relation, and 256 MiB for what it stores of all ([`LARGE`]). What is beyond a bound is not read.
//! Sums go by owner: of two owners, the one who has less is read first, so that nobody uses up what others need.

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

/// Notes which relations have definitions beyond the bounds. All lengths are those of what PostgreSQL stores, which are
/// some 15 times those of the texts.
pub const LARGE: &str = "SELECT pg_catalog.set_config('mothership.large', \
    COALESCE(pg_catalog.array_agg(m.oid)::pg_catalog.text, '{}'), true) FROM ( \
        SELECT o.oid, o.size, pg_catalog.sum(o.size) FILTER (WHERE o.size OPERATOR(pg_catalog.<=) 4194304) \
            OVER (ORDER BY o.of_owner, o.oid) AS of_all FROM ( \
        SELECT c.oid, s.size, pg_catalog.sum(s.size) FILTER (WHERE s.size OPERATOR(pg_catalog.<=) 4194304) \
            OVER (PARTITION BY c.relowner ORDER BY c.oid) AS of_owner FROM ( \
        SELECT d.relation, pg_catalog.sum(d.size) AS size FROM ( \
            SELECT w.ev_class, pg_catalog.octet_length(w.ev_action::pg_catalog.text) FROM pg_catalog.pg_rewrite w \
                WHERE w.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
            UNION ALL SELECT k.conrelid, pg_catalog.octet_length(k.conbin::pg_catalog.text) FROM pg_catalog.pg_constraint k \
                WHERE k.conbin IS NOT NULL \
            UNION ALL SELECT p.polrelid, pg_catalog.octet_length(pg_catalog.concat(p.polqual, p.polwithcheck)) \
                FROM pg_catalog.pg_policy p \
            UNION ALL SELECT t.tgrelid, pg_catalog.octet_length(t.tgqual::pg_catalog.text) FROM pg_catalog.pg_trigger t \
                WHERE t.tgqual IS NOT NULL \
            UNION ALL SELECT f.adrelid, pg_catalog.octet_length(f.adbin::pg_catalog.text) FROM pg_catalog.pg_attrdef f \
            ) d (relation, size) GROUP BY d.relation) s \
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relation) o) m \
    WHERE m.size OPERATOR(pg_catalog.>) 4194304 OR m.of_all OPERATOR(pg_catalog.>) 268435456";

/// Whether a list of object ids that is kept in a setting has this one.
macro_rules! noted {
    ($oid:literal, $setting:literal) => {
        concat!(
            $oid,
            " OPERATOR(pg_catalog.=) ANY (COALESCE(NULLIF(pg_catalog.current_setting('",
            $setting,
            "', true), ''), '{}')::pg_catalog.oid[])"
        )
    };
}

/// Whether [`LOCKED`] or [`LARGE`] has noted a relation.
macro_rules! unread {
    ($oid:literal) => {
        concat!(
            "(",
            noted!($oid, "mothership.unread"),
            " OR ",
            noted!($oid, "mothership.large"),
            ")"
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

/// Schemas outside the system's: name, and the roles that have USAGE on it, a line each; NULL if everybody has it, or if
/// there are too many roles and schemas to ask for all.
pub const SCHEMAS: &str = "SELECT n.nspname, CASE WHEN c.pairs OPERATOR(pg_catalog.<=) 20000 \
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.aclexplode(n.nspacl) g \
            WHERE g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
            AND g.privilege_type OPERATOR(pg_catalog.=) 'USAGE') \
        THEN (SELECT COALESCE(pg_catalog.string_agg(r.rolname::pg_catalog.text, E'\\n'), '') FROM pg_catalog.pg_roles r \
            WHERE pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')) END \
    FROM pg_catalog.pg_namespace n, (SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_roles) \
        OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace) AS pairs) c \
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

/// Functions of users: name, volatility, kind, strictness, set, language, body, extension, defaults of arguments, search path
/// while it runs. An
/// aggregate is declared immutable and does what its functions do: it has the volatility of the worst of them, and their
/// names, a line each, as its body. A body that is not read is NULL.
pub const FUNCTIONS: &str = concat!(
    "SELECT n.nspname, p.proname, COALESCE(a.volatility, p.provolatile::pg_catalog.text), \
    p.prokind, p.proisstrict, p.proretset, l.lanname, \
    CASE WHEN a.called IS NOT NULL THEN a.called WHEN ",
    noted!("p.oid", "mothership.unread_functions"),
    " \
            OR p.read IS NULL \
            OR pg_catalog.sum(p.read) OVER (ORDER BY p.of_owner, p.oid) OPERATOR(pg_catalog.>) 4194304 THEN NULL \
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
    CASE WHEN p.pronargdefaults OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND p.read IS NOT NULL \
        THEN pg_catalog.pg_get_expr(p.proargdefaults, 0::pg_catalog.oid) END, \
    COALESCE((SELECT pg_catalog.substr(c.setting, 13) FROM pg_catalog.unnest(p.proconfig) c (setting) \
        WHERE pg_catalog.substr(c.setting, 1, 12) OPERATOR(pg_catalog.=) 'search_path='), \
        CASE WHEN p.prosecdef THEN '\"$user\"' END) \
    FROM (SELECT r.*, pg_catalog.sum(r.read) OVER (PARTITION BY r.proowner ORDER BY r.oid) AS of_owner \
        FROM (SELECT f.*, CASE WHEN pg_catalog.octet_length(f.prosrc) OPERATOR(pg_catalog.<=) 65536 \
            AND COALESCE(pg_catalog.octet_length(f.proargdefaults::pg_catalog.text), 0) OPERATOR(pg_catalog.<=) 1048576 \
            THEN pg_catalog.octet_length(f.prosrc) END AS read FROM pg_catalog.pg_proc f \
            WHERE f.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) r) p \
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

/// Operators of users, by symbol, with the name of their function, whether an operand is of PostgreSQL's own types, a type
/// of users that is an operand if only values of such types can be operands, and the schema if an operator of PostgreSQL's
/// own has the same symbol and operands. A value of PostgreSQL's own types can be the operand of a domain, of a type with an
/// implicit cast, and of a composite type (as a RECORD), unless it is compared: records have operators of their own for
/// that.
pub const OPERATORS: &str = "SELECT DISTINCT o.oprname, p.proname, \
    o.oprleft OPERATOR(pg_catalog.<) 16384::pg_catalog.oid OR o.oprright OPERATOR(pg_catalog.<) 16384::pg_catalog.oid, \
    CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_type w \
        JOIN pg_catalog.pg_type x ON x.oid OPERATOR(pg_catalog.=) ANY (ARRAY[w.oid, w.typelem]::pg_catalog.oid[]) \
        WHERE w.oid OPERATOR(pg_catalog.=) ANY (ARRAY[o.oprleft, o.oprright]::pg_catalog.oid[]) \
        AND (x.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid OR x.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog.\"char\" \
            OR x.typtype OPERATOR(pg_catalog.=) 'c'::pg_catalog.\"char\" \
                AND o.oprname::pg_catalog.text OPERATOR(pg_catalog.<>) ALL ('{=,<>,<,<=,>,>=}'::pg_catalog.text[]) \
            OR EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE k.casttarget OPERATOR(pg_catalog.=) x.oid \
                AND k.castsource OPERATOR(pg_catalog.<) 16384::pg_catalog.oid \
                AND k.castcontext OPERATOR(pg_catalog.=) 'i'::pg_catalog.\"char\"))) THEN t.typname END, \
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_operator h WHERE h.oprname OPERATOR(pg_catalog.=) o.oprname \
        AND h.oprleft OPERATOR(pg_catalog.=) o.oprleft AND h.oprright OPERATOR(pg_catalog.=) o.oprright \
        AND h.oprnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace \
        AND h.oid OPERATOR(pg_catalog.<>) o.oid) THEN n.nspname END \
    FROM pg_catalog.pg_operator o \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace \
    LEFT JOIN pg_catalog.pg_operator u ON u.oid OPERATOR(pg_catalog.=) ANY (ARRAY[o.oid, o.oprnegate, o.oprcom]::pg_catalog.oid[]) \
    LEFT JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) u.oprcode::pg_catalog.oid \
    LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) ANY (ARRAY[o.oprleft, o.oprright]::pg_catalog.oid[]) \
        AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
    WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
    OR o.oprnegate OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid OR o.oprcom OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid";

/// The functions of users by which casts are made, each with a type of users that it makes or takes; without one if both
/// types are PostgreSQL's. Those that PostgreSQL makes itself for range types call nothing.
pub const CASTS: &str = "SELECT DISTINCT p.proname, t.typname FROM pg_catalog.pg_cast k \
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) k.castfunc \
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) ANY (ARRAY[k.castsource, k.casttarget]::pg_catalog.oid[]) \
        AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
    WHERE (l.lanname OPERATOR(pg_catalog.<>) 'internal' OR p.prosrc OPERATOR(pg_catalog.!~) '^(multi)?range_constructor[0-3]$') AND k.castfunc OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid";

/// Extended statistics: name and table.
pub const STATISTICS: &str = "SELECT sn.nspname, s.stxname, n.nspname, c.relname FROM pg_catalog.pg_statistic_ext s \
    JOIN pg_catalog.pg_namespace sn ON sn.oid OPERATOR(pg_catalog.=) s.stxnamespace \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.stxrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace";

/// Extensions with their versions.
pub const EXTENSIONS: &str = "SELECT x.extname, x.extversion FROM pg_catalog.pg_extension x";

/// Relations: name, object id, kind, persistence, rules, row security, owner, definition, parent,
/// partition bound, partition strategy, partition columns (a line each, empty for an expression), whether it has children,
/// whether it is left out, a digest of what its definitions are printed from, its rules, and the expressions of its
/// partition key and its indexes.
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
            FROM pg_catalog.pg_attrdef f WHERE f.adrelid OPERATOR(pg_catalog.=) c.oid))), \
    CASE WHEN NOT ",
    unread!("c.oid"),
    " \
        THEN (SELECT CASE WHEN pg_catalog.octet_length(r.body) OPERATOR(pg_catalog.<=) 262144 THEN r.body END \
            FROM (SELECT pg_catalog.string_agg(pg_catalog.pg_get_ruledef(w.oid), E'\n' ORDER BY w.oid) \
                FROM pg_catalog.pg_rewrite w WHERE w.ev_class OPERATOR(pg_catalog.=) c.oid \
                AND w.rulename OPERATOR(pg_catalog.<>) '_RETURN' OFFSET 0) r (body)) END, \
    CASE WHEN NOT ",
    unread!("c.oid"),
    " \
        THEN (SELECT CASE WHEN pg_catalog.octet_length(e.body) OPERATOR(pg_catalog.<=) 262144 THEN e.body END \
            FROM (SELECT pg_catalog.concat_ws(E'\n', pg_catalog.pg_get_expr(k.partexprs, c.oid), \
                (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(E'\n', pg_catalog.pg_get_expr(i.indexprs, c.oid), \
                    pg_catalog.pg_get_expr(i.indpred, c.oid)), E'\n' ORDER BY i.indexrelid) \
                    FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid \
                    AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))) OFFSET 0) e (body)) END \
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
/// whether arrays of it must be handed over as texts (XML as well: its text is what is stored, its binary form and its
/// output are not); the sequence of an identity or that a default names; what a generated one is computed by; whether
/// neither form is what is stored: arrays and composite values that have XML within.
pub const COLUMNS: &str = concat!(
    "SELECT n.nspname, c.relname, a.attname, a.atttypid, \
    pg_catalog.format_type(a.atttypid, NULL), a.atttypmod, l.collname, l.collisdeterministic, a.attnotnull, \
    COALESCE(CASE WHEN a.attgenerated OPERATOR(pg_catalog.=) ''::pg_catalog.\"char\" AND NOT ",
    noted!("a.attrelid", "mothership.large"),
    " \
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
        OR t.typname OPERATOR(pg_catalog.~) '^(reg|aclitem)' \
        OR t.typsend::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ( \
            ARRAY[0::pg_catalog.oid, 'pg_catalog.xml_send'::pg_catalog.regproc::pg_catalog.oid, \
                'pg_catalog.tsquerysend'::pg_catalog.regproc::pg_catalog.oid]) \
        OR t.typreceive::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid, s.nspname, s.relname, \
    CASE WHEN a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog.\"char\" AND NOT ",
    unread!("a.attrelid"),
    " THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END, \
    EXISTS (SELECT FROM pg_catalog.pg_type w \
        JOIN pg_catalog.pg_type x ON x.oid OPERATOR(pg_catalog.=) ANY (w.typelem OPERATOR(pg_catalog.||) ARRAY( \
            SELECT f.atttypid FROM pg_catalog.pg_attribute f WHERE f.attrelid OPERATOR(pg_catalog.=) w.typrelid)) \
        WHERE w.oid OPERATOR(pg_catalog.=) ANY (ARRAY[COALESCE(NULLIF(t.typbasetype, 0::pg_catalog.oid), t.oid)]) \
        AND (w.typelem OPERATOR(pg_catalog.<>) 0::pg_catalog.oid OR w.typrelid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid) \
        AND (x.typsend::pg_catalog.oid OPERATOR(pg_catalog.=) 'pg_catalog.xml_send'::pg_catalog.regproc::pg_catalog.oid \
            OR x.typelem OPERATOR(pg_catalog.=) 'pg_catalog.xml'::pg_catalog.regtype::pg_catalog.oid)) \
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
    AND a.attrelid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
    AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v', 'm', 'f']::pg_catalog.\"char\"[]) \
    AND n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
    ORDER BY a.attrelid, a.attnum"
);

/// Indexes: table, index, primary, unique, exclusion, its plain key columns (a line each); of an exclusion constraint
/// those that it compares by equality.
pub const INDEXES: &str = "SELECT n.nspname, c.relname, ic.relname, i.indisprimary, i.indisunique, i.indisexclusion, \
    (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY u.position) \
        FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY u(attnum, position) \
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid \
            AND a.attnum OPERATOR(pg_catalog.=) u.attnum \
        WHERE u.position OPERATOR(pg_catalog.<=) i.indnkeyatts \
        AND (NOT i.indisexclusion OR EXISTS (SELECT FROM pg_catalog.pg_constraint k \
            JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) k.conexclop[u.position] \
            WHERE k.conindid OPERATOR(pg_catalog.=) i.indexrelid \
            AND k.contype OPERATOR(pg_catalog.=) 'x'::pg_catalog.\"char\" \
            AND o.oprname OPERATOR(pg_catalog.=) '='::pg_catalog.name \
            AND o.oprnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace))) \
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

/// Triggers of users: table, name, function, the bits of `tgtype`, the definition of those that have a condition, and
/// whether they have transition tables.
pub const TRIGGERS: &str = concat!(
    "SELECT n.nspname, c.relname, t.tgname, pn.nspname, p.proname, t.tgtype, \
    CASE WHEN t.tgqual IS NOT NULL AND NOT ",
    unread!("t.tgrelid"),
    " \
        THEN pg_catalog.pg_get_triggerdef(t.oid) END, \
    COALESCE(t.tgoldtable, t.tgnewtable) IS NOT NULL \
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

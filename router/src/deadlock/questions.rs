//! What servers are asked about waits. Every name and operator is qualified.

/// Processes that wait for locks: number, for whom, what makes the wait this one, the database, the kind of lock with the
/// transaction whose end is waited for.
pub const WAITING: &str = "SELECT a.pid, pg_catalog.pg_blocking_pids(a.pid) AS blockers, \
    pg_catalog.concat_ws('|', a.backend_start, a.xact_start, a.query_start, \
        (SELECT pg_catalog.string_agg(l::pg_catalog.text, ';') FROM pg_catalog.pg_locks l \
         WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND NOT l.granted)) AS identity, \
    a.datname::pg_catalog.text, \
    (SELECT pg_catalog.min(pg_catalog.concat_ws(' ', l.locktype, l.transactionid)) FROM pg_catalog.pg_locks l \
     WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND NOT l.granted) AS awaited \
    FROM pg_catalog.pg_stat_activity a WHERE a.wait_event_type OPERATOR(pg_catalog.=) 'Lock'";

/// Cancels a process if it still waits like that: its number, and what made the wait that one.
pub const CANCEL: &str = "SELECT pg_catalog.pg_cancel_backend(a.pid) \
    FROM pg_catalog.pg_stat_activity a WHERE a.wait_event_type OPERATOR(pg_catalog.=) 'Lock' \
    AND a.pid OPERATOR(pg_catalog.=) $1 AND pg_catalog.concat_ws('|', a.backend_start, a.xact_start, a.query_start, \
        (SELECT pg_catalog.string_agg(l::pg_catalog.text, ';') FROM pg_catalog.pg_locks l \
         WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND NOT l.granted)) OPERATOR(pg_catalog.=) $2";

/// Processes with shared advisory locks of two keys whose first is between two numbers: process, both keys, when its
/// transaction began.
pub const MARKS: &str = "SELECT l.pid, l.classid::pg_catalog.int8, l.objid::pg_catalog.int8, \
    COALESCE(pg_catalog.date_part('epoch', a.xact_start), 0::pg_catalog.float8) \
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid \
    WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.objsubid OPERATOR(pg_catalog.=) 2::pg_catalog.int2 \
    AND l.granted AND l.mode OPERATOR(pg_catalog.=) 'ShareLock' \
    AND l.classid::pg_catalog.int8 OPERATOR(pg_catalog.>=) $1 AND l.classid::pg_catalog.int8 OPERATOR(pg_catalog.<=) $2";

/// Processes that wait for a lock which something prepared holds, in whatever mode, with the name of that.
pub const PREPARED: &str = "SELECT w.pid, p.gid FROM pg_catalog.pg_locks w \
    JOIN pg_catalog.pg_locks h ON h.granted AND h.pid IS NULL AND \
        ROW(h.locktype, h.database, h.relation, h.page, h.tuple, h.virtualxid, h.transactionid, h.classid, h.objid, \
            h.objsubid)::pg_catalog.text OPERATOR(pg_catalog.=) \
        ROW(w.locktype, w.database, w.relation, w.page, w.tuple, w.virtualxid, w.transactionid, w.classid, w.objid, \
            w.objsubid)::pg_catalog.text \
    JOIN pg_catalog.pg_locks x ON x.granted AND x.pid IS NULL AND x.locktype OPERATOR(pg_catalog.=) 'transactionid' \
        AND x.virtualtransaction OPERATOR(pg_catalog.=) h.virtualtransaction \
    JOIN pg_catalog.pg_prepared_xacts p ON p.transaction OPERATOR(pg_catalog.=) x.transactionid \
    WHERE NOT w.granted GROUP BY w.pid, p.gid";

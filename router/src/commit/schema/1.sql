CREATE SCHEMA IF NOT EXISTS @;
REVOKE ALL ON SCHEMA @ FROM PUBLIC;
GRANT USAGE ON SCHEMA @ TO PUBLIC;
COMMENT ON SCHEMA @ IS 'Outcomes of transactions over several shards. Rows come and go; do not change them.';

CREATE TABLE @.installed (version int4 NOT NULL, needs int4 NOT NULL);
INSERT INTO @.installed VALUES (0, 0);

-- The backend is part of the key: names of prepared transactions, and so their ids, can be read by everybody, and
-- nobody may decide for a backend that is not his own.
CREATE TABLE @.decision (
    id uuid NOT NULL,
    pid int4 NOT NULL,
    started int8 NOT NULL,
    committed bool NOT NULL,
    participants text NOT NULL,
    decided timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (id, pid, started)
);
REVOKE ALL ON @.installed, @.decision FROM PUBLIC;

-- The system, the database, the process and its start in microseconds since 1970.
CREATE FUNCTION @.backend() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    RETURN (SELECT concat_ws(' ', c.system_identifier, d.oid, a.pid,
                             (extract(epoch FROM a.backend_start) * 1000000)::int8)
            FROM pg_control_system() c, pg_database d, pg_stat_get_activity(pg_backend_pid()) a
            WHERE d.datname = current_database());
END $f$;

-- The decision to commit, in the transaction that calls it. Whoever finds an abort there is too late.
CREATE FUNCTION @.decide(id uuid, pid int4, started int8, participants text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    IF pid <> pg_backend_pid() OR NOT EXISTS (
        SELECT FROM pg_stat_get_activity(pg_backend_pid()) a
        WHERE (extract(epoch FROM a.backend_start) * 1000000)::int8 = started)
    THEN
        RAISE EXCEPTION 'decision for another backend' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO @.decision VALUES (id, pid, started, true, participants) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'could not commit on several shards: recovery has ended the transaction'
            USING ERRCODE = 'serialization_failure', HINT = 'The transaction might succeed if retried.';
    END IF;
END $f$;

-- The outcome, made final: an abort if there is none. Waits for a decider that is just committing. Every statement of
-- a volatile function sees what was committed before it, so the second one sees what the first one waited for.
CREATE FUNCTION @.fence(id uuid, pid int4, started int8) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $f$
#variable_conflict use_column
DECLARE outcome bool;
BEGIN
    INSERT INTO @.decision VALUES (fence.id, fence.pid, fence.started, false, '') ON CONFLICT DO NOTHING;
    SELECT committed INTO STRICT outcome FROM @.decision d
        WHERE d.id = fence.id AND d.pid = fence.pid AND d.started = fence.started;
    RETURN CASE WHEN outcome THEN 'commit' ELSE 'abort' END;
END $f$;

REVOKE ALL ON FUNCTION @.backend(), @.decide(uuid, int4, int8, text), @.fence(uuid, int4, int8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @.backend(), @.decide(uuid, int4, int8, text) TO PUBLIC;

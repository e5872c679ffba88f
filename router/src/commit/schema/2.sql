-- As before, but participants have the form and a length that names of shards can have: every role may call this.
CREATE OR REPLACE FUNCTION @.decide(id uuid, pid int4, started int8, participants text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    IF octet_length(participants) > 65536 OR participants !~ '^[A-Za-z0-9_,-]*$' THEN
        RAISE EXCEPTION 'participants are no names of shards' USING ERRCODE = 'invalid_parameter_value';
    END IF;
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

-- What this database was when rows were first stored in it by slots. The configuration of a router is compared with it.
CREATE TABLE @.shard (
    name text PRIMARY KEY,
    home bool NOT NULL,
    slots text NOT NULL
);
REVOKE ALL ON @.shard FROM PUBLIC;
COMMENT ON TABLE @.shard IS 'Which shard this database is. Delete the row when you have moved the rows to other shards.';

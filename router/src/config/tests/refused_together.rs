//! Values that are wrong because of each other.

use expect_test::expect;

use super::{accepted, refused, refused_alone};

#[test]
fn slots_belong_to_exactly_one_shard() {
    refused_alone(
        r#"
[[shard]]
name = "a"
slots = ["0-8191"]
[[shard.server]]
address = "a"

[[shard]]
name = "b"
slots = ["8000-16383"]
[[shard.server]]
address = "b"
"#,
        expect![
            "/etc/ms/m.toml:9:10: slots 8000-8191 belong to shard `a` and to shard `b`; give each slot to one shard"
        ],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
slots = ["0-8191"]
[[shard.server]]
address = "a"

[[shard]]
name = "b"
slots = ["8193-16000"]
[[shard.server]]
address = "b"
"#,
        expect![[r#"
            /etc/ms/m.toml:8:8: slots 16001-16383 belong to no shard; the shards together own 0-16383
            /etc/ms/m.toml:9:10: slot 8192 belongs to no shard; the shards together own 0-16383"#]],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
slots = ["0-16383", "5"]
[[shard.server]]
address = "a"
"#,
        expect![
            "/etc/ms/m.toml:3:21: slot 5 belongs to shard `a` and to shard `a`; give each slot to one shard"
        ],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
slots = []
[[shard.server]]
address = "a"
"#,
        expect![
            "/etc/ms/m.toml:2:8: slots 0-16383 belong to no shard; the shards together own 0-16383"
        ],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
slots = ["0-16383"]
[[shard.server]]
address = "a"

[[shard]]
name = "b"
[[shard.server]]
address = "b"
"#,
        expect![
            "/etc/ms/m.toml:8:8: shard `b` has no slots while others have; give `slots` to every shard (`slots = []` for none) or to none"
        ],
    );
}

#[test]
fn a_shard_has_servers_one_primary_and_one_home() {
    refused_alone(
        r#"
[[shard]]
name = "a"
"#,
        expect![
            "/etc/ms/m.toml:2:8: shard `a` has no server; add a [[shard.server]] with its address"
        ],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
[[shard.server]]
address = "a1"
role = "primary"
[[shard.server]]
address = "a2"
role = "primary"
"#,
        expect![[
            r#"/etc/ms/m.toml:8:8: shard `a` has a second primary, a2:5432; a1:5432 is the primary already; use "replica" or "auto""#
        ]],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
[[shard.server]]
address = "a1"
role = "replica"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:8: shard `a` has replicas only; add its primary, or let one have the role "auto""#
        ]],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
[[shard.server]]
address = "a1"
[[shard.server]]
address = "a1:5432"
"#,
        expect![
            "/etc/ms/m.toml:6:11: shard `a` has the server a1:5432 twice; use `weight` to give it a larger part of the reads"
        ],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
home = true
[[shard.server]]
address = "a"
[[shard]]
name = "b"
home = true
[[shard.server]]
address = "b"
"#,
        expect!["/etc/ms/m.toml:8:8: shard `b` is a second home; `a` is home already"],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
[[shard.server]]
address = "a"
tls_direct = true
channel_binding = "require"
tls_key = "k"
"#,
        expect![[r#"
            /etc/ms/m.toml:4:11: server a:5432 has `tls_direct` and `tls` = "prefer"; set `tls` to "require" or more
            /etc/ms/m.toml:4:11: server a:5432 has one of `tls_certificate` and `tls_key`; give both or none
            /etc/ms/m.toml:4:11: server a:5432 requires channel binding and has `tls` = "prefer"; set `tls` to "require" or more"#]],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
[[shard.server]]
address = "/run/postgresql"
tls = "verify-full"
"#,
        expect![[
            r#"/etc/ms/m.toml:4:11: server /run/postgresql/.s.PGSQL.5432 is a unix socket and has `tls` = "verify-full"; there is no TLS on unix sockets; set it to "disable""#
        ]],
    );
}

#[test]
fn names_are_given_once() {
    refused(
        r#"
[[shard]]
name = "main"
[[shard.server]]
address = "x"
"#,
        expect!["/etc/ms/m.toml:8:8: there are two shards `main`; keep one of them"],
    );
    refused(
        r#"
[[user]]
name = "a"
[[user]]
name = "a"
"#,
        expect!["/etc/ms/m.toml:4:8: there are two users `a`; keep one of them"],
    );
    refused(
        r#"
[[database]]
name = "a"
[[database]]
name = "a"
"#,
        expect!["/etc/ms/m.toml:4:8: there are two databases `a`; keep one of them"],
    );
    refused(
        r#"
[[table]]
name = "a"
key = "id"
[[table]]
name = "public.a"
key = "id"
"#,
        expect!["/etc/ms/m.toml:5:8: there are two tables `public.a`; keep one of them"],
    );
    refused(
        r#"
[[rule]]
name = "a"
action = "primary"
[[rule]]
name = "a"
action = "primary"
"#,
        expect!["/etc/ms/m.toml:5:8: there are two rules `a`; keep one of them"],
    );
    refused(
        r#"
[[strategy]]
name = "a"
kind = "postgres"
remainders = "main"
[[strategy]]
name = "a"
kind = "postgres"
remainders = "main"
"#,
        expect!["/etc/ms/m.toml:6:8: there are two strategies `a`; keep one of them"],
    );
    refused(
        r#"
[[database]]
name = "pgbouncer"
"#,
        expect![
            "/etc/ms/m.toml:2:8: database `pgbouncer` is also a name of the console; give it another name, or set `console.databases`"
        ],
    );
}

#[test]
fn shards_that_are_referred_to_exist() {
    refused(
        r#"
[[database]]
name = "app"
on = { mian = "app_1" }
"#,
        expect!["/etc/ms/m.toml:3:6: there is no shard `mian`; did you mean `main`?"],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "shard"
shard = "s2"
"#,
        expect!["/etc/ms/m.toml:4:9: there is no shard `s2`; known: main"],
    );
    refused(
        r#"
[[strategy]]
name = "a"
kind = "postgres"
remainders = ["main", "s2"]
"#,
        expect!["/etc/ms/m.toml:4:23: there is no shard `s2`; known: main"],
    );
    refused(
        r#"
[[strategy]]
name = "a"
kind = "list"
key_type = "int8"
other = "s2"
list = [{ keys = [1], shard = "s3" }]
"#,
        expect![[r#"
            /etc/ms/m.toml:5:9: there is no shard `s2`; known: main
            /etc/ms/m.toml:6:31: there is no shard `s3`; known: main"#]],
    );
}

#[test]
fn tables_say_where_their_rows_live() {
    refused(
        r#"
[[table]]
name = "a"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:8: table `public.a` does not say where its rows live; give `key`, or `kind` = "reference" or "home""#
        ]],
    );
    refused(
        r#"
[[table]]
name = "a"
kind = "sharded"
"#,
        expect![
            "/etc/ms/m.toml:2:8: sharded table `public.a` has no `key`; name the column that decides the shard"
        ],
    );
    refused(
        r#"
[[table]]
name = "a"
kind = "reference"
key = "id"
strategy = "s"
"#,
        expect![[r#"
            /etc/ms/m.toml:4:7: table `public.a` of kind "reference" has `key`; only a sharded table has one
            /etc/ms/m.toml:5:12: table `public.a` of kind "reference" has `strategy`; only a sharded table has one"#]],
    );
    refused(
        r#"
[[table]]
name = "a"
key = ["id", "id"]
key_type = "int8"
"#,
        expect![[r#"
            /etc/ms/m.toml:3:14: there are two key columns `id`; keep one of them
            /etc/ms/m.toml:4:12: table `public.a` has 2 key columns and 1 key type; give one type for each column, or none"#]],
    );
    refused(
        r#"
[[table]]
name = "a"
key = "id"
strategy = "weekly"
"#,
        expect!["/etc/ms/m.toml:4:12: there is no strategy `weekly`; declare it as a [[strategy]]"],
    );
}

#[test]
fn colocated_tables_have_the_same_key_types() {
    refused(
        r#"
[[table]]
name = "orders"
key = "id"
key_type = "int8"
[[table]]
name = "items"
key = "order_id"
key_type = "int4"
colocate = "orders"
"#,
        expect![
            "/etc/ms/m.toml:9:12: table `public.items` is colocated with `public.orders`, whose key is int8 and not int4; colocated tables have keys of the same types"
        ],
    );
    refused(
        r#"
[[table]]
name = "orders"
key = ["id", "region"]
[[table]]
name = "items"
key = "order_id"
colocate = "orders"
"#,
        expect![
            "/etc/ms/m.toml:7:12: table `public.items` is colocated with `public.orders`, whose key has 2 columns and not 1; colocated tables have keys of the same types"
        ],
    );
    refused(
        r#"
[[table]]
name = "orders"
key = "id"
[[table]]
name = "items"
key = "order_id"
colocate = "order"
"#,
        expect![
            "/etc/ms/m.toml:7:12: table `public.items` is colocated with `public.order`, which is not declared; did you mean `public.orders`?"
        ],
    );
    refused(
        r#"
[[table]]
name = "orders"
kind = "reference"
[[table]]
name = "items"
key = "order_id"
colocate = "orders"
"#,
        expect![[
            r#"/etc/ms/m.toml:7:12: table `public.items` is colocated with `public.orders`, which is of kind "reference"; name a sharded table"#
        ]],
    );
    refused(
        r#"
[[table]]
name = "items"
key = "order_id"
colocate = "items"
"#,
        expect![
            "/etc/ms/m.toml:4:12: table `public.items` is colocated with itself; leave `colocate` out"
        ],
    );
    refused(
        r#"
[[table]]
name = "shop.*"
key = "id"
[[table]]
name = "items"
key = "order_id"
colocate = "shop.*"
"#,
        expect![
            "/etc/ms/m.toml:7:12: table `public.items` is colocated with the pattern `shop.*`; name one table"
        ],
    );
    refused(
        r#"
[[table]]
name = "a"
key = "id"
[[table]]
name = "b"
key = "id"
colocate = "a"
[[table]]
name = "c"
key = "id"
colocate = "b"
"#,
        expect![
            "/etc/ms/m.toml:11:12: table `public.c` is colocated with `public.b`, which is itself colocated with `public.a`; name the first table of the group"
        ],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "postgres"
remainders = "main"
[[table]]
name = "a"
key = "id"
[[table]]
name = "b"
key = "id"
colocate = "a"
strategy = "s"
"#,
        expect![
            "/etc/ms/m.toml:11:12: table `public.b` is colocated with `public.a`, which has another strategy; leave `strategy` out"
        ],
    );
}

#[test]
fn strategies_are_whole_and_do_not_overlap() {
    refused(
        r#"
[[strategy]]
name = "s"
kind = "range"
"#,
        expect![[r#"
            /etc/ms/m.toml:2:8: strategy `s` of kind "range" has no `key_type`; this kind needs it
            /etc/ms/m.toml:2:8: strategy `s` of kind "range" has no `range`; this kind needs it"#]],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "directory"
remainders = ["main"]
"#,
        expect![[r#"
            /etc/ms/m.toml:2:8: strategy `s` of kind "directory" has `remainders`; it belongs to the kind "postgres"
            /etc/ms/m.toml:2:8: strategy `s` of kind "directory" has no `key_column`; this kind needs it
            /etc/ms/m.toml:2:8: strategy `s` of kind "directory" has no `shard_column`; this kind needs it
            /etc/ms/m.toml:2:8: strategy `s` of kind "directory" has no `table`; this kind needs it"#]],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "range"
key_type = "int8"
range = [{ below = 10, shard = "main" }, { from = 9, shard = "main" }]
"#,
        expect![
            "/etc/ms/m.toml:5:62: ranges 1 and 2 of strategy `s` overlap; `below` is not included; let one begin where the other ends"
        ],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "range"
key_type = "int8"
range = [{ from = 10, below = 10, shard = "main" }]
"#,
        expect![
            "/etc/ms/m.toml:5:43: range 1 of strategy `s` is empty; `from` has to be less than `below`"
        ],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "range"
key_type = "int4"
range = [{ from = "ten", below = 3000000000, shard = "main" }]
"#,
        expect![[r#"
            /etc/ms/m.toml:5:19: "ten" is not a certain value of type int4; write it as PostgreSQL does
            /etc/ms/m.toml:5:34: "3000000000" is not a certain value of type int4; write it as PostgreSQL does"#]],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "range"
key_type = "timestamptz"
range = [{ from = "2025-01-31 12:00:00", shard = "main" }]
"#,
        expect![[
            r#"/etc/ms/m.toml:5:19: "2025-01-31 12:00:00" is not a certain value of type timestamptz; give it with its offset: "2025-01-31 12:00:00+00""#
        ]],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "list"
key_type = "int8"
list = [{ keys = [1, 2], shard = "main" }, { keys = [2], shard = "main" }]
"#,
        expect!["/etc/ms/m.toml:5:54: a key is twice in strategy `s`; give each key to one shard"],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "list"
key_type = ["int8", "text"]
list = [{ keys = [[1, "a"], [2]], shard = "main" }]
"#,
        expect![
            "/etc/ms/m.toml:5:30: a key of 2 columns has 1 value in strategy `s`; give one value for each column"
        ],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "list"
key_type = "int8"
list = [{ keys = [[1, 2]], shard = "main" }]
"#,
        expect![
            "/etc/ms/m.toml:5:23: a key of 1 column has 2 values; give one value for each column"
        ],
    );
    refused(
        r#"
[[strategy]]
name = "s"
kind = "list"
key_type = "int8"
list = [{ keys = [1], shard = "main" }]
[[table]]
name = "a"
key = "id"
key_type = "int4"
strategy = "s"
"#,
        expect![
            "/etc/ms/m.toml:10:12: the key of table `public.a` is int4 and that of its strategy is int8; give them the same types"
        ],
    );
}

#[test]
fn rules_have_what_their_action_needs() {
    refused(
        r#"
[[rule]]
name = "r"
action = "shard"
"#,
        expect![[
            r#"/etc/ms/m.toml:3:10: rule `r` with action "shard" has no `shard`; this action needs it"#
        ]],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "pool"
"#,
        expect![[
            r#"/etc/ms/m.toml:3:10: rule `r` with action "pool" has no `pool`; this action needs it"#
        ]],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "refuse"
"#,
        expect![[
            r#"/etc/ms/m.toml:3:10: rule `r` with action "refuse" has no `message`; this action needs it"#
        ]],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "primary"
pool = "x"
message = "no"
"#,
        expect![[
            r#"/etc/ms/m.toml:5:11: rule `r` with action "primary" has `message`; it belongs to the action "refuse""#
        ]],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "replica"
label = "reports"
"#,
        expect![
            "/etc/ms/m.toml:4:9: no server has the label `reports`; add it to the `labels` of a server"
        ],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "primary"
reads = "replicas"
"#,
        expect![[
            r#"/etc/ms/m.toml:4:9: rule `r` with action "primary" has `reads`; the action says already who serves reads; keep one of both"#
        ]],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "refuse"
reads = "replicas"
message = "no"
"#,
        expect![[
            r#"/etc/ms/m.toml:4:9: rule `r` with action "refuse" has `reads`; it belongs to every other action: what is refused does not run"#
        ]],
    );
    refused(
        r#"
[[rule]]
name = "r"
reads = "primary"
label = "reports"
"#,
        expect![[r#"
            /etc/ms/m.toml:4:9: no server has the label `reports`; add it to the `labels` of a server
            /etc/ms/m.toml:4:9: rule `r` has `label`; it belongs to the actions "replica" and "group", and to `reads` but for "primary""#]],
    );
}

#[test]
fn what_is_refused_does_not_wait_and_has_no_priority() {
    refused(
        r#"
[[rule]]
name = "r"
action = "refuse"
message = "no"
priority = 0
[[rule]]
name = "s"
action = "pool"
pool = "slow"
priority = -100
[[rule]]
name = "t"
action = "primary"
priority = 100
"#,
        expect![
            r#"/etc/ms/m.toml:5:12: rule `r` with action "refuse" has `priority`; it belongs to every other action: what is refused does not wait"#
        ],
    );
}

#[test]
fn rules_that_share_pools_share_their_limit() {
    refused(
        r#"
[[rule]]
name = "a"
action = "pool"
pool = "slow"
pool_max = 3
[[rule]]
name = "b"
action = "pool"
pool = "slow"
[[rule]]
name = "c"
action = "pool"
pool = "slow"
pool_max = 4
[[rule]]
name = "d"
action = "primary"
pool_max = 4
"#,
        expect![[r#"
            /etc/ms/m.toml:14:12: rules `a` and `c` give the pool `slow` different limits; give `pool_max` in one of them
            /etc/ms/m.toml:18:12: rule `d` with action "primary" has `pool_max`; it belongs to `pool`"#]],
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    refused(
        r#"
[pool]
min = 20
max = 10
"#,
        expect![
            "/etc/ms/m.toml:2:7: `pool.min` is more than `pool.max`; make `pool.max` at least as large"
        ],
    );
    refused(
        r#"
[pool]
retry_pause = "10s"
"#,
        expect![
            "/etc/ms/m.toml:2:15: `pool.retry_pause` is more than `pool.retry_pause_max`; make `pool.retry_pause_max` at least as large"
        ],
    );
    refused(
        r#"
[limits]
client_message = "1MiB"
parsed_statement = "64MiB"
statement = "2MiB"
"#,
        expect![[r#"
            /etc/ms/m.toml:3:20: `limits.parsed_statement` is more than `limits.statement`; make `limits.statement` at least as large
            /etc/ms/m.toml:4:13: `limits.statement` is more than `limits.client_message`; make `limits.client_message` at least as large"#]],
    );
    refused(
        r#"
[[user]]
name = "a"
pool_min = 5
pool_max = 3
"#,
        expect![
            "/etc/ms/m.toml:2:8: the `pool_min` of user `a` is more than its pool's maximum of 3; raise `pool_max`"
        ],
    );
    refused(
        r#"
[[database]]
name = "a"
pool_min = 101
"#,
        expect![
            "/etc/ms/m.toml:2:8: the `pool_min` of database `a` is more than its pool's maximum of 100; raise `pool_max`"
        ],
    );
    refused(
        r#"
[listen]
address = []
"#,
        expect![
            "/etc/ms/m.toml:2:11: there is nothing to listen on; give `listen.address` or `listen.unix_socket`"
        ],
    );
    refused(
        r#"
[metrics]
port = 6432
"#,
        expect![
            "/etc/ms/m.toml:2:8: `metrics.port` is also `listen.port`; give one of them another port"
        ],
    );
    refused(
        r#"
[tls]
mode = "verify-ca"
"#,
        expect![[r#"
            /etc/ms/m.toml:2:8: `tls.mode` is "verify-ca" and `tls.certificate` is missing; give the path of a PEM file
            /etc/ms/m.toml:2:8: `tls.mode` is "verify-ca" and `tls.client_ca` is missing; give the path of a PEM file
            /etc/ms/m.toml:2:8: `tls.mode` is "verify-ca" and `tls.key` is missing; give the path of a PEM file"#]],
    );
}

#[test]
fn everything_wrong_is_reported_in_one_run() {
    refused(
        r#"
[listen]
prot = 1
port = "x"
[pool]
mode = "x"
max = 0
[[user]]
password_env = "NOBODY"
"#,
        expect![[r#"
            /etc/ms/m.toml:2:1: unknown key `prot` in [listen]; did you mean `port`?
            /etc/ms/m.toml:3:8: `listen.port` is text; it takes a whole number
            /etc/ms/m.toml:5:8: `pool.mode` = "x" is not one of its values; known: transaction, session, statement
            /etc/ms/m.toml:6:7: `pool.max` = 0 is out of range; from 1 to 100000
            /etc/ms/m.toml:7:1: `user.name` is missing; it takes a PostgreSQL name of 1 to 63 bytes
            /etc/ms/m.toml:8:16: `user.password_env` = "NOBODY" cannot be used; the variable is not set"#]],
    );
    refused(
        r#"
[listen]
prot = 1
[pool]
min = 200
[[table]]
name = "a"
[[rule]]
name = "r"
action = "shard"
shard = "nowhere"
"#,
        expect![[r#"
            /etc/ms/m.toml:2:1: unknown key `prot` in [listen]; did you mean `port`?
            /etc/ms/m.toml:4:7: `pool.min` is more than `pool.max`; make `pool.max` at least as large
            /etc/ms/m.toml:6:8: table `public.a` does not say where its rows live; give `key`, or `kind` = "reference" or "home"
            /etc/ms/m.toml:10:9: there is no shard `nowhere`; known: main"#]],
    );
}

#[test]
fn what_limits_a_rule_belongs_to_something() {
    refused(
        r#"
[[rule]]
name = "nothing"
users = "a"
[[rule]]
name = "waits"
action = "primary"
wait = "5s"
zone = "Europe/Berlin"
[[rule]]
name = "no"
action = "refuse"
message = "no"
rate = "5/s"
timeout = "5s"
[[rule]]
name = "group"
action = "group"
[[rule]]
name = "text"
action = "primary"
statements = ["SELECT 'a", ""]
"#,
        expect![[r#"
            /etc/ms/m.toml:2:8: rule `nothing` does nothing; give it an `action`, or one of the settings that may stand without
            /etc/ms/m.toml:7:8: rule `waits` with action "primary" has `wait`; it belongs to `concurrency` or `rate`
            /etc/ms/m.toml:8:8: rule `waits` with action "primary" has `zone`; it belongs to `times`
            /etc/ms/m.toml:13:8: rule `no` with action "refuse" has `rate`; it belongs to every other action: what is refused does not run
            /etc/ms/m.toml:14:11: rule `no` with action "refuse" has `timeout`; it belongs to every other action: what is refused does not run
            /etc/ms/m.toml:17:10: rule `group` with action "group" has no `label`; this action needs it
            /etc/ms/m.toml:21:15: a statement of rule `text` cannot be read; give a whole statement of SQL
            /etc/ms/m.toml:21:28: a statement of rule `text` cannot be read; give a whole statement of SQL"#]],
    );
}

/// A table of documents without its columns.
const OF_DOCUMENTS: &str = r#"
[[shard]]
name = "a"
[[shard.server]]
address = "a"
[[shard]]
name = "d"
engine = "mongodb"
[[shard.server]]
address = "d"
[[table]]
name = "t"
kind = "documents"
shards = ["d"]
"#;

#[test]
fn an_array_is_in_no_unique_key_of_documents() {
    let config = |key: &str| {
        format!(
            r#"{OF_DOCUMENTS}key = ["n"]
[[table.column]]
name = "n"
sql_type = "int8"
not_null = true
[[table.column]]
name = "id"
path = "_id"
sql_type = "jsonb"
[[table.column]]
name = "words"
sql_type = "text[]"
[[table.column]]
name = "data"
sql_type = "jsonb"
[[table.unique]]
name = "t_pkey"
columns = ["id"]
{key}"#
        )
    };
    let both = "[[table.unique]]\nname = \"t_key\"\ncolumns = [\"id\", \"words\"]\n\
        [[table.unique]]\nname = \"t_key2\"\ncolumns = [\"data\"]\n";
    refused_alone(
        &config(both),
        expect![[r#"
        /etc/ms/m.toml:34:18: unique key `t_key` names `words`, which is text[]; name columns of other types: MongoDB would keep the elements of arrays unique
        /etc/ms/m.toml:37:12: unique key `t_key2` names `data`, which is jsonb; name columns of other types: MongoDB would keep the elements of arrays unique"#]],
    );
    // MongoDB takes no array at `_id`.
    accepted(&config(""));
}

#[test]
fn what_is_at_the_id_is_a_unique_key_by_itself() {
    let config = |key: &str| {
        format!(
            r#"{OF_DOCUMENTS}[[table.column]]
name = "org"
sql_type = "int8"
[[table.column]]
name = "id"
path = "_id"
sql_type = "int8"
[[table.unique]]
name = "t_pkey"
columns = ["org", "id"]
{key}"#
        )
    };
    refused_alone(
        &config(""),
        expect![
            "/etc/ms/m.toml:18:8: column `id` has the path `_id`, which MongoDB keeps unique by itself, and no unique key is of this column alone; make it the primary key or a [[table.unique]] by itself, or give it another path"
        ],
    );
    let by_itself = "[[table.unique]]\nname = \"t_id_key\"\ncolumns = [\"id\"]\n";
    accepted(&config(by_itself));
    // The parts of a document there are unique together.
    let parts = config("").replace("path = \"_id\"", "path = \"_id.id\"");
    accepted(&parts.replace("name = \"org\"", "name = \"org\"\npath = \"_id.org\""));
}

#[test]
fn a_unique_key_that_may_be_null_is_warned_of_where_null_is_stored() {
    let config = |more: &str| {
        let key = "[[table.unique]]\nname = \"t_pkey\"\ncolumns = [\"id\"]\n\
            [[table.unique]]\nname = \"t_mail_key\"\ncolumns = [\"mail\"]\n";
        let columns = "[[table.column]]\nname = \"id\"\npath = \"_id\"\nsql_type = \"int8\"\n\
            [[table.column]]\nname = \"mail\"\nsql_type = \"text\"\n";
        format!("{OF_DOCUMENTS}{columns}{more}{key}")
    };
    let warning =
        "warning: table public.t: unique key \"t_mail_key\" has column \"mail\", which may be NULL";
    let told = |config: &str| accepted(config).summary().to_string().contains(warning);
    assert!(told(&config("")));
    assert!(!told(&config("not_null = true\n")));
    let omitted = config("").replace("shards = [\"d\"]", "shards = [\"d\"]\nnulls = \"omit\"");
    assert!(!told(&omitted));
}

#[test]
fn all_other_fields_are_one_column_of_jsonb() {
    let config = |columns: &str| {
        format!(
            r#"{OF_DOCUMENTS}[[table.column]]
name = "id"
path = "_id"
sql_type = "int8"
{columns}"#
        )
    };
    let column =
        |more: &str| format!("[[table.column]]\nsql_type = \"jsonb\"\nrest = true\n{more}\n");
    refused_alone(
        &config(
            &[
                "name = \"a\"",
                "name = \"b\"",
                "name = \"c\"\npath = \"c\"",
                "name = \"d\"\nnot_null = true",
                "name = \"e\"\ndefault = \"{}\"",
            ]
            .map(column)
            .concat(),
        ),
        expect![[r#"
            /etc/ms/m.toml:25:8: columns `a` and `b` both have all other fields; keep one of them
            /etc/ms/m.toml:30:8: column `c` has all other fields, and a `path`, `default` or `not_null`; leave these out: it is an object in every row, empty where there are no other fields
            /etc/ms/m.toml:34:8: column `d` has all other fields, and a `path`, `default` or `not_null`; leave these out: it is an object in every row, empty where there are no other fields
            /etc/ms/m.toml:40:11: column `e` has all other fields, and a `path`, `default` or `not_null`; leave these out: it is an object in every row, empty where there are no other fields"#]],
    );
    let of_text = column("name = \"a\"").replace("jsonb", "text");
    refused_alone(
        &config(&of_text),
        expect![
            "/etc/ms/m.toml:19:12: column `a` has all other fields and the type text; write `jsonb`"
        ],
    );
    accepted(&config(&column("name = \"a\"")));
}

#[test]
fn without_postgresql_the_router_stands_for_the_home_shard() {
    let documents = r#"
[[user]]
name = "app"
password = "x"

[[shard]]
name = "docs"
engine = "mongodb"
[[shard.server]]
address = "a"
"#;
    let config = accepted(documents);
    assert!(!config.has_postgres());
    assert_eq!(config.postgres_shards(), 1);
    let names: Vec<&str> = config
        .shards
        .iter()
        .map(|shard| shard.name.as_str())
        .collect();
    assert_eq!(
        (names, config.home().name.as_str()),
        (vec!["router", "docs"], "router")
    );
    refused_alone(
        &documents
            .replace("docs", "router")
            .replace("[[user]]\nname = \"app\"\npassword = \"x\"\n", ""),
        expect![[r#"
            /etc/ms/m.toml:2:8: a shard is called `router`; without a shard of PostgreSQL that is what the router calls itself: give it another name
            /etc/ms/m.toml:2:8: nobody can log in: no shard is of PostgreSQL, which would know users; add a [[user]] with a name and a password"#]],
    );
    refused_alone(
        &format!("{documents}\n[[table]]\nname = \"t\"\nkey = [\"id\"]\n"),
        expect![
            "/etc/ms/m.toml:12:8: table `public.t` has no shard: none is of PostgreSQL; add a shard of PostgreSQL, or make it a table of documents"
        ],
    );
}

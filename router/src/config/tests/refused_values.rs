//! Values that are wrong by themselves.

use expect_test::expect;

use super::{refused, refused_alone};

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    refused(
        r#"
[listen]
prot = 5432
"#,
        expect!["/etc/ms/m.toml:2:1: unknown key `prot` in [listen]; did you mean `port`?"],
    );
    refused(
        r#"
[pol]
max = 1
"#,
        expect!["/etc/ms/m.toml:1:2: unknown key `pol` in the file; did you mean `pool`?"],
    );
    refused(
        r#"
[limits]
coffee = "64KiB"
"#,
        expect![
            "/etc/ms/m.toml:2:1: unknown key `coffee` in [limits]; docs/configuration.md lists what is known"
        ],
    );
    refused(
        r#"
[[user]]
name = "alice"
pasword = "secret of alice"
"#,
        expect!["/etc/ms/m.toml:3:1: unknown key `pasword` in [user]; did you mean `password`?"],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
[[shard.server]]
address = "db"
rol = "primary"
"#,
        expect!["/etc/ms/m.toml:5:1: unknown key `rol` in [shard.server]; did you mean `role`?"],
    );
    refused(
        r#"
[[auth.rule]]
method = "trust"
user = "alice"
"#,
        expect!["/etc/ms/m.toml:3:1: unknown key `user` in [auth.rule]; did you mean `users`?"],
    );
}

#[test]
fn wrong_types_are_refused() {
    refused(
        r#"
[listen]
port = "6432"
"#,
        expect!["/etc/ms/m.toml:2:8: `listen.port` is text; it takes a whole number"],
    );
    refused(
        r#"
[listen]
port = 6432.0
"#,
        expect!["/etc/ms/m.toml:2:8: `listen.port` is a number; it takes a whole number"],
    );
    refused(
        r#"
[pool]
idle_timeout = 10
"#,
        expect![[
            r#"/etc/ms/m.toml:2:16: `pool.idle_timeout` is a number; it takes a time such as "5s", "200ms" or "1h" (us, ms, s, min, h, d)"#
        ]],
    );
    refused(
        r#"
[pool]
prepared_statements = true
"#,
        expect!["/etc/ms/m.toml:2:23: `pool.prepared_statements` is true; it takes a whole number"],
    );
    refused(
        r#"
[tls]
direct = "yes"
"#,
        expect!["/etc/ms/m.toml:2:10: `tls.direct` is text; it takes true or false"],
    );
    refused(
        r#"
[limits]
statement = 1000
"#,
        expect![[
            r#"/etc/ms/m.toml:2:13: `limits.statement` is a number; it takes a size such as "64KiB" (B, KiB, MiB, GiB)"#
        ]],
    );
    refused(
        r#"
pool = 5
"#,
        expect!["/etc/ms/m.toml:1:8: `pool` is a number; it takes a table"],
    );
    refused(
        r#"
[pool]
max = [1]
"#,
        expect!["/etc/ms/m.toml:2:7: `pool.max` is a list; it takes a whole number"],
    );
    refused(
        r#"
[user]
name = "alice"
"#,
        expect!["/etc/ms/m.toml:1:1: [user] may be there several times; write [[user]]"],
    );
    refused_alone(
        r#"
shard = "a"
"#,
        expect!["/etc/ms/m.toml:1:9: `shard` is text; it takes tables, each begun with [[shard]]"],
    );
    refused(
        r#"
[[user]]
name = 7
"#,
        expect![
            "/etc/ms/m.toml:2:8: `user.name` is a number; it takes a PostgreSQL name of 1 to 63 bytes"
        ],
    );
    refused(
        r#"
[console]
admin_users = ["a", 5]
"#,
        expect![
            "/etc/ms/m.toml:2:21: `console.admin_users` is a number; it takes a PostgreSQL name of 1 to 63 bytes"
        ],
    );
}

#[test]
fn text_that_cannot_be_read_is_refused() {
    refused(
        r#"
[pool]
idle_timeout = "10 seconds"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:16: `pool.idle_timeout` = "10 seconds" cannot be read; it takes a time such as "5s", "200ms" or "1h" (us, ms, s, min, h, d)"#
        ]],
    );
    refused(
        r#"
[pool]
join_reserve = "0.1"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:16: `pool.join_reserve` = "0.1" cannot be read; it takes a share such as "10%""#
        ]],
    );
    refused(
        r#"
[limits]
statement = "64KB"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:13: `limits.statement` = "64KB" cannot be read; it takes a size such as "64KiB" (B, KiB, MiB, GiB)"#
        ]],
    );
    refused(
        r#"
[listen]
address = "localhost"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:11: `listen.address` = "localhost" cannot be read; it takes an IP address"#
        ]],
    );
    refused(
        r#"
[listen]
unix_socket_mode = "0888"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:20: `listen.unix_socket_mode` = "0888" cannot be read; it takes permissions in octal such as "0770""#
        ]],
    );
    refused(
        r#"
[listen]
workers = "many"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:11: `listen.workers` is text; it takes "auto" or a whole number, from 1 to 1024"#
        ]],
    );
    refused(
        r#"
[[auth.rule]]
network = "10.0.0.1/8"
method = "trust"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:11: `auth.rule.network` = "10.0.0.1/8" cannot be read; it takes a network such as "10.0.0.0/8" (no bits set after the prefix), an address, or "local" for the unix socket"#
        ]],
    );
    refused_alone(
        r#"
[[shard]]
name = "a b"
[[shard.server]]
address = "postgres://db"
"#,
        expect![[r#"
            /etc/ms/m.toml:2:8: `shard.name` = "a b" cannot be read; it takes a name of 1 to 40 letters, digits, "_" or "-"
            /etc/ms/m.toml:4:11: `shard.server.address` = "postgres://db" cannot be read; it takes "host:port" or the path of a unix socket"#]],
    );
    refused_alone(
        r#"
[[shard]]
name = "a"
slots = ["5-3"]
[[shard.server]]
address = "db:99999"
"#,
        expect![[r#"
            /etc/ms/m.toml:3:10: `shard.slots` = "5-3" cannot be read; it takes slots such as "0-5460", between 0 and 16383
            /etc/ms/m.toml:5:11: `shard.server.address` = "db:99999" cannot be read; it takes "host:port" or the path of a unix socket"#]],
    );
    refused(
        r#"
[[table]]
name = "a.b.c"
key = "id"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:8: `table.name` = "a.b.c" cannot be read; it takes a table such as "orders", "shop.orders" or "shop.*""#
        ]],
    );
    refused(
        r#"
[[table]]
name = "a"
key = "id"
key_type = "json"
"#,
        expect![[
            r#"/etc/ms/m.toml:4:12: `table.key_type` = "json" cannot be read; it takes a type that can be a key (bool, int2, int4, int8, numeric, text, varchar, uuid, date, timestamp, timestamptz, bytea)"#
        ]],
    );
}

#[test]
fn words_that_are_not_choices_are_refused() {
    refused(
        r#"
[pool]
mode = "transactional"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:8: `pool.mode` = "transactional" is not one of its values; did you mean `transaction`?"#
        ]],
    );
    refused(
        r#"
[balance]
freshness = "rooter"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:13: `balance.freshness` = "rooter" is not one of its values; did you mean `router`?"#
        ]],
    );
    refused(
        r#"
[[auth.rule]]
method = "scram"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:10: `auth.rule.method` = "scram" is not one of its values; known: trust, password, md5, scram-sha-256, reject"#
        ]],
    );
    refused(
        r#"
[tls]
mode = "verify_full"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:8: `tls.mode` = "verify_full" is not one of its values; did you mean `verify-full`?"#
        ]],
    );
    refused(
        r#"
[logging]
level = "verbose"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:9: `logging.level` = "verbose" is not one of its values; known: error, warn, info, debug, trace"#
        ]],
    );
}

#[test]
fn absurd_limits_are_refused() {
    refused(
        r#"
[listen]
port = 0
"#,
        expect!["/etc/ms/m.toml:2:8: `listen.port` = 0 is out of range; from 1 to 65535"],
    );
    refused(
        r#"
[listen]
port = 70000
"#,
        expect!["/etc/ms/m.toml:2:8: `listen.port` = 70000 is out of range; from 1 to 65535"],
    );
    refused(
        r#"
[listen]
max_clients = 0
"#,
        expect!["/etc/ms/m.toml:2:15: `listen.max_clients` = 0 is out of range; from 1 to 1000000"],
    );
    refused(
        r#"
[listen]
max_clients = 5000000000
"#,
        expect![
            "/etc/ms/m.toml:2:15: `listen.max_clients` = 5000000000 is out of range; from 1 to 1000000"
        ],
    );
    refused(
        r#"
[listen]
workers = 100000
"#,
        expect!["/etc/ms/m.toml:2:11: `listen.workers` = 100000 is out of range; from 1 to 1024"],
    );
    refused(
        r#"
[listen]
login_timeout = "0s"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:17: `listen.login_timeout` = "0s" is out of range; from "100ms" to "1h""#
        ]],
    );
    refused(
        r#"
[pool]
max = -1
"#,
        expect!["/etc/ms/m.toml:2:7: `pool.max` = -1 is out of range; from 1 to 100000"],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "pool"
pool = "p"
pool_max = 100001
"#,
        expect!["/etc/ms/m.toml:5:12: `rule.pool_max` = 100001 is out of range; from 1 to 100000"],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "primary"
priority = 101
"#,
        expect!["/etc/ms/m.toml:4:12: `rule.priority` = 101 is out of range; from -100 to 100"],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "primary"
priority = -101
"#,
        expect!["/etc/ms/m.toml:4:12: `rule.priority` = -101 is out of range; from -100 to 100"],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "primary"
priority = 70000
"#,
        expect!["/etc/ms/m.toml:4:12: `rule.priority` = 70000 is out of range; from -100 to 100"],
    );
    refused(
        r#"
[[rule]]
name = "r"
action = "primary"
priority = "high"
"#,
        expect!["/etc/ms/m.toml:4:12: `rule.priority` is text; it takes a whole number"],
    );
    refused(
        r#"
[pool]
max = 1000000
"#,
        expect!["/etc/ms/m.toml:2:7: `pool.max` = 1000000 is out of range; from 1 to 100000"],
    );
    refused(
        r#"
[pool]
join_reserve = "95%"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:16: `pool.join_reserve` = "95%" is out of range; from "0%" to "90%""#
        ]],
    );
    refused(
        r#"
[pool]
join_reserve = "101%"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:16: `pool.join_reserve` = "101%" cannot be read; it takes a share such as "10%""#
        ]],
    );
    refused(
        r#"
[limits]
client_message = "2GiB"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:18: `limits.client_message` = "2GiB" is out of range; from "64KiB" to "1073741823B""#
        ]],
    );
    refused(
        r#"
[limits]
startup_packet = "1MiB"
"#,
        expect![[
            r#"/etc/ms/m.toml:2:18: `limits.startup_packet` = "1MiB" is out of range; from "512B" to "10000B""#
        ]],
    );
    refused(
        r#"
[limits]
savepoints = 2000000
"#,
        expect![
            "/etc/ms/m.toml:2:14: `limits.savepoints` = 2000000 is out of range; from 1 to 1000000"
        ],
    );
    refused(
        r#"
[control]
connections = 0
"#,
        expect!["/etc/ms/m.toml:2:15: `control.connections` = 0 is out of range; from 1 to 100"],
    );
}

#[test]
fn what_must_be_given_is_missed() {
    refused(
        r#"
[[user]]
password = "x"
"#,
        expect![
            "/etc/ms/m.toml:1:1: `user.name` is missing; it takes a PostgreSQL name of 1 to 63 bytes"
        ],
    );
    refused(
        r#"
[[auth.rule]]
users = "alice"
"#,
        expect![[
            r#"/etc/ms/m.toml:1:1: `auth.rule.method` is missing; it takes "trust", "password", "md5", "scram-sha-256", "reject""#
        ]],
    );
    refused_alone(
        r#"
[[shard]]
[[shard.server]]
weight = 3
"#,
        expect![[r#"
            /etc/ms/m.toml:1:1: `shard.name` is missing; it takes a name of 1 to 40 letters, digits, "_" or "-"
            /etc/ms/m.toml:2:1: `shard.server.address` is missing; it takes "host:port" or the path of a unix socket"#]],
    );
    refused(
        r#"
[[rule]]
name = "a"
"#,
        expect![
            "/etc/ms/m.toml:2:8: rule `a` does nothing; give it an `action`, or one of the settings that may stand without"
        ],
    );
    refused_alone(
        "",
        expect![
            "/etc/ms/m.toml:1:1: there is no shard; add a [[shard]] with a name and a [[shard.server]] with its address"
        ],
    );
}

#[test]
fn what_is_not_toml_is_refused_with_its_place() {
    refused(
        r#"
[listen
port = 1
"#,
        expect!["/etc/ms/m.toml:1:8: not TOML: unclosed table, expected `]`"],
    );
    refused(
        r#"
[[user]]
name = "alice"
password = "secret of alice
"#,
        expect![[r#"/etc/ms/m.toml:3:28: not TOML: invalid basic string, expected `"`"#]],
    );
    refused(
        r#"
[listen]
port = 1
port = 2
"#,
        expect!["/etc/ms/m.toml:3:1: not TOML: duplicate key"],
    );
    refused(
        r#"
[listen]
[listen]
"#,
        expect!["/etc/ms/m.toml:2:2: not TOML: duplicate key"],
    );
}

#[test]
fn secrets_that_cannot_be_had_are_refused_without_being_shown() {
    refused(
        r#"
[[user]]
name = "alice"
password = "secret of alice"
password_file = "alice"
"#,
        expect![
            "/etc/ms/m.toml:4:17: `password` and `password_file` are given together; keep one of them"
        ],
    );
    refused(
        r#"
[[user]]
name = "alice"
password_file = "nobody"
"#,
        expect![[
            r#"/etc/ms/m.toml:3:17: `user.password_file` = "nobody" cannot be used; entity not found"#
        ]],
    );
    refused(
        r#"
[[user]]
name = "alice"
password_file = "empty"
"#,
        expect![[
            r#"/etc/ms/m.toml:3:17: `user.password_file` = "empty" holds no secret; it is empty or contains a zero byte"#
        ]],
    );
    refused(
        r#"
[[user]]
name = "alice"
password_env = "BOB"
"#,
        expect![[
            r#"/etc/ms/m.toml:3:16: `user.password_env` = "BOB" cannot be used; the variable is not set"#
        ]],
    );
    refused(
        r#"
[[user]]
name = "alice"
password = ""
"#,
        expect![
            "/etc/ms/m.toml:3:12: `user.password` is empty or contains a zero byte; PostgreSQL lets nobody in with it"
        ],
    );
    refused(
        r#"
[[user]]
name = "alice"
password = 123456
"#,
        expect!["/etc/ms/m.toml:3:12: `user.password` is a number; it takes text"],
    );
    refused(
        r#"
[[user]]
name = "alice"
password = "a"
verifier = "SCRAM-SHA-256$secret"
"#,
        expect![[r#"
            /etc/ms/m.toml:2:8: the verifier of user `alice` has an unknown form; copy it from pg_authid.rolpassword: SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>, or md5 and 32 hexadecimal digits
            /etc/ms/m.toml:2:8: user `alice` has a password and a verifier; keep one of them"#]],
    );
    refused(
        r#"
[[user]]
name = "alice"
verifier = "md5secret"
"#,
        expect![
            "/etc/ms/m.toml:2:8: the verifier of user `alice` has an unknown form; copy it from pg_authid.rolpassword: SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>, or md5 and 32 hexadecimal digits"
        ],
    );
}

//! Commits over three real databases: stopped or killed before and after every
//! step, recovered by somebody else, continued.

use crate::shards::stage::{one, say};
use direct::{Committer, Direct, LIMIT, SOON, run, schema_name};
use mothership::commit::doubt::Doubts;
use mothership::commit::errand::databases as databases_with_ours;
use mothership::commit::gid::Gid;
use mothership::commit::judge::LeaveReason;
use mothership::commit::recover::Sweep;
use mothership::commit::schema::{self, Missing, SchemaError};
use mothership::commit::steps::{Act, Cause, End, Reply};
use mothership::config::Name;
use mothership_shardmap::ShardId;
use mothership_tests::fleet::Shard;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Router, Shards, Wire, connect};
use std::time::{Duration, Instant};

#[path = "commit/direct.rs"]
pub mod direct;

/// Steps of a commit on three shards: ask, two to prepare, decide, two to finish.
const STEPS: usize = 6;

/// Stops a router at every point, lets another one recover, and lets the first one go on.
pub async fn stopped_everywhere(direct: &Direct, begin: &str) {
    direct.prepare().await;
    let mut outcomes = (0, 0, 0);
    for point in 0..=STEPS {
        for halfway in [false, true] {
            let mark = point * 2 + usize::from(halfway);
            let mut router = Committer::new(direct, mark, begin);
            for _ in 0..point {
                assert!(router.step().await);
            }
            let unheard = match halfway {
                true => router.send().await,
                false => None,
            };
            // It takes two to finish and to forget; a third finds nothing to do.
            for _ in 0..3 {
                direct.recover().await;
            }
            assert_eq!(direct.prepared().await, 0, "at {point} {halfway}");
            if let Some(unheard) = unheard {
                router.hear(&unheard);
            }
            let end = router.finish().await;
            let marked = direct.marked(mark).await;
            match (&end, marked) {
                (End::Committed { pending }, 3) if pending.is_empty() => outcomes.0 += 1,
                (End::Aborted { .. }, 0) => outcomes.1 += 1,
                (End::Unknown { .. }, 0 | 3) => outcomes.2 += 1,
                split => panic!("at {point} {halfway}: {split:?}"),
            }
            drop(router);
            direct.clean_up().await;
            assert_eq!(direct.marked(mark).await, marked);
        }
    }
    // Before anything is prepared there is nothing to be fenced; once decided, all is committed.
    // Only a router that was stopped in between has lost its transaction.
    assert_eq!(outcomes, (10, 4, 0));
}

/// Kills a router at every point and lets another one recover.
pub async fn killed_everywhere(direct: &Direct) {
    direct.prepare().await;
    for point in 0..=STEPS {
        for halfway in [false, true] {
            let mark = point * 2 + usize::from(halfway);
            let mut router = Committer::new(direct, mark, "BEGIN");
            for _ in 0..point {
                assert!(router.step().await);
            }
            if halfway {
                router.send().await;
            }
            let decided = point > 3 || (point == 3 && halfway);
            drop(router);
            direct.clean_up().await;
            let marked = direct.marked(mark).await;
            let expected = if decided { 3 } else { 0 };
            assert_eq!(marked, expected, "at {point} {halfway}");
        }
    }
}

fn shards(count: usize) -> (Shards, Direct) {
    let databases = Shards::new(count);
    let direct = Direct::new((0..count).map(|shard| databases.endpoint(shard)));
    (databases, direct)
}

#[tokio::test]
async fn a_router_stopped_anywhere_splits_nothing() {
    let (_databases, direct) = shards(3);
    stopped_everywhere(&direct, "BEGIN").await;
}

#[tokio::test]
async fn nor_do_settings_of_databases_and_clients_matter() {
    let (databases, direct) = shards(3);
    // Every comparison that is not qualified says no.
    databases.sql_all("CREATE SCHEMA evil");
    for kind in [
        "text", "name", "oid", "bool", "int4", "int8", "uuid", "numeric",
    ] {
        for operator in ["=", "<>", ">=", "-", "*"] {
            let make = format!(
                "CREATE FUNCTION evil.no(a {kind}, b {kind}) RETURNS bool LANGUAGE sql AS 'SELECT NULL::bool'; \
                 CREATE OPERATOR evil.{operator} (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = evil.no)"
            );
            let make = make.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION");
            databases.sql_all(&make);
        }
    }
    for shard in 0..databases.count() {
        let database = databases.endpoint(shard).database;
        for setting in [
            "search_path = evil, pg_catalog",
            "default_transaction_isolation = 'repeatable read'",
            "synchronous_commit = off",
            "default_transaction_read_only = on",
        ] {
            databases.sql(shard, &format!("ALTER DATABASE {database} SET {setting}"));
        }
    }
    let begin = "SET standard_conforming_strings = off; \
        BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE; SAVEPOINT a";
    stopped_everywhere(&direct, begin).await;
}

#[tokio::test]
async fn a_killed_router_leaves_nothing_behind() {
    let (_databases, direct) = shards(3);
    killed_everywhere(&direct).await;
}

#[tokio::test]
async fn what_was_left_is_finished_while_many_other_servers_do_not_answer() {
    let (databases, direct) = shards(3);
    direct.prepare().await;
    let mut dead = Committer::new(&direct, 1, "BEGIN");
    for _ in 0..3 {
        assert!(dead.step().await);
    }
    drop(dead);
    assert_ne!(direct.prepared().await, 0);
    // Connections to them are taken by the system, and that is all.
    let silent = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent: Vec<_> = (0..8).map(|_| silent()).collect();
    let mut config = format!(
        "[listen]\nport = @port@\n[control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ntimeout = \"4s\"\n\
         [pool]\nconnect_timeout = \"1h\"\n"
    );
    for (number, listener) in silent.iter().enumerate() {
        let port = listener.local_addr().unwrap().port();
        config += &format!(
            "[[shard]]\nname = \"silent{number}\"\n[[shard.server]]\naddress = \"127.0.0.1:{port}\"\n"
        );
    }
    for shard in 0..databases.count() {
        let endpoint = databases.endpoint(shard);
        let home = shard == 0;
        config += &format!(
            "[[shard]]\nname = \"s{shard}\"\nhome = {home}\n[[shard.server]]\naddress = \"{}:{}\"\n",
            endpoint.host, endpoint.port
        );
    }
    let on = (0..databases.count()).map(|shard| {
        let database = databases.endpoint(shard).database;
        format!("s{shard} = \"{database}\"")
    });
    let on: Vec<String> = on.collect();
    config += &format!(
        "[[database]]\nname = \"app\"\non = {{ {} }}\n",
        on.join(", ")
    );
    let _router = Router::start(&config);
    // One after the other they would take 32 s before anything is looked at.
    let begun = Instant::now();
    while direct.prepared().await > 0 {
        assert!(begun.elapsed() < SOON, "it is still prepared");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("finished after {:.1?}", begun.elapsed());
    assert_eq!(direct.marked(1).await, 0);
    drop(silent);
}

fn clusters(fleet: &Fleet) -> Direct {
    let endpoint = |shard: &Shard| Shard::endpoint(&shard.primary);
    Direct::new(fleet.shards.iter().map(endpoint))
}

#[tokio::test]
async fn shards_may_be_clusters_of_their_own() {
    let mut fleet = Fleet::new(3, 0);
    let direct = clusters(&fleet);
    killed_everywhere(&direct).await;

    // A shard that goes away after the decision: success is answered, the rest is left to recovery.
    let mut router = Committer::new(&direct, 99, "BEGIN");
    for _ in 0..4 {
        assert!(router.step().await);
    }
    fleet.shards[2].primary.kill9();
    router.steps.retain(|step| step.shard != ShardId(2));
    assert!(router.step().await);
    router.commit.on_reply(ShardId(2), &Reply::Lost);
    router.steps.extend(router.commit.steps());
    assert_eq!(
        router.finish().await,
        End::Committed {
            pending: vec![ShardId(2)]
        }
    );
    let doubts = Doubts::default();
    for (shard, gid) in router.commit.owed() {
        doubts.note(direct.sites()[shard.index()].clone(), &gid);
    }
    assert_eq!(doubts.count(), 1);
    // While it is away the decision is kept.
    let sweep = direct.recover().await;
    assert_eq!((sweep.forgotten, sweep.unreachable.len()), (0, 1));
    assert_eq!(
        direct
            .count(0, "SELECT count(*) FROM mothership.decision")
            .await,
        1
    );
    fleet.shards[2].primary.start().unwrap();
    let sweep = direct.recover().await;
    assert_eq!((sweep.committed, sweep.rolled_back), (1, 0));
    assert_eq!(direct.marked(99).await, 3);
    direct.clean_up().await;

    // The deciding shard goes away while it decides: nobody can say, until it is back.
    let mut router = Committer::new(&direct, 100, "BEGIN");
    for _ in 0..3 {
        assert!(router.step().await);
    }
    fleet.shards[0].primary.kill9();
    router.steps.clear();
    router.commit.on_reply(ShardId(0), &Reply::Lost);
    router.steps.extend(router.commit.steps());
    let End::Unknown { mut pending } = router.finish().await else {
        panic!("nobody can know")
    };
    pending.sort_unstable();
    assert_eq!(pending, [ShardId(1), ShardId(2)]);
    let sweep = direct.recover().await;
    let why: Vec<LeaveReason> = sweep.left.iter().map(|left| left.why).collect();
    assert_eq!(why, [LeaveReason::DeciderUnreachable; 2]);
    fleet.shards[0].primary.start().unwrap();
    direct.clean_up().await;
    assert_eq!(direct.marked(100).await, 0);
}

#[tokio::test]
async fn a_decider_that_is_just_committing_is_waited_for() {
    let (_databases, direct) = shards(3);
    direct.prepare().await;
    let mut router = Committer::new(&direct, 1, "SET synchronous_commit = off; BEGIN");
    for _ in 0..3 {
        assert!(router.step().await);
    }
    // What no router does: to be stopped between the decision and its commit.
    let decide = router.steps[0]
        .sql
        .strip_suffix("; COMMIT")
        .unwrap()
        .to_owned();
    assert!(matches!(
        run(&mut router.wires[0], &decide),
        Reply::Done { .. }
    ));
    // A commit that others rely on is on disk, whatever the client thinks of its own.
    let durably = router.wires[0].rows("SHOW synchronous_commit");
    assert_eq!(durably, [["on"]]);
    let sweep = direct.recover().await;
    let why: Vec<LeaveReason> = sweep.left.iter().map(|left| left.why).collect();
    assert_eq!(why, [LeaveReason::Deciding; 2]);
    run(&mut router.wires[0], "COMMIT");
    let sweep = direct.recover().await;
    assert_eq!((sweep.committed, sweep.rolled_back), (2, 0));
    assert_eq!(direct.marked(1).await, 3);
}

#[tokio::test]
async fn a_living_router_is_left_alone_until_its_time_is_over() {
    let (_databases, direct) = shards(3);
    direct.prepare().await;
    let mut router = Committer::new(&direct, 1, "BEGIN");
    for _ in 0..3 {
        assert!(router.step().await);
    }
    let sweep = direct.recover_with(Duration::from_secs(60)).await;
    assert_eq!(sweep.left.len(), 2);
    assert_eq!(sweep.left[0].why, LeaveReason::Young);
    let committed = End::Committed { pending: vec![] };
    assert_eq!(router.finish().await, committed);
}

#[tokio::test]
async fn an_abort_is_remembered_as_long_as_its_decider_lives() {
    let (_databases, direct) = shards(3);
    direct.prepare().await;
    let mut router = Committer::new(&direct, 1, "BEGIN");
    for _ in 0..3 {
        assert!(router.step().await);
    }
    for _ in 0..3 {
        direct.recover().await;
    }
    assert_eq!(direct.decisions().await, 1);
    assert!(matches!(router.finish().await, End::Aborted { .. }));
    direct.recover().await;
    assert_eq!(direct.decisions().await, 1);
    drop(router);
    direct.clean_up().await;
}

#[tokio::test]
async fn parts_with_temporary_tables_decide() {
    let (_databases, direct) = shards(3);
    direct.prepare().await;
    let mut router = Committer::new(&direct, 1, "BEGIN");
    run(&mut router.wires[2], "CREATE TEMP TABLE x AS SELECT 1");
    // It was not known, so the server refuses to prepare it, and all is rolled back.
    let End::Aborted { cause, pending } = router.finish().await else {
        panic!("it cannot be prepared")
    };
    let sqlstate = "0A000".into();
    assert_eq!(
        cause,
        Cause::Refused {
            shard: ShardId(2),
            sqlstate
        }
    );
    assert!(pending.is_empty(), "{pending:?}");
    assert_eq!((direct.marked(1).await, direct.prepared().await), (0, 0));

    let mut router = Committer::with(&direct, 2, "BEGIN", Some(2));
    run(&mut router.wires[2], "CREATE TEMP TABLE x AS SELECT 1");
    let committed = End::Committed { pending: vec![] };
    assert_eq!(router.finish().await, committed);
    assert_eq!(direct.marked(2).await, 3);
    assert_eq!(router.wires[2].rows("SELECT * FROM x"), [["1"]]);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let (_databases, direct) = shards(3);
    direct.prepare().await;
    for (mark, arrives) in [true, false].into_iter().enumerate() {
        let mut router = Committer::new(&direct, mark, "BEGIN");
        for _ in 0..3 {
            assert!(router.step().await);
        }
        assert_eq!(router.steps[0].act, Act::Decide);
        if arrives {
            router.send().await;
        }
        router.steps.clear();
        // The session closes what it does not trust any more.
        router.wires[0] = Wire::login(&direct.endpoints[0]);
        router.commit.on_reply(ShardId(0), &Reply::Lost);
        router.steps.extend(router.commit.steps());
        assert_eq!(router.steps[0].act, Act::Fence);
        let end = router.finish().await;
        let expected = match arrives {
            true => End::Committed { pending: vec![] },
            false => End::Aborted {
                cause: Cause::Lost { shard: ShardId(0) },
                pending: vec![],
            },
        };
        assert_eq!(end, expected);
        assert_eq!(direct.marked(mark).await, if arrives { 3 } else { 0 });
        drop(router);
        direct.clean_up().await;
    }
}

#[tokio::test]
async fn foreign_prepared_transactions_are_left_alone() {
    let (databases, direct) = shards(1);
    direct.prepare().await;
    let names = [
        "ms1:x",
        "theirs",
        "ms1:r1:0000000000000000000000003:s0:s1:1:5:7:B",
    ];
    for name in names {
        databases.sql(
            0,
            &format!("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{name}'"),
        );
    }
    let sweep = direct.recover().await;
    assert_eq!(sweep, Sweep::default());
    // Ours, but decided by a database that nobody knows.
    let ours = "ms1:r1:0000000000000000000000003:s0:s1:1:5:7:b";
    assert!(Gid::parse(ours).is_some());
    databases.sql(0, &format!("BEGIN; PREPARE TRANSACTION '{ours}'"));
    let sweep = direct.recover().await;
    assert_eq!(sweep.left[0].why, LeaveReason::DeciderUnknown);
    assert_eq!(direct.prepared().await, 4);
    let client = connect(&direct.endpoints[0]).await;
    let found = databases_with_ours(&client).await.unwrap();
    assert!(found.contains(&direct.endpoints[0].database), "{found:?}");
    for name in names.iter().chain(&[ours]) {
        databases.sql(0, &format!("ROLLBACK PREPARED '{name}'"));
    }
}

#[tokio::test]
async fn the_schema_is_installed_by_many_at_once_and_once() {
    let (databases, direct) = shards(1);
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(connect(&direct.endpoints[0]).await);
    }
    let name = schema_name();
    let installs = clients
        .iter()
        .map(|client| schema::install(client, &name, LIMIT));
    for installed in futures_util::future::join_all(installs).await {
        installed.unwrap();
    }
    assert!(!schema::install(&clients[0], &name, LIMIT).await.unwrap());
    assert_eq!(
        databases.sql(0, "SELECT version, needs FROM mothership.installed"),
        "3|1"
    );
    assert_eq!(schema::check(&clients[0], &name).await.unwrap(), []);
    databases.sql(0, "UPDATE mothership.installed SET version = 9, needs = 7");
    let error = schema::install(&clients[0], &name, LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, SchemaError::TooNew { .. }), "{error}");
    databases.sql(0, "UPDATE mothership.installed SET needs = 1");
    assert!(!schema::install(&clients[0], &name, LIMIT).await.unwrap());
    let odd = Name::new("it's").unwrap();
    let error = schema::install(&clients[0], &odd, LIMIT).await.unwrap_err();
    assert!(matches!(error, SchemaError::Name(_)), "{error}");
}

/// A role with a password of its own on the shared cluster, dropped at the end.
struct Role<'s> {
    shards: &'s Shards,
    name: String,
}

impl<'s> Role<'s> {
    fn new(shards: &'s Shards, name: &str) -> Role<'s> {
        let name = format!("{name}_{}", shards.endpoint(0).database);
        shards.sql(0, &format!("CREATE ROLE {name} LOGIN PASSWORD 'x'"));
        Role { shards, name }
    }

    fn endpoint(&self, shard: usize) -> Endpoint {
        Endpoint {
            user: self.name.clone(),
            password: "x".into(),
            ..self.shards.endpoint(shard)
        }
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let name = &self.name;
        self.shards
            .sql_all(&format!("DROP OWNED BY {name} CASCADE"));
        self.shards.sql(0, &format!("DROP ROLE {name}"));
    }
}

#[tokio::test]
async fn clients_may_decide_for_their_own_backend_and_nothing_else() {
    let (databases, direct) = shards(1);
    direct.prepare().await;
    let role = Role::new(&databases, "client");
    let client = connect(&role.endpoint(0)).await;
    let code = async |sql: &str| match client.batch_execute(sql).await {
        Ok(()) => "00000".to_owned(),
        Err(error) => error.code().unwrap().code().to_owned(),
    };
    let id = "'00000000-0000-0000-0000-000000000001'";
    let own = "pg_backend_pid(), (SELECT (extract(epoch FROM backend_start) * 1000000)::int8 \
        FROM pg_stat_activity WHERE pid = pg_backend_pid())";
    let other = "pg_backend_pid(), 1";
    for (sql, expected) in [
        ("SELECT mothership.backend()".into(), "00000"),
        (
            format!("SELECT mothership.decide({id}, {own}, '')"),
            "00000",
        ),
        (
            format!("SELECT mothership.decide({id}, {own}, '')"),
            "40001",
        ),
        (
            format!("SELECT mothership.decide({id}, {other}, '')"),
            "42501",
        ),
        (
            format!("SELECT mothership.decide({id}, {own}, repeat('x,', 40000))"),
            "22023",
        ),
        (
            format!("SELECT mothership.decide({id}, {own}, 'a b')"),
            "22023",
        ),
        (format!("SELECT mothership.fence({id}, 1, 1)"), "42501"),
        ("SELECT * FROM mothership.decision".into(), "42501"),
        ("DELETE FROM mothership.decision".into(), "42501"),
        (
            "UPDATE mothership.installed SET version = 2".into(),
            "42501",
        ),
        ("CREATE TABLE mothership.t ()".into(), "42501"),
    ] {
        assert_eq!(code(&sql).await, expected, "{sql}");
    }
    // A row that nobody refers to goes away by itself.
    assert_eq!(direct.recover().await.forgotten, 1);
}

#[tokio::test]
async fn a_schema_of_somebody_else_is_not_trusted() {
    let (databases, direct) = shards(1);
    let role = Role::new(&databases, "thief");
    databases.sql(
        0,
        &format!("CREATE SCHEMA mothership AUTHORIZATION {}", role.name),
    );
    let client = connect(&direct.endpoints[0]).await;
    let error = schema::install(&client, &schema_name(), LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, SchemaError::Foreign { .. }), "{error}");
    databases.sql(0, "ALTER SCHEMA mothership OWNER TO CURRENT_USER");
    schema::install(&client, &schema_name(), LIMIT)
        .await
        .unwrap();
    databases.sql(
        0,
        &format!("ALTER TABLE mothership.decision OWNER TO {}", role.name),
    );
    let missing = schema::check(&client, &schema_name()).await.unwrap();
    assert!(matches!(&missing[..], [Missing::Schema(_)]), "{missing:?}");
    databases.sql(
        0,
        &format!(
            "ALTER TABLE mothership.decision OWNER TO CURRENT_USER; GRANT CREATE ON SCHEMA mothership TO {}",
            role.name
        ),
    );
    // Who may add to it may put something before what is there.
    let error = schema::install(&client, &schema_name(), LIMIT).await;
    assert!(error.is_err(), "{error:?}");
    databases.sql(
        0,
        &format!("REVOKE CREATE ON SCHEMA mothership FROM {}", role.name),
    );
    databases.sql(
        0,
        "ALTER TABLE mothership.decision ENABLE ROW LEVEL SECURITY",
    );
    let error = schema::install(&client, &schema_name(), LIMIT).await;
    assert!(error.is_err(), "{error:?}");
}

#[tokio::test]
async fn a_control_role_without_superuser_finishes_as_the_owner() {
    let (databases, direct) = shards(3);
    let control = Role::new(&databases, "control");
    let (app, local) = (Role::new(&databases, "app"), Role::new(&databases, "local"));
    let (c, a, l) = (&control.name, &app.name, &local.name);
    let client = connect(&control.endpoint(0)).await;
    let missing = schema::check(&client, &schema_name()).await.unwrap();
    let has = |what: &Missing| missing.contains(what);
    assert!(has(&Missing::Installed) && has(&Missing::Create) && has(&Missing::Activity));
    let owners = |missing: &[Missing]| {
        let find = |what: &Missing| match what {
            Missing::Owners(roles) => Some(roles.clone()),
            _ => None,
        };
        missing.iter().find_map(find).unwrap_or_default()
    };
    assert!(owners(&missing).contains(a), "{missing:?}");

    for shard in 0..3 {
        let database = databases.endpoint(shard).database;
        let grants = format!(
            "GRANT CREATE ON DATABASE {database} TO {c}; CREATE TABLE t (mark int); GRANT ALL ON t TO PUBLIC"
        );
        databases.sql(shard, &grants);
    }
    databases.sql(
        0,
        &format!("GRANT pg_read_all_stats, {a}, {l} TO {c}; GRANT {l} TO {a}"),
    );
    for shard in 0..3 {
        let client = connect(&control.endpoint(shard)).await;
        schema::install(&client, &schema_name(), LIMIT)
            .await
            .unwrap();
        let missing = schema::check(&client, &schema_name()).await.unwrap();
        assert!(!owners(&missing).contains(a), "{missing:?}");
    }
    let of = |role: &Role| Direct::new((0..3).map(|shard| role.endpoint(shard)));
    let (controls, apps) = (of(&control), of(&app));
    for (mark, begin) in ["BEGIN", &format!("BEGIN; SET LOCAL ROLE {l}")]
        .iter()
        .enumerate()
    {
        let mut router = Committer::new(&apps, mark, begin);
        // The session is refused where another role has become the owner; then control is asked.
        router.direct = &controls;
        for _ in 0..5 {
            assert!(router.step().await);
        }
        let sweep = controls.recover().await;
        assert_eq!(sweep.left, [], "{sweep:?}");
        let committed = End::Committed { pending: vec![] };
        assert_eq!(router.finish().await, committed);
        assert_eq!(direct.marked(mark).await, 3);
        assert_eq!(direct.prepared().await, 0);
    }
    // A member no more.
    let mut router = Committer::new(&apps, 7, "BEGIN");
    for _ in 0..4 {
        assert!(router.step().await);
    }
    databases.sql(0, &format!("REVOKE {a} FROM {c}"));
    let sweep = controls.recover().await;
    let why: Vec<LeaveReason> = sweep.left.iter().map(|left| left.why).collect();
    assert_eq!(why, [LeaveReason::Denied; 2]);
    let committed = End::Committed { pending: vec![] };
    assert_eq!(router.finish().await, committed);
    drop(router);
    controls.clean_up().await;
}

#[tokio::test]
async fn a_new_router_asks_the_decider_of_a_database_that_nobody_has_declared_nor_used() {
    let fleet = Fleet::new(3, 0);
    let endpoints = fleet.shards.iter().map(|s| Shard::endpoint(&s.primary));
    let direct = Direct::new(endpoints);
    direct.prepare().await;
    let mut router = Committer::new(&direct, 1, "BEGIN");
    while direct.prepared().await == 0 {
        assert!(router.step().await);
    }
    // Its connections end with it, so nobody can decide any more; the decider itself holds nothing prepared.
    drop(router);
    let mut config = format!(
        "[listen]\nport = @port@\n[control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n"
    );
    for (number, shard) in fleet.shards.iter().enumerate() {
        let port = shard.primary.port();
        config += &format!(
            "[[shard]]\nname = \"s{number}\"\n[[shard.server]]\naddress = \"127.0.0.1:{port}\"\n"
        );
    }
    let _router = Router::start(&config);
    let begin = Instant::now();
    while direct.prepared().await > 0 {
        assert!(begin.elapsed() < SOON, "it stays prepared");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(direct.marked(1).await, 0);
}

/// In one PostgreSQL a name is there once. A stranger's transaction of the same name on another shard made both impossible
/// to finish.
#[test]
fn the_name_of_a_prepared_transaction_is_taken_on_all_shards() {
    let fleet = Fleet::new(2, 0);
    let mut config = format!(
        "[listen]\nport = @port@\n[control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[table]]\nname = \"t\"\nkey = \"id\"\n"
    );
    for (number, shard) in fleet.shards.iter().enumerate() {
        let port = shard.primary.port();
        config += &format!(
            "[[shard]]\nname = \"s{number}\"\n[[shard.server]]\naddress = \"127.0.0.1:{port}\"\n"
        );
    }
    let router = Router::start(&config);
    let endpoint = Shard::endpoint(&fleet.shards[0].primary).at_port(router.port());
    let [mut first, mut second] = [(); 2].map(|()| Wire::login(&endpoint));
    for sql in [
        "CREATE TABLE t (id int8 PRIMARY KEY, v int8)",
        "INSERT INTO t SELECT g, 0 FROM generate_series(1, 30) g",
    ] {
        let said = say(&mut first, sql);
        assert!(said[0].starts_with("CommandComplete"), "{said:?}");
    }
    let keys = [0, 1].map(|shard| {
        let primary = &fleet.shards[shard].primary;
        let key = primary.sql("postgres", "SELECT min(id) FROM t");
        key.unwrap_or_else(|error| panic!("{error}"))
    });
    let prepare = |wire: &mut Wire, key: &str| {
        say(wire, "BEGIN");
        say(wire, &format!("UPDATE t SET v = 1 WHERE id = {key}"));
        say(wire, "PREPARE TRANSACTION 'job'")
    };
    let [mine, other] = &keys;
    let prepared = "CommandComplete PREPARE TRANSACTION";
    assert_eq!(prepare(&mut first, mine)[0], prepared);
    let refused = prepare(&mut second, other);
    assert!(refused[0].starts_with("Error 42710"), "{refused:?}");
    assert_eq!(refused[1], "ReadyForQuery I");
    // A block in which nothing was done is one, too.
    assert_eq!(say(&mut second, "BEGIN")[0], "CommandComplete BEGIN");
    let refused = say(&mut second, "PREPARE TRANSACTION 'job'");
    assert!(refused[0].starts_with("Error 42710"), "{refused:?}");
    say(&mut second, "BEGIN");
    assert_eq!(say(&mut second, "PREPARE TRANSACTION 'empty'")[0], prepared);
    let undone = say(&mut second, "ROLLBACK PREPARED 'empty'");
    assert_eq!(undone[0], "CommandComplete ROLLBACK PREPARED");
    let committed = say(&mut first, "COMMIT PREPARED 'job'");
    assert_eq!(committed[0], "CommandComplete COMMIT PREPARED");
    assert_eq!(prepare(&mut second, other)[0], prepared);
    let undone = say(&mut second, "ROLLBACK PREPARED 'job'");
    assert_eq!(undone[0], "CommandComplete ROLLBACK PREPARED");
    assert_eq!(one(&mut first, "SELECT sum(v) FROM t"), "1");
}

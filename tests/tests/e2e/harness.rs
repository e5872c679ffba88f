//! The harness itself: databases as shards, the guard of the router process.

use mothership_tests::fleet::Shard;
use mothership_tests::{Fleet, Folder, Router, Shards, connect, poll_until};
use std::time::Duration;

#[test]
fn shards_are_databases_of_their_own_and_are_dropped() {
    let shards = Shards::new(3);
    shards.sql(0, "CREATE TABLE t AS SELECT 1");
    assert_eq!(
        shards.sql_all("SELECT to_regclass('t') IS NULL"),
        ["f", "t", "t"]
    );
    let name = shards.endpoint(0).database;
    drop(shards);
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(Shards::new(1).sql(0, &count), "0");
}

#[tokio::test]
async fn shards_are_reached_with_user_and_password() {
    let shards = Shards::new(1);
    let client = connect(&shards.endpoint(0)).await;
    let row = client
        .query_one("SHOW max_prepared_transactions", &[])
        .await;
    assert_eq!(row.unwrap().get::<_, &str>(0), "200");
    let mut wrong = shards.endpoint(0);
    wrong.password = "guess".into();
    let refused = tokio_postgres::connect(&wrong.conninfo(), tokio_postgres::NoTls).await;
    let error = refused.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "28P01");
}

#[test]
fn a_folder_is_removed_with_its_content() {
    let folder = Folder::new("self");
    let path = folder.path().to_path_buf();
    std::fs::write(path.join("file"), "x").unwrap();
    drop(folder);
    assert!(!path.exists());
}

#[test]
fn polling_ends_with_its_deadline_and_with_its_condition() {
    let mut left = 3;
    let counted = poll_until(Duration::from_secs(5), || {
        left -= 1;
        left == 0
    });
    assert!(counted);
    assert!(!poll_until(Duration::from_millis(20), || false));
}

#[test]
fn a_router_that_ends_at_once_is_reported_and_its_binary_is_there() {
    let wrong = || Router::start("this is no configuration");
    let told = std::panic::catch_unwind(wrong).unwrap_err();
    let told = told.downcast_ref::<String>().unwrap();
    assert!(told.starts_with("the router ended"), "{told}");
}

#[tokio::test]
async fn a_fleet_has_primaries_with_replicas_that_catch_up() {
    let fleet = Fleet::new(2, 1);
    for (number, shard) in fleet.shards.iter().enumerate() {
        let client = connect(&Shard::endpoint(&shard.primary)).await;
        let make = format!("CREATE TABLE t AS SELECT {number} AS a");
        client.batch_execute(&make).await.unwrap();
        shard.wait_replayed();
        let replica = connect(&Shard::endpoint(&shard.replicas[0])).await;
        let row = replica
            .query_one("SELECT a, pg_is_in_recovery() FROM t", &[])
            .await
            .unwrap();
        let number = i32::try_from(number).unwrap();
        assert_eq!(
            (row.get::<_, i32>(0), row.get::<_, bool>(1)),
            (number, true)
        );
    }
    let id = |shard: &Shard| {
        let sql = "SELECT system_identifier FROM pg_control_system()";
        shard.primary.sql("postgres", sql).unwrap()
    };
    assert_ne!(id(&fleet.shards[0]), id(&fleet.shards[1]));
}

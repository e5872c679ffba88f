//! What is accepted, and what it then means.

use expect_test::expect;

use super::*;

#[test]
fn the_smallest_file_is_a_pooler_of_one_server() {
    let config = accepted(SMALLEST);
    expect![[r#"
        listens on 127.0.0.1:6432
        shard main: 16384 of 16384 slots, home; 127.0.0.1:5432 (auto)
        tables: 0 sharded, 0 reference; others: home
        databases: 0 declared; others: pass
        users: 0 declared; others: as the servers know them
        rules: 0 of login, 0 of routing"#]]
    .assert_eq(&config.summary().to_string());
}

//! RETURNING of an INSERT whose rows are divided: in the order of the client's list.

use super::stage::{Stage, extended, keys_of, one_each, say, send, within};
use mothership_tests::message;
use tokio_postgres::types::ToSql;

/// `(1, 2), (2, 4)...` and what RETURNING id, v shows of it.
fn rows(ids: &[i64]) -> (String, Vec<String>) {
    let values: Vec<String> = ids.iter().map(|id| format!("({id}, {})", id * 2)).collect();
    let shown = ids.iter().map(|id| format!("DataRow {id} {}", id * 2));
    (values.join(", "), shown.collect())
}

/// Numbers of all shards, in no order of theirs.
fn mixed(count: i64) -> Vec<i64> {
    (0..count).map(|n| (n * 37 + 11) % 101 + 1).collect()
}

#[test]
fn rows_come_back_in_the_order_of_the_list() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let (values, shown) = rows(&mixed(60));
    let sql = format!("INSERT INTO items (id, v) VALUES {values} RETURNING id, v");
    let answer = say(&mut wire, &sql);
    assert_eq!(answer[0], "RowDescription id v");
    assert_eq!(answer[1..61], shown);
    assert_eq!(
        answer[61..],
        ["CommandComplete INSERT 0 60", "ReadyForQuery I"]
    );
    assert_eq!(stage.ids("items").len(), 60);

    // The same in a transaction and by the extended protocol.
    say(&mut wire, "DELETE FROM items");
    say(&mut wire, "BEGIN");
    let messages = [
        message::parse("", &sql, &[]),
        message::bind_text(&[]),
        message::describe_portal(""),
        message::execute("", 0),
        message::sync(),
    ];
    let answer = send(&mut wire, &messages);
    assert_eq!(answer[2], "RowDescription id v");
    assert_eq!(answer[3..63], shown);
    assert_eq!(
        answer[63..],
        ["CommandComplete INSERT 0 60", "ReadyForQuery T"]
    );
    say(&mut wire, "ROLLBACK");
    assert_eq!(stage.ids("items"), [] as [i64; 0]);
    stage.assert_nothing_prepared();
}

#[test]
fn rows_fetched_in_pieces_keep_their_order_and_are_all_stored_at_once() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let (values, shown) = rows(&mixed(10));
    let sql = format!("INSERT INTO items (id, v) VALUES {values} RETURNING id, v");
    say(&mut wire, "BEGIN");
    let messages = [
        message::parse("", &sql, &[]),
        message::bind_text(&[]),
        message::execute("", 4),
        message::execute("", 4),
        message::execute("", 4),
        message::sync(),
    ];
    let answer = send(&mut wire, &messages);
    assert_eq!(answer[2..6], shown[..4]);
    assert_eq!(answer[6], "PortalSuspended");
    assert_eq!(answer[7..11], shown[4..8]);
    assert_eq!(answer[11], "PortalSuspended");
    assert_eq!(answer[12..14], shown[8..]);
    assert_eq!(
        answer[14..],
        ["CommandComplete INSERT 0 2", "ReadyForQuery T"]
    );
    say(&mut wire, "COMMIT");
    assert_eq!(stage.ids("items").len(), 10);

    // Rows that nobody fetches are stored, changed and deleted like those that are.
    let sql = "UPDATE items SET note = 'x' RETURNING id";
    let messages = [
        message::parse("", sql, &[]),
        message::bind_text(&[]),
        message::execute("", 1),
        message::sync(),
    ];
    let answer = send(&mut wire, &messages);
    assert!(answer[2].starts_with("DataRow "), "{answer:?}");
    assert_eq!(answer[3..], ["PortalSuspended", "ReadyForQuery I"]);
    let noted = wire.rows("SELECT count(*) FROM items WHERE note = 'x'");
    assert_eq!(noted, [["10"]]);
    stage.assert_nothing_prepared();
}

/// PostgreSQL stops at the first row that fails, wherever it is stored.
#[test]
fn the_error_of_the_first_row_is_told() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    say(&mut wire, "ALTER TABLE items ADD CHECK (v > 0)");
    let [a, b, c] = one_each();
    for (id, other) in [(a, b), (b, a), (a, c), (c, b)] {
        say(
            &mut wire,
            &format!("INSERT INTO items (id, v) VALUES ({id}, 1)"),
        );
        for returning in ["", " RETURNING id"] {
            let insert = |rows: &str| format!("INSERT INTO items (id, v) VALUES {rows}{returning}");
            let (there, wrong) = (format!("({id}, 1)"), format!("({other}, -1)"));
            let said = say(&mut wire, &insert(&format!("{there}, {wrong}")));
            assert!(said[0].starts_with("Error 23505"), "{said:?}");
            let said = say(&mut wire, &insert(&format!("{wrong}, {there}")));
            assert!(said[0].starts_with("Error 23514"), "{said:?}");
        }
        say(&mut wire, "DELETE FROM items");
    }
}

#[test]
fn skipped_rows_are_not_shown_and_an_error_keeps_none() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let [a, b, c] = one_each();
    let more = keys_of(1, 3)[2];
    say(&mut wire, &format!("INSERT INTO items VALUES ({b}, 1)"));
    let list = format!("({c}, 2), ({b}, 2), ({a}, 2), ({more}, 2)");
    let sql =
        format!("INSERT INTO items (id, v) VALUES {list} ON CONFLICT DO NOTHING RETURNING id");
    let mut rows = wire.rows(&sql);
    rows.sort();
    let mut wanted = [a, c, more].map(|id| vec![id.to_string()]);
    wanted.sort();
    assert_eq!(rows, wanted);
    let sql = format!(
        "INSERT INTO items (id, v) VALUES {list} \
         ON CONFLICT (id) DO UPDATE SET v = 3 RETURNING id, v"
    );
    let wanted = [c, b, a, more].map(|id| vec![id.to_string(), "3".to_owned()]);
    assert_eq!(wire.rows(&sql), wanted);

    let before = stage.rows("items");
    let [a, b, _] = one_each().map(|id| id + 1000);
    let sql = format!("INSERT INTO items (id, v) VALUES ({a}, 1), ({b}, 1), ({c}, 1) RETURNING id");
    let answer = say(&mut wire, &sql);
    let error = answer
        .iter()
        .position(|line| line.starts_with("Error 23505"));
    assert!(error.is_some(), "{answer:?}");
    let answer = send(&mut wire, &extended(&sql, &[], &[]));
    assert!(
        answer.iter().any(|line| line.starts_with("Error 23505")),
        "{answer:?}"
    );
    assert_eq!(stage.rows("items"), before);
    stage.assert_nothing_prepared();
}

#[tokio::test]
async fn a_driver_reads_what_it_has_inserted() {
    let stage = Stage::new();
    let client = stage.client().await;
    let sql = "INSERT INTO items (id, v) VALUES ($1, $2), ($3, $4), ($5, $6) RETURNING id, v + 1";
    let insert = within(client.prepare(sql)).await.unwrap();
    for round in 0..20_i64 {
        let ids = one_each().map(|id| id + round * 1000);
        let values: [&(dyn ToSql + Sync); 6] = [&ids[2], &round, &ids[0], &round, &ids[1], &round];
        let rows = within(client.query(&insert, &values)).await.unwrap();
        let rows: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(rows, [ids[2], ids[0], ids[1]].map(|id| (id, round + 1)));
    }
    assert_eq!(stage.ids("items").len(), 60);
}

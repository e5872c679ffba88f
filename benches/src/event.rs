//! The documents of the tables on MongoDB, as SQL declares and inserts them. Pure.

use mothership_driver::event::{EPOCH, EVENTS, Event, NEW};

/// Columns of the tables.
pub const COLUMNS: usize = 8;

/// The shard and its tables in the configuration of a router.
pub fn declarations(address: &str) -> String {
    let mut text = format!(
        "[[shard]]\nname = \"docs0\"\nengine = \"mongodb\"\n[[shard.server]]\naddress = \"{address}\"\n"
    );
    let columns = [
        ("id", "_id", "int8"),
        ("kind", "kind", "text"),
        ("n", "n", "int4"),
        ("amount", "amount", "numeric"),
        ("city", "address.city", "text"),
        ("happened_at", "happened_at", "timestamptz"),
        ("paid", "paid", "bool"),
        ("score", "score", "float8"),
    ];
    for table in [EVENTS, NEW] {
        text +=
            &format!("[[table]]\nname = \"{table}\"\nkind = \"documents\"\nshards = [\"docs0\"]\n");
        for (name, path, sql_type) in columns {
            text += &format!(
                "[[table.column]]\nname = \"{name}\"\npath = \"{path}\"\nsql_type = \"{sql_type}\"\nnot_null = true\n"
            );
        }
    }
    text
}

/// Adds what a Bind says of it: in binary, but for the amount, which the document has as a text's digits.
pub fn put(event: &Event, values: &mut Vec<(i16, Vec<u8>)>) {
    let micros = (event.happened_at.timestamp_millis() - EPOCH) * 1_000;
    values.extend([
        (1, event.id.to_be_bytes().to_vec()),
        (1, event.kind.as_bytes().to_vec()),
        (1, event.n.to_be_bytes().to_vec()),
        (0, event.amount.to_string().into_bytes()),
        (1, event.address.city.as_bytes().to_vec()),
        (1, micros.to_be_bytes().to_vec()),
        (1, vec![event.paid.into()]),
        (1, event.score.to_be_bytes().to_vec()),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_value_for_each_column() {
        let mut values = Vec::new();
        put(&Event::new(1), &mut values);
        assert_eq!(values.len(), COLUMNS);
        let text = declarations("127.0.0.1:1");
        assert_eq!(text.matches("[[table.column]]").count(), 2 * COLUMNS);
    }
}

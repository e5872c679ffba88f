//! The documents of the tables on MongoDB, as SQL declares and inserts them. Pure.

use mongodb::bson::DateTime;
use mothership_driver::event::{Address, EPOCH, EVENTS, Event, NEW};

/// Columns of the tables.
pub const COLUMNS: usize = 8;

/// The formats in which rows are asked for: binary, but for the amount, whose text has the document's digits.
pub const FORMATS: [i16; COLUMNS] = [1, 1, 1, 0, 1, 1, 1, 1];

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

/// The event of a row that came in these [`FORMATS`]; `None` if it is none.
pub fn take(values: &[Option<&[u8]>]) -> Option<Event> {
    let values: &[Option<&[u8]>; COLUMNS] = values.try_into().ok()?;
    let [id, kind, n, amount, city, happened_at, paid, score] = *values;
    let text = |value: Option<&[u8]>| String::from_utf8(value?.to_vec()).ok();
    let micros = i64::from_be_bytes(happened_at?.try_into().ok()?);
    Some(Event {
        id: i64::from_be_bytes(id?.try_into().ok()?),
        kind: text(kind)?,
        n: i32::from_be_bytes(n?.try_into().ok()?),
        amount: std::str::from_utf8(amount?).ok()?.parse().ok()?,
        address: Address { city: text(city)? },
        happened_at: DateTime::from_millis(micros / 1_000 + EPOCH),
        paid: *paid?.first()? != 0,
        score: f64::from_be_bytes(score?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_value_for_each_column() {
        let mut values = Vec::new();
        put(&Event::new(1), &mut values);
        assert_eq!(values.len(), COLUMNS);
        let formats: Vec<i16> = values.iter().map(|(format, _)| *format).collect();
        assert_eq!(formats, FORMATS);
        let row: Vec<_> = values.iter().map(|(_, value)| Some(&value[..])).collect();
        assert_eq!(take(&row), Some(Event::new(1)));
        let text = declarations("127.0.0.1:1");
        assert_eq!(text.matches("[[table.column]]").count(), 2 * COLUMNS);
    }
}

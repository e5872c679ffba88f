//! sqlsmith's statements made such that PostgreSQL has one answer more often; and the rows of the tables.

/// The statements in what sqlsmith prints: each ends with a semicolon at the end of a line.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n").map(str::trim).filter(|sql| {
        let kinds = ["select", "with", "insert", "update", "delete", "merge"];
        kinds.iter().any(|kind| sql.starts_with(kind))
    })
}

/// The statement without TABLESAMPLE, without LIMIT where nothing sorts, and with rows sorted where one is picked.
/// sqlsmith writes words with white space between them, and no string that holds these words.
pub fn settled(sql: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let words: Vec<&str> = sql.split_whitespace().collect();
    let mut at = 0;
    while at < words.len() {
        match words[at] {
            // tablesample system (1.5)
            "tablesample" => at += 2,
            "limit" => {
                let picks = words.get(at + 2).is_some_and(|word| *word == "offset");
                if picks {
                    out.extend(["order", "by", "1", "limit", words[at + 1], "offset"]);
                    at += 2;
                } else {
                    // The number may bring the parentheses that end its query.
                    let rest = words[at + 1].trim_start_matches(|c: char| c.is_ascii_digit());
                    if !rest.is_empty() {
                        out.push(rest);
                    }
                    at += 1;
                }
            }
            word => out.push(word),
        }
        at += 1;
    }
    out.join(" ")
}

/// What functions are called like whose values are those of a moment or of one server process, not of the rows.
const OF_THE_MOMENT: [&str; 14] = [
    "clock_timestamp",
    "inet_client_",
    "inet_server_",
    "pg_backend_pid",
    "pg_control_",
    "pg_current_snapshot",
    "pg_current_wal_",
    "pg_current_xact_",
    "pg_export_snapshot",
    "pg_stat_",
    "pg_walfile_",
    "random",
    "timeofday",
    "txid_",
];

/// Whether an answer depends on more than the rows, so that two servers may differ.
pub fn is_of_the_moment(sql: &str) -> bool {
    OF_THE_MOMENT.iter().any(|name| sql.contains(name))
}

/// Whether values are put one behind the other in the order in which rows come, which is PostgreSQL's freedom.
pub fn lists_rows(sql: &str) -> bool {
    [
        "array_agg",
        "json_agg",
        "jsonb_agg",
        "string_agg",
        "object_agg",
        "xmlagg",
    ]
    .iter()
    .any(|name| sql.contains(name))
}

/// INSERTs of single rows for every table.
pub fn rows() -> Vec<String> {
    let mut rows = Vec::new();
    for n in 0..14i64 {
        let mood = ["'sad'", "'fine'", "'glad'", "NULL"][n as usize % 4];
        rows.push(format!(
            "INSERT INTO customer VALUES ({n}, 'n{}', {mood}, {}.25, date '2024-01-01' + {n}, {})",
            n % 5,
            n * 7,
            match n % 6 {
                5 => "NULL".to_owned(),
                region => region.to_string(),
            }
        ));
        rows.push(format!(
            "INSERT INTO purchase VALUES ({}, {n}, '2024-02-0{} 10:00+00', {}, {}, '{{{},{n}}}', {})",
            n % 6,
            1 + n % 7,
            n * 13 % 90,
            ["'gift'", "NULL", "'x'"][n as usize % 3],
            n % 3,
            ["true", "false", "NULL"][n as usize % 3],
        ));
        rows.push(format!(
            "INSERT INTO item VALUES ('c{n}', {n}.5, {}, {}, '{{\"a\": {}}}', timestamp '2023-05-05' + {n} * interval '1 hour')",
            n % 4,
            n % 8,
            n % 3
        ));
        if n < 6 {
            rows.push(format!(
                "INSERT INTO region VALUES ({n}, 'r{n}', {}, time '08:00' + {n} * interval '10 minutes')",
                n % 3
            ));
        }
        if n < 8 {
            rows.push(format!(
                "INSERT INTO staff VALUES ({n}, {}, {}, {}, date '1980-01-01' + {n}, {n} * interval '1 day')",
                match n {
                    0 => "NULL".to_owned(),
                    n => (n / 2).to_string(),
                },
                n % 4,
                n * 100
            ));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{is_of_the_moment, settled};

    #[test]
    fn what_a_server_tells_of_itself_is_no_value_of_rows() {
        assert!(is_of_the_moment(
            "select pg_catalog.pg_stat_get_wal() as c0"
        ));
        assert!(!is_of_the_moment("select pg_catalog.current_query() as c0"));
    }

    #[test]
    fn what_makes_an_answer_uncertain_is_taken_out() {
        let sql = "select a from t tablesample system (4.5) where exists ( select 1 from u limit 80) limit 9";
        assert_eq!(
            settled(sql),
            "select a from t where exists ( select 1 from u )"
        );
        assert_eq!(
            settled("(select b from t limit 1 offset 4) as c"),
            "(select b from t order by 1 limit 1 offset 4) as c"
        );
    }
}

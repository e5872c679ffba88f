//! Which rows may stand where in an answer.
//!
//! ORDER BY puts rows into groups of peers and says nothing of the order within a group;
//! a LIMIT that cuts a group may take any of its rows. PostgreSQL itself says which rows
//! are peers, by its own comparisons: see [`Ranked`](crate::statement::Ranked).

use crate::run::{Answer, Protocol, Row};
use std::collections::BTreeMap;

/// All rows that a statement can show, each with its rank; in the order of the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranks(Vec<(i64, Row)>);

/// How a ranked statement is run: all rows at once.
pub fn protocol(of: Protocol) -> Protocol {
    match of {
        Protocol::Text(_) | Protocol::Part(_) => Protocol::Text(0),
        Protocol::Untyped(_) => Protocol::Untyped(0),
        Protocol::Binary(_) => Protocol::Binary(0),
        Protocol::Prepare | Protocol::PrepareUntyped => Protocol::Simple,
        Protocol::Simple | Protocol::Whole | Protocol::Copy => of,
    }
}

impl Ranks {
    /// Of an answer to a ranked statement; `rows`: its rows in a form in which equal ones are
    /// equal. None of a failed one.
    pub fn new(answer: &Answer, rows: Vec<Row>) -> Option<Ranks> {
        if answer.error.is_some() {
            return None;
        }
        let binary = answer.columns.last().is_some_and(|c| c.format == 1);
        let split = |(told, mut row): (&Row, Row)| -> Option<(i64, Row)> {
            // As it came: what COPY tells has no type, and `rows` may have it for a floating point number.
            let rank = told.last()?.as_deref()?;
            row.pop();
            let rank = match binary {
                true => i64::from_be_bytes(rank.try_into().ok()?),
                false => std::str::from_utf8(rank).ok()?.parse().ok()?,
            };
            Some((rank, row))
        };
        let told = answer.rows.iter().zip(rows);
        let mut ranks: Vec<(i64, Row)> = told.map(split).collect::<Option<_>>()?;
        ranks.sort();
        Some(Ranks(ranks))
    }

    /// Whether an answer may be these rows, if it leaves out `offset` of all. How many rows it
    /// may have is not looked at.
    pub fn admit(&self, rows: &[Row], offset: usize) -> bool {
        let mut of_peers: BTreeMap<i64, BTreeMap<&Row, usize>> = BTreeMap::new();
        for (rank, row) in &self.0 {
            *of_peers.entry(*rank).or_default().entry(row).or_default() += 1;
        }
        rows.iter().enumerate().all(|(at, row)| {
            let peers = self.0.get(offset + at).map(|(rank, _)| rank);
            let left = peers
                .and_then(|rank| of_peers.get_mut(rank))
                .and_then(|peers| peers.get_mut(row));
            match left {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                _ => false,
            }
        })
    }

    /// How large the groups of peers are: what decides how many rows an answer has.
    pub fn sizes(&self) -> Vec<i64> {
        self.0.iter().map(|(rank, _)| *rank).collect()
    }

    /// Whether these are all the rows, of whatever rank.
    pub fn shows(&self, rows: &[Row]) -> bool {
        let mut own: Vec<&Row> = self.0.iter().map(|(_, row)| row).collect();
        let mut others: Vec<&Row> = rows.iter().collect();
        own.sort();
        others.sort();
        own == others
    }

    /// With every row in another form.
    pub fn with_rows(&self, form: impl Fn(&Row) -> Row) -> Ranks {
        let ranks = self.0.iter().map(|(rank, row)| (*rank, form(row)));
        Ranks(ranks.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: &str) -> Row {
        vec![Some(value.as_bytes().to_vec())]
    }

    fn rows(values: &[&str]) -> Vec<Row> {
        values.iter().map(|value| row(value)).collect()
    }

    #[test]
    fn a_rank_is_read_as_it_came() {
        let told = |value: &str, rank: &str| vec![row(value).remove(0), row(rank).remove(0)];
        let answer = Answer {
            rows: vec![told("1.5e0", "2"), told("0.5e0", "1")],
            ..Answer::default()
        };
        // As COPY's rows are made comparable where floating point numbers are added up.
        let rounded = vec![
            told("1.50000e0", "2.00000e0"),
            told("5.00000e-1", "1.00000e0"),
        ];
        assert_eq!(
            Ranks::new(&answer, rounded),
            Some(Ranks(vec![(1, row("5.00000e-1")), (2, row("1.50000e0"))]))
        );
    }

    #[test]
    fn peers_may_change_places_and_others_may_not() {
        let ranks = Ranks(vec![(1, row("a")), (1, row("A")), (2, row("b"))]);
        for (admitted, offset, shown) in [
            (true, 0, &["a", "A", "b"][..]),
            (true, 0, &["A", "a", "b"]),
            (false, 0, &["a", "b", "A"]),
            (false, 0, &["a", "a", "b"]),
            (true, 0, &["A"]),
            (false, 0, &["b"]),
            (true, 1, &["a", "b"]),
            (true, 1, &["A"]),
            (false, 1, &["b"]),
            (true, 2, &["b"]),
            (false, 3, &["b"]),
            (true, 3, &[]),
        ] {
            assert_eq!(ranks.admit(&rows(shown), offset), admitted, "{shown:?}");
        }
    }
}

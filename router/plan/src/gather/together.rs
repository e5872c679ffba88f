//! Several fragments as one query, so that a server reads them by one snapshot.
//!
//! At READ COMMITTED each query has a snapshot of its own. The rows of the fragments come one fragment after the other,
//! each row with the number of its fragment and columns for all of them: those of the others are NULL.

use mothership_proto::frame::{take, take_i16, take_i32};

/// PostgreSQL's limit of columns (`MaxTupleAttributeNumber`), less the number.
const MAX_COLUMNS: usize = 1600;

/// PostgreSQL's own objects have lesser numbers (`FirstNormalObjectId`).
const FIRST_OF_USERS: u32 = 16384;

/// One of the fragments.
pub struct Arm<'f> {
    /// Its query.
    pub sql: String,
    /// The types of its columns.
    pub elements: &'f [u32],
    /// What these are called.
    pub types: &'f [String],
}

/// Whether so many columns fit.
pub fn fits(columns: usize) -> bool {
    columns < MAX_COLUMNS
}

/// The query of all of them.
pub fn query(arms: &[Arm<'_>]) -> String {
    let selects = arms.iter().enumerate().map(|(number, arm)| {
        let mut list = vec![number.to_string()];
        for (other, arm) in arms.iter().enumerate() {
            let types = arm.elements.iter().zip(arm.types);
            list.extend(
                types
                    .enumerate()
                    .map(|(at, (oid, name))| match other == number {
                        true => column(at),
                        false => null(*oid, name),
                    }),
            );
        }
        let columns: Vec<String> = (0..arm.types.len()).map(column).collect();
        format!(
            "SELECT {} FROM ({}) AS __mothership_f ({})",
            list.join(", "),
            arm.sql,
            columns.join(", ")
        )
    });
    selects.collect::<Vec<_>>().join(" UNION ALL ")
}

/// NULL of a type; of an unknown type it would be text.
fn null(oid: u32, name: &str) -> String {
    match oid < FIRST_OF_USERS {
        true => format!("NULL::{name}"),
        // A domain may not allow it: what is never computed is not checked.
        false => format!("(SELECT NULL::{name} WHERE false)"),
    }
}

fn column(at: usize) -> String {
    format!("__mothership_c{}", at + 1)
}

/// The row of a fragment in the body of a DataRow of all of them: the fragment's number, and its values. `widths` are
/// how many columns each has. `None` if it is no such row.
pub fn part(
    widths: impl Iterator<Item = usize> + Clone,
    mut body: &[u8],
) -> Option<(usize, &[u8])> {
    let all = 1 + widths.clone().sum::<usize>();
    if usize::try_from(take_i16(&mut body)?).ok()? != all || take_i32(&mut body)? != 4 {
        return None;
    }
    let number = usize::try_from(take_i32(&mut body)?).ok()?;
    let mut own = None;
    for (at, width) in widths.enumerate() {
        let values = take_values(&mut body, width)?;
        if at == number {
            own = Some(values);
        }
    }
    body.is_empty().then_some((number, own?))
}

fn take_values<'b>(body: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let start = *body;
    for _ in 0..count {
        // NULL has no bytes.
        let length = usize::try_from(take_i32(body)?).unwrap_or(0);
        take(body, length)?;
    }
    Some(&start[..start.len() - body.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            let length = value.map_or(-1, |v| i32::try_from(v.len()).unwrap());
            body.extend(length.to_be_bytes());
            body.extend(value.unwrap_or_default());
        }
        body
    }

    #[test]
    fn each_fragment_has_columns_of_its_own() {
        let (one, other) = (
            ["int".to_owned()],
            ["text".to_owned(), "positive".to_owned()],
        );
        let arm = |sql: &str, elements, types| Arm {
            sql: sql.to_owned(),
            elements,
            types,
        };
        let sql = query(&[
            arm("SELECT a FROM t", &[23], &one[..]),
            arm("SELECT b, c FROM u", &[25, 16400], &other[..]),
        ]);
        assert_eq!(
            sql,
            "SELECT 0, __mothership_c1, NULL::text, (SELECT NULL::positive WHERE false) FROM (SELECT a FROM t) AS __mothership_f \
             (__mothership_c1) UNION ALL SELECT 1, NULL::int, __mothership_c1, __mothership_c2 FROM \
             (SELECT b, c FROM u) AS __mothership_f (__mothership_c1, __mothership_c2)"
        );
    }

    #[test]
    fn a_row_is_that_of_its_fragment() {
        let (zero, one, two) = ([0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 2]);
        let first = row(&[Some(&zero), Some(b"a"), None, None]);
        let part = |body: &[u8]| {
            let found = super::part([1, 2].into_iter(), body);
            found.map(|(number, values)| (number, values.to_vec()))
        };
        let values = |values: &[Option<&[u8]>]| row(values)[2..].to_vec();
        assert_eq!(part(&first), Some((0, values(&[Some(b"a")]))));
        let second = row(&[Some(&one), None, None, Some(b"xyz")]);
        assert_eq!(part(&second), Some((1, values(&[None, Some(b"xyz")]))));
        for wrong in [
            row(&[Some(&two), None, None, None]),
            row(&[Some(&zero), None, None]),
            row(&[None, None, None, None]),
            row(&[Some(b"0"), None, None, None]),
            first[..first.len() - 2].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(part(&wrong), None);
        }
    }
}

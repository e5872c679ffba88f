//! Rows in binary form become one array for each of their columns, as `array_recv` reads it.
//!
//! A value of a DataRow and an element of an array have the same form, a length and bytes, so that rows are taken
//! apart without being decoded (PostgreSQL's `array_send` in `arrayfuncs.c`).

use mothership_proto::frame::{take, take_i16, take_i32};
use std::collections::HashSet;

/// Dimensions, flag of nulls, type of the elements, length, lower bound.
const HEADER: usize = 20;

/// Columns of rows that are being gathered.
#[derive(Debug, Default)]
pub struct Arrays {
    columns: Vec<Column>,
    rows: u32,
}

#[derive(Debug)]
struct Column {
    element: u32,
    nulls: bool,
    /// The header, which is written at the end, and the elements.
    bytes: Vec<u8>,
}

/// Different values as one array.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyArray {
    /// How many there are.
    pub count: u32,
    /// The array.
    pub array: Vec<u8>,
}

/// What cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It is no row of so many columns.
    #[error("a row has another form than was asked for")]
    Malformed,
    /// There are more rows than an array holds.
    #[error("more rows than fit an array")]
    Full,
}

impl Arrays {
    /// Without rows; `elements` are the types of the columns.
    pub fn new(elements: &[u32]) -> Arrays {
        let column = |element: &u32| Column {
            element: *element,
            nulls: false,
            bytes: vec![0; HEADER],
        };
        Arrays {
            columns: elements.iter().map(column).collect(),
            rows: 0,
        }
    }

    /// Takes the body of a DataRow and returns how many bytes it adds.
    ///
    /// # Errors
    /// It does not fit.
    pub fn add(&mut self, mut body: &[u8]) -> Result<usize, NotTaken> {
        let size = body.len();
        let count = take_i16(&mut body).ok_or(NotTaken::Malformed)?;
        if usize::try_from(count) != Ok(self.columns.len()) {
            return Err(NotTaken::Malformed);
        }
        self.add_values(body)?;
        Ok(size)
    }

    /// The same of the values of a row, each with its length; they end with the last column.
    ///
    /// # Errors
    /// It does not fit.
    pub fn add_values(&mut self, mut body: &[u8]) -> Result<usize, NotTaken> {
        let size = body.len();
        self.rows = self.rows.checked_add(1).ok_or(NotTaken::Full)?;
        for column in &mut self.columns {
            let value = body;
            let length = take_i32(&mut body).ok_or(NotTaken::Malformed)?;
            match usize::try_from(length) {
                Ok(length) => drop(take(&mut body, length).ok_or(NotTaken::Malformed)?),
                Err(_) => column.nulls = true,
            }
            column
                .bytes
                .extend_from_slice(&value[..value.len() - body.len()]);
        }
        Ok(size)
    }

    /// How many rows there are.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The values of a column, each once, if there are not more than `most`; no NULL is among them.
    pub fn keys(&self, column: usize, most: u32) -> Option<KeyArray> {
        let column = &self.columns[column];
        let mut found: HashSet<&[u8], foldhash::fast::FixedState> = HashSet::default();
        let mut array = vec![0; HEADER];
        let mut rest = &column.bytes[HEADER..];
        while !rest.is_empty() {
            let value = rest;
            // NULL has no bytes.
            let Ok(length) = usize::try_from(take_i32(&mut rest)?) else {
                continue;
            };
            take(&mut rest, length)?;
            let value = &value[..value.len() - rest.len()];
            if found.insert(value) {
                if found.len() > most as usize {
                    return None;
                }
                array.extend_from_slice(value);
            }
        }
        let count = u32::try_from(found.len()).ok()?;
        finish(&mut array, (column.element, false, count));
        Some(KeyArray { count, array })
    }

    /// The arrays, one for each column.
    pub fn finish(self) -> Vec<Vec<u8>> {
        let rows = self.rows;
        let one = |mut column: Column| {
            finish(&mut column.bytes, (column.element, column.nulls, rows));
            column.bytes
        };
        self.columns.into_iter().map(one).collect()
    }
}

/// Writes the header of an array.
fn finish(bytes: &mut Vec<u8>, (element, nulls, length): (u32, bool, u32)) {
    let header = [1, u32::from(nulls), element, length, 1];
    for (at, word) in header.iter().enumerate() {
        bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_be_bytes());
    }
    if length == 0 {
        // An empty array has no dimensions.
        bytes[..4].fill(0);
        bytes.truncate(12);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_proto::backend::put_row;

    fn body(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_row(&mut out, values.iter().copied());
        out.split_off(5)
    }

    #[test]
    fn columns_become_arrays() {
        let mut arrays = Arrays::new(&[23, 25]);
        arrays
            .add(&body(&[Some(&[0, 0, 0, 7]), Some(b"a")]))
            .expect("a row");
        arrays
            .add(&body(&[Some(&[0, 0, 0, 8]), None]))
            .expect("a row");
        let made = arrays.finish();
        assert_eq!(
            made[0],
            [
                0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0,
                7, 0, 0, 0, 4, 0, 0, 0, 8
            ]
        );
        assert_eq!(made[1][..12], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25]);
        assert_eq!(made[1][20..], [0, 0, 0, 1, b'a', 255, 255, 255, 255]);
    }

    #[test]
    fn no_rows_are_an_array_without_dimensions() {
        assert_eq!(
            Arrays::new(&[20]).finish(),
            [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20]]
        );
    }

    #[test]
    fn keys_are_the_values_once_and_without_nulls() {
        let mut arrays = Arrays::new(&[23]);
        let (seven, eight): (&[u8], &[u8]) = (&[0, 0, 0, 7], &[0, 0, 0, 8]);
        for value in [Some(seven), None, Some(eight), Some(seven)] {
            arrays.add(&body(&[value])).expect("a row");
        }
        let keys = arrays.keys(0, 2).expect("two are not too many");
        assert_eq!(keys.count, 2);
        let mut alone = Arrays::new(&[23]);
        for value in [seven, eight] {
            alone.add(&body(&[Some(value)])).expect("a row");
        }
        assert_eq!(alone.finish(), [keys.array]);
        assert_eq!(arrays.keys(0, 1), None);
        assert_eq!(
            Arrays::new(&[20]).keys(0, 1).map(|keys| keys.array.len()),
            Some(12)
        );
    }

    #[test]
    fn what_is_no_such_row_is_not_taken() {
        let mut arrays = Arrays::new(&[23]);
        assert_eq!(arrays.add(&body(&[None, None])), Err(NotTaken::Malformed));
        assert_eq!(arrays.add(&[0, 1, 0, 0, 0, 9, 1]), Err(NotTaken::Malformed));
        assert_eq!(arrays.add(&[]), Err(NotTaken::Malformed));
    }
}

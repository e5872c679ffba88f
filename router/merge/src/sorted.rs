//! Rows that come sorted from several shards become one sorted stream.
//!
//! Every shard has sorted its own rows as the client asked, and put the values that it sorted by before the client's
//! columns, in binary form. Of each shard one row is held here; the first of them goes on, without those values, and
//! the next row of its shard is wanted. So memory is bounded by the shards, whatever the rows. DISTINCT, OFFSET, LIMIT
//! and WITH TIES are applied to the stream.

use std::cmp::Ordering;
use std::ops::Range;

use mothership_proto::backend::tag;
use mothership_proto::frame;

use super::error::MergeError;
use super::order::Order;

/// A value that rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// How its values compare.
    pub order: Order,
    /// From the largest on.
    pub descending: bool,
    /// NULL before everything else.
    pub nulls_first: bool,
}

/// What is made of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The values that rows are sorted by, which stand before the client's columns.
    pub keys: Vec<SortKey>,
    /// Of rows that agree in so many of them, only the first goes on.
    pub once: Option<usize>,
    /// So many rows are left out.
    pub offset: u64,
    /// So many follow.
    pub limit: Option<u64>,
    /// And then those that agree with the last one in so many keys.
    pub ties: Option<usize>,
    /// They are locked after they have been sorted, and another transaction may have changed them before that: where
    /// such a change puts them out of order, that is an error.
    pub locks: bool,
}

/// Sorted rows on their way to one stream.
#[derive(Debug)]
pub struct SortedRows {
    shape: Shape,
    /// The row of each shard that waits for its turn.
    heads: Vec<Row>,
    /// Shards with such a row; the one whose row is the next stands last.
    waiting: Vec<usize>,
    /// Shards whose next row must come before anything can be said; the last one first.
    wanted: Vec<usize>,
    /// The row before, where the next is to be held against it.
    before: Option<Row>,
    /// The last row within the limit.
    edge: Option<Row>,
    state: State,
    sent: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Rows are left out, or go on.
    Within,
    /// The limit is reached; rows like the last one go on.
    Ties,
    /// No further row matters.
    Done,
}

/// A row with the places of its keys; what is behind them is the client's.
#[derive(Debug, Default)]
struct Row {
    body: Vec<u8>,
    keys: Vec<Option<Range<usize>>>,
    rest: usize,
}

impl SortedRows {
    /// Of so many shards.
    pub fn new(shape: Shape, shards: usize) -> SortedRows {
        let nothing = shape.limit == Some(0);
        SortedRows {
            shape,
            heads: (0..shards).map(|_| Row::default()).collect(),
            waiting: Vec::with_capacity(shards),
            wanted: (0..shards).rev().collect(),
            before: None,
            edge: None,
            state: if nothing { State::Done } else { State::Within },
            sent: 0,
        }
    }

    /// The shard whose next row, or end, must come now. None if no further row matters.
    pub fn wants(&self) -> Option<usize> {
        match self.state {
            State::Done => None,
            State::Within | State::Ties => self.wanted.last().copied(),
        }
    }

    /// How many rows have gone on.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The shards whose last row has been taken and has not gone on.
    pub fn waiting(&self) -> &[usize] {
        &self.waiting
    }

    /// Takes the body of a DataRow of the wanted shard, and writes the row whose turn it is.
    pub fn row(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), MergeError> {
        let Some(shard) = self.wanted.pop() else {
            return Ok(());
        };
        let mut last = self.shape.locks.then(Row::default);
        if let Some(last) = &mut last {
            std::mem::swap(last, &mut self.heads[shard]);
        }
        self.heads[shard].read(body, self.shape.keys.len())?;
        if let Some(last) = last
            && !last.body.is_empty()
            && self.compare(&last, &self.heads[shard], None)? == Ordering::Greater
        {
            return Err(MergeError::Changed);
        }
        // Behind those that are before it; of equal ones that of the first shard is before.
        let mut at = self.waiting.len();
        while at > 0 {
            let other = self.waiting[at - 1];
            let order = self.compare(&self.heads[shard], &self.heads[other], None)?;
            if order.then(shard.cmp(&other)) == Ordering::Less {
                break;
            }
            at -= 1;
        }
        self.waiting.insert(at, shard);
        self.next(out)
    }

    /// The wanted shard has no more rows.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), MergeError> {
        self.wanted.pop();
        self.next(out)
    }

    /// Lets the next row go on, if every shard has had its say.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<(), MergeError> {
        if !self.wanted.is_empty() {
            return Ok(());
        }
        let Some(shard) = self.waiting.pop() else {
            self.state = State::Done;
            return Ok(());
        };
        let row = std::mem::take(&mut self.heads[shard]);
        self.pass(&row, out)?;
        // Its room is used again.
        self.heads[shard] = row;
        self.wanted.push(shard);
        Ok(())
    }

    fn pass(&mut self, row: &Row, out: &mut Vec<u8>) -> Result<(), MergeError> {
        if let Some(keys) = self.shape.once {
            if let Some(before) = &self.before
                && self.compare(before, row, Some(keys))? == Ordering::Equal
            {
                return Ok(());
            }
            self.before.get_or_insert_default().copy_keys(row);
        }
        if self.state == State::Ties {
            let same = match (&self.edge, self.shape.ties) {
                (Some(edge), Some(keys)) => self.compare(edge, row, Some(keys))? == Ordering::Equal,
                _ => false,
            };
            if !same {
                self.state = State::Done;
                return Ok(());
            }
        } else if self.shape.offset > 0 {
            self.shape.offset -= 1;
            return Ok(());
        }
        row.put_rest(out, self.shape.keys.len());
        self.sent += 1;
        if self.state == State::Within
            && let Some(limit) = &mut self.shape.limit
        {
            *limit -= 1;
            if *limit == 0 {
                self.state = match self.shape.ties {
                    Some(_) => State::Ties,
                    None => State::Done,
                };
                self.edge.get_or_insert_default().copy_keys(row);
            }
        }
        Ok(())
    }

    /// By the first `count` keys, or by all.
    fn compare(&self, a: &Row, b: &Row, count: Option<usize>) -> Result<Ordering, MergeError> {
        let count = count.unwrap_or(self.shape.keys.len());
        for (at, key) in self.shape.keys.iter().enumerate().take(count) {
            let nulls = if key.nulls_first {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            let order = match (a.key(at), b.key(at)) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => nulls,
                (Some(_), None) => nulls.reverse(),
                (Some(a), Some(b)) => {
                    let order = key.order.compare(a, b);
                    let order = order.ok_or(MergeError::Value { column: at + 1 })?;
                    if key.descending {
                        order.reverse()
                    } else {
                        order
                    }
                }
            };
            if order != Ordering::Equal {
                return Ok(order);
            }
        }
        Ok(Ordering::Equal)
    }
}

impl Row {
    fn read(&mut self, body: &[u8], keys: usize) -> Result<(), MergeError> {
        self.body.clear();
        self.body.extend_from_slice(body);
        self.keys.clear();
        let mut at = 2;
        for _ in 0..keys {
            let length = body.get(at..at + 4).ok_or(MergeError::Row)?;
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            at += 4;
            let value = match usize::try_from(length) {
                Ok(length) => {
                    let end = at.checked_add(length).ok_or(MergeError::Row)?;
                    let value = at..end;
                    at = end;
                    Some(value)
                }
                Err(_) => None,
            };
            self.keys.push(value);
        }
        if at > body.len() || body.len() < 2 {
            return Err(MergeError::Row);
        }
        self.rest = at;
        Ok(())
    }

    fn key(&self, at: usize) -> Option<&[u8]> {
        let place = self.keys.get(at)?.clone()?;
        self.body.get(place)
    }

    /// The keys of another row, without the rest of it.
    fn copy_keys(&mut self, row: &Row) {
        self.body.clear();
        self.body.extend_from_slice(&row.body[..row.rest]);
        self.keys.clone_from(&row.keys);
        self.rest = row.rest;
    }

    /// The row as the client gets it.
    fn put_rest(&self, out: &mut Vec<u8>, keys: usize) {
        let columns = u16::from_be_bytes([self.body[0], self.body[1]]);
        let columns = usize::from(columns).saturating_sub(keys) as u16;
        frame::put(out, tag::DATA_ROW, |body| {
            body.extend_from_slice(&columns.to_be_bytes());
            body.extend_from_slice(&self.body[self.rest..]);
        });
    }
}

/// The body of a DataRow without the values that its rows are sorted by. `None` if it has none such.
pub fn rest_of(body: &[u8], keys: usize) -> Option<Vec<u8>> {
    let mut row = Row::default();
    row.read(body, keys).ok()?;
    let columns = u16::from_be_bytes([body[0], body[1]]);
    let columns = columns.checked_sub(u16::try_from(keys).ok()?)?;
    Some([&columns.to_be_bytes()[..], &body[row.rest..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_proto::backend::{put_row, row_values};

    const INTEGER: SortKey = SortKey {
        order: Order::Integer,
        descending: false,
        nulls_first: false,
    };

    /// Rows `(key, shown)` of each shard; what is shown in the end, and how many rows were asked for.
    fn merged(shape: Shape, shards: &[&[(Option<i32>, &str)]]) -> (Vec<String>, usize) {
        let mut rows = SortedRows::new(shape, shards.len());
        let mut left: Vec<_> = shards.iter().map(|rows| rows.iter()).collect();
        let mut out = Vec::new();
        let mut asked = 0;
        while let Some(shard) = rows.wants() {
            match left[shard].next() {
                Some((key, shown)) => {
                    asked += 1;
                    let key = key.map(i32::to_be_bytes);
                    let key = key.as_ref().map(<[u8; 4]>::as_slice);
                    let mut message = Vec::new();
                    put_row(&mut message, [key, Some(shown.as_bytes())].into_iter());
                    rows.row(&message[5..], &mut out).unwrap();
                }
                None => rows.end(&mut out).unwrap(),
            }
        }
        let mut shown = Vec::new();
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            let length = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize + 1;
            let values = row_values(&rest[5..length]).unwrap();
            assert_eq!(values.len(), 1);
            shown.push(String::from_utf8(values[0].unwrap().to_vec()).unwrap());
            rest = &rest[length..];
        }
        assert_eq!(rows.sent(), shown.len() as u64);
        (shown, asked)
    }

    const LEFT: &[(Option<i32>, &str)] =
        &[(Some(1), "a"), (Some(3), "b"), (Some(3), "c"), (None, "d")];
    const RIGHT: &[(Option<i32>, &str)] = &[(Some(2), "e"), (Some(3), "f"), (Some(4), "g")];

    fn shape() -> Shape {
        Shape {
            keys: vec![INTEGER],
            ..Shape::default()
        }
    }

    #[test]
    fn rows_go_on_in_order_and_of_equal_ones_those_of_the_first_shard() {
        let (shown, _) = merged(shape(), &[LEFT, RIGHT, &[]]);
        assert_eq!(shown.concat(), "aebcfgd");
    }

    #[test]
    fn a_limit_asks_for_no_more_than_it_needs() {
        let limited = Shape {
            offset: 1,
            limit: Some(2),
            ..shape()
        };
        let (shown, asked) = merged(limited, &[LEFT, RIGHT]);
        assert_eq!((shown.concat().as_str(), asked), ("eb", 4));
        let none = Shape {
            limit: Some(0),
            ..shape()
        };
        assert_eq!(merged(none, &[LEFT, RIGHT]), (Vec::new(), 0));
    }

    #[test]
    fn ties_of_the_last_row_go_on() {
        let ties = Shape {
            limit: Some(3),
            ties: Some(1),
            ..shape()
        };
        let (shown, _) = merged(ties, &[LEFT, RIGHT]);
        assert_eq!(shown.concat(), "aebcf");
    }

    #[test]
    fn what_agrees_in_the_first_keys_goes_on_once_and_nulls_agree() {
        let once = Shape {
            once: Some(1),
            limit: Some(5),
            ..shape()
        };
        let (shown, _) = merged(once, &[LEFT, RIGHT, &[(None, "h")]]);
        assert_eq!(shown.concat(), "aebgd");
    }

    #[test]
    fn without_keys_the_shards_follow_each_other() {
        let shape = Shape {
            limit: Some(3),
            ..Shape::default()
        };
        let mut rows = SortedRows::new(shape, 2);
        let mut out = Vec::new();
        let mut message = Vec::new();
        put_row(&mut message, [Some(&b"x"[..])].into_iter());
        let mut asked = Vec::new();
        while let Some(shard) = rows.wants() {
            asked.push(shard);
            rows.row(&message[5..], &mut out).unwrap();
        }
        assert_eq!((rows.sent(), asked), (3, vec![0, 1, 0, 0]));
    }

    #[test]
    fn a_row_that_is_cut_short_is_an_error() {
        let mut rows = SortedRows::new(shape(), 1);
        let cut = [0, 1, 0, 0, 0, 9, 1];
        assert_eq!(rows.row(&cut, &mut Vec::new()), Err(MergeError::Row));
    }
}

//! The mark that a transaction over several shards carries on each of its servers. By the marks every router can see
//! which backends belong together (ADR 9).
//!
//! A mark is a shared advisory lock of the transaction. It never waits, it ends with the transaction, and everybody can
//! see it in `pg_locks`. The first sixteen bits of its two keys are ours. The other 48 bits are the last bits of the
//! transaction's id, which is also in the names of what the transaction prepares.
//!
//! Pure.

use super::gid::TransactionId;

/// The upper half of the first key: `ms`.
const CLASS: u32 = 0x6d73;

/// The first keys that may be ours, as `pg_locks` shows them.
pub const FIRST_KEYS: (i64, i64) = ((CLASS as i64) << 16, ((CLASS as i64) << 16) | 0xffff);

/// The part of a transaction's id that servers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u64);

impl Mark {
    /// The mark of a transaction.
    pub fn of(id: TransactionId) -> Self {
        Self((id.0 & 0xffff_ffff_ffff) as u64)
    }

    /// Reads the keys of a lock as `pg_locks` shows them: `classid` and `objid`. `None` if the lock is no mark.
    pub fn read(classid: i64, objid: i64) -> Option<Self> {
        let ours = (FIRST_KEYS.0..=FIRST_KEYS.1).contains(&classid);
        let second = u32::try_from(objid).ok()?;
        ours.then(|| Self((((classid as u64) & 0xffff) << 32) | u64::from(second)))
    }

    /// Reads the mark from the call that [`Mark::sql`] wrote; `None` for any other text.
    pub fn taken_by(sql: &str) -> Option<Self> {
        let keys = sql.split(['(', ')']).nth(1)?;
        let (first, second) = keys.split_once(", ")?;
        let key = |text: &str| Some(i64::from(text.parse::<i32>().ok()?.cast_unsigned()));
        Mark::read(key(first)?, key(second)?).filter(|mark| mark.sql() == sql)
    }

    /// The function call that takes the mark, within a transaction.
    pub fn sql(self) -> String {
        let first = (CLASS << 16) | (self.0 >> 32) as u32;
        let second = self.0 as u32;
        format!(
            "pg_catalog.pg_advisory_xact_lock_shared({}, {})",
            first.cast_signed(),
            second.cast_signed()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mark_is_the_end_of_the_id() {
        let mark = Mark::of(TransactionId(0xffff_0001_8000_0002));
        assert_eq!(
            mark.sql(),
            "pg_catalog.pg_advisory_xact_lock_shared(1836253185, -2147483646)"
        );
        assert_eq!(Mark::read(1_836_253_185, 0x8000_0002), Some(mark));
    }

    #[test]
    fn locks_of_others_are_no_marks() {
        assert_eq!(Mark::read(0x6d72_ffff, 1), None);
        assert_eq!(Mark::read(0x6d74_0000, 1), None);
        assert_eq!(Mark::read(1, 2), None);
        let lock = "pg_catalog.pg_advisory_xact_lock_shared(1, 2)";
        assert_eq!(Mark::taken_by(lock), None);
    }

    proptest! {
        #[test]
        fn every_mark_reads_back(id: u128) {
            let mark = Mark::of(TransactionId(id));
            let sql = mark.sql();
            let keys = sql.split(['(', ')']).nth(1).unwrap();
            let keys: Vec<i32> = keys.split(", ").map(|key| key.parse().unwrap()).collect();
            let shown = |key: i32| i64::from(key.cast_unsigned());
            prop_assert_eq!(Mark::read(shown(keys[0]), shown(keys[1])), Some(mark));
            prop_assert_eq!(Mark::taken_by(&sql), Some(mark));
            prop_assert_eq!(Mark::taken_by(&format!("{sql} ")), None);
        }
    }
}

//! What a value of one type means for a key column of another.
//!
//! PostgreSQL compares `int8 = numeric` as numeric, `date = timestamp` as timestamp. Where such a comparison comes
//! down to one value of the column's type, and assignment to the column gives that value too, the value is a key.

use super::{KeyError, KeyType, TextContext, TimeZone, datetime, integer, numeric_form};
use crate::KeyBytes;

impl KeyType {
    /// The key of this column that equals `key`, which is of type `from`: for typed parameters, casts and columns of
    /// other tables. [`KeyError::NoMatch`] if no value of the column can equal it.
    pub fn convert(
        self,
        from: KeyType,
        key: KeyBytes,
        context: &TextContext,
    ) -> Result<KeyBytes, KeyError> {
        use KeyType::{Date, Numeric, Text, Timestamp, TimestampTz, Varchar};
        let utc = context.time_zone == TimeZone::Utc;
        match (from, self) {
            (from, to) if from == to || (from.is_integer() && to.is_integer()) => Ok(key),
            (Text | Varchar, Text | Varchar) => Ok(key),
            (from, Numeric) if from.is_integer() => {
                numeric_form::from_integer(key.as_i64().ok_or(KeyError::Unsure)?.into())
            }
            (Numeric, to) if to.is_integer() => {
                integer::from_integer(numeric_form::to_integer(&key).ok_or(KeyError::NoMatch)?)
            }
            (Timestamp, TimestampTz) | (TimestampTz, Timestamp) if utc => Ok(key),
            (Date, Timestamp) => datetime::date_to_timestamp(&key),
            (Date, TimestampTz) if utc => datetime::date_to_timestamp(&key),
            (Timestamp, Date) => datetime::timestamp_to_date(&key),
            (TimestampTz, Date) if utc => datetime::timestamp_to_date(&key),
            // float8 loses digits, char(n) loses blanks, and many pairs have no operator at all.
            _ => Err(KeyError::Unsure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_converted_only_where_the_zone_does_not_matter() {
        let utc = TextContext::UTC;
        let local = TextContext {
            time_zone: TimeZone::Other,
            ..utc
        };
        let key =
            |key_type: KeyType, text: &str| key_type.from_text(text.as_bytes(), &utc).unwrap();
        let (day, noon) = (
            key(KeyType::Date, "2024-02-29"),
            key(KeyType::Timestamp, "2024-02-29 12:00:00"),
        );
        let midnight = key(KeyType::Timestamp, "2024-02-29 00:00:00");

        assert_eq!(
            KeyType::Timestamp.convert(KeyType::Date, day.clone(), &local),
            Ok(midnight.clone())
        );
        assert_eq!(
            KeyType::TimestampTz.convert(KeyType::Date, day.clone(), &utc),
            Ok(midnight.clone())
        );
        assert_eq!(
            KeyType::TimestampTz.convert(KeyType::Date, day.clone(), &local),
            Err(KeyError::Unsure)
        );
        assert_eq!(
            KeyType::Date.convert(KeyType::Timestamp, midnight, &local),
            Ok(day)
        );
        assert_eq!(
            KeyType::Date.convert(KeyType::Timestamp, noon, &local),
            Err(KeyError::NoMatch)
        );
    }
}

//! Conditions and their values as text, for who reads a plan.

use std::fmt;

use mothership_shardmap::KeyType;

use super::scalar::Scalar;
use super::{Cond, Item};

/// Prints a condition with the names of its columns.
pub struct Shown<'a>(pub &'a Cond, pub &'a [String]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(cond, names) = self;
        let name = |column: &usize| names.get(*column).map_or("?", String::as_str);
        let join = |f: &mut fmt::Formatter<'_>, list: &[Cond], word: &str| {
            for (index, c) in list.iter().enumerate() {
                if index > 0 {
                    f.write_str(word)?;
                }
                match c {
                    Cond::All(_) | Cond::Either(_) => write!(f, "({})", Shown(c, names))?,
                    _ => write!(f, "{}", Shown(c, names))?,
                }
            }
            Ok(())
        };
        match cond {
            Cond::Any => f.write_str("any"),
            Cond::Never => f.write_str("none"),
            Cond::In {
                column,
                items,
                nulls_match,
            } => {
                let word = if *nulls_match { "is" } else { "=" };
                match items.as_slice() {
                    [item] => write!(f, "{} {word} {item}", name(column)),
                    items => {
                        write!(f, "{} in [", name(column))?;
                        for (index, item) in items.iter().enumerate() {
                            let comma = if index > 0 { ", " } else { "" };
                            write!(f, "{comma}{item}")?;
                        }
                        f.write_str("]")
                    }
                }
            }
            Cond::Between { column, low, high } => {
                if let Some(low) = low {
                    write!(
                        f,
                        "{} {} ",
                        low.value,
                        if low.inclusive { "<=" } else { "<" }
                    )?;
                }
                f.write_str(name(column))?;
                if let Some(high) = high {
                    write!(
                        f,
                        " {} {}",
                        if high.inclusive { "<=" } else { "<" },
                        high.value
                    )?;
                }
                Ok(())
            }
            Cond::All(list) => join(f, list, " and "),
            Cond::Either(list) => join(f, list, " or "),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Null => f.write_str("NULL"),
            Scalar::Integer(value) => write!(f, "{value}"),
            Scalar::Decimal(digits) => f.write_str(digits),
            Scalar::Text { text, as_type: 0 } => write!(f, "'{text}'"),
            Scalar::Text { text, as_type } => write!(f, "'{text}'::{}", type_name(*as_type)),
            Scalar::Bool(value) => write!(f, "{value}"),
            Scalar::Param { number, as_type: 0 } => write!(f, "${number}"),
            Scalar::Param { number, as_type } => write!(f, "${number}::{}", type_name(*as_type)),
            Scalar::Slot(slot) => write!(f, "literal {}", slot.index + 1),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::One(scalar) => scalar.fmt(f),
            Item::Array { source, .. } => write!(f, "any {source}"),
        }
    }
}

fn type_name(oid: u32) -> String {
    KeyType::from_oid(oid).map_or_else(|| oid.to_string(), |key| key.name().to_owned())
}

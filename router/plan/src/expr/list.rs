//! The members of `IN (..)` and `= ANY (..)`, if PostgreSQL compares each of them with the column as it would compare
//! it alone.

use mothership_shardmap::KeyType;
use sqlparser::ast::{CastKind, DataType, Expr};

use crate::condition::{Item, Scalar};
use crate::scope::Analysis;
use crate::slots::{Slot, SlotKind};

use super::constant::cast_oid;
use super::strip;

impl Analysis<'_> {
    /// A list of constants and parameters that PostgreSQL compares with a column one by one as it
    /// would each alone. PostgreSQL compares the members of a list of several types in their common type. That is exact
    /// for integers and numeric, and for text and varchar beside untyped strings; for any other mix this returns
    /// `None`.
    pub(super) fn items(&self, list: &[Expr]) -> Option<Vec<Item>> {
        let given: Vec<Scalar> = list.iter().map(|e| self.scalar(e)).collect::<Option<_>>()?;
        let scalars: Vec<_> = given.iter().map(Scalar::form).collect();
        let scalars: Vec<&Scalar> = scalars.iter().map(|s| &**s).collect();
        let untyped = |s: &Scalar| {
            matches!(
                s,
                Scalar::Text { as_type: 0, .. } | Scalar::Param { as_type: 0, .. }
            )
        };
        let open_param = |s: &Scalar| matches!(s, Scalar::Param { as_type: 0, .. });
        let others = || {
            let scalars = scalars.iter().copied();
            scalars.filter(|s| !untyped(s) && **s != Scalar::Null)
        };
        let number = |s: &Scalar| match s {
            Scalar::Integer(_) | Scalar::Decimal(_) => true,
            Scalar::Text { as_type, .. } | Scalar::Param { as_type, .. } => {
                matches!(as_type, 20 | 21 | 23 | 1700)
            }
            _ => false,
        };
        let type_of = |s: &Scalar| match s {
            Scalar::Text { as_type, .. } | Scalar::Param { as_type, .. } => *as_type,
            Scalar::Bool(_) => 16,
            Scalar::Integer(_) => 20,
            _ => 0,
        };
        let certain = if others().next().is_none() {
            // All take the column's type.
            true
        } else if scalars.iter().copied().any(open_param) {
            // The parameter would take the common type, which may be wider than the column's.
            false
        } else if scalars.iter().copied().any(untyped) {
            // An untyped string is read as the common type of the others. Its value is the same as alone only if all of
            // them belong to one family of types that does not round.
            let integers = others().all(|s| matches!(type_of(s), 20 | 21 | 23));
            let same = [16, 17, 2950]
                .iter()
                .any(|oid| others().all(|s| type_of(s) == *oid));
            integers || same || others().all(|s| matches!(type_of(s), 25 | 1043))
        } else {
            let first = others().map(type_of).next().unwrap_or(0);
            others().all(number) || (first != 0 && others().all(|s| type_of(s) == first))
        };
        certain.then(|| given.into_iter().map(Item::One).collect())
    }

    /// Items of `= ANY(expression)`.
    pub(super) fn array_items(&self, expr: &Expr) -> Option<Vec<Item>> {
        match strip(expr) {
            // The elements of `ARRAY[..]` are judged as the members of a list are.
            Expr::Array(array) => self.items(&array.elem),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => {
                let element = array_cast(data_type)?;
                match strip(expr) {
                    Expr::Value(value) => match self.literal(&value.value)? {
                        source @ Scalar::Text { as_type: 0, .. } => {
                            Some(vec![Item::Array { source, element }])
                        }
                        source @ Scalar::Slot(Slot {
                            kind: SlotKind::Text,
                            as_type: 0,
                            ..
                        }) => Some(vec![Item::Array { source, element }]),
                        Scalar::Param { number, as_type } => {
                            let same = as_type == 0
                                || Some(as_type)
                                    == mothership_catalog::types::builtin_array_oid(element);
                            let source = Scalar::Param {
                                number,
                                as_type: element,
                            };
                            same.then(|| vec![Item::Array { source, element }])
                        }
                        _ => None,
                    },
                    _ => None,
                }
            }
            Expr::Value(value) => match self.literal(&value.value)? {
                source @ (Scalar::Text { as_type: 0, .. } | Scalar::Null) => {
                    Some(vec![Item::Array { source, element: 0 }])
                }
                source @ Scalar::Slot(Slot {
                    kind: SlotKind::Text,
                    as_type: 0,
                    ..
                }) => Some(vec![Item::Array { source, element: 0 }]),
                Scalar::Param { number, as_type: 0 } => Some(vec![Item::Array {
                    source: Scalar::Param { number, as_type: 0 },
                    element: 0,
                }]),
                Scalar::Param { number, as_type } => {
                    let element = KeyType::ALL.into_iter().map(KeyType::oid).find(|element| {
                        mothership_catalog::types::builtin_array_oid(*element) == Some(as_type)
                    })?;
                    Some(vec![Item::Array {
                        source: Scalar::Param { number, as_type },
                        element,
                    }])
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// The element type's OID of an array type that a cast names.
pub(super) fn array_cast(data_type: &DataType) -> Option<u32> {
    use sqlparser::ast::ArrayElemTypeDef as Element;
    match data_type {
        DataType::Array(Element::SquareBracket(element, _)) => cast_oid(element),
        _ => None,
    }
}

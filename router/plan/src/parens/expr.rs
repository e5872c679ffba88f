//! Expressions with every parenthesis written.

use sqlparser::ast::{
    AccessExpr, Array, CastKind, CeilFloorKind, DateTimeField, Expr, ExtractSyntax,
    JsonKeyUniqueness, JsonPredicateType, Subscript, TypedString,
};

use crate::expr::{is_default, strip};
use crate::grammar::lower_bound;
use crate::misread;
use crate::refuse::not_understood;

use super::{Done, Writer};

impl Writer {
    /// An expression in parentheses.
    pub(super) fn expr(&mut self, expr: &Expr) -> Done {
        self.put("(");
        self.bare(expr)?;
        self.put(")");
        Ok(())
    }

    pub(super) fn exprs(&mut self, list: &[Expr]) -> Done {
        self.list(list, Writer::expr)
    }

    /// An expression that has no place for parentheses around it: DEFAULT, and the inner part of an array of arrays.
    pub(super) fn value_or_default(&mut self, expr: &Expr) -> Done {
        match expr {
            expr if is_default(expr) => {
                self.put("DEFAULT");
                Ok(())
            }
            expr => self.expr(expr),
        }
    }

    fn element(&mut self, expr: &Expr) -> Done {
        match expr {
            Expr::Array(Array { elem, named: false }) => {
                self.put("[");
                self.list(elem, Writer::element)?;
                self.put("]");
                Ok(())
            }
            expr => self.expr(expr),
        }
    }

    /// The nodes that `Analysis::walk` knows, and no others.
    pub(super) fn bare(&mut self, expr: &Expr) -> Done {
        if !misread::agrees(expr) {
            return not_understood();
        }
        match expr {
            Expr::Identifier(ident) => self.ident(ident),
            Expr::CompoundIdentifier(parts) => self.joined(parts, ".", Writer::ident),
            Expr::CompoundFieldAccess { root, access_chain } => {
                match &**root {
                    Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.bare(root)?,
                    root => self.expr(root)?,
                }
                access_chain
                    .iter()
                    .try_for_each(|access| self.access(access))
            }
            Expr::IsFalse(e) => self.postfix(e, "IS FALSE"),
            Expr::IsNotFalse(e) => self.postfix(e, "IS NOT FALSE"),
            Expr::IsTrue(e) => self.postfix(e, "IS TRUE"),
            Expr::IsNotTrue(e) => self.postfix(e, "IS NOT TRUE"),
            Expr::IsNull(e) => self.postfix(e, "IS NULL"),
            Expr::IsNotNull(e) => self.postfix(e, "IS NOT NULL"),
            Expr::IsUnknown(e) => self.postfix(e, "IS UNKNOWN"),
            Expr::IsNotUnknown(e) => self.postfix(e, "IS NOT UNKNOWN"),
            Expr::IsDistinctFrom(a, b) => self.infix(a, "IS DISTINCT FROM", b),
            Expr::IsNotDistinctFrom(a, b) => self.infix(a, "IS NOT DISTINCT FROM", b),
            Expr::IsJson {
                expr,
                kind,
                unique_keys,
                negated,
            } => {
                self.postfix(expr, if *negated { "IS NOT JSON" } else { "IS JSON" })?;
                self.put(match kind {
                    None => "",
                    Some(JsonPredicateType::Value) => " VALUE",
                    Some(JsonPredicateType::Scalar) => " SCALAR",
                    Some(JsonPredicateType::Array) => " ARRAY",
                    Some(JsonPredicateType::Object) => " OBJECT",
                });
                self.put(match unique_keys {
                    None => "",
                    Some(JsonKeyUniqueness::WithUniqueKeys) => " WITH UNIQUE KEYS",
                    Some(JsonKeyUniqueness::WithoutUniqueKeys) => " WITHOUT UNIQUE KEYS",
                });
                Ok(())
            }
            Expr::IsNormalized {
                expr,
                form,
                negated,
            } => {
                self.postfix(expr, if *negated { "IS NOT" } else { "IS" })?;
                if let Some(form) = form {
                    self.put(&format!(" {form}"));
                }
                self.put(" NORMALIZED");
                Ok(())
            }
            Expr::InList {
                expr,
                list,
                negated,
            } => {
                self.expr(expr)?;
                self.put(if *negated { " NOT IN (" } else { " IN (" });
                self.exprs(list)?;
                // One subquery in parentheses is no list to PostgreSQL, so a list of it must not look the same.
                if let [one] = list.as_slice()
                    && matches!(strip(one), Expr::Subquery(_))
                {
                    self.put(", NULL");
                }
                self.put(")");
                Ok(())
            }
            Expr::InSubquery {
                expr,
                subquery,
                negated,
            } => {
                self.expr(expr)?;
                self.put(if *negated { " NOT IN " } else { " IN " });
                self.query_in_parens(subquery)
            }
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                self.expr(expr)?;
                self.put(if *negated {
                    " NOT BETWEEN "
                } else {
                    " BETWEEN "
                });
                let (low, symmetric) = lower_bound(low);
                self.put(if symmetric { "SYMMETRIC " } else { "" });
                self.infix(low, "AND", high)
            }
            Expr::BinaryOp { left, op, right } => self.infix(left, &op.to_string(), right),
            Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, *negated, "LIKE", pattern, escape_char.as_deref()),
            Expr::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, *negated, "ILIKE", pattern, escape_char.as_deref()),
            Expr::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => self.like(
                expr,
                *negated,
                "SIMILAR TO",
                pattern,
                escape_char.as_deref(),
            ),
            Expr::AnyOp {
                left,
                compare_op,
                right,
                is_some,
            } => {
                let word = if *is_some { "SOME" } else { "ANY" };
                self.quantified(left, &format!("{compare_op} {word}"), right)
            }
            Expr::AllOp {
                left,
                compare_op,
                right,
            } => self.quantified(left, &format!("{compare_op} ALL"), right),
            Expr::UnaryOp { op, expr } => self.prefix(&op.to_string(), expr),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => {
                self.put("CAST(");
                self.expr(expr)?;
                self.put(&format!(" AS {data_type})"));
                Ok(())
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => self.infix(timestamp, "AT TIME ZONE", time_zone),
            Expr::Extract {
                field,
                syntax: ExtractSyntax::From,
                expr,
            } => {
                self.put("EXTRACT(");
                self.field(field)?;
                self.put(" FROM ");
                self.expr(expr)?;
                self.put(")");
                Ok(())
            }
            Expr::Ceil { expr, field } => self.rounded("ceil", expr, field),
            Expr::Floor { expr, field } => self.rounded("floor", expr, field),
            Expr::Position { expr, r#in } => {
                self.put("POSITION(");
                self.infix(expr, "IN", r#in)?;
                self.put(")");
                Ok(())
            }
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                special,
                shorthand,
            } => {
                self.put(if *shorthand { "substr(" } else { "substring(" });
                self.expr(expr)?;
                for (word, part) in [(" FROM ", substring_from), (" FOR ", substring_for)] {
                    if let Some(part) = part {
                        self.put(if *special { ", " } else { word });
                        self.expr(part)?;
                    }
                }
                self.put(")");
                Ok(())
            }
            Expr::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters,
            } => {
                self.put("TRIM(");
                if let Some(place) = trim_where {
                    self.put(&format!("{place} "));
                }
                if let Some(what) = trim_what {
                    self.expr(what)?;
                    self.put(" FROM ");
                }
                self.expr(expr)?;
                for characters in trim_characters.iter().flatten() {
                    self.put(", ");
                    self.expr(characters)?;
                }
                self.put(")");
                Ok(())
            }
            Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                self.put("OVERLAY(");
                self.infix(expr, "PLACING", overlay_what)?;
                self.put(" FROM ");
                self.expr(overlay_from)?;
                if let Some(length) = overlay_for {
                    self.put(" FOR ");
                    self.expr(length)?;
                }
                self.put(")");
                Ok(())
            }
            Expr::Collate { expr, collation } => {
                self.expr(expr)?;
                self.put(" COLLATE ");
                self.name(collation)
            }
            Expr::Nested(inner) => self.expr(inner),
            Expr::Value(value) => self.constant(&value.value),
            Expr::TypedString(TypedString {
                data_type,
                value,
                uses_odbc_syntax: false,
            }) => {
                self.put(&format!("{data_type} "));
                self.constant(&value.value)
            }
            Expr::Function(function) => self.function(function),
            Expr::Case {
                case_token: _,
                end_token: _,
                operand,
                conditions,
                else_result,
            } => {
                self.put("CASE ");
                if let Some(operand) = operand {
                    self.expr(operand)?;
                }
                for when in conditions {
                    self.put(" WHEN ");
                    self.infix(&when.condition, "THEN", &when.result)?;
                }
                if let Some(otherwise) = else_result {
                    self.put(" ELSE ");
                    self.expr(otherwise)?;
                }
                self.put(" END");
                Ok(())
            }
            Expr::Exists { subquery, negated } => {
                self.put(if *negated { "NOT EXISTS " } else { "EXISTS " });
                self.query_in_parens(subquery)
            }
            Expr::Subquery(query) => self.query_in_parens(query),
            Expr::GroupingSets(sets) => self.grouping("GROUPING SETS", sets),
            Expr::Cube(sets) => self.grouping("CUBE", sets),
            Expr::Rollup(sets) => self.grouping("ROLLUP", sets),
            Expr::Tuple(list) => self.exprs(list),
            Expr::Array(Array { elem, named: true }) => {
                self.put("ARRAY[");
                self.list(elem, Writer::element)?;
                self.put("]");
                Ok(())
            }
            Expr::Interval(interval) => self.interval(interval),
            Expr::JsonAccess { .. }
            | Expr::InUnnest { .. }
            | Expr::Like { any: true, .. }
            | Expr::ILike { any: true, .. }
            | Expr::RLike { .. }
            | Expr::Convert { .. }
            | Expr::Cast { .. }
            | Expr::Extract { .. }
            | Expr::Prefixed { .. }
            | Expr::TypedString(_)
            | Expr::Struct { .. }
            | Expr::Named { .. }
            | Expr::Dictionary(_)
            | Expr::Map(_)
            | Expr::Array(_)
            | Expr::MatchAgainst { .. }
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..)
            | Expr::OuterJoin(_)
            | Expr::Prior(_)
            | Expr::Lambda(_)
            | Expr::MemberOf(_) => not_understood(),
        }
    }

    /// `left word right`, both in parentheses.
    fn infix(&mut self, left: &Expr, word: &str, right: &Expr) -> Done {
        self.expr(left)?;
        self.put(&format!(" {word} "));
        self.expr(right)
    }

    fn prefix(&mut self, word: &str, expr: &Expr) -> Done {
        self.put(word);
        self.put(" ");
        self.expr(expr)
    }

    fn postfix(&mut self, expr: &Expr, word: &str) -> Done {
        self.expr(expr)?;
        self.put(" ");
        self.put(word);
        Ok(())
    }

    fn like(
        &mut self,
        expr: &Expr,
        negated: bool,
        word: &str,
        pattern: &Expr,
        escape: Option<&Expr>,
    ) -> Done {
        let word = if negated {
            format!("NOT {word}")
        } else {
            word.to_owned()
        };
        self.infix(expr, &word, pattern)?;
        match escape {
            None => Ok(()),
            Some(escape) => self.prefix(" ESCAPE", escape),
        }
    }

    /// `left = ANY (right)`: of an array, or of the rows of a query.
    fn quantified(&mut self, left: &Expr, word: &str, right: &Expr) -> Done {
        self.expr(left)?;
        self.put(&format!(" {word} "));
        match strip(right) {
            Expr::Subquery(query) => self.query_in_parens(query),
            _ => {
                self.put("(");
                self.expr(right)?;
                self.put(")");
                Ok(())
            }
        }
    }

    fn access(&mut self, access: &AccessExpr) -> Done {
        match access {
            AccessExpr::Dot(Expr::Identifier(field)) => {
                self.put(".");
                self.ident(field)
            }
            AccessExpr::Dot(Expr::Wildcard(_)) => {
                self.put(".*");
                Ok(())
            }
            AccessExpr::Subscript(Subscript::Index { index }) => {
                self.put("[");
                self.expr(index)?;
                self.put("]");
                Ok(())
            }
            AccessExpr::Subscript(Subscript::Slice {
                lower_bound,
                upper_bound,
                stride: None,
            }) => {
                self.put("[");
                lower_bound.iter().try_for_each(|e| self.expr(e))?;
                self.put(":");
                upper_bound.iter().try_for_each(|e| self.expr(e))?;
                self.put("]");
                Ok(())
            }
            AccessExpr::Dot(_) | AccessExpr::Subscript(Subscript::Slice { .. }) => not_understood(),
        }
    }

    fn rounded(&mut self, name: &str, expr: &Expr, field: &CeilFloorKind) -> Done {
        self.put(name);
        self.put("(");
        self.expr(expr)?;
        match field {
            CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => {}
            CeilFloorKind::DateTimeField(_) => return not_understood(),
            CeilFloorKind::Scale(value) => {
                self.put(", ");
                self.constant(&value.value)?;
            }
        }
        self.put(")");
        Ok(())
    }

    fn grouping(&mut self, word: &str, sets: &[Vec<Expr>]) -> Done {
        self.put(word);
        self.put(" (");
        self.list(sets, |w, set| {
            w.put("(");
            w.exprs(set)?;
            w.put(")");
            Ok(())
        })?;
        self.put(")");
        Ok(())
    }
}

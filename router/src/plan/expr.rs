//! Expressions: constants, necessary conditions, and a walk that leaves nothing unseen.
//!
//! `walk` visits every part of an expression and refuses what it does not
//! know. `scalar` reads constants and parameters. `implied` says what must
//! hold of one instance's columns if an expression is true (or false); by
//! three-valued logic neither holds when it is null.

use mothership_shardmap::KeyType;
use sqlparser::ast::{
    AccessExpr, BinaryOperator as Op, CastKind, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArguments, OrderByExpr, OrderByOptions,
    Subscript, UnaryOperator, Value, ValueWithSpan, WindowSpec, WindowType,
};

use super::condition::{Cond, Edge, Item, Scalar};
use super::functions::{self, Call};
use super::misread;
use super::query::Ctes;
use super::refuse::{Reason, Refusal};
use super::scope::{Analysis, Node, Scopes};

/// Constants are folded through this many operators; deeper ones are not looked into.
const MAX_FOLDING: u8 = 12;

/// What an expression adds to its query level.
#[derive(Debug, Clone, Default)]
pub struct Level {
    /// An aggregate call.
    pub aggregates: bool,
    /// A window function call.
    pub windows: bool,
    /// A subquery over a sharded table, or one whose answer may differ between shards.
    pub unmovable_subquery: Option<Refusal>,
}

/// `NOT x = y` and parentheses aside, an expression and whether it must be true or false.
pub fn strip(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// The operands of a chain of one operator, left to right, without recursion: chains of
/// thousands are legal.
pub fn chain<'e>(expr: &'e Expr, wanted: &Op) -> Vec<&'e Expr> {
    let mut operands = Vec::new();
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match strip(expr) {
            Expr::BinaryOp { left, op, right } if op == wanted => {
                open.push(right);
                open.push(left);
            }
            operand => operands.push(operand),
        }
    }
    operands
}

/// Words that stand alone and call a function.
const BARE_CALLS: [&str; 9] = [
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "current_role",
    "current_catalog",
];

impl<'n> Analysis<'n> {
    /// Visits all of an expression. An error means that something in it is not known.
    pub fn walk(
        &mut self,
        expr: &Expr,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        // The left spine of operators is walked in a loop: only parentheses nest.
        let mut expr = expr;
        loop {
            if !misread::agrees(expr) {
                return Err(Refusal::new(Reason::OperatorsUnclear));
            }
            match expr {
                Expr::BinaryOp { left, right, .. } => {
                    self.note_columns(expr, scopes);
                    self.walk(right, scopes, ctes, level)?;
                    expr = left;
                }
                Expr::Cast {
                    kind: CastKind::DoubleColon,
                    expr: inner,
                    data_type,
                    format: None,
                } => {
                    self.note_columns(expr, scopes);
                    self.data_type(data_type)?;
                    expr = inner;
                }
                _ => return self.walk_node(expr, scopes, ctes, level),
            }
        }
    }

    fn walk_all<'e>(
        &mut self,
        list: impl IntoIterator<Item = &'e Expr>,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        list.into_iter()
            .try_for_each(|e| self.walk(e, scopes, ctes, level))
    }

    fn walk_node(
        &mut self,
        expr: &Expr,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        self.note_columns(expr, scopes);
        match expr {
            Expr::Identifier(ident) => {
                let name = self.ident(ident);
                if ident.quote_style.is_none() && BARE_CALLS.contains(&name.as_str()) {
                    self.note(
                        functions::call(self.names, Some("pg_catalog"), &name),
                        &name,
                    );
                }
                Ok(())
            }
            Expr::CompoundIdentifier(parts) => {
                parts.iter().for_each(|p| drop(self.ident(p)));
                // x.f calls f(x) where x has no column f.
                if let Some(last) = parts.last() {
                    self.field_call(&super::names::fold(&last.value, last.quote_style.is_some()));
                }
                Ok(())
            }
            Expr::Value(value) => self.value(value),
            Expr::TypedString(typed) => self.value(&typed.value),
            Expr::Nested(e)
            | Expr::IsTrue(e)
            | Expr::IsNotTrue(e)
            | Expr::IsFalse(e)
            | Expr::IsNotFalse(e)
            | Expr::IsNull(e)
            | Expr::IsNotNull(e)
            | Expr::IsUnknown(e)
            | Expr::IsNotUnknown(e)
            | Expr::UnaryOp { expr: e, .. }
            | Expr::Extract { expr: e, .. }
            | Expr::Ceil { expr: e, .. }
            | Expr::Floor { expr: e, .. }
            | Expr::IsJson { expr: e, .. }
            | Expr::IsNormalized { expr: e, .. } => self.walk(e, scopes, ctes, level),
            Expr::Collate { expr: e, collation } => {
                self.object_name(collation);
                self.walk(e, scopes, ctes, level)
            }
            Expr::Cast {
                kind: CastKind::Cast,
                expr: e,
                data_type,
                format: None,
            } => {
                self.data_type(data_type)?;
                self.walk(e, scopes, ctes, level)
            }
            Expr::IsDistinctFrom(a, b) | Expr::IsNotDistinctFrom(a, b) => {
                self.walk_all([&**a, &**b], scopes, ctes, level)
            }
            Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
                self.walk_all([&**left, &**right], scopes, ctes, level)
            }
            Expr::InList { expr, list, .. } => {
                self.walk(expr, scopes, ctes, level)?;
                self.walk_all(list, scopes, ctes, level)
            }
            Expr::Between {
                expr, low, high, ..
            } => self.walk_all([&**expr, &**low, &**high], scopes, ctes, level),
            Expr::Like {
                any: false,
                expr,
                pattern,
                escape_char,
                ..
            }
            | Expr::ILike {
                any: false,
                expr,
                pattern,
                escape_char,
                ..
            }
            | Expr::SimilarTo {
                expr,
                pattern,
                escape_char,
                ..
            } => {
                self.walk_all([&**expr, &**pattern], scopes, ctes, level)?;
                self.walk_all(escape_char.as_deref(), scopes, ctes, level)
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => self.walk_all([&**timestamp, &**time_zone], scopes, ctes, level),
            Expr::Position { expr, r#in } => self.walk_all([&**expr, &**r#in], scopes, ctes, level),
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => {
                self.walk(expr, scopes, ctes, level)?;
                self.walk_all(substring_from.as_deref(), scopes, ctes, level)?;
                self.walk_all(substring_for.as_deref(), scopes, ctes, level)
            }
            Expr::Trim {
                expr,
                trim_what,
                trim_characters,
                ..
            } => {
                self.walk(expr, scopes, ctes, level)?;
                self.walk_all(trim_what.as_deref(), scopes, ctes, level)?;
                self.walk_all(trim_characters.iter().flatten(), scopes, ctes, level)
            }
            Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                self.walk_all(
                    [&**expr, &**overlay_what, &**overlay_from],
                    scopes,
                    ctes,
                    level,
                )?;
                self.walk_all(overlay_for.as_deref(), scopes, ctes, level)
            }
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                self.walk_all(operand.as_deref(), scopes, ctes, level)?;
                for when in conditions {
                    self.walk_all([&when.condition, &when.result], scopes, ctes, level)?;
                }
                self.walk_all(else_result.as_deref(), scopes, ctes, level)
            }
            Expr::Tuple(list) => self.walk_all(list, scopes, ctes, level),
            Expr::Array(array) => self.walk_all(&array.elem, scopes, ctes, level),
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.walk_all(sets.iter().flatten(), scopes, ctes, level)
            }
            Expr::Interval(interval) => self.walk(&interval.value, scopes, ctes, level),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.walk(root, scopes, ctes, level)?;
                access_chain
                    .iter()
                    .try_for_each(|a| self.access(a, scopes, ctes, level))
            }
            Expr::Function(function) => self.function(function, scopes, ctes, level),
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => {
                self.subquery(subquery, scopes, ctes, level).map(drop)
            }
            Expr::InSubquery { expr, subquery, .. } => {
                self.walk(expr, scopes, ctes, level)?;
                self.subquery(subquery, scopes, ctes, level).map(drop)
            }
            _ => Err(Refusal::new(Reason::NotUnderstood)),
        }
    }

    fn access(
        &mut self,
        access: &AccessExpr,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        match access {
            AccessExpr::Dot(Expr::Identifier(field)) => {
                let name = self.ident(field);
                self.field_call(&name);
                Ok(())
            }
            AccessExpr::Dot(Expr::Wildcard(_)) => Ok(()),
            AccessExpr::Dot(_) => Err(Refusal::new(Reason::NotUnderstood)),
            AccessExpr::Subscript(Subscript::Index { index }) => {
                self.walk(index, scopes, ctes, level)
            }
            AccessExpr::Subscript(Subscript::Slice {
                lower_bound,
                upper_bound,
                stride: None,
            }) => {
                self.walk_all(lower_bound, scopes, ctes, level)?;
                self.walk_all(upper_bound, scopes, ctes, level)
            }
            AccessExpr::Subscript(_) => Err(Refusal::new(Reason::NotUnderstood)),
        }
    }

    /// A field of a composite value may be a call of a user function.
    fn field_call(&mut self, name: &str) {
        if self.names.reach(name).is_some() {
            self.note(
                functions::call(self.names, None, name).max(Call::Volatile),
                name,
            );
        }
    }

    fn value(&mut self, value: &ValueWithSpan) -> Result<(), Refusal> {
        match &value.value {
            Value::Number(..)
            | Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null
            | Value::Placeholder(_)
            | Value::HexStringLiteral(_)
            | Value::NationalStringLiteral(_) => Ok(()),
            _ => Err(Refusal::new(Reason::NotUnderstood)),
        }
    }

    fn function(
        &mut self,
        function: &Function,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        let unknown = || Err(Refusal::new(Reason::NotUnderstood));
        if function.uses_odbc_syntax || !matches!(function.parameters, FunctionArguments::None) {
            return unknown();
        }
        let parts = self.object_name(&function.name);
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name.as_str()),
            [schema, name] => (Some(schema.as_str()), name.as_str()),
            _ => return unknown(),
        };
        let mut call = functions::call(self.names, schema, name);
        if call == Call::Server && name == "current_setting" && is_custom_setting(&function.args) {
            // The session's own settings are the same on all its connections.
            call = Call::Harmless;
        }
        self.note(call, name);
        if function.over.is_some() {
            level.windows = true;
        } else if functions::is_aggregate(self.names, schema, name) {
            level.aggregates = true;
        }
        match &function.args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => drop(self.subquery(query, scopes, ctes, level)?),
            FunctionArguments::List(list) => {
                for arg in &list.args {
                    self.argument(arg, scopes, ctes, level)?;
                }
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(order) => {
                            self.order(order, scopes, ctes, level)?;
                        }
                        _ => return unknown(),
                    }
                }
            }
        }
        self.order(&function.within_group, scopes, ctes, level)?;
        self.walk_all(function.filter.as_deref(), scopes, ctes, level)?;
        match &function.over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec, scopes, ctes, level),
            Some(WindowType::NamedWindow(name)) => {
                self.ident(name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// One argument of a function.
    pub fn argument(
        &mut self,
        arg: &FunctionArg,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        let value = match arg {
            FunctionArg::Unnamed(value) => value,
            FunctionArg::Named { name, arg, .. } => {
                self.ident(name);
                arg
            }
            FunctionArg::ExprNamed { .. } => return Err(Refusal::new(Reason::NotUnderstood)),
        };
        match value {
            FunctionArgExpr::Expr(expr) => self.walk(expr, scopes, ctes, level),
            FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::QualifiedWildcard(name) => {
                self.object_name(name);
                Ok(())
            }
            FunctionArgExpr::WildcardWithOptions(_) => Err(Refusal::new(Reason::NotUnderstood)),
        }
    }

    /// A window's definition.
    pub fn window(
        &mut self,
        spec: &WindowSpec,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        if let Some(name) = &spec.window_name {
            self.ident(name);
        }
        self.walk_all(&spec.partition_by, scopes, ctes, level)?;
        self.order(&spec.order_by, scopes, ctes, level)?;
        if let Some(frame) = &spec.window_frame {
            for bound in std::iter::once(&frame.start_bound).chain(frame.end_bound.as_ref()) {
                use sqlparser::ast::WindowFrameBound as Bound;
                if let Bound::Preceding(Some(e)) | Bound::Following(Some(e)) = bound {
                    self.walk(e, scopes, ctes, level)?;
                }
            }
        }
        Ok(())
    }

    /// An ORDER BY list.
    pub fn order(
        &mut self,
        order: &[OrderByExpr],
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        for OrderByExpr {
            expr,
            options: OrderByOptions { .. },
            with_fill,
        } in order
        {
            if with_fill.is_some() {
                return Err(Refusal::new(Reason::NotUnderstood));
            }
            self.walk(expr, scopes, ctes, level)?;
        }
        Ok(())
    }

    /// A type's name may be a user type; nothing in it can name a table's rows.
    pub fn data_type(&mut self, data_type: &DataType) -> Result<(), Refusal> {
        match data_type {
            DataType::Custom(name, _) => {
                self.object_name(name);
                Ok(())
            }
            DataType::Array(
                sqlparser::ast::ArrayElemTypeDef::SquareBracket(element, _)
                | sqlparser::ast::ArrayElemTypeDef::AngleBracket(element),
            ) => self.data_type(element),
            _ => Ok(()),
        }
    }

    /// The folded parts of a name.
    pub fn object_name(&mut self, name: &sqlparser::ast::ObjectName) -> Vec<String> {
        name.0
            .iter()
            .map(|part| part.as_ident().map_or_else(String::new, |i| self.ident(i)))
            .collect()
    }
}

/// Whether the first argument is the name of a setting of the user's, `app.tenant`.
fn is_custom_setting(args: &FunctionArguments) -> bool {
    let FunctionArguments::List(list) = args else {
        return false;
    };
    match list.args.first() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) => {
            matches!(&value.value, Value::SingleQuotedString(name) if name.contains('.'))
        }
        _ => false,
    }
}

/// The type OID that a cast names, for types that may be keys and without modifiers.
pub fn cast_oid(data_type: &DataType) -> Option<u32> {
    use sqlparser::ast::{ExactNumberInfo, TimezoneInfo};
    let key = match data_type {
        DataType::Int2(None) | DataType::SmallInt(None) => KeyType::Int2,
        DataType::Int(None) | DataType::Int4(None) | DataType::Integer(None) => KeyType::Int4,
        DataType::Int8(None) | DataType::BigInt(None) => KeyType::Int8,
        DataType::Text => KeyType::Text,
        DataType::Varchar(None) | DataType::CharacterVarying(None) => KeyType::Varchar,
        DataType::Uuid => KeyType::Uuid,
        DataType::Bool | DataType::Boolean => KeyType::Bool,
        DataType::Date => KeyType::Date,
        DataType::Bytea => KeyType::Bytea,
        DataType::Numeric(ExactNumberInfo::None) | DataType::Decimal(ExactNumberInfo::None) => {
            KeyType::Numeric
        }
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            KeyType::Timestamp
        }
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            KeyType::TimestampTz
        }
        _ => return None,
    };
    Some(key.oid())
}

/// The element type's OID of an array type that a cast names.
fn array_cast(data_type: &DataType) -> Option<u32> {
    use sqlparser::ast::ArrayElemTypeDef as Element;
    match data_type {
        DataType::Array(Element::SquareBracket(element, _)) => cast_oid(element),
        _ => None,
    }
}

impl Analysis<'_> {
    /// The constant or parameter that an expression is, if it is plainly one.
    pub fn scalar(&self, expr: &Expr) -> Option<Scalar> {
        self.scalar_within(expr, MAX_FOLDING)
    }

    fn scalar_within(&self, expr: &Expr, depth: u8) -> Option<Scalar> {
        let depth = depth.checked_sub(1)?;
        match strip(expr) {
            Expr::Value(value) => self.literal(&value.value),
            Expr::UnaryOp { op, expr } => match (op, self.scalar_within(expr, depth)?) {
                (UnaryOperator::Plus, s @ (Scalar::Integer(_) | Scalar::Decimal(_))) => Some(s),
                (UnaryOperator::Minus, Scalar::Integer(value)) => Some(Scalar::Integer(-value)),
                (UnaryOperator::Minus, Scalar::Decimal(digits)) => {
                    Some(Scalar::Decimal(negate(digits)))
                }
                _ => None,
            },
            Expr::BinaryOp { left, op, right } => {
                let right = self.scalar_within(right, depth)?;
                match (self.scalar_within(left, depth)?, right) {
                    (Scalar::Integer(a), Scalar::Integer(b)) => fold_integers(a, op, b),
                    _ => None,
                }
            }
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => cast(self.scalar_within(expr, depth)?, cast_oid(data_type)?),
            Expr::TypedString(typed) if !typed.uses_odbc_syntax => cast(
                self.literal(&typed.value.value)?,
                cast_oid(&typed.data_type)?,
            ),
            _ => None,
        }
    }

    fn literal(&self, value: &Value) -> Option<Scalar> {
        Some(match value {
            Value::Number(digits, false) => number(digits)?,
            Value::SingleQuotedString(text) => Scalar::Text {
                text: text.clone(),
                as_type: 0,
            },
            // A tag cannot occur within, and nothing is escaped.
            Value::DollarQuotedString(text) => Scalar::Text {
                text: text.value.clone(),
                as_type: 0,
            },
            Value::Boolean(value) => Scalar::Bool(*value),
            Value::Null => Scalar::Null,
            Value::Placeholder(text) => {
                let number = placeholder(text)?;
                Scalar::Param {
                    number,
                    as_type: self.declared_type(number),
                }
            }
            _ => return None,
        })
    }

    fn declared_type(&self, number: u16) -> u32 {
        let declared = usize::from(number).checked_sub(1);
        let declared = declared
            .and_then(|i| self.context.parameter_types.get(i))
            .copied();
        // 705 is `unknown`.
        declared.filter(|oid| *oid != 705).unwrap_or(0)
    }

    /// Items of `= ANY(expression)`.
    fn array_items(&self, expr: &Expr) -> Option<Vec<Item>> {
        match strip(expr) {
            // An array of plain elements has the type of its elements, which must agree with
            // the column as those of a list do.
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
                        Scalar::Param { number, as_type } => {
                            let same = as_type == 0
                                || Some(as_type)
                                    == crate::catalog::types::builtin_array_oid(element);
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
                Scalar::Param { number, as_type: 0 } => Some(vec![Item::Array {
                    source: Scalar::Param { number, as_type: 0 },
                    element: 0,
                }]),
                Scalar::Param { number, as_type } => {
                    let element = KeyType::ALL.into_iter().map(KeyType::oid).find(|element| {
                        crate::catalog::types::builtin_array_oid(*element) == Some(as_type)
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

    /// A list of constants and parameters that PostgreSQL compares with a column one by one as it
    /// would each alone. A list of mixed types is compared in their common type, which is
    /// exact for integers and numeric, and not looked into otherwise.
    fn items(&self, list: &[Expr]) -> Option<Vec<Item>> {
        let scalars: Vec<Scalar> = list.iter().map(|e| self.scalar(e)).collect::<Option<_>>()?;
        let untyped = |s: &Scalar| {
            matches!(
                s,
                Scalar::Text { as_type: 0, .. } | Scalar::Param { as_type: 0, .. }
            )
        };
        let open_param = |s: &Scalar| matches!(s, Scalar::Param { as_type: 0, .. });
        let others = || {
            scalars
                .iter()
                .filter(|s| !untyped(s) && **s != Scalar::Null)
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
        } else if scalars.iter().any(open_param) {
            // The parameter would take the common type, which may be wider than the column's.
            false
        } else if scalars.iter().any(untyped) {
            // A string is read as the common type: the same value only within one family without rounding.
            let integers = others().all(|s| matches!(type_of(s), 20 | 21 | 23));
            let same = [16, 17, 2950]
                .iter()
                .any(|oid| others().all(|s| type_of(s) == *oid));
            integers || same || others().all(|s| matches!(type_of(s), 25 | 1043))
        } else {
            let first = others().map(type_of).next().unwrap_or(0);
            others().all(number) || (first != 0 && others().all(|s| type_of(s) == first))
        };
        certain.then(|| scalars.into_iter().map(Item::One).collect())
    }

    /// The column of `instance` that an expression plainly is.
    fn column(&self, expr: &Expr, instance: usize, scopes: &Scopes<'_>) -> Option<usize> {
        self.node(expr, scopes)
            .filter(|node| node.0 == instance)
            .map(|node| node.1)
    }

    /// The column that an expression plainly is.
    pub fn node(&self, expr: &Expr, scopes: &Scopes<'_>) -> Option<Node> {
        let parts: Vec<String> = match strip(expr) {
            Expr::Identifier(ident) => vec![super::names::fold(
                &ident.value,
                ident.quote_style.is_some(),
            )],
            Expr::CompoundIdentifier(parts) => parts
                .iter()
                .map(|i| super::names::fold(&i.value, i.quote_style.is_some()))
                .collect(),
            _ => return None,
        };
        self.resolve(&parts, scopes)
    }

    /// What must hold of an instance's columns if the expression is `wanted`.
    pub fn implied(&self, expr: &Expr, wanted: bool, instance: usize, scopes: &Scopes<'_>) -> Cond {
        match strip(expr) {
            expr @ Expr::BinaryOp {
                op: op @ (Op::And | Op::Or),
                ..
            } => {
                let operands = chain(expr, op);
                let each = operands
                    .into_iter()
                    .map(|e| self.implied(e, wanted, instance, scopes));
                if (*op == Op::And) == wanted {
                    each.fold(Cond::Any, Cond::and)
                } else {
                    each.fold(Cond::Never, Cond::or)
                }
            }
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => self.implied(expr, !wanted, instance, scopes),
            Expr::IsTrue(e) if wanted => self.implied(e, true, instance, scopes),
            Expr::IsFalse(e) if wanted => self.implied(e, false, instance, scopes),
            Expr::BinaryOp { left, op, right } => {
                self.comparison(left, op, right, wanted, instance, scopes)
            }
            Expr::IsNotDistinctFrom(a, b) if wanted => self.not_distinct(a, b, instance, scopes),
            Expr::IsDistinctFrom(a, b) if !wanted => self.not_distinct(a, b, instance, scopes),
            Expr::InList {
                expr,
                list,
                negated,
            } if *negated != wanted => self.in_list(expr, list, instance, scopes),
            Expr::AnyOp {
                left,
                compare_op: Op::Eq,
                right,
                ..
            } if wanted => match (self.column(left, instance, scopes), self.array_items(right)) {
                (Some(column), Some(items)) => Cond::In {
                    column,
                    items,
                    nulls_match: false,
                },
                _ => Cond::Any,
            },
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } if *negated != wanted => {
                let low = self.comparison(expr, &Op::GtEq, low, true, instance, scopes);
                low.and(self.comparison(expr, &Op::LtEq, high, true, instance, scopes))
            }
            Expr::Value(value) => match value.value {
                Value::Boolean(constant) if constant == wanted => Cond::Any,
                Value::Boolean(_) | Value::Null => Cond::Never,
                _ => Cond::Any,
            },
            _ => Cond::Any,
        }
    }

    fn comparison(
        &self,
        left: &Expr,
        op: &Op,
        right: &Expr,
        wanted: bool,
        instance: usize,
        scopes: &Scopes<'_>,
    ) -> Cond {
        let op = match (op, wanted) {
            (Op::Eq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq, true) => op.clone(),
            (Op::NotEq, false) => Op::Eq,
            (Op::Lt, false) => Op::GtEq,
            (Op::LtEq, false) => Op::Gt,
            (Op::Gt, false) => Op::LtEq,
            (Op::GtEq, false) => Op::Lt,
            _ => return Cond::Any,
        };
        if let (Expr::Tuple(a), Expr::Tuple(b)) = (strip(left), strip(right)) {
            // Only equality of rows is equality of columns; `<` is lexicographic.
            if op != Op::Eq || a.len() != b.len() {
                return Cond::Any;
            }
            let pairs = a
                .iter()
                .zip(b)
                .map(|(x, y)| self.comparison(x, &Op::Eq, y, true, instance, scopes));
            return pairs.fold(Cond::Any, Cond::and);
        }
        if let (Some(a), Some(b)) = (self.scalar(left), self.scalar(right)) {
            return constants(&a, &op, &b);
        }
        if let (Some(column), Some(scalar)) =
            (self.column(left, instance, scopes), self.scalar(right))
        {
            return atom(column, &op, scalar);
        }
        if let (Some(scalar), Some(column)) =
            (self.scalar(left), self.column(right, instance, scopes))
        {
            let op = match op {
                Op::Lt => Op::Gt,
                Op::LtEq => Op::GtEq,
                Op::Gt => Op::Lt,
                Op::GtEq => Op::LtEq,
                other => other,
            };
            return atom(column, &op, scalar);
        }
        Cond::Any
    }

    fn not_distinct(&self, a: &Expr, b: &Expr, instance: usize, scopes: &Scopes<'_>) -> Cond {
        for (column, value) in [(a, b), (b, a)] {
            if let (Some(column), Some(scalar)) =
                (self.column(column, instance, scopes), self.scalar(value))
            {
                return Cond::In {
                    column,
                    items: vec![Item::One(scalar)],
                    nulls_match: true,
                };
            }
        }
        Cond::Any
    }

    fn in_list(&self, expr: &Expr, list: &[Expr], instance: usize, scopes: &Scopes<'_>) -> Cond {
        if let Expr::Tuple(columns) = strip(expr) {
            let rows = list.iter().map(|row| match strip(row) {
                Expr::Tuple(values) if values.len() == columns.len() => {
                    let pairs = columns.iter().zip(values);
                    pairs.fold(Cond::Any, |all, (c, v)| {
                        all.and(self.comparison(c, &Op::Eq, v, true, instance, scopes))
                    })
                }
                _ => Cond::Any,
            });
            return rows.fold(Cond::Never, Cond::or);
        }
        match (self.column(expr, instance, scopes), self.items(list)) {
            (Some(column), Some(items)) => Cond::In {
                column,
                items,
                nulls_match: false,
            },
            _ => Cond::Any,
        }
    }

    /// Notes parameters whose type PostgreSQL takes from a column beside them.
    fn note_columns(&mut self, expr: &Expr, scopes: &Scopes<'_>) {
        match expr {
            Expr::BinaryOp {
                left,
                op: Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq,
                right,
            }
            | Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right) => {
                if let (Expr::Tuple(a), Expr::Tuple(b)) = (strip(left), strip(right)) {
                    for (x, y) in a.iter().zip(b) {
                        self.note_pair(x, y, scopes);
                    }
                }
                self.note_pair(left, right, scopes);
            }
            Expr::Between {
                expr, low, high, ..
            } => {
                self.note_pair(expr, low, scopes);
                self.note_pair(expr, high, scopes);
            }
            Expr::InList { expr, list, .. } if self.items(list).is_some() => {
                for item in list {
                    self.note_pair(expr, item, scopes);
                }
            }
            Expr::InList { expr, list, .. } => {
                if let Expr::Tuple(columns) = strip(expr) {
                    for row in list {
                        if let Expr::Tuple(values) = strip(row) {
                            for (c, v) in columns.iter().zip(values) {
                                self.note_pair(c, v, scopes);
                            }
                        }
                    }
                }
            }
            // The array's type follows from the column's as the element's would.
            Expr::AnyOp {
                left,
                compare_op: Op::Eq,
                right,
                ..
            } => {
                let list: &[Expr] = match strip(right) {
                    Expr::Array(array) if self.items(&array.elem).is_some() => &array.elem,
                    _ => std::slice::from_ref(&**right),
                };
                for item in list {
                    self.note_pair(left, item, scopes);
                }
            }
            // A cast gives a parameter its type.
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                ..
            } => {
                let oid = cast_oid(data_type).or_else(|| array_cast(data_type));
                if let Some(key_type) = oid.and_then(KeyType::from_oid) {
                    self.note_use(expr, key_type);
                }
            }
            _ => {}
        }
    }

    fn note_pair(&mut self, left: &Expr, right: &Expr, scopes: &Scopes<'_>) {
        for (column, value) in [(left, right), (right, left)] {
            if let Some(key_type) = self
                .node(column, scopes)
                .and_then(|node| self.key_type(node))
            {
                self.note_use(value, key_type);
            }
        }
    }

    /// Notes that an expression, if it is a bare parameter, has this type.
    pub fn note_use(&mut self, expr: &Expr, key_type: KeyType) {
        if let Expr::Value(ValueWithSpan {
            value: Value::Placeholder(text),
            span,
        }) = strip(expr)
            && let Some(number) = placeholder(text)
        {
            self.typed_uses.insert(span.start, (number, key_type));
        }
    }
}

fn atom(column: usize, op: &Op, value: Scalar) -> Cond {
    let edge = |inclusive| {
        Some(Edge {
            value: value.clone(),
            inclusive,
        })
    };
    match op {
        Op::Eq => Cond::equals(column, value),
        Op::Gt => Cond::Between {
            column,
            low: edge(false),
            high: None,
        },
        Op::GtEq => Cond::Between {
            column,
            low: edge(true),
            high: None,
        },
        Op::Lt => Cond::Between {
            column,
            low: None,
            high: edge(false),
        },
        Op::LtEq => Cond::Between {
            column,
            low: None,
            high: edge(true),
        },
        _ => Cond::Any,
    }
}

/// `1 = 0` and its kin, for integers only.
fn constants(a: &Scalar, op: &Op, b: &Scalar) -> Cond {
    let holds = match (a, b) {
        (Scalar::Null, _) | (_, Scalar::Null) => false,
        (Scalar::Integer(a), Scalar::Integer(b)) => match op {
            Op::Eq => a == b,
            Op::Lt => a < b,
            Op::LtEq => a <= b,
            Op::Gt => a > b,
            Op::GtEq => a >= b,
            _ => return Cond::Any,
        },
        _ => return Cond::Any,
    };
    if holds { Cond::Any } else { Cond::Never }
}

/// A numeric literal: decimal digits only; other bases and underscores came with PostgreSQL 16.
fn number(digits: &str) -> Option<Scalar> {
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return match digits.parse::<i128>() {
            Ok(value) if value < i128::from(i64::MAX) * 1000 => Some(Scalar::Integer(value)),
            _ => Some(Scalar::Decimal(digits.to_owned())),
        };
    }
    let plain = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    (plain && digits.bytes().any(|b| b.is_ascii_digit()))
        .then(|| Scalar::Decimal(digits.to_owned()))
}

fn negate(digits: String) -> String {
    match digits.strip_prefix('-') {
        Some(positive) => positive.to_owned(),
        None => format!("-{digits}"),
    }
}

/// Sums, differences and products that PostgreSQL computes in int4 without overflow.
fn fold_integers(a: i128, op: &Op, b: i128) -> Option<Scalar> {
    let int4 = |v: i128| i32::try_from(v).ok();
    let (a, b) = (int4(a)?, int4(b)?);
    let value = match op {
        Op::Plus => a.checked_add(b)?,
        Op::Minus => a.checked_sub(b)?,
        Op::Multiply => a.checked_mul(b)?,
        _ => return None,
    };
    Some(Scalar::Integer(value.into()))
}

/// A cast of a constant or parameter, where it keeps the value.
fn cast(scalar: Scalar, oid: u32) -> Option<Scalar> {
    let integer = matches!(oid, 20 | 21 | 23);
    match scalar {
        Scalar::Null => Some(Scalar::Null),
        Scalar::Text { text, as_type: 0 } => Some(Scalar::Text { text, as_type: oid }),
        // Out of range is PostgreSQL's error; the value stands either way.
        Scalar::Integer(value) if integer => Some(Scalar::Text {
            text: value.to_string(),
            as_type: oid,
        }),
        Scalar::Integer(value) if oid == 1700 => Some(Scalar::Decimal(value.to_string())),
        Scalar::Bool(value) if oid == 16 => Some(Scalar::Bool(value)),
        Scalar::Param { number, as_type } if as_type == 0 || as_type == oid => {
            Some(Scalar::Param {
                number,
                as_type: oid,
            })
        }
        Scalar::Param {
            as_type: 20 | 21 | 23,
            ..
        } if integer => Some(scalar),
        _ => None,
    }
}

/// The number of `$1`.
pub fn placeholder(text: &str) -> Option<u16> {
    text.strip_prefix('$')?.parse().ok().filter(|n| *n > 0)
}

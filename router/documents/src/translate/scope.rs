//! What names and parameters of a statement mean.
//!
//! One table is in scope. A name that is not one of its columns for certain is not translated: PostgreSQL knows what
//! it is, or says that there is no such thing.

use std::sync::Arc;

use sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor, TableWithJoins,
};

use super::super::{Collection, Column, Kind, Precision};
use super::{Result, Tables, because};

/// PostgreSQL cuts identifiers after this many bytes.
const MAX_NAME: usize = 63;

/// `varchar` without a length: the type's own limit.
pub(super) const VARCHAR: Kind = Kind::Varchar(10_485_760);

/// The table of a statement, under the name that it has there.
pub(super) struct Scope {
    /// The table.
    pub collection: Arc<Collection>,
    /// The alias, or the table's name.
    name: String,
    /// The schema may qualify a column only where there is no alias.
    schema: Option<String>,
}

impl Scope {
    /// Of the only item of FROM.
    pub fn of(from: &TableWithJoins, tables: Tables<'_>) -> Result<Scope> {
        let TableWithJoins { relation, joins } = from;
        if !joins.is_empty() {
            return Err(because("a join"));
        }
        let TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } = relation
        else {
            return Err(because("what FROM has is not a plain table"));
        };
        if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
            return Err(because("what FROM has is not a plain table"));
        }
        let alias = match alias {
            None => None,
            Some(TableAlias {
                explicit: _,
                name,
                columns,
                at: None,
            }) if columns.is_empty() => Some(name),
            Some(_) => return Err(because("an alias that names columns")),
        };
        Scope::named(name, alias, tables)
    }

    /// Of a table, and its alias.
    pub fn named(name: &ObjectName, alias: Option<&Ident>, tables: Tables<'_>) -> Result<Scope> {
        let parts = words(name)?;
        let (schema, table) = match &parts[..] {
            [table] => (None, table),
            [schema, table] => (Some(schema), table),
            _ => return Err(because("a table's name of more than two parts")),
        };
        let collection = tables(schema.map(String::as_str), table)
            .ok_or_else(|| because("a table that is not on MongoDB"))?;
        Ok(match alias {
            Some(alias) => Scope {
                collection,
                name: folded(alias)?,
                schema: None,
            },
            None => Scope {
                schema: Some(collection.schema.clone()),
                name: table.clone(),
                collection,
            },
        })
    }

    /// The position of the column that an expression is.
    pub fn column(&self, expr: &Expr) -> Result<usize> {
        self.column_if(expr)?
            .ok_or_else(|| because("an expression where a column is needed"))
    }

    /// The same, or None where the expression is no name at all.
    pub fn column_if(&self, expr: &Expr) -> Result<Option<usize>> {
        match expr {
            Expr::Nested(expr) => self.column_if(expr),
            Expr::Identifier(name) => {
                if name.quote_style.is_none() && is_reserved(&name.value) {
                    return Err(because("a reserved word"));
                }
                self.by_name(name).map(Some)
            }
            Expr::CompoundIdentifier(names) => match &names[..] {
                [table, column] if self.is(None, table)? => self.by_name(column).map(Some),
                [schema, table, column] if self.is(Some(schema), table)? => {
                    self.by_name(column).map(Some)
                }
                _ => Err(because("a name of no column of the table")),
            },
            _ => Ok(None),
        }
    }

    /// Whether `t.*` or `s.t.*` means this table.
    pub fn is_table(&self, name: &ObjectName) -> Result<bool> {
        let parts = words(name)?;
        Ok(match &parts[..] {
            [table] => *table == self.name,
            [schema, table] => self.schema.as_ref() == Some(schema) && *table == self.name,
            _ => false,
        })
    }

    /// The column of this name.
    pub fn by_name(&self, name: &Ident) -> Result<usize> {
        let name = folded(name)?;
        self.collection
            .column(&name)
            .ok_or_else(|| because("a name of no column of the table"))
    }

    /// The column at a position.
    pub fn at(&self, column: usize) -> &Column {
        &self.collection.columns[column]
    }

    fn is(&self, schema: Option<&Ident>, table: &Ident) -> Result<bool> {
        if folded(table)? != self.name {
            return Ok(false);
        }
        match schema {
            None => Ok(true),
            Some(schema) => Ok(self.schema.as_ref() == Some(&folded(schema)?)),
        }
    }
}

/// A name as PostgreSQL understands it: without quotes in lower case.
pub(super) fn folded(name: &Ident) -> Result<String> {
    let Ident {
        value,
        quote_style,
        span: _,
    } = name;
    let folded = match quote_style {
        None => value.to_ascii_lowercase(),
        Some('"') => value.clone(),
        Some(_) => return Err(because("a name in quotes that are not PostgreSQL's")),
    };
    match folded.len() {
        1..=MAX_NAME => Ok(folded),
        _ => Err(because("a name that PostgreSQL cuts")),
    }
}

/// The parts of a qualified name.
pub(super) fn words(name: &ObjectName) -> Result<Vec<String>> {
    let ObjectName(parts) = name;
    parts
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(name) => folded(name),
            ObjectNamePart::Function(_) => Err(because("a name that is a call")),
        })
        .collect()
}

/// Words that are never a column without quotes: some are values (`user` is `current_user`), with the others there is
/// a syntax error, which PostgreSQL reports. The parser takes many of them for names.
fn is_reserved(word: &str) -> bool {
    const RESERVED: &[&str] = &[
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "authorization",
        "binary",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "grant",
        "group",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "localtime",
        "localtimestamp",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "overlaps",
        "placing",
        "primary",
        "references",
        "returning",
        "right",
        "select",
        "session_user",
        "similar",
        "some",
        "symmetric",
        "system_user",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
    ];
    let word = word.to_ascii_lowercase();
    RESERVED.binary_search(&word.as_str()).is_ok()
}

/// The parameters of a statement; the types of those that the client did not declare come from their use.
#[derive(Clone)]
pub(super) struct Parameters {
    kinds: Vec<Option<Kind>>,
    declared: usize,
    /// Of these the client has declared a type that MongoDB does not have. A statement may leave them unused.
    foreign: Vec<usize>,
}

/// More than the protocol can number.
const MAX_PARAMETERS: usize = 65_535;

impl Parameters {
    /// As the client declared them; 0 is what it leaves open.
    pub fn declared(oids: &[u32]) -> Parameters {
        let kinds: Vec<Option<Kind>> = oids.iter().map(|oid| kind_of_oid(*oid)).collect();
        // `unknown` is open, too.
        let is_foreign = |at: &usize| kinds[*at].is_none() && ![0, 705].contains(&oids[*at]);
        Parameters {
            declared: kinds.len(),
            foreign: (0..kinds.len()).filter(is_foreign).collect(),
            kinds,
        }
    }

    /// The position of `$n`.
    pub fn position(&mut self, placeholder: &str) -> Result<usize> {
        let number: usize = placeholder
            .strip_prefix('$')
            .and_then(|number| number.parse().ok())
            .filter(|number| (1..=MAX_PARAMETERS).contains(number))
            .ok_or_else(|| because("a parameter that is not $n"))?;
        if self.kinds.len() < number {
            self.kinds.resize(number, None);
        }
        Ok(number - 1)
    }

    /// The type that the client declared.
    pub fn declared_kind(&self, position: usize) -> Option<&Kind> {
        self.kinds[..self.declared].get(position)?.as_ref()
    }

    /// Its type is this one, as its place asks.
    pub fn infer(&mut self, position: usize, kind: &Kind) -> Result<()> {
        if self.foreign.contains(&position) {
            return Err(because("a parameter of a type that MongoDB does not have"));
        }
        match &self.kinds[position] {
            Some(known) if known == kind => Ok(()),
            Some(_) => Err(because("a parameter of two types")),
            None => {
                self.kinds[position] = Some(kind.clone());
                Ok(())
            }
        }
    }

    /// All of them, when the whole statement has been read.
    pub fn finish(self) -> Result<Vec<Kind>> {
        let Parameters { kinds, foreign, .. } = self;
        let kind = |(at, kind): (usize, Option<Kind>)| match kind {
            // Nobody looks at it.
            None if foreign.contains(&at) => Ok(Kind::Text),
            kind => kind.ok_or_else(|| because("a parameter without a type")),
        };
        kinds.into_iter().enumerate().map(kind).collect()
    }
}

fn kind_of_oid(oid: u32) -> Option<Kind> {
    let scalars = [
        Kind::Bool,
        Kind::Int2,
        Kind::Int4,
        Kind::Int8,
        Kind::Float4,
        Kind::Float8,
        Kind::Numeric,
        Kind::Text,
        VARCHAR,
        Kind::Uuid,
        Kind::Bytea,
        Kind::Timestamptz(Precision::Micros),
        Kind::Timestamp(Precision::Micros),
        Kind::Date,
        Kind::Jsonb,
    ];
    scalars
        .into_iter()
        .flat_map(|kind| [kind.clone(), Kind::Array(Box::new(kind))])
        .find(|kind| kind.oid() == oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_are_found_whatever_their_case() {
        assert!(
            is_reserved("USER")
                && is_reserved("all")
                && is_reserved("with")
                && is_reserved("current_Date")
        );
        assert!(!is_reserved("id") && !is_reserved("name"));
    }
}

//! Types, collations and functions of users.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// A type outside `pg_catalog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeInfo {
    /// Its object id on this shard. User types have another one on each shard.
    pub oid: u32,
    /// The object id of its array type, 0 if there is none.
    pub array_oid: u32,
    /// What sort of type it is.
    pub kind: TypeKind,
}

/// The sorts of user types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// Labels in their sort order.
    Enum(Vec<String>),
    /// A domain over `base`, with CHECK constraints or without.
    Domain {
        /// The object id of the type underneath, which may be a domain again.
        base: u32,
        /// Its name, for shards whose object ids differ.
        base_name: String,
        /// The modifier that the domain puts on its base, -1 for none.
        typmod: i32,
        /// What columns of it are filled with that have no default of their own.
        default: Option<String>,
        /// Its constraints, as PostgreSQL prints them.
        checks: String,
    },
    /// Composite, range, base type of an extension: nothing the planner reads.
    Other,
}

/// How texts of a column compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collation {
    /// The type has no collation, or the database's default applies (which is
    /// always deterministic).
    Default,
    /// `C`, `POSIX` or another one that compares bytes.
    Bytes,
    /// A named one.
    Named {
        /// Its name.
        name: String,
        /// Whether equal means equal bytes. Only then may it route.
        deterministic: bool,
    },
}

impl Collation {
    /// Whether two equal texts have equal bytes under this collation.
    pub fn is_deterministic(&self) -> bool {
        !matches!(
            self,
            Collation::Named {
                deterministic: false,
                ..
            }
        )
    }
}

/// What a function promises about its result, and so about its effects.
/// <https://www.postgresql.org/docs/current/xfunc-volatility.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// Depends on its arguments alone.
    Immutable,
    /// Constant within a statement; cannot write.
    Stable,
    /// Anything.
    Volatile,
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// A plain function.
    Function,
    /// An aggregate.
    Aggregate,
    /// A window function.
    Window,
    /// A procedure, for CALL.
    Procedure,
}

/// One user function, one of several under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Declared volatility.
    pub volatility: Volatility,
    /// Function, aggregate, window function or procedure.
    pub kind: FunctionKind,
    /// Whether NULL in gives NULL out without a call.
    pub strict: bool,
    /// Whether it returns a set.
    pub returns_set: bool,
    /// `sql`, `plpgsql`, `c`, `internal`, ...
    pub language: String,
    /// The body as it stands in pg_proc, empty where it is not text; of an aggregate the names of the functions that
    /// it calls, a line each.
    pub body: String,
    /// What its arguments are when a call does not give them, as PostgreSQL prints it.
    pub defaults: String,
    /// The extension that brought it, if one did.
    pub extension: Option<String>,
    /// The search path while it runs, as PostgreSQL keeps it; `None`: that of its caller. One that runs with the rights of
    /// its owner has `"$user"`, unless it sets a path.
    pub search_path: Option<String>,
}

/// For what a function of users is called without its name: casts or operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoundFunction {
    /// Names of the types of users that it makes or takes. Of an operator: where only values of such types can be its
    /// operands.
    pub types: BTreeSet<String>,
    /// Schemas of operators that carry it out and that PostgreSQL's own operators hide: they have the same symbol and the
    /// same types. Such an operator is meant only where its schema is named.
    pub hidden_in: BTreeSet<String>,
    /// It makes one of PostgreSQL's own types of another one, or values of these can be operands of its operator.
    pub of_builtin: bool,
}

impl BoundFunction {
    /// It has these types of users, whose names stand between spaces; if there are none, those of PostgreSQL.
    pub(crate) fn takes(&mut self, types: &str) {
        self.of_builtin |= types.is_empty();
        self.types
            .extend(types.split_whitespace().map(str::to_owned));
    }
}

impl Function {
    /// One whose body is not known: it may do anything that a function can do.
    pub fn unread() -> Function {
        Function {
            volatility: Volatility::Volatile,
            kind: FunctionKind::Function,
            strict: false,
            returns_set: false,
            language: "unread".to_owned(),
            // Words by which code is recognised that builds its SQL or leaves something behind.
            body: "execute set_config listen dblink temp".to_owned(),
            defaults: String::new(),
            extension: None,
            search_path: None,
        }
    }

    /// Whether the body is text in a language whose words can be trusted.
    pub fn is_readable(&self) -> bool {
        self.kind == FunctionKind::Aggregate || matches!(self.language.as_str(), "sql" | "plpgsql")
    }

    /// Whether it builds SQL at run time, so that its words prove nothing.
    pub fn is_dynamic(&self) -> bool {
        words(&self.body.to_ascii_lowercase()).any(|word| {
            matches!(
                word,
                "execute" | "query_to_xml" | "dblink" | "prepare" | "regclass"
            )
        })
    }
}

/// The identifier-like words of a text, whatever they stand in.
pub fn words(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
        .filter(|w| !w.is_empty())
}

/// Whether a text may name something; both in lower case. A name of one word is looked for among the words. Any other one
/// may stand anywhere.
pub fn may_name(lower: &str, name: &str) -> bool {
    match words(name).next() == Some(name) {
        true => words(lower).any(|word| word == name),
        false => without_quotes(lower).contains(&*without_quotes(name)),
    }
}

/// A text without what quotes write twice: an identifier doubles the double quotes in its name, and code in a string
/// doubles single quotes and backslashes.
pub fn without_quotes(text: &str) -> Cow<'_, str> {
    let is_quote = |c: char| matches!(c, '"' | '\'' | '\\');
    match text.contains(is_quote) {
        true => Cow::Owned(text.replace(is_quote, "")),
        false => Cow::Borrowed(text),
    }
}

/// The object ids of built-in types, by the names and aliases that SQL uses.
/// They are fixed in PostgreSQL's `pg_type.dat`.
pub fn builtin_oid(name: &str) -> Option<u32> {
    Some(match name {
        "boolean" | "bool" => 16,
        "bytea" => 17,
        "name" => 19,
        "bigint" | "int8" | "bigserial" => 20,
        "smallint" | "int2" => 21,
        "integer" | "int" | "int4" | "serial" => 23,
        "text" => 25,
        "oid" => 26,
        "json" => 114,
        "xml" => 142,
        "point" => 600,
        "real" | "float4" => 700,
        "double precision" | "float8" => 701,
        "money" => 790,
        "inet" => 869,
        "char" | "character" | "bpchar" => 1042,
        "varchar" | "character varying" => 1043,
        "date" => 1082,
        "time" => 1083,
        "timestamp" | "timestamp without time zone" => 1114,
        "timestamptz" | "timestamp with time zone" => 1184,
        "interval" => 1186,
        "numeric" | "decimal" => 1700,
        "uuid" => 2950,
        "jsonb" => 3802,
        "bool[]" => 1000,
        "bytea[]" => 1001,
        "int2[]" => 1005,
        "int4[]" | "int[]" | "integer[]" => 1007,
        "text[]" => 1009,
        "varchar[]" => 1015,
        "int8[]" | "bigint[]" => 1016,
        "date[]" => 1182,
        "timestamp[]" => 1115,
        "timestamptz[]" => 1185,
        "numeric[]" => 1231,
        "uuid[]" => 2951,
        _ => return None,
    })
}

/// What a built-in type is called, for types whose values arrays can hold and that are the same on every server.
pub fn builtin_name(oid: u32) -> Option<&'static str> {
    Some(match oid {
        16 => "bool",
        17 => "bytea",
        18 => "\"char\"",
        19 => "name",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        25 => "text",
        26 => "oid",
        114 => "json",
        142 => "xml",
        600 => "point",
        601 => "lseg",
        602 => "path",
        603 => "box",
        604 => "polygon",
        628 => "line",
        650 => "cidr",
        700 => "float4",
        701 => "float8",
        718 => "circle",
        774 => "macaddr8",
        790 => "money",
        829 => "macaddr",
        869 => "inet",
        1042 => "bpchar",
        1043 => "varchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1184 => "timestamptz",
        1186 => "interval",
        1266 => "timetz",
        1560 => "bit",
        1562 => "varbit",
        1700 => "numeric",
        2950 => "uuid",
        3220 => "pg_lsn",
        3614 => "tsvector",
        3615 => "tsquery",
        3802 => "jsonb",
        3904 => "int4range",
        3906 => "numrange",
        3908 => "tsrange",
        3910 => "tstzrange",
        3912 => "daterange",
        3926 => "int8range",
        4072 => "jsonpath",
        _ => return None,
    })
}

/// The object id of a built-in type's array type, for the types that may be keys.
pub fn builtin_array_oid(element: u32) -> Option<u32> {
    Some(match element {
        16 => 1000,
        17 => 1001,
        20 => 1016,
        21 => 1005,
        23 => 1007,
        25 => 1009,
        1043 => 1015,
        1082 => 1182,
        1114 => 1115,
        1184 => 1185,
        1700 => 1231,
        2950 => 2951,
        _ => return None,
    })
}

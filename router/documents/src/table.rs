//! The declaration of a table whose rows are documents.

/// A table and the collection that has its rows. Built by the configuration, which has checked it: names are unique,
/// no path is the beginning of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// The schema under which SQL knows it.
    pub schema: String,
    /// Its name in SQL.
    pub table: String,
    /// Its name in MongoDB.
    pub collection: String,
    /// In the order of `SELECT *`.
    pub columns: Vec<Column>,
    /// Its unique keys; the first is the primary key.
    pub unique: Vec<Unique>,
    /// The role that owns the table on the home shard, if it is declared.
    pub owner: Option<String>,
    /// How NULL is written.
    pub nulls: Nulls,
}

/// A column and the field that has its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in SQL.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// The names of the fields on the way to it; one, unless documents are nested. None of the column that has all
    /// fields which no other column has.
    pub path: Vec<String>,
    /// NULL is an error.
    pub not_null: bool,
    /// What an INSERT gives that does not name it.
    pub default: Option<Filled>,
}

/// A default, made by the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filled {
    /// `now()`: the time of the transaction, in milliseconds.
    Now,
    /// `gen_random_uuid()`.
    Uuid,
    /// A new ObjectId.
    ObjectId,
    /// A constant, in the text form of the column's type.
    Constant(String),
}

/// A unique key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// The constraint's name in SQL.
    pub name: String,
    /// The index that keeps it; `_id_` for a key on `_id` alone.
    pub index: String,
    /// Positions of its columns.
    pub columns: Vec<usize>,
}

/// How NULL is written; both are read as NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nulls {
    /// As BSON null.
    #[default]
    Store,
    /// The field is left out.
    Omit,
}

/// The type of a column, of those that BSON has values for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `boolean`.
    Bool,
    /// `smallint`, as Int32.
    Int2,
    /// `integer`, as Int32.
    Int4,
    /// `bigint`, as Int64.
    Int8,
    /// `real`, as Double.
    Float4,
    /// `double precision`.
    Float8,
    /// `numeric` without bounds, as Decimal128.
    Numeric,
    /// `text`.
    Text,
    /// `varchar(n)`.
    Varchar(u32),
    /// `uuid`, as Binary of subtype 4.
    Uuid,
    /// `bytea`.
    Bytea,
    /// `timestamptz`; MongoDB has milliseconds.
    Timestamptz(Precision),
    /// `timestamp`; the same, read as UTC.
    Timestamp(Precision),
    /// `date`, as its midnight in UTC.
    Date,
    /// `jsonb`.
    Jsonb,
    /// An ObjectId, in SQL a `varchar(24)` of 24 hexadecimal digits.
    ObjectId,
    /// A one-dimensional array of any of the others.
    Array(Box<Kind>),
}

/// What becomes of a time with more digits than the three that MongoDB keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// None is declared, so that PostgreSQL has microseconds: it cannot be stored. Expressions have it, too.
    Micros,
    /// `(3)`: it is rounded, as by PostgreSQL.
    Millis,
}

impl Collection {
    /// The position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

impl Column {
    /// Its field as filters name it.
    pub fn field(&self) -> String {
        self.path.join(".")
    }

    /// Whether it has the fields that no other column has.
    pub fn is_rest(&self) -> bool {
        self.path.is_empty()
    }
}

#[cfg(test)]
impl Column {
    /// A column that tests declare: it may be NULL and has no default. Names of the path have points between them.
    pub fn nullable(name: &str, kind: Kind, path: &str) -> Column {
        let path = path.split('.').filter(|name| !name.is_empty());
        Column {
            name: name.to_owned(),
            kind,
            path: path.map(str::to_owned).collect(),
            not_null: false,
            default: None,
        }
    }
}

impl Kind {
    /// The type of this name, as PostgreSQL spells or abbreviates it; `T[]` for arrays, `objectid` for ObjectIds.
    pub fn from_name(name: &str) -> Option<Kind> {
        let name = name.trim().to_ascii_lowercase();
        if let Some(element) = name.strip_suffix("[]") {
            return match Kind::from_name(element)? {
                Kind::Array(_) => None,
                element => Some(Kind::Array(Box::new(element))),
            };
        }
        let length = name
            .strip_prefix("varchar(")
            .or_else(|| name.strip_prefix("character varying("))
            .and_then(|rest| rest.strip_suffix(')'));
        if let Some(length) = length {
            let length = length.trim().parse().ok()?;
            return (1..=10_485_760)
                .contains(&length)
                .then_some(Kind::Varchar(length));
        }
        Some(match name.as_str() {
            "bool" | "boolean" => Kind::Bool,
            "int2" | "smallint" => Kind::Int2,
            "int4" | "integer" | "int" => Kind::Int4,
            "int8" | "bigint" => Kind::Int8,
            "float4" | "real" => Kind::Float4,
            "float8" | "double precision" => Kind::Float8,
            "numeric" | "decimal" => Kind::Numeric,
            "text" => Kind::Text,
            "uuid" => Kind::Uuid,
            "bytea" => Kind::Bytea,
            "timestamptz" | "timestamp with time zone" => Kind::Timestamptz(Precision::Micros),
            "timestamp" | "timestamp without time zone" => Kind::Timestamp(Precision::Micros),
            "timestamptz(3)" | "timestamp(3) with time zone" => {
                Kind::Timestamptz(Precision::Millis)
            }
            "timestamp(3)" | "timestamp(3) without time zone" => Kind::Timestamp(Precision::Millis),
            "date" => Kind::Date,
            "jsonb" => Kind::Jsonb,
            "objectid" => Kind::ObjectId,
            _ => return None,
        })
    }

    /// As `CREATE TABLE` writes it.
    pub fn sql_name(&self) -> String {
        match self {
            Kind::Bool => "boolean".to_owned(),
            Kind::Int2 => "smallint".to_owned(),
            Kind::Int4 => "integer".to_owned(),
            Kind::Int8 => "bigint".to_owned(),
            Kind::Float4 => "real".to_owned(),
            Kind::Float8 => "double precision".to_owned(),
            Kind::Numeric => "numeric".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Varchar(length) => format!("character varying({length})"),
            Kind::Uuid => "uuid".to_owned(),
            Kind::Bytea => "bytea".to_owned(),
            Kind::Timestamptz(Precision::Micros) => "timestamp with time zone".to_owned(),
            Kind::Timestamptz(Precision::Millis) => "timestamp(3) with time zone".to_owned(),
            Kind::Timestamp(Precision::Micros) => "timestamp without time zone".to_owned(),
            Kind::Timestamp(Precision::Millis) => "timestamp(3) without time zone".to_owned(),
            Kind::Date => "date".to_owned(),
            Kind::Jsonb => "jsonb".to_owned(),
            Kind::ObjectId => "character varying(24)".to_owned(),
            Kind::Array(element) => format!("{}[]", element.sql_name()),
        }
    }

    /// As the configuration writes it; [`Kind::from_name`] reads it.
    pub fn written(&self) -> String {
        let name = match self {
            Kind::Bool => "bool",
            Kind::Int2 => "int2",
            Kind::Int4 => "int4",
            Kind::Int8 => "int8",
            Kind::Float4 => "float4",
            Kind::Float8 => "float8",
            Kind::Numeric => "numeric",
            Kind::Text => "text",
            Kind::Varchar(length) => return format!("varchar({length})"),
            Kind::Uuid => "uuid",
            Kind::Bytea => "bytea",
            Kind::Timestamptz(Precision::Micros) => "timestamptz",
            Kind::Timestamptz(Precision::Millis) => "timestamptz(3)",
            Kind::Timestamp(Precision::Micros) => "timestamp",
            Kind::Timestamp(Precision::Millis) => "timestamp(3)",
            Kind::Date => "date",
            Kind::Jsonb => "jsonb",
            Kind::ObjectId => "objectid",
            Kind::Array(element) => return format!("{}[]", element.written()),
        };
        name.to_owned()
    }

    /// Its object id, see `pg_type.dat` of PostgreSQL.
    pub fn oid(&self) -> u32 {
        match self {
            Kind::Bool => 16,
            Kind::Int2 => 21,
            Kind::Int4 => 23,
            Kind::Int8 => 20,
            Kind::Float4 => 700,
            Kind::Float8 => 701,
            Kind::Numeric => 1700,
            Kind::Text => 25,
            Kind::Varchar(_) | Kind::ObjectId => 1043,
            Kind::Uuid => 2950,
            Kind::Bytea => 17,
            Kind::Timestamptz(_) => 1184,
            Kind::Timestamp(_) => 1114,
            Kind::Date => 1082,
            Kind::Jsonb => 3802,
            Kind::Array(element) => match **element {
                Kind::Bool => 1000,
                Kind::Int2 => 1005,
                Kind::Int4 => 1007,
                Kind::Int8 => 1016,
                Kind::Float4 => 1021,
                Kind::Float8 => 1022,
                Kind::Numeric => 1231,
                Kind::Text => 1009,
                Kind::Varchar(_) | Kind::ObjectId => 1015,
                Kind::Uuid => 2951,
                Kind::Bytea => 1001,
                Kind::Timestamptz(_) => 1185,
                Kind::Timestamp(_) => 1115,
                Kind::Date => 1182,
                Kind::Jsonb => 3807,
                // There are no arrays of arrays.
                Kind::Array(_) => 0,
            },
        }
    }

    /// Whether values that are equal are written alike.
    pub fn has_one_form(&self) -> bool {
        !matches!(
            self,
            Kind::Float4 | Kind::Float8 | Kind::Numeric | Kind::Jsonb | Kind::Array(_)
        )
    }

    /// Whether its values are compared by a collation.
    pub fn is_collatable(&self) -> bool {
        match self {
            Kind::Text | Kind::Varchar(_) | Kind::ObjectId => true,
            Kind::Array(element) => element.is_collatable(),
            _ => false,
        }
    }

    /// Its size in bytes where it is fixed, else -1; see `pg_type.typlen`.
    pub fn size(&self) -> i16 {
        match self {
            Kind::Bool => 1,
            Kind::Int2 => 2,
            Kind::Int4 | Kind::Float4 | Kind::Date => 4,
            Kind::Int8 | Kind::Float8 | Kind::Timestamptz(_) | Kind::Timestamp(_) => 8,
            Kind::Uuid => 16,
            _ => -1,
        }
    }

    /// Of times without a precision, which is the column's and not that of an expression.
    pub fn without_precision(&self) -> Kind {
        match self {
            Kind::Timestamptz(_) => Kind::Timestamptz(Precision::Micros),
            Kind::Timestamp(_) => Kind::Timestamp(Precision::Micros),
            Kind::Array(element) => Kind::Array(Box::new(element.without_precision())),
            kind => kind.clone(),
        }
    }

    /// Whether a value that is stored is another one than the one that is given.
    pub fn is_rounded(&self) -> bool {
        *self != self.without_precision()
    }

    /// `atttypmod`: of `varchar(n)` n + 4, of times with a precision that, else -1.
    pub fn modifier(&self) -> i32 {
        match self {
            Kind::Varchar(length) => i32::try_from(*length).map_or(-1, |length| length + 4),
            Kind::ObjectId => 28,
            Kind::Timestamptz(Precision::Millis) | Kind::Timestamp(Precision::Millis) => 3,
            Kind::Array(element) => element.modifier(),
            _ => -1,
        }
    }
}

//! A catalog as a text file: one statement a line, read without a server.
//!
//! ```text
//! # comment
//! server_version 150004
//! text_order UTF8 C C
//! schema app
//! type public.mood enum sad ok happy
//! type public.posint domain int4
//! type public.ticket domain text default random()::text
//! type public.even domain int4 check (VALUE % 2) = 0
//! table public.t            (then its parts, indented or not)
//!   column id bigint not null
//!   column b text collate "C" default 'x'
//!   column s bigint default nextval public.t_s_seq
//!   column i bigint default identity always public.t_i_seq
//!   contained
//!   primary key id
//!   unique b, id
//!   check t_b_check (b > 0)
//!   foreign key (a) references public.r (id)
//!   partition by hash (id) into 3
//!   trigger touch before public.touch_row
//!   everywhere               (every other shard has it as well)
//! view public.v (id, b) as SELECT t.id, t.b FROM public.t
//! function public.f immutable sql SELECT 1
//! function public.g volatile path=app,public sql SELECT f()
//! extension citext
//! operator &&& overlapping   (its function, if that is known, and the types of users that its operands have)
//! operator = same hidden in aside   (PostgreSQL's own operator of the same types hides the one in this schema)
//! cast to_money money         (a function by which a cast is made, and the types of users that it makes or takes)
//! index public.t_a on public.t
//! statistics public.t_st on public.t
//! ```
//!
//! The form is for planner cases and `mothership explain`; it holds what the
//! planner reads, not all that PostgreSQL knows.

use super::{
    Action, Catalog, Check, Collation, Column, DefaultKind, Events, ForeignKey, FromSequence,
    Function, FunctionKind, Handed, Key, Leaf, LeafBound, Name, Partitioning, Persistence, Policy,
    Relation, RelationKind, Strategy, Trigger, TypeInfo, TypeKind, Volatility,
};

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("catalog line {line}: {problem}: {text}")]
pub struct TextError {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
    /// The line.
    pub text: String,
}

/// Object ids that the text form gives to user types, from PostgreSQL's first user id on.
const FIRST_USER_OID: u32 = 16_384;

/// Reads a whole catalog.
pub fn parse(text: &str) -> Result<Catalog, TextError> {
    let mut reader = Reader::default();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        reader.line(trimmed).map_err(|problem| TextError {
            line: index + 1,
            problem,
            text: trimmed.to_owned(),
        })?;
    }
    Ok(reader.catalog)
}

#[derive(Default)]
struct Reader {
    catalog: Catalog,
    current: Option<Name>,
}

type Line = Result<(), &'static str>;

impl Reader {
    fn line(&mut self, line: &str) -> Line {
        let (word, rest) = split_word(line);
        match word {
            "server_version" => self.catalog.server_version = number(rest)?,
            "text_order" => self.catalog.text_order = rest.to_owned(),
            "text_order_differs" => self.catalog.text_order_differs = true,
            "schema" => drop(self.catalog.schemas.insert(rest.to_owned())),
            "extension" => {
                self.catalog
                    .extensions
                    .insert(rest.to_owned(), "1.0".to_owned());
            }
            "index" => {
                let (index, table) = rest.split_once(" on ").ok_or("index NAME on TABLE")?;
                self.catalog.indexes.insert(name(index)?, name(table)?);
            }
            "statistics" => {
                let (own, table) = rest.split_once(" on ").ok_or("statistics NAME on TABLE")?;
                self.catalog.statistics.insert(name(own)?, name(table)?);
            }
            "operator" => {
                let (symbol, rest) = split_word(rest);
                let functions = self.catalog.operators.entry(symbol.to_owned());
                let functions = functions.or_default();
                let (function, types) = split_word(rest);
                if !function.is_empty() {
                    let function = functions.entry(function.to_owned()).or_default();
                    match types.strip_prefix("hidden in ") {
                        Some(schema) => drop(function.hidden_in.insert(schema.to_owned())),
                        None => function.takes(types),
                    }
                }
            }
            "cast" => {
                let (function, types) = split_word(rest);
                let function = self.catalog.cast_functions.entry(function.to_owned());
                function.or_default().takes(types);
            }
            "type" => return self.user_type(rest),
            "function" | "procedure" | "aggregate" => return self.function(word, rest),
            "table" | "unlogged" | "view" | "sequence" | "foreign_table" | "materialized" => {
                return self.relation(word, rest);
            }
            "column" => return self.column(rest),
            "rules" => {
                let relation = self.relation_mut()?;
                relation.has_rules = true;
                relation.rules = rest.to_owned();
            }
            "key_code" => self.relation_mut()?.key_code = rest.to_owned(),
            "unread" => self.relation_mut()?.unread = true,
            "contained" => self.relation_mut()?.contained = true,
            "owner" => self.relation_mut()?.owner = rest.to_owned(),
            "policy" => {
                let (name, expression) = split_word(rest);
                let policy = Policy {
                    name: name.into(),
                    expression: expression.into(),
                };
                self.relation_mut()?
                    .row_security
                    .get_or_insert_default()
                    .push(policy);
            }
            "children" => self.relation_mut()?.has_children = true,
            "everywhere" => {
                let current = self.current.clone().ok_or("no table has been named yet")?;
                self.catalog.everywhere.insert(current);
            }
            "parent" => self.relation_mut()?.parent = Some(name(rest)?),
            "trigger" => return self.trigger(rest),
            _ => return self.constraint(line),
        }
        Ok(())
    }

    fn relation_mut(&mut self) -> Result<&mut Relation, &'static str> {
        let current = self.current.as_ref().ok_or("no table has been named yet")?;
        self.catalog
            .relations
            .get_mut(current)
            .ok_or("no table has been named yet")
    }

    fn user_type(&mut self, rest: &str) -> Line {
        let (type_name, rest) = split_word(rest);
        let (kind, rest) = split_word(rest);
        let oid = FIRST_USER_OID + 2 * self.catalog.types.len() as u32;
        let kind = match kind {
            "enum" => TypeKind::Enum(rest.split_whitespace().map(str::to_owned).collect()),
            "domain" => {
                let (rest, checks) = rest.split_once(" check ").unwrap_or((rest, ""));
                let (base_name, default) = match rest.split_once(" default ") {
                    Some((base_name, default)) => (base_name, Some(default.to_owned())),
                    None => (rest, None),
                };
                let (base, typmod) = self.type_oid(base_name).ok_or("unknown base type")?;
                TypeKind::Domain {
                    base,
                    base_name: base_name.to_owned(),
                    typmod,
                    default,
                    checks: checks.to_owned(),
                }
            }
            "other" => TypeKind::Other,
            _ => return Err("a type is enum, domain or other"),
        };
        let info = TypeInfo {
            oid,
            array_oid: oid + 1,
            kind,
        };
        self.catalog.types.insert(name(type_name)?, info);
        Ok(())
    }

    fn function(&mut self, word: &str, rest: &str) -> Line {
        let (function, rest) = split_word(rest);
        let (volatility, rest) = split_word(rest);
        let volatility = match volatility {
            "immutable" => Volatility::Immutable,
            "stable" => Volatility::Stable,
            "volatile" => Volatility::Volatile,
            _ => return Err("a function is immutable, stable or volatile"),
        };
        let (strict, rest) = match split_word(rest) {
            ("strict", rest) => (true, rest),
            _ => (false, rest),
        };
        let (search_path, rest) = match split_word(rest) {
            (own, after) if own.starts_with("path=") => (own.strip_prefix("path="), after),
            _ => (None, rest),
        };
        let (language, body) = split_word(rest);
        let kind = match word {
            "procedure" => FunctionKind::Procedure,
            "aggregate" => FunctionKind::Aggregate,
            _ => FunctionKind::Function,
        };
        self.catalog
            .functions
            .entry(name(function)?)
            .or_default()
            .push(Function {
                volatility,
                kind,
                strict,
                returns_set: false,
                language: language.to_owned(),
                body: body.to_owned(),
                defaults: String::new(),
                extension: None,
                search_path: search_path.map(str::to_owned),
            });
        Ok(())
    }

    fn relation(&mut self, word: &str, rest: &str) -> Line {
        let rest = match (word, split_word(rest)) {
            ("unlogged" | "materialized", (_, rest)) => rest,
            _ => rest,
        };
        let (relation, rest) = split_word(rest);
        let relation = name(relation)?;
        self.catalog.schemas.insert(relation.schema.clone());
        let mut built = Relation::table(relation.clone());
        match word {
            "unlogged" => built.persistence = Persistence::Unlogged,
            "view" => built.kind = RelationKind::View,
            "materialized" => built.kind = RelationKind::MaterializedView,
            "sequence" => built.kind = RelationKind::Sequence,
            "foreign_table" => built.kind = RelationKind::ForeignTable,
            _ => {}
        }
        if matches!(word, "view" | "materialized") {
            let (columns, definition) = rest.split_once(" as ").ok_or("a view needs: as SELECT")?;
            built.definition = Some(definition.to_owned());
            built.columns = list(columns).map(|c| column(c, 25, "text")).collect();
        }
        self.catalog.relations.insert(relation.clone(), built);
        self.current = Some(relation);
        Ok(())
    }

    fn column(&mut self, rest: &str) -> Line {
        let (column_name, rest) = split_word(rest);
        let (type_text, mut options) = split_type(rest);
        let (type_oid, typmod) = self.type_oid(type_text).ok_or("unknown type")?;
        let base = type_text.split('(').next().unwrap_or(type_text);
        let mut built = column(column_name, type_oid, base);
        built.typmod = typmod;
        while !options.is_empty() {
            options = column_option(&mut built, options)?;
        }
        self.relation_mut()?.columns.push(built);
        Ok(())
    }

    fn trigger(&mut self, rest: &str) -> Line {
        let mut parts = rest.split_whitespace();
        let (Some(trigger), Some(when), Some(function)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err("trigger NAME before|after FUNCTION [statement] [rows]");
        };
        let more: Vec<&str> = parts.collect();
        let trigger = Trigger {
            name: trigger.to_owned(),
            function: name(function)?,
            may_change_row: when == "before",
            each_row: !more.contains(&"statement"),
            sees_all_rows: more.contains(&"rows"),
            events: Events::ANY,
            condition: None,
        };
        self.relation_mut()?.triggers.push(trigger);
        Ok(())
    }

    fn constraint(&mut self, line: &str) -> Line {
        let relation = self.relation_mut()?;
        let numbered = |kind: &str, count: usize| format!("{}_{kind}{count}", relation.name.name);
        if let Some(columns) = line.strip_prefix("primary key ") {
            let columns = list(columns).map(str::to_owned).collect();
            let name = format!("{}_pkey", relation.name.name);
            relation.keys.push(Key {
                name,
                columns,
                primary: true,
            });
        } else if let Some(columns) = line.strip_prefix("unique ") {
            let name = numbered("key", relation.keys.len());
            let columns = list(columns).map(str::to_owned).collect();
            relation.keys.push(Key {
                name,
                columns,
                primary: false,
            });
        } else if let Some(columns) = line.strip_prefix("exclude ") {
            let name = numbered("excl", relation.exclusions.len());
            let columns = list(columns).map(str::to_owned).collect();
            relation.exclusions.push(Key {
                name,
                columns,
                primary: false,
            });
        } else if let Some(rest) = line.strip_prefix("foreign key ") {
            let (columns, rest) = rest.split_once(" references ").ok_or("references what?")?;
            let (target, rest) = split_word(rest);
            let (target_columns, action) = match rest.strip_suffix(" cascade") {
                Some(columns) => (columns, Action::Cascade),
                None => (rest, Action::Nothing),
            };
            let name = numbered("fkey", relation.foreign_keys.len());
            relation.foreign_keys.push(ForeignKey {
                name,
                columns: list(columns).map(str::to_owned).collect(),
                target: self::name(target)?,
                target_columns: list(target_columns).map(str::to_owned).collect(),
                on_update: action,
                on_delete: action,
                delete_sets: Vec::new(),
            });
        } else if let Some(check) = line.strip_prefix("check ") {
            let (name, expression) = split_word(check);
            relation.checks.push(Check {
                name: name.to_owned(),
                expression: expression.to_owned(),
            });
        } else if let Some(rest) = line.strip_prefix("partition by ") {
            return self.partitioning(rest);
        } else {
            return Err("unknown word");
        }
        Ok(())
    }

    /// `hash (id) into 3` also adds the leaves `t_0`, `t_1`, `t_2` as tables.
    fn partitioning(&mut self, rest: &str) -> Line {
        let (strategy, rest) = split_word(rest);
        let (columns, count) = rest.split_once(" into ").unwrap_or((rest, "0"));
        let count: u64 = number(count)?;
        let strategy = match strategy {
            "hash" => Strategy::Hash,
            "range" => Strategy::Range,
            "list" => Strategy::List,
            _ => return Err("partition by hash, range or list"),
        };
        let relation = self.relation_mut()?;
        let parent = relation.name.clone();
        let mut leaves = Vec::new();
        let mut tables = Vec::new();
        for remainder in 0..count {
            let leaf = Name::new(&parent.schema, format!("{}_{remainder}", parent.name));
            let bound = LeafBound::Hash {
                modulus: count,
                remainder,
            };
            leaves.push(Leaf {
                name: leaf.clone(),
                bound,
            });
            let mut table = Relation::table(leaf);
            table.columns = relation.columns.clone();
            table.parent = Some(parent.clone());
            tables.push(table);
        }
        let columns = list(columns).map(str::to_owned).collect();
        relation.partitioning = Some(Partitioning {
            strategy,
            columns,
            leaves,
        });
        for table in tables {
            self.catalog.relations.insert(table.name.clone(), table);
        }
        Ok(())
    }

    fn type_oid(&self, text: &str) -> Option<(u32, i32)> {
        let (base, modifier) = match text.split_once('(') {
            Some((base, rest)) => (base.trim(), rest.strip_suffix(')')),
            None => (text.trim(), None),
        };
        let oid = match super::types::builtin_oid(base) {
            Some(oid) => oid,
            None => {
                let wanted = name(base).ok()?;
                self.catalog.types.get(&wanted)?.oid
            }
        };
        let typmod = match modifier {
            // varchar(n) and char(n) store n + 4; the others are only told apart from -1.
            Some(m) => m
                .split(',')
                .next()?
                .trim()
                .parse::<i32>()
                .ok()?
                .checked_add(4)?,
            None => -1,
        };
        Some((oid, typmod))
    }
}

fn column_option<'a>(column: &mut Column, options: &'a str) -> Result<&'a str, &'static str> {
    if let Some(rest) = options.strip_prefix("not null") {
        column.not_null = true;
        return Ok(rest.trim_start());
    }
    let (word, rest) = split_word(options);
    match word {
        "collate" => {
            let (collation, rest) = split_word(rest);
            let name = collation.trim_matches('"');
            column.collation = match name {
                "C" | "POSIX" => Collation::Bytes,
                _ => Collation::Named {
                    name: name.to_owned(),
                    deterministic: !name.contains("nondeterministic"),
                },
            };
            Ok(rest)
        }
        "generated" => {
            column.generated = Some(String::new());
            Ok(rest)
        }
        // The rest of the line is the default.
        "default" => {
            column.default = match rest {
                "identity always" | "identity" | "nextval" => from_sequence(None, rest),
                call if call.starts_with("nextval ") => {
                    from_sequence(Some(name(&call["nextval ".len()..])?), rest)
                }
                call if call.starts_with("identity always ") => {
                    from_sequence(Some(name(&call["identity always ".len()..])?), rest)
                }
                "now()" | "current_user" => DefaultKind::Stable(rest.to_owned()),
                call if call.ends_with("()") => DefaultKind::Volatile(call.to_owned()),
                constant => DefaultKind::Constant(constant.to_owned()),
            };
            Ok("")
        }
        _ => Err("unknown column option"),
    }
}

fn from_sequence(sequence: Option<Name>, text: &str) -> DefaultKind {
    DefaultKind::Sequence(FromSequence {
        sequence,
        always: text.starts_with("identity always"),
        identity: text.starts_with("identity"),
    })
}

fn column(name: &str, type_oid: u32, type_name: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_oid,
        type_name: type_name.to_owned(),
        typmod: -1,
        collation: Collation::Default,
        not_null: false,
        default: DefaultKind::None,
        generated: None,
        handed: Handed::plain(type_name),
    }
}

/// The type at the start of a text: up to three words, then options.
fn split_type(text: &str) -> (&str, &str) {
    const LONG: [&str; 4] = [
        "timestamp with time zone",
        "timestamp without time zone",
        "double precision",
        "character varying",
    ];
    for long in LONG {
        if let Some(rest) = text.strip_prefix(long) {
            return (long, rest.trim_start());
        }
    }
    split_word(text)
}

fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.trim()
        .trim_start_matches('(')
        .trim_end_matches(')')
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, &'static str> {
    text.trim().parse().map_err(|_| "a number was expected")
}

fn name(text: &str) -> Result<Name, &'static str> {
    match text.trim().split_once('.') {
        Some((schema, name)) if !schema.is_empty() && !name.is_empty() => {
            Ok(Name::new(schema, name))
        }
        _ => Err("a name is schema.name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_all_its_parts_is_read() {
        let catalog = parse(
            "table public.t\n column id bigint not null\n column b varchar(3) collate \"C\" default 'x'\n\
             primary key id\n partition by hash (id) into 2\nview public.v (x) as SELECT id FROM public.t",
        )
        .unwrap();
        let t = catalog.relation(&Name::new("public", "t")).unwrap();
        assert_eq!(t.columns[0].type_oid, 20);
        assert!(t.columns[0].not_null);
        assert_eq!(t.columns[1].typmod, 7);
        assert_eq!(t.columns[1].collation, Collation::Bytes);
        assert_eq!(t.keys[0].columns, ["id"]);
        assert_eq!(t.partitioning.as_ref().unwrap().leaves.len(), 2);
        assert!(
            catalog
                .relation(&Name::new("public", "t_1"))
                .unwrap()
                .parent
                .is_some()
        );
        assert!(
            catalog
                .relation(&Name::new("public", "v"))
                .unwrap()
                .definition
                .is_some()
        );
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_by_number() {
        let error = parse("schema a\ncolumn id bigint").unwrap_err();
        assert_eq!(error.line, 2);
        assert_eq!(
            parse("table t").unwrap_err().problem,
            "a name is schema.name"
        );
        assert_eq!(
            parse("table a.t\ncolumn x nosuch").unwrap_err().problem,
            "unknown type"
        );
    }
}

//! Makes a catalog of the answers to [`QUERIES`], without a server.

use mothership_sql::functions::{Trait, special};

use super::queries::QUERIES;
use super::types::{may_name, words};
use super::{
    Action, Catalog, Check, Collation, Column, DefaultKind, Events, ForeignKey, FromSequence,
    Function, FunctionKind, Handed, Key, Leaf, LeafBound, Name, Partitioning, Persistence, Policy,
    Relation, RelationKind, Strategy, TablePrivileges, Trigger, TypeInfo, TypeKind, Volatility,
};

/// A row has another form than its query gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of the catalog query {what} cannot be read")]
pub struct Unreadable {
    /// Which of the queries.
    pub what: &'static str,
}

/// A row as text, None for NULL.
pub type Row = Vec<Option<String>>;

/// Makes a catalog of the answers to `QUERIES`, in their order.
pub fn decode(answers: &[Vec<Row>]) -> Result<Catalog, Unreadable> {
    let mut catalog = Catalog::default();
    let steps: [fn(&mut Catalog, &Cells<'_>) -> Option<()>; 16] = [
        version, schema, user_type, function, operator, cast, statistics, extension, relation,
        column, index, constraint, trigger, policy, entangled, right,
    ];
    for (((what, _), step), rows) in QUERIES.iter().zip(steps).zip(answers) {
        for row in rows {
            step(&mut catalog, &Cells(row)).ok_or(Unreadable { what })?;
        }
    }
    leaves(&mut catalog);
    Ok(catalog)
}

struct Cells<'r>(&'r Row);

impl Cells<'_> {
    fn maybe(&self, at: usize) -> Option<&str> {
        self.0.get(at)?.as_deref()
    }

    fn text(&self, at: usize) -> Option<String> {
        self.maybe(at).map(str::to_owned)
    }

    fn number<N: std::str::FromStr>(&self, at: usize) -> Option<N> {
        self.maybe(at)?.parse().ok()
    }

    fn flag(&self, at: usize) -> bool {
        self.maybe(at) == Some("t")
    }

    fn name(&self, at: usize) -> Option<Name> {
        Some(Name::new(self.maybe(at)?, self.maybe(at + 1)?))
    }

    fn lines(&self, at: usize) -> Vec<String> {
        self.maybe(at)
            .map(|text| text.split('\n').map(str::to_owned).collect())
            .unwrap_or_default()
    }
}

fn version(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    catalog.server_version = row.number(0)?;
    catalog.text_order = row.text(1)?;
    Some(())
}

fn schema(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let name = row.text(0)?;
    if row.maybe(1).is_some() {
        let users = row.lines(1).into_iter().collect();
        catalog.schema_users.insert(name.clone(), users);
    }
    catalog.schemas.insert(name);
    Some(())
}

fn user_type(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let kind = match row.maybe(4)? {
        "e" => TypeKind::Enum(row.lines(8)),
        "d" => TypeKind::Domain {
            base: row.number(5)?,
            base_name: row.text(6)?,
            typmod: row.number(7)?,
            default: row.text(9),
            checks: row.text(10).unwrap_or_default(),
        },
        _ => TypeKind::Other,
    };
    let info = TypeInfo {
        oid: row.number(2)?,
        array_oid: row.number(3)?,
        kind,
    };
    catalog.types.insert(row.name(0)?, info);
    Some(())
}

fn function(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let Some(body) = row.text(7) else {
        let functions = catalog.functions.entry(row.name(0)?).or_default();
        functions.push(Function::unread());
        return Some(());
    };
    let function = Function {
        volatility: match row.maybe(2)? {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        kind: match row.maybe(3)? {
            "a" => FunctionKind::Aggregate,
            "w" => FunctionKind::Window,
            "p" => FunctionKind::Procedure,
            _ => FunctionKind::Function,
        },
        strict: row.flag(4),
        returns_set: row.flag(5),
        language: row.text(6)?,
        body,
        extension: row.text(8),
        defaults: row.text(9).unwrap_or_default(),
        search_path: row.text(10),
    };
    catalog
        .functions
        .entry(row.name(0)?)
        .or_default()
        .push(function);
    Some(())
}

fn right(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let held = TablePrivileges {
        select: true,
        insert: row.flag(3),
        update: row.flag(4),
        delete: row.flag(5),
    };
    catalog.rights.note(row.name(0)?, row.text(2)?, held);
    Some(())
}

fn cast(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let function = catalog.cast_functions.entry(row.text(0)?).or_default();
    match row.text(1) {
        Some(name) => drop(function.types.insert(name)),
        None => function.of_builtin = true,
    }
    Some(())
}

fn statistics(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    catalog.statistics.insert(row.name(0)?, row.name(2)?);
    Some(())
}

fn operator(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let symbol = row.text(0)?;
    let compares = matches!(symbol.as_str(), "=" | "<>" | "<" | "<=" | ">" | ">=");
    catalog.compares_otherwise |= compares && row.flag(2);
    let functions = catalog.operators.entry(symbol).or_default();
    let Some(function) = row.text(1) else {
        return Some(());
    };
    let function = functions.entry(function).or_default();
    match (row.text(3), row.text(4)) {
        (Some(of), _) => drop(function.types.insert(of)),
        (None, Some(schema)) => drop(function.hidden_in.insert(schema)),
        (None, None) => function.of_builtin = true,
    }
    Some(())
}

fn extension(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    catalog.extensions.insert(row.text(0)?, row.text(1)?);
    Some(())
}

fn relation(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let name = row.name(0)?;
    let mut relation = Relation::table(name.clone());
    relation.oid = row.number(2)?;
    relation.kind = match row.maybe(3)? {
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "f" => RelationKind::ForeignTable,
        "S" => RelationKind::Sequence,
        _ => RelationKind::Table,
    };
    relation.persistence = match row.maybe(4)? {
        "u" => Persistence::Unlogged,
        "t" => Persistence::Temporary,
        _ => Persistence::Permanent,
    };
    relation.has_rules = row.flag(5);
    // Until a later query says otherwise.
    relation.contained = relation.kind == RelationKind::Table;
    relation.row_security = row.flag(6).then(Vec::new);
    relation.owner = row.text(7)?;
    relation.definition = row
        .text(8)
        .map(|d| d.trim_end().trim_end_matches(';').to_owned());
    relation.parent = row.name(9);
    relation.has_children = row.flag(14);
    let is_view = matches!(
        relation.kind,
        RelationKind::View | RelationKind::MaterializedView
    );
    relation.rules = row.text(17).unwrap_or_default();
    let lacks_rules = relation.has_rules && relation.rules.is_empty();
    let key_code = row.text(18);
    let lacks = lacks_rules || key_code.is_none() || is_view && relation.definition.is_none();
    relation.unread = row.flag(15) || lacks;
    relation.key_code = key_code.unwrap_or_default();
    relation.stamp = row.text(16)?;
    if let Some(strategy) = row.maybe(12) {
        let strategy = match strategy {
            "h" => Strategy::Hash,
            "r" => Strategy::Range,
            _ => Strategy::List,
        };
        let columns = row.lines(13);
        // An expression in the key makes the leaf unknown.
        let columns = if columns.iter().any(String::is_empty) {
            Vec::new()
        } else {
            columns
        };
        relation.partitioning = Some(Partitioning {
            strategy,
            columns,
            leaves: Vec::new(),
        });
    }
    if let (Some(parent), Some(bound)) = (&relation.parent, row.maybe(11)) {
        // Parents may come later: the leaves are given to them at the end.
        relation.checks.push(Check {
            name: BOUND.to_owned(),
            expression: bound.to_owned(),
        });
        debug_assert!(!parent.name.is_empty());
    }
    catalog.relations.insert(name, relation);
    Some(())
}

/// Holds a partition's bound until its parent is known.
const BOUND: &str = "\0bound";

fn leaves(catalog: &mut Catalog) {
    let mut found: Vec<(Name, Leaf)> = Vec::new();
    for relation in catalog.relations.values_mut() {
        let Some(at) = relation.checks.iter().position(|c| c.name == BOUND) else {
            continue;
        };
        let text = relation.checks.remove(at).expression;
        if let Some(parent) = &relation.parent {
            let bound = hash_bound(&text).unwrap_or(LeafBound::Text(text));
            found.push((
                parent.clone(),
                Leaf {
                    name: relation.name.clone(),
                    bound,
                },
            ));
        }
    }
    for (parent, leaf) in found {
        let parent = catalog.relations.get_mut(&parent);
        if let Some(partitioning) = parent.and_then(|p| p.partitioning.as_mut()) {
            partitioning.leaves.push(leaf);
        }
    }
}

/// `FOR VALUES WITH (modulus 3, remainder 0)`
fn hash_bound(text: &str) -> Option<LeafBound> {
    let lower = text.to_ascii_lowercase();
    let after = |word: &str| -> Option<u64> {
        let rest = &lower[lower.find(word)? + word.len()..];
        rest.trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    Some(LeafBound::Hash {
        modulus: after("modulus")?,
        remainder: after("remainder")?,
    })
}

fn column(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let default = default_kind(catalog, row.maybe(9), (row.maybe(10)?, row.name(16)));
    let generated = row.maybe(11).is_some_and(|g| !g.is_empty());
    let column = Column {
        name: row.text(2)?,
        type_oid: row.number(3)?,
        type_name: row.text(4)?,
        typmod: row.number(5)?,
        collation: match row.maybe(6) {
            None => Collation::Default,
            Some("C" | "POSIX" | "ucs_basic") => Collation::Bytes,
            Some(name) => Collation::Named {
                name: name.to_owned(),
                deterministic: row.flag(7),
            },
        },
        not_null: row.flag(8),
        default: match generated {
            true => DefaultKind::None,
            false => default,
        },
        generated: generated.then(|| row.text(18).unwrap_or_default()),
        handed: Handed {
            base: row.text(12)?,
            full: row.text(13)?,
            collate: row.maybe(14).map(str::to_owned),
            as_text: row.flag(15),
            loses_xml: row.flag(19),
        },
    };
    // A table made after the relations were read cannot be: it is one snapshot. Temporary ones are left out.
    if let Some(relation) = catalog.relations.get_mut(&row.name(0)?) {
        relation.columns.push(column);
    }
    Some(())
}

/// What kind of default an expression is, by the functions that it calls. `sequence` is that of an identity, or one
/// that the expression names.
pub fn default_kind(
    catalog: &Catalog,
    expression: Option<&str>,
    (identity, sequence): (&str, Option<Name>),
) -> DefaultKind {
    if !identity.is_empty() {
        return DefaultKind::Sequence(FromSequence {
            sequence,
            always: identity == "a",
            identity: true,
        });
    }
    let Some(expression) = expression else {
        return DefaultKind::None;
    };
    let lower = expression.to_ascii_lowercase();
    let mut kind = DefaultKind::Constant(expression.to_owned());
    for word in words(&lower) {
        // PostgreSQL prints the schema of each function that is not its own.
        let functions = catalog.functions.iter();
        let named = functions.filter(|(name, _)| {
            name.name == word && may_name(&lower, &name.schema.to_ascii_lowercase())
        });
        let user = named.flat_map(|(_, functions)| functions);
        let user = user.map(|function| function.volatility).max();
        match (special(word.as_bytes()), user) {
            (Some(Trait::Sequence | Trait::SequenceSession), _) => {
                return DefaultKind::Sequence(FromSequence {
                    sequence: sequence.filter(|_| is_next_value(expression)),
                    always: false,
                    identity: false,
                });
            }
            (Some(_), _) | (_, Some(Volatility::Volatile)) if !is_time(word) => {
                kind = DefaultKind::Volatile(expression.to_owned());
            }
            _ if is_time(word) || user == Some(Volatility::Stable) => {
                if matches!(kind, DefaultKind::Constant(_)) {
                    kind = DefaultKind::Stable(expression.to_owned());
                }
            }
            _ => {}
        }
    }
    // pgcrypto's and uuid-ossp's functions are users' functions, and volatile; so are all others that are not known.
    kind
}

/// `nextval('s'::regclass)` and nothing around it, as PostgreSQL prints it.
fn is_next_value(expression: &str) -> bool {
    let inner = expression.strip_prefix("nextval('");
    let inner = inner.and_then(|inner| inner.strip_suffix("'::regclass)"));
    inner.is_some_and(|name| !name.contains('\''))
}

fn is_time(word: &str) -> bool {
    matches!(
        word,
        "now"
            | "current_timestamp"
            | "current_date"
            | "current_time"
            | "localtime"
            | "localtimestamp"
            | "transaction_timestamp"
            | "statement_timestamp"
            | "current_user"
            | "session_user"
            | "current_role"
            | "user"
            | "today"
            | "tomorrow"
            | "yesterday"
            | "age"
    )
}

fn index(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let table = row.name(0)?;
    let name = row.text(2)?;
    catalog
        .indexes
        .insert(Name::new(&table.schema, &name), table.clone());
    let (primary, unique, exclusion) = (row.flag(3), row.flag(4), row.flag(5));
    let key = Key {
        name,
        columns: row.lines(6),
        primary,
    };
    if let Some(relation) = catalog.relations.get_mut(&table) {
        if exclusion {
            relation.exclusions.push(key);
        } else if unique {
            relation.keys.push(key);
        }
    }
    Some(())
}

fn constraint(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let relation = catalog.relations.get_mut(&row.name(0)?)?;
    let name = row.text(2)?;
    if row.maybe(3)? == "c" {
        relation.checks.push(Check {
            name,
            expression: row.text(10).unwrap_or_default(),
        });
        return Some(());
    }
    let action = |at| match row.maybe(at) {
        Some("c") => Action::Cascade,
        Some("n" | "d") => Action::Set,
        _ => Action::Nothing,
    };
    relation.foreign_keys.push(ForeignKey {
        name,
        columns: row.lines(4),
        target: row.name(5)?,
        target_columns: row.lines(7),
        on_delete: action(8),
        on_update: action(9),
        delete_sets: row.lines(11),
    });
    Some(())
}

/// Bits of `pg_trigger.tgtype`.
const TRIGGER_ROW: i32 = 1;
const TRIGGER_BEFORE: i32 = 1 << 1;
const TRIGGER_INSERT: i32 = 1 << 2;
const TRIGGER_DELETE: i32 = 1 << 3;
const TRIGGER_UPDATE: i32 = 1 << 4;
const TRIGGER_TRUNCATE: i32 = 1 << 5;
const TRIGGER_INSTEAD: i32 = 1 << 6;

fn trigger(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let bits: i32 = row.number(5)?;
    let trigger = Trigger {
        name: row.text(2)?,
        function: row.name(3)?,
        may_change_row: bits & (TRIGGER_BEFORE | TRIGGER_INSTEAD) != 0,
        each_row: bits & TRIGGER_ROW != 0,
        sees_all_rows: row.flag(7),
        events: Events {
            insert: bits & TRIGGER_INSERT != 0,
            update: bits & TRIGGER_UPDATE != 0,
            delete: bits & TRIGGER_DELETE != 0,
            truncate: bits & TRIGGER_TRUNCATE != 0,
        },
        condition: row.text(6),
    };
    if let Some(relation) = catalog.relations.get_mut(&row.name(0)?) {
        relation.triggers.push(trigger);
    }
    Some(())
}

fn policy(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    let conditions: Vec<&str> = [row.maybe(3), row.maybe(4)].into_iter().flatten().collect();
    let policy = Policy {
        name: row.text(2)?,
        expression: conditions.join(", "),
    };
    if let Some(relation) = catalog.relations.get_mut(&row.name(0)?)
        && let Some(policies) = &mut relation.row_security
    {
        policies.push(policy);
    }
    Some(())
}

fn entangled(catalog: &mut Catalog, row: &Cells<'_>) -> Option<()> {
    if let Some(relation) = catalog.relations.get_mut(&row.name(0)?) {
        relation.contained = false;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_operator_in_the_queries_is_qualified() {
        for (what, sql) in QUERIES {
            // Strings aside, a bare comparison would be resolved along a search path.
            let code: String = sql.split('\'').step_by(2).collect();
            let bare = code.replace("OPERATOR(pg_catalog.", "");
            for operator in [" = ", " <> ", " < ", " > ", " ~ "] {
                assert!(!bare.contains(operator), "{what}: {operator}");
            }
            for word in ["FROM pg_", "JOIN pg_"] {
                let all = code.matches(word).count();
                assert_eq!(
                    all,
                    code.matches(&format!("{word}catalog.")).count(),
                    "{what}: {word}"
                );
            }
        }
    }

    #[test]
    fn defaults_are_told_apart_by_what_they_call() {
        let catalog = super::super::text::parse(
            "function public.v volatile sql SELECT 1\nfunction public.s stable sql SELECT 1",
        )
        .unwrap();
        let kind = |e| default_kind(&catalog, Some(e), ("", Some(Name::new("public", "s"))));
        assert!(matches!(kind("'x'::text"), DefaultKind::Constant(_)));
        assert!(matches!(kind("(5 + 1)"), DefaultKind::Constant(_)));
        assert!(matches!(kind("now()"), DefaultKind::Stable(_)));
        assert!(matches!(kind("CURRENT_TIMESTAMP"), DefaultKind::Stable(_)));
        assert!(matches!(kind("public.s()"), DefaultKind::Stable(_)));
        assert!(matches!(kind("public.v()"), DefaultKind::Volatile(_)));
        assert!(matches!(
            kind("gen_random_uuid()"),
            DefaultKind::Volatile(_)
        ));
        assert!(matches!(
            kind("clock_timestamp() + now()"),
            DefaultKind::Volatile(_)
        ));
        let sequence = || Some(Name::new("public", "s"));
        let of = |sequence, always, identity| {
            DefaultKind::Sequence(FromSequence {
                sequence,
                always,
                identity,
            })
        };
        for (expression, is_next_value) in [
            ("nextval('x'::regclass)", true),
            ("nextval('x'::text)", false),
            ("(nextval('x'::regclass) + 1)", false),
            ("(nextval('x'::regclass))::text", false),
            (
                "COALESCE(nextval('x'::regclass), nextval('y'::regclass))",
                false,
            ),
            ("currval('x'::regclass)", false),
        ] {
            let expected = of(sequence().filter(|_| is_next_value), false, false);
            assert_eq!(kind(expression), expected, "{expression}");
        }
        let identity = |kind| default_kind(&catalog, None, (kind, sequence()));
        assert_eq!(identity("a"), of(sequence(), true, true));
        assert_eq!(identity("d"), of(sequence(), false, true));
        assert_eq!(default_kind(&catalog, None, ("", None)), DefaultKind::None);
    }

    #[test]
    fn a_short_row_is_an_error_and_no_panic() {
        let mut answers = vec![Vec::new(); QUERIES.len()];
        answers[0] = vec![vec![Some("150004".to_owned()), Some("UTF8 C C".to_owned())]];
        assert_eq!(decode(&answers).unwrap().server_version, 150_004);
        for at in 0..QUERIES.len() {
            let mut broken = answers.clone();
            broken[at] = vec![Vec::new()];
            assert!(decode(&broken).is_err(), "{at}");
        }
    }
}

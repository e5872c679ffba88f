//! The changes of one ALTER TABLE, told apart by their tokens.
//!
//! The parser knows only some of them, and with one that it does not know it knows none of the statement. So each is
//! looked at alone: some say by their words that they leave alone where rows are; the others are parsed as if each was
//! a statement of its own.

use mothership_sql::cursor::Cursor;
use mothership_sql::lexer::Kind;

/// An ALTER TABLE.
pub(super) struct Alteration<'a> {
    /// The statement up to its first change.
    head: &'a str,
    /// The relation that it changes.
    pub(super) path: Vec<String>,
    /// The changes.
    pub(super) actions: Vec<&'a str>,
    /// Where they begin in the statement.
    pub(super) begins: Vec<usize>,
}

/// What one change says by its words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Neither names nor rows nor columns.
    Harmless,
    /// RENAME TO.
    Rename(String),
    /// SET SCHEMA.
    SetSchema(String),
    /// ATTACH PARTITION, INHERIT: the other table.
    Join(Vec<String>),
    /// DETACH PARTITION: the partition.
    Detach(Vec<String>),
    /// NO INHERIT.
    Leave,
    /// ALTER COLUMN ... DROP EXPRESSION: the column.
    DropExpression(String),
    /// It has to be parsed.
    Other,
}

impl<'a> Alteration<'a> {
    /// Reads a statement; `None` if it has another form.
    pub(super) fn of(sql: &'a str, standard_conforming_strings: bool) -> Option<Alteration<'a>> {
        let mut c = Cursor::new(sql.as_bytes(), standard_conforming_strings);
        c.eat("alter").then_some(())?;
        c.eat("table").then_some(())?;
        c.eat_all(&["if", "exists"]);
        c.eat("only");
        let in_parentheses = c.eat_kind(Kind::LParen);
        let path = names(&mut c)?;
        if in_parentheses && !c.eat_kind(Kind::RParen) {
            return None;
        }
        c.eat_operator("*");
        let head = sql.get(..c.taken())?;
        let mut actions = Vec::new();
        let mut begins = Vec::new();
        while !c.at_end() {
            let start = c.at();
            begins.push(start);
            let mut depth = 0usize;
            while let Some(token) = c.peek() {
                match token.kind {
                    Kind::LParen | Kind::LBracket => depth += 1,
                    Kind::RParen | Kind::RBracket => depth = depth.checked_sub(1)?,
                    Kind::Comma if depth == 0 => break,
                    _ => {}
                }
                c.bump();
            }
            actions.push(sql.get(start..c.taken())?);
            let more = c.eat_kind(Kind::Comma);
            if more == c.at_end() {
                // A comma with nothing behind it, or something behind the statement.
                return None;
            }
        }
        let is_whole = !actions.is_empty() && actions.iter().all(|a| !a.is_empty());
        is_whole.then_some(Alteration {
            head,
            path,
            actions,
            begins,
        })
    }

    /// One change as a statement.
    pub(super) fn alone(&self, action: &str) -> String {
        format!("{} {action}", self.head)
    }
}

/// What a change says by its words.
pub(super) fn action(text: &str, standard_conforming_strings: bool) -> Action {
    let mut c = Cursor::new(text.as_bytes(), standard_conforming_strings);
    let found = known(&mut c);
    match found {
        Some(action)
            if c.at_end()
                || matches!(
                    action,
                    Action::Harmless
                        | Action::Join(_)
                        | Action::Detach(_)
                        | Action::DropExpression(_)
                ) =>
        {
            action
        }
        _ => Action::Other,
    }
}

fn known(c: &mut Cursor<'_>) -> Option<Action> {
    let to_one = |mut name: Vec<String>| (name.len() == 1).then(|| name.pop()).flatten();
    if c.eat_all(&["rename", "to"]) {
        return to_one(names(c)?).map(Action::Rename);
    }
    if c.eat_all(&["set", "schema"]) {
        return to_one(names(c)?).map(Action::SetSchema);
    }
    if c.eat_all(&["attach", "partition"]) || c.eat("inherit") {
        return names(c).map(Action::Join);
    }
    if c.eat_all(&["detach", "partition"]) {
        return names(c).map(Action::Detach);
    }
    if c.eat_all(&["no", "inherit"]) {
        names(c)?;
        return Some(Action::Leave);
    }
    if let Some(column) = drop_expression(&mut c.clone()) {
        return Some(Action::DropExpression(column));
    }
    is_harmless(c).then_some(Action::Harmless)
}

/// The column of ALTER [COLUMN] ... DROP EXPRESSION. What follows is IF EXISTS, or PostgreSQL's error.
fn drop_expression(c: &mut Cursor<'_>) -> Option<String> {
    c.eat("alter").then_some(())?;
    c.eat("column");
    let column = c.name()?.as_str()?.to_owned();
    c.eat_all(&["drop", "expression"]).then_some(column)
}

/// Whether a change leaves alone which columns and names there are, what is unique, and where rows are.
fn is_harmless(c: &mut Cursor<'_>) -> bool {
    let whole: [&[&str]; 17] = [
        &["set", "without", "oids"],
        &["set", "without", "cluster"],
        &["set", "logged"],
        &["set", "unlogged"],
        &["set", "tablespace"],
        &["set", "access", "method"],
        &["cluster", "on"],
        &["replica", "identity"],
        &["owner", "to"],
        &["enable"],
        &["disable"],
        &["force", "row", "level", "security"],
        &["no", "force", "row", "level", "security"],
        &["validate", "constraint"],
        &["rename", "constraint"],
        &["alter", "constraint"],
        &["not", "of"],
    ];
    if whole.iter().any(|words| c.eat_all(words)) {
        return true;
    }
    if c.eat_any(&["set", "reset"]) {
        return c.sees_kind(Kind::LParen);
    }
    if !c.eat("alter") {
        return false;
    }
    c.eat("column");
    // A column may be given by its number, of an index.
    if !c.eat_kind(Kind::Integer) && c.name().is_none() {
        return false;
    }
    let of_column: [&[&str]; 8] = [
        &["set", "statistics"],
        &["set", "storage"],
        &["set", "compression"],
        &["set", "generated"],
        &["set", "cache"],
        &["drop", "identity"],
        &["restart"],
        &["reset"],
    ];
    of_column.iter().any(|words| c.eat_all(words)) || (c.eat("set") && c.sees_kind(Kind::LParen))
}

fn names(c: &mut Cursor<'_>) -> Option<Vec<String>> {
    let path = c.path()?;
    let parts = path.iter().map(|name| name.as_str().map(str::to_owned));
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_apart() {
        let sql = "ALTER TABLE IF EXISTS ONLY s.\"T\" * ADD COLUMN a int[2] DEFAULT ARRAY[1,2], \
                   ADD CHECK (a IN (1, 2)), SET (fillfactor = 90), ALTER a SET STATISTICS 5;";
        let read = Alteration::of(sql, true).unwrap();
        assert_eq!(read.path, ["s", "T"]);
        assert_eq!(
            read.actions,
            [
                "ADD COLUMN a int[2] DEFAULT ARRAY[1,2]",
                "ADD CHECK (a IN (1, 2))",
                "SET (fillfactor = 90)",
                "ALTER a SET STATISTICS 5",
            ]
        );
        assert_eq!(
            read.alone(read.actions[1]),
            "ALTER TABLE IF EXISTS ONLY s.\"T\" * ADD CHECK (a IN (1, 2))"
        );
        for broken in [
            "ALTER TABLE",
            "ALTER TABLE t",
            "ALTER TABLE t ADD a int,",
            "DROP TABLE t",
        ] {
            assert!(Alteration::of(broken, true).is_none(), "{broken}");
        }
    }

    #[test]
    fn words_say_what_a_change_does() {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (text, expected) in [
            ("RENAME TO \"B\"", Action::Rename("B".into())),
            ("RENAME a TO b", Action::Other),
            ("RENAME CONSTRAINT a TO b", Action::Harmless),
            ("SET SCHEMA U&\"\\0061\"", Action::SetSchema("a".into())),
            (
                "ATTACH PARTITION s.p DEFAULT",
                Action::Join(own(&["s", "p"])),
            ),
            ("INHERIT p", Action::Join(own(&["p"]))),
            ("NO INHERIT p", Action::Leave),
            (
                "DETACH PARTITION p CONCURRENTLY",
                Action::Detach(own(&["p"])),
            ),
            ("SET UNLOGGED", Action::Harmless),
            ("SET (autovacuum_enabled = off)", Action::Harmless),
            ("ALTER COLUMN a SET (n_distinct = 5)", Action::Harmless),
            ("ALTER a SET DEFAULT 5", Action::Other),
            ("ALTER a DROP NOT NULL", Action::Other),
            (
                "ALTER COLUMN \"A\" DROP EXPRESSION IF EXISTS",
                Action::DropExpression("A".into()),
            ),
            ("ALTER a TYPE text", Action::Other),
            ("DROP CONSTRAINT a", Action::Other),
            ("ENABLE ALWAYS TRIGGER a", Action::Harmless),
            ("OF t", Action::Other),
        ] {
            assert_eq!(action(text, true), expected, "{text}");
        }
    }
}

//! Whether a statement spells out the columns that it uses: nothing in it stands for all columns of a table.
//!
//! What stands for all of them: `*`, a table's name or alias as a value (its whole row), NATURAL JOIN, TABLE, and a list of
//! columns that is left out (INSERT, MERGE and COPY; of these only INSERT is read, so that the others never spell). A statement without any of these means the same when a table has a
//! column more or less that the statement does not name. Pure; by tokens, so in doubt the answer is no.

use super::clauses::{Clause, Clauses};
use super::keywords;
use super::lexer::{Kind, Lexer, Token};
use std::collections::{BTreeMap, BTreeSet};

/// Words that may stand behind a table and are no alias, though they are not reserved.
const NO_ALIAS: [&str; 9] = [
    "cross",
    "full",
    "inner",
    "join",
    "left",
    "natural",
    "right",
    "set",
    "tablesample",
];

/// Words by which a statement takes all columns.
const TAKE_ALL: [&str; 5] = ["copy", "insert", "merge", "natural", "table"];

/// Whether a statement spells out the columns of these tables. Both are asked for names as PostgreSQL folds them; `is_column`
/// gets a table and a name: where the table has no such column, `t.name` is the function `name` of the whole row.
pub fn spells_columns(
    sql: &[u8],
    strings: bool,
    is_table: impl Fn(&str) -> bool,
    is_column: impl Fn(&str, &str) -> bool,
) -> bool {
    let tokens: Vec<Token> = Lexer::new(sql, strings).collect();
    let reader = Reader {
        sql,
        tokens: &tokens,
    };
    let Some(rows) = reader.rows(is_table) else {
        return false;
    };
    let is_of_column = |at: usize, tables: &[String]| {
        let column = reader.name(at + 2).filter(|_| reader.is(at + 1, Kind::Dot));
        column.is_some_and(|column| tables.iter().all(|table| is_column(table, &column)))
    };
    (0..tokens.len()).all(|at| {
        let is_whole_row = match reader.name(at).and_then(|name| rows.names.get(&name)) {
            Some(_) if rows.declared.contains(&at) || reader.is_after(at, Kind::Dot) => false,
            Some(tables) => !is_of_column(at, tables),
            None => false,
        };
        reader.takes_few(at) && !is_whole_row
    })
}

/// Names that stand for rows of the tables: their own and their aliases.
#[derive(Default)]
struct Rows {
    /// With the tables that each of them stands for.
    names: BTreeMap<String, Vec<String>>,
    /// The tokens that bring them in.
    declared: BTreeSet<usize>,
}

struct Reader<'a> {
    sql: &'a [u8],
    tokens: &'a [Token],
}

impl Reader<'_> {
    fn is(&self, at: usize, kind: Kind) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == kind)
    }

    fn is_after(&self, at: usize, kind: Kind) -> bool {
        at.checked_sub(1)
            .is_some_and(|before| self.is(before, kind))
    }

    fn text(&self, at: usize) -> &[u8] {
        let token = self.tokens.get(at);
        token.map_or(b"", |token| token.text(self.sql))
    }

    fn is_star(&self, at: usize) -> bool {
        self.is(at, Kind::Operator) && self.text(at).contains(&b'*')
    }

    fn word(&self, at: usize) -> Option<String> {
        let word = self.is(at, Kind::Word).then(|| self.text(at))?;
        Some(String::from_utf8_lossy(word).to_ascii_lowercase())
    }

    fn word_before(&self, at: usize) -> Option<String> {
        self.word(at.checked_sub(1)?)
    }

    /// An identifier as PostgreSQL folds it.
    fn name(&self, at: usize) -> Option<String> {
        if !self.is(at, Kind::QuotedIdent) {
            return self.word(at);
        }
        let quoted = String::from_utf8_lossy(self.text(at));
        let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
        Some(inner.replace("\"\"", "\""))
    }

    /// Whether this token stands for no more than what it says.
    fn takes_few(&self, at: usize) -> bool {
        let takes_all = |word: String| TAKE_ALL.contains(&word.as_str());
        if self.is_into_columns(at) {
            return true;
        }
        if self.is(at, Kind::UnicodeIdent) || self.word(at).is_some_and(takes_all) {
            return false;
        }
        !self.is_star(at) || self.is_count(at) || self.is_product(at)
    }

    /// `INSERT INTO t (a, b)`, at its first word.
    fn is_into_columns(&self, at: usize) -> bool {
        let is_word = |at: usize, wanted: &str| self.word(at).is_some_and(|word| word == wanted);
        if !is_word(at, "insert") || !is_word(at + 1, "into") {
            return false;
        }
        let mut table = at + 2;
        while self.is(table + 1, Kind::Dot) {
            table += 2;
        }
        let list = match is_word(table + 1, "as") {
            true => table + 3,
            false => table + 1,
        };
        let is_query = |word: &str| matches!(word, "select" | "table" | "values" | "with");
        let first = self.name(list + 1);
        self.is(list, Kind::LParen) && first.is_some_and(|first| !is_query(&first))
    }

    /// `count(*)`
    fn is_count(&self, at: usize) -> bool {
        let counts = |at: usize| self.word_before(at).is_some_and(|word| word == "count");
        self.text(at) == b"*"
            && self.is(at + 1, Kind::RParen)
            && self.is_after(at, Kind::LParen)
            && at.checked_sub(1).is_some_and(counts)
    }

    /// A star behind a value multiplies.
    fn is_product(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
        let is_value = |kind: Kind| {
            kind.is_string() || matches!(kind, Kind::Integer | Kind::Decimal | Kind::Param)
        };
        before.is_some_and(|before| is_value(before.kind))
    }

    /// The names for rows of the tables; `None` where a table stands in another place than that of a table or before its
    /// column.
    fn rows(&self, is_table: impl Fn(&str) -> bool) -> Option<Rows> {
        let mut rows = Rows::default();
        let mut clauses = Clauses::new(self.sql, self.tokens);
        for at in 0..self.tokens.len() {
            let clause = clauses.reach(at);
            let name = self.name(at).filter(|name| is_table(name));
            match name {
                Some(name) if self.is_in_table_place(at, clause) => {
                    rows.declared.insert(at);
                    let alias = self.alias(at);
                    // A list of names, which stand for columns by their places. That of INSERT names them.
                    let inserts = self.is_target(at);
                    if !inserts
                        && self.is(alias.as_ref().map_or(at, |(at, _)| *at) + 1, Kind::LParen)
                    {
                        return None;
                    }
                    rows.declared.extend(alias.as_ref().map(|(at, _)| *at));
                    let called = alias.map_or_else(|| name.clone(), |(_, alias)| alias);
                    rows.names.entry(called).or_default().push(name);
                }
                Some(_) if self.is(at + 1, Kind::Dot) || self.is_after(at, Kind::Dot) => {}
                Some(_) => return None,
                None if self.is(at, Kind::Word) => clauses.enter(at),
                None => {}
            }
        }
        Some(rows)
    }

    /// Whether the table of the name at `at`, perhaps with its schema, is what INSERT writes.
    fn is_target(&self, at: usize) -> bool {
        let mut first = at;
        while self.is_after(first, Kind::Dot) && first >= 2 {
            first -= 2;
        }
        let into = first.checked_sub(1);
        into.is_some_and(|into| {
            self.word(into).is_some_and(|word| word == "into")
                && self.word_before(into).is_some_and(|word| word == "insert")
        })
    }

    /// Whether a name, perhaps with its schema, stands where a table is named.
    fn is_in_table_place(&self, at: usize, clause: Clause) -> bool {
        let first = match self.is_after(at, Kind::Dot) {
            true => at.saturating_sub(2),
            false => at,
        };
        if self.is(at + 1, Kind::Dot) || clause == Clause::Arguments {
            return false;
        }
        let word = self.word_before(first);
        match word.as_deref() {
            // IS DISTINCT FROM
            Some("from") => {
                let before = first.checked_sub(1).and_then(|from| self.word_before(from));
                before.is_none_or(|word| word != "distinct")
            }
            Some("join" | "using" | "update" | "only") => true,
            Some("into") => self.is_target(at),
            Some(_) => false,
            None => {
                let listed =
                    self.is_after(first, Kind::Comma) || self.is_after(first, Kind::LParen);
                clause == Clause::From && listed
            }
        }
    }

    /// The alias of the table at `at`.
    fn alias(&self, at: usize) -> Option<(usize, String)> {
        let behind = at + 1;
        if self.word(behind).is_some_and(|word| word == "as") {
            return Some((behind + 1, self.name(behind + 1)?));
        }
        let name = self.name(behind)?;
        let is_keyword = self.is(behind, Kind::Word)
            && (keywords::is_reserved(&name) || NO_ALIAS.contains(&name.as_str()));
        (!is_keyword).then_some((behind, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_names_its_columns_spells_them() {
        let is_table = |name: &str| matches!(name, "t" | "other");
        let is_column = |table: &str, name: &str| match table {
            "t" => matches!(name, "id" | "v" | "balance"),
            _ => matches!(name, "id" | "v" | "t"),
        };
        let spells = |sql: &str| spells_columns(sql.as_bytes(), true, is_table, is_column);
        for sql in [
            "SELECT count(*) FROM t",
            "SELECT id, 2 * v FROM t WHERE t.id = $1",
            "SELECT a.id FROM public.t a JOIN other AS b ON b.id = a.id",
            "SELECT a.id FROM t a, other b WHERE a.id = b.t",
            "UPDATE t SET v = v + 1 WHERE id IN (1, 2) RETURNING id",
            "UPDATE t AS x SET v = o.v FROM other o WHERE o.id = x.id",
            "DELETE FROM t USING other WHERE other.id = t.id",
            "SELECT id FROM t WHERE EXISTS (SELECT FROM other o WHERE o.id = t.id)",
            "SELECT sum(balance) FROM ONLY t",
            "SELECT x.id FROM t LEFT JOIN other x USING (id)",
            "INSERT INTO t (id, v) VALUES (1, 2), (3, 4)",
            "INSERT INTO public.t AS x (id) SELECT o.id FROM other o ON CONFLICT (id) DO UPDATE SET v = x.v + 1",
            "INSERT INTO t (id) VALUES (1) RETURNING id, t.v",
            "WITH n AS (INSERT INTO other (id) VALUES (1) RETURNING id) INSERT INTO t (id) SELECT n.id FROM n",
        ] {
            assert!(spells(sql), "{sql}");
        }
        for sql in [
            "SELECT * FROM t",
            "SELECT t.* FROM t",
            "SELECT id, t FROM t",
            "SELECT row_to_json(t) FROM t",
            "SELECT count(a) FROM t a",
            "SELECT a::text FROM t AS a",
            "SELECT id FROM t NATURAL JOIN other",
            "TABLE t",
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t (SELECT id FROM other)",
            "INSERT INTO t (VALUES (1))",
            "INSERT INTO t ((SELECT id FROM other))",
            "INSERT INTO t DEFAULT VALUES",
            "INSERT INTO t AS x VALUES (1)",
            "INSERT INTO t (id) VALUES (1) RETURNING *",
            "INSERT INTO t (id) VALUES (1) RETURNING t",
            "INSERT INTO t (id) SELECT o FROM other o",
            "INSERT INTO t (id) TABLE other",
            "MERGE INTO t USING other ON t.id = other.id WHEN MATCHED THEN DELETE",
            "COPY t (id) FROM STDIN",
            "UPDATE t SET v = 1 RETURNING *",
            "SELECT id FROM t WHERE t IS NOT NULL",
            "SELECT a.id FROM t a JOIN other b ON a.id = b.id WHERE b IS NULL",
            "SELECT 'x'::t",
            "SELECT U&\"t\" FROM t",
            "SELECT a.y FROM t AS a(x, y)",
            "SELECT a.y FROM t a (x, y)",
            "SELECT t.row_to_json FROM t",
            "SELECT a.own FROM other a",
            "SELECT o.balance FROM other o, t",
            "SELECT id FROM t WHERE '(1)' IS DISTINCT FROM t",
            "SELECT extract(epoch FROM t) FROM t",
        ] {
            assert!(!spells(sql), "{sql}");
        }
    }
}

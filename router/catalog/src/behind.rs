//! What is behind the names of a statement: which functions, views, policies, triggers, constraints and defaults do a
//! certain thing ([`HiddenEffect`]) that the text of the statement does not show.
//!
//! Pure, and once for each catalog. A name in a body may mean what is called so in any schema; too many are found, never too
//! few, as far as bodies can be read. What operators, casts and rules (CREATE RULE) do is not looked at.

use super::types::{self, may_name, words};
use super::{Catalog, DefaultKind, Events, Function, Name, Relation, Trigger};
use mothership_sql::cursor::Cursor;
use mothership_sql::lexer::Kind;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;
use std::rc::Rc;

/// One thing that code may do without the statement showing it: ask for the time, reach outside of its transaction, or leave
/// something in its session.
pub trait HiddenEffect {
    /// Whether code does it by itself: a body, the definition of a view, an expression.
    fn is_in(&self, code: &str) -> bool;

    /// Whether a function does it, where that is known without its body.
    fn is_known_of(&self, function: &Function) -> Option<bool>;
}

/// The names in one catalog behind which a [`HiddenEffect`] is done.
#[derive(Debug, Default)]
pub struct Behind {
    /// With the schemas in which they are called so.
    functions: BTreeMap<String, BTreeSet<String>>,
    /// Views, and tables with policies, with the schemas likewise.
    reads: BTreeMap<String, BTreeSet<String>>,
    /// Relations whose triggers or constraints do it at every write, likewise.
    writes: BTreeMap<String, BTreeSet<String>>,
    /// Those whose triggers do it at an UPDATE, and nothing else does, likewise.
    updates: BTreeMap<String, BTreeSet<String>>,
    /// Columns and their defaults, by the name and the schema of their relation.
    defaults: BTreeMap<String, BTreeMap<String, Vec<(String, String)>>>,
    /// The schemas of all relations, by their names.
    relations: BTreeMap<String, BTreeSet<String>>,
    /// Those names that code does not write as one word in small letters, and whether reading is enough.
    quoted: Vec<(String, bool)>,
}

/// A name in a statement.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The name, folded; `None` if it is not understood.
    pub name: Option<&'a str>,
    /// It is not in quotes.
    pub is_word: bool,
    /// It may be that of a function.
    pub is_called: bool,
    /// The name before it and a dot: a schema, or what has it as a column.
    pub qualifier: Option<&'a str>,
    /// A dot follows: it is a schema, or a row that is named elsewhere.
    pub qualifies: bool,
    /// An argument list follows.
    pub has_arguments: bool,
}

impl Named<'_> {
    /// Whether it stands for a relation of one of these schemas, if for any. It does not for one in the schemas `apart`.
    fn is_in<'s>(
        &self,
        mut schemas: impl Iterator<Item = &'s String>,
        apart: &BTreeSet<String>,
    ) -> bool {
        // The schema of temporary objects has another name in the catalog.
        match self
            .qualifier
            .filter(|schema| !schema.starts_with("pg_temp"))
        {
            Some(qualifier) => schemas.any(|schema| schema == qualifier),
            None => schemas.any(|schema| !apart.contains(schema)),
        }
    }
}

/// In which schema the table of a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaOf<'a> {
    /// There is no such table.
    Nobody,
    /// In this one.
    One(&'a str),
    /// Tables of several schemas may be meant.
    Several,
}

/// What names in code mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// The body of a function: its names are looked up along the search path of whoever calls it.
    Body,
    /// PostgreSQL has printed it, and names each user's function together with its schema.
    Printed,
}

/// What a statement does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It changes none, though it may lock some.
    Nothing,
    /// It updates none.
    NoUpdate,
    /// Anything.
    Anything,
}

/// What a statement does to rows, and of which relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writes {
    does: Does,
    /// The schema, if it has one, and the name of the only relation that it changes; `None` if there may be others.
    only: Option<(Option<String>, String)>,
}

impl Writes {
    /// What a statement does; `writes`: it does not only read.
    pub fn of(sql: &str, strings: bool, writes: bool) -> Writes {
        let nothing = Writes {
            does: Does::Nothing,
            only: None,
        };
        if !writes {
            return nothing;
        }
        let anything = Writes {
            does: Does::Anything,
            only: None,
        };
        let mut cursor = Cursor::new(sql.as_bytes(), strings);
        while cursor.skip_semicolon() {}
        let verbs = Verbs::of(cursor.clone());
        let only_locks = ["select", "values", "table", "with", "lock"];
        if only_locks.iter().any(|word| cursor.sees(word)) {
            return if verbs.all == 0 { nothing } else { anything };
        }
        let into = [
            &["insert", "into"][..],
            &["delete", "from"],
            &["merge", "into"],
            &["update"],
        ];
        if verbs.all > 1 || !into.iter().any(|words| cursor.eat_all(words)) {
            let copies = verbs.all < 2 && cursor.sees("copy");
            let does = if copies {
                Does::NoUpdate
            } else {
                Does::Anything
            };
            return Writes { does, ..anything };
        }
        cursor.eat("only");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let path: Option<Vec<String>> = cursor
            .path()
            .and_then(|path| path.iter().map(|name| text(name.as_bytes())).collect());
        let only = path.and_then(|mut path| Some((path.pop()?, path.pop())));
        Writes {
            does: match verbs.updates {
                true => Does::Anything,
                false => Does::NoUpdate,
            },
            only: only.map(|(name, schema)| (schema, name)),
        }
    }

    /// Whether it may change a relation that is named so.
    fn changes(&self, named: &Named<'_>) -> bool {
        let is_it = |(schema, name): &(Option<String>, String)| {
            named.name == Some(name) && named.qualifier == schema.as_deref()
        };
        self.does != Does::Nothing && self.only.as_ref().is_none_or(is_it)
    }
}

/// The verbs of a statement that change rows.
struct Verbs {
    /// How many there are, but for those that say what an INSERT or a MERGE does to its own table.
    all: usize,
    /// One of them may update.
    updates: bool,
}

impl Verbs {
    fn of(mut cursor: Cursor<'_>) -> Verbs {
        let mut verbs = Verbs {
            all: 0,
            updates: false,
        };
        let mut before = String::new();
        while let Some(token) = cursor.peek() {
            let name = (token.kind == Kind::Word)
                .then(|| cursor.name())
                .flatten()
                .and_then(|name| String::from_utf8(name.as_bytes().to_vec()).ok());
            let Some(word) = name else {
                cursor.bump();
                before.clear();
                continue;
            };
            let locks = word == "update" && matches!(&*before, "for" | "key");
            if matches!(
                &*word,
                "insert" | "update" | "delete" | "merge" | "truncate" | "copy"
            ) && !locks
            {
                verbs.updates |= word == "update";
                verbs.all += usize::from(!matches!(&*before, "do" | "then"));
            }
            before = word;
        }
        verbs
    }
}

/// Where a text begins, and its length.
type Place = (*const u8, usize);

/// The different words of each text, in small letters: they are asked for again with each name that is found.
#[derive(Default)]
struct Texts<'c> {
    /// By where the text lies: it is long, and stays there.
    known: RefCell<HashMap<Place, Rc<BTreeSet<String>>>>,
    of: PhantomData<&'c Catalog>,
}

impl<'c> Texts<'c> {
    fn words(&self, code: &'c str) -> Rc<BTreeSet<String>> {
        let mut known = self.known.borrow_mut();
        let read = || {
            let mut all = BTreeSet::new();
            for word in words(code) {
                let lower = word.to_ascii_lowercase();
                if !all.contains(&lower) {
                    all.insert(lower);
                }
            }
            Rc::new(all)
        };
        Rc::clone(
            known
                .entry((code.as_ptr(), code.len()))
                .or_insert_with(read),
        )
    }
}

impl Behind {
    /// Reads a catalog.
    pub fn of(catalog: &Catalog, effect: &impl HiddenEffect) -> Self {
        let mut behind = Self::default();
        for relation in catalog.relations.values() {
            note(&mut behind.relations, &relation.name);
        }
        // All code is read once; after that it can only name what was found since.
        let texts = Texts::default();
        let callers = callers(catalog, &texts);
        let mut found = behind.grow(catalog, effect, (&texts, &callers), true);
        while found {
            found = behind.grow(catalog, effect, (&texts, &callers), false);
        }
        behind
    }

    /// One more look, which reads code itself where that is `new`; whether something was found.
    fn grow<'c>(
        &mut self,
        catalog: &'c Catalog,
        effect: &impl HiddenEffect,
        (texts, callers): (&Texts<'c>, &Callers<'c>),
        new: bool,
    ) -> bool {
        let before = self.size();
        self.quoted = self.quoted_names();
        let mut found = Vec::new();
        let is_in = |code: &str| new && effect.is_in(code);
        for (name, functions) in &catalog.functions {
            let known = self.functions.get(&name.name);
            if known.is_some_and(|schemas| schemas.contains(&name.schema)) {
                continue;
            }
            let does = |function: &'c Function| {
                let known = effect.is_known_of(function);
                known.unwrap_or_else(|| {
                    is_in(&function.body) || self.mentions(texts, &function.body, Code::Body)
                })
            };
            if functions.iter().any(does) {
                note(&mut self.functions, name);
                found.push(name);
            }
        }
        // Anybody may make thousands of functions of which each calls another one.
        while let Some(name) = found.pop() {
            for (caller, function) in callers.get(&*name.name).into_iter().flatten() {
                if effect.is_known_of(function).unwrap_or(true) && !self.has_function(caller) {
                    note(&mut self.functions, caller);
                    found.push(caller);
                }
            }
        }
        for relation in catalog.relations.values() {
            self.look_at(relation, texts, is_in);
        }
        self.size() != before
    }

    fn size(&self) -> usize {
        let names = self.functions.values().chain(self.reads.values());
        let names = names.chain(self.writes.values());
        let names = names.chain(self.updates.values()).map(BTreeSet::len);
        let defaults = self.defaults.values().flat_map(BTreeMap::values);
        names.sum::<usize>() + defaults.map(Vec::len).sum::<usize>()
    }

    /// Whether code that only reads does it by what it names.
    fn reads_by<'c>(&self, texts: &Texts<'c>, code: &'c str) -> bool {
        if self.functions.is_empty() && self.reads.is_empty() {
            return false;
        }
        let words = texts.words(code);
        let named = |word: &String| {
            let mut sets = [&self.functions, &self.reads].into_iter();
            sets.any(|set| is_meant(set, word, code, Code::Printed))
        };
        words.iter().any(named) || self.names_quoted(code, true)
    }

    fn quoted_names(&self) -> Vec<(String, bool)> {
        let is_word = |name: &String| {
            let lower = name.to_ascii_lowercase();
            lower == *name && words(&lower).next() == Some(lower.as_str())
        };
        let reads = self.functions.keys().chain(self.reads.keys());
        let writes = self.writes.keys().chain(self.updates.keys());
        let writes = writes.chain(self.defaults.keys());
        let all = reads
            .map(|name| (name, true))
            .chain(writes.map(|name| (name, false)));
        let quoted = all.filter(|(name, _)| !is_word(name));
        quoted
            .map(|(name, reads)| (name.to_ascii_lowercase(), reads))
            .collect()
    }

    /// Whether code may name one that has to be written in quotes.
    fn names_quoted(&self, code: &str, only_reads: bool) -> bool {
        if self.quoted.is_empty() {
            return false;
        }
        let lower = code.to_ascii_lowercase();
        let mut asked = self
            .quoted
            .iter()
            .filter(|(_, reads)| *reads || !only_reads);
        asked.any(|(name, _)| may_name(&lower, name))
    }

    /// Whether code names what does it.
    fn mentions<'c>(&self, texts: &Texts<'c>, code: &'c str, kind: Code) -> bool {
        if self.is_empty() {
            return false;
        }
        let words = texts.words(code);
        let named = |word: &String| {
            let sets = [&self.functions, &self.reads, &self.writes, &self.updates];
            let mut sets = sets.into_iter();
            let fills = || {
                let schemas = self.defaults.get(word);
                schemas.is_some_and(|schemas| are_named(schemas.keys(), word, code, kind))
            };
            sets.any(|set| is_meant(set, word, code, kind)) || fills()
        };
        words.iter().any(named) || self.names_quoted(code, false)
    }

    fn look_at<'c>(
        &mut self,
        relation: &'c Relation,
        texts: &Texts<'c>,
        is_in: impl Fn(&str) -> bool,
    ) {
        let name = &relation.name.name;
        let policies = relation.row_security.iter().flatten();
        let mut codes = relation
            .definition
            .iter()
            .chain(policies.map(|policy| &policy.expression));
        if codes.any(|code| is_in(code) || self.reads_by(texts, code)) {
            note(&mut self.reads, &relation.name);
        }
        // Who only reads a view asks no default and fires no trigger of the tables below.
        let definition = relation.definition.as_ref();
        if definition.is_some_and(|code| self.mentions(texts, code, Code::Printed)) {
            note(&mut self.writes, &relation.name);
        }
        let triggers = relation.triggers.iter();
        let doing = triggers.filter(|trigger| self.has_function(&trigger.function));
        let only_update = |trigger: &&Trigger| trigger.events == Events::UPDATE;
        let (at_updates, at_others): (Vec<&Trigger>, Vec<&Trigger>) = doing.partition(only_update);
        let does = !at_others.is_empty()
            || relation.checks.iter().any(|check| {
                is_in(&check.expression) || self.mentions(texts, &check.expression, Code::Printed)
            });
        if !at_updates.is_empty() {
            note(&mut self.updates, &relation.name);
        }
        if does {
            note(&mut self.writes, &relation.name);
        }
        let writes = self.writes.get(name);
        if writes.is_some_and(|schemas| schemas.contains(&relation.name.schema)) {
            // What is written to these may go on to this one.
            let cascades = relation.foreign_keys.iter().filter(|key| key.cascades());
            let above = relation
                .parent
                .iter()
                .chain(cascades.map(|key| &key.target));
            above.for_each(|above| note(&mut self.writes, above));
        }
        let updates = self.updates.get(name);
        if updates.is_some_and(|schemas| schemas.contains(&relation.name.schema)) {
            let cascades = relation.foreign_keys.iter().filter(|key| key.cascades());
            cascades.for_each(|key| note(&mut self.writes, &key.target));
            let parent = relation.parent.iter();
            parent.for_each(|parent| note(&mut self.updates, parent));
        }
        for column in &relation.columns {
            let (DefaultKind::Stable(default)
            | DefaultKind::Volatile(default)
            | DefaultKind::Constant(default)) = &column.default
            else {
                continue;
            };
            if is_in(default) || self.mentions(texts, default, Code::Printed) {
                let defaults = self.defaults.entry(name.clone()).or_default();
                let schema = relation.name.schema.clone();
                let defaults = defaults.entry(schema).or_default();
                let found = (column.name.clone(), default.clone());
                if !defaults.contains(&found) {
                    defaults.push(found);
                }
            }
        }
    }

    fn has_function(&self, name: &Name) -> bool {
        let schemas = self.functions.get(&name.name);
        schemas.is_some_and(|schemas| schemas.contains(&name.schema))
    }

    /// Whether nothing in the catalog does it.
    pub fn is_empty(&self) -> bool {
        let mut names = [&self.functions, &self.reads, &self.writes, &self.updates].into_iter();
        names.all(BTreeMap::is_empty) && self.defaults.is_empty()
    }

    /// What a name in a statement stands for that does it, in words; defaults are not asked. It does not stand for what
    /// is only in the schemas `apart`.
    pub fn by(
        &self,
        named: Named<'_>,
        writes: &Writes,
        apart: &BTreeSet<String>,
    ) -> Option<String> {
        let Some(name) = named.name else {
            return (!self.is_empty()).then(|| "a name that is not understood".into());
        };
        if named.qualifies {
            return None;
        }
        let has = |set: &BTreeMap<String, BTreeSet<String>>| {
            let schemas = set.get(name);
            schemas.is_some_and(|schemas| named.is_in(schemas.iter(), apart))
        };
        // A function of a row is named like a column of it.
        let calls = || match named.has_arguments {
            true => has(&self.functions),
            false => {
                let schemas = self.functions.get(name);
                schemas.is_some_and(|schemas| !schemas.is_subset(apart))
            }
        };
        if named.is_called && calls() {
            Some(format!("function {name}()"))
        } else if has(&self.reads) {
            Some(format!("view or policies of \"{name}\""))
        } else if writes.changes(&named)
            && (has(&self.writes) || writes.does == Does::Anything && has(&self.updates))
        {
            Some(format!("triggers or constraints of table \"{name}\""))
        } else {
            None
        }
    }

    /// Whether a statement may do it by what it names, defaults of what it `writes` included. It does not mean functions
    /// that are only in the schemas `apart`.
    pub fn is_done_by(
        &self,
        sql: &str,
        strings: bool,
        writes: bool,
        apart: &BTreeSet<String>,
    ) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut does = false;
        let written = Writes::of(sql, strings, writes);
        names(sql, strings, |named| {
            let fills = || written.changes(&named) && self.has_defaults(named, apart);
            does |= self.by(named, &written, apart).is_some() || fills();
        });
        does
    }

    /// Whether a default of a table of this name does it. It is none that is only in the schemas `apart`.
    pub fn has_defaults(&self, named: Named<'_>, apart: &BTreeSet<String>) -> bool {
        let schemas = named.name.and_then(|name| self.defaults.get(name));
        let may_be = |schemas: &BTreeMap<String, _>| named.is_in(schemas.keys(), apart);
        !named.qualifies && schemas.is_some_and(may_be)
    }

    /// The schema of the table that a name stands for: this one if it is given, and else none of those `apart`.
    pub fn schema_of(
        &self,
        schema: Option<&str>,
        table: &str,
        apart: &BTreeSet<String>,
    ) -> SchemaOf<'_> {
        let is_it = |named: &&String| match schema {
            Some(schema) => *named == schema,
            None => !apart.contains(*named),
        };
        let schemas = self.relations.get(table).into_iter().flatten();
        let mut schemas = schemas.filter(is_it);
        match (schemas.next(), schemas.next()) {
            (None, _) => SchemaOf::Nobody,
            (Some(schema), None) => SchemaOf::One(schema),
            _ => SchemaOf::Several,
        }
    }

    /// The columns of a table whose defaults do it, each with its default.
    pub fn defaults(&self, schema: &str, table: &str) -> &[(String, String)] {
        let schemas = self.defaults.get(table);
        let defaults = schemas.and_then(|schemas| schemas.get(schema));
        defaults.map_or(&[], Vec::as_slice)
    }

    /// Whether code names a function that does it.
    pub fn calls(&self, code: &str) -> bool {
        let lower = code.to_ascii_lowercase();
        words(&lower).any(|word| self.functions.contains_key(word)) || self.names_quoted(code, true)
    }
}

/// The functions whose bodies have the name of a function.
type Callers<'c> = HashMap<&'c str, Vec<(&'c Name, &'c Function)>>;

fn callers<'c>(catalog: &'c Catalog, texts: &Texts<'c>) -> Callers<'c> {
    let names = catalog.functions.keys().map(|name| name.name.as_str());
    let names: BTreeSet<&str> = names.collect();
    let mut callers = Callers::new();
    for (name, functions) in &catalog.functions {
        for function in functions {
            for word in texts.words(&function.body).iter() {
                if let Some(called) = names.get(word.as_str()) {
                    callers.entry(called).or_default().push((name, function));
                }
            }
        }
    }
    callers
}

fn note(set: &mut BTreeMap<String, BTreeSet<String>>, name: &Name) {
    let schemas = set.entry(name.name.clone()).or_default();
    schemas.insert(name.schema.clone());
}

/// Whether a word of code is the name of something in a set.
fn is_meant(set: &BTreeMap<String, BTreeSet<String>>, word: &str, code: &str, kind: Code) -> bool {
    let schemas = set.get(word);
    schemas.is_some_and(|schemas| are_named(schemas.iter(), word, code, kind))
}

/// Whether a word of code may be something in one of these schemas. What PostgreSQL prints has the schema before it.
fn are_named<'s>(
    mut schemas: impl Iterator<Item = &'s String>,
    word: &str,
    code: &str,
    kind: Code,
) -> bool {
    schemas.any(|schema| {
        let is_word = types::words(schema).next() == Some(schema);
        let is_plain = is_word && *schema == schema.to_ascii_lowercase();
        let is_there = || code.replace('"', "").contains(&format!("{schema}.{word}"));
        kind == Code::Body || !is_plain || is_there()
    })
}

/// Lets `see` have each name of a statement.
pub fn names(sql: &str, strings: bool, mut see: impl FnMut(Named<'_>)) {
    let mut cursor = Cursor::new(sql.as_bytes(), strings);
    while cursor.skip_semicolon() {}
    let mut after_dot = false;
    let mut before: Option<String> = None;
    while let Some(token) = cursor.peek() {
        let is_word = token.kind == Kind::Word;
        if !(is_word || matches!(token.kind, Kind::QuotedIdent | Kind::UnicodeIdent)) {
            after_dot = token.kind == Kind::Dot;
            before = before.filter(|_| after_dot);
            cursor.bump();
            continue;
        }
        let name = cursor.name();
        if name.is_none() {
            cursor.bump();
        }
        let bytes = name.as_ref().map(|name| name.as_bytes());
        let name = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let has_arguments = cursor.sees_kind(Kind::LParen);
        see(Named {
            name,
            is_word,
            is_called: after_dot || has_arguments,
            qualifier: before.as_deref().filter(|_| after_dot),
            qualifies: cursor.sees_kind(Kind::Dot),
            has_arguments,
        });
        before = name.map(str::to_owned);
        after_dot = false;
    }
}

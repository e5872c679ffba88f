//! The words of a statement that the parser may not know, and where the tables
//! live that they name.

use crate::PlanContext;
use crate::names::{Names, Place, Resolved, named};
use crate::refuse::{Reason, Refusal, refuse};
use mothership_catalog::{Name, Relation, RelationKind};
use mothership_sql::lexer::{Kind, Lexer};

/// The dotted names in a text, keywords among them, outside of strings and comments.
pub(super) struct Words {
    paths: Vec<Vec<String>>,
    /// There is a name such as `U&"..."`, which is not among them.
    has_unread: bool,
}

impl Words {
    pub(super) fn of(sql: &str, context: &PlanContext) -> Words {
        let mut paths: Vec<Vec<String>> = Vec::new();
        let (mut after_dot, mut has_unread) = (false, false);
        let mut last = "";
        for token in Lexer::new(sql.as_bytes(), context.standard_conforming_strings) {
            let text = sql.get(token.start..token.end).unwrap_or_default();
            let name = named(token.kind, text);
            match (name, after_dot) {
                (Some(name), true) => match paths.last_mut() {
                    Some(path) => path.push(name),
                    None => paths.push(vec![name]),
                },
                (Some(name), false) if is_of_clause(last, text, &name) => {}
                (Some(name), false) => paths.push(vec![name]),
                (None, _) => {}
            }
            after_dot = token.kind == Kind::Dot;
            last = text;
            has_unread |= token.kind == Kind::UnicodeIdent;
        }
        Words { paths, has_unread }
    }

    /// Whether the statement has this name unqualified. True, too, if it has a name as `U&"..."`, which is not decoded.
    pub(super) fn may_have(&self, name: &str) -> bool {
        self.has_unread || self.has(name)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Vec<String>> {
        self.paths.iter()
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.paths
            .iter()
            .any(|path| matches!(path.as_slice(), [one] if one == word))
    }

    /// Whether LARGE OBJECT stands in it.
    pub(super) fn is_of_large_object(&self) -> bool {
        let is = |path: &[String], word: &str| matches!(path, [one] if one == word);
        let mut pairs = self.paths.windows(2);
        pairs.any(|pair| is(&pair[0], "large") && is(&pair[1], "object"))
    }

    /// Whether there is any other word than these.
    pub(super) fn names_more_than(&self, words: &[&str]) -> bool {
        let known = |path: &[String]| matches!(path, [one] if words.contains(&one.as_str()));
        self.paths.iter().any(|path| !known(path))
    }

    /// CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP ...
    pub(super) fn creates_temporary(&self) -> bool {
        let skip = ["create", "or", "replace", "global", "local"];
        let first = self
            .paths
            .iter()
            .find(|path| !matches!(path.as_slice(), [w] if skip.contains(&w.as_str())));
        let word = first
            .is_some_and(|path| matches!(path.as_slice(), [w] if w == "temp" || w == "temporary"));
        word || self.names_temporary_schema()
    }

    /// Whether the word that says what is made or changed is one of these.
    pub(super) fn is_about(&self, words: &[&str]) -> bool {
        let skip = ["create", "alter", "or", "replace", "trusted", "default"];
        let mut heads = self.paths.iter().map(|path| match path.as_slice() {
            [one] => one.as_str(),
            _ => "",
        });
        let head = heads.find(|word| !skip.contains(word));
        head.is_some_and(|head| words.contains(&head))
    }

    /// Whether a name stands in the schema of temporary objects.
    pub(super) fn names_temporary_schema(&self) -> bool {
        let within = |path: &[String]| path.len() > 1 && path[0].starts_with("pg_temp");
        self.paths.iter().any(|path| within(path))
    }

    /// The name that follows the last of some leading words.
    pub(super) fn path_after(&self, words: &[&str]) -> Option<&Vec<String>> {
        let head = &self.paths[..self.paths.len().min(8)];
        let at = head
            .iter()
            .rposition(|path| matches!(path.as_slice(), [one] if words.contains(&one.as_str())))?;
        self.paths.get(at + 1)
    }
}

/// Whether a word is the BY of ORDER BY and the like, behind which no table is named.
fn is_of_clause(last: &str, text: &str, name: &str) -> bool {
    let mut clauses = ["group", "order", "partition"].iter();
    // Without quotes.
    name == "by"
        && text.len() == name.len()
        && clauses.any(|clause| last.eq_ignore_ascii_case(clause))
}

/// Where the tables live that a statement names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    None,
    Home,
    Declared,
    Both,
}

impl Named {
    pub(super) fn and(self, other: Named) -> Named {
        match (self, other) {
            (Named::None, n) | (n, Named::None) => n,
            (a, b) if a == b => a,
            _ => Named::Both,
        }
    }

    /// Where all named tables live.
    ///
    /// # Errors
    /// `mixed` if they live in both places; `DdlNotUnderstood` if no name was resolved to a declared table, but the text
    /// contains the name of one.
    pub(super) fn only(
        self,
        names: &Names<'_>,
        sql: &str,
        mixed: Reason,
    ) -> Result<HomeOrDeclared, Refusal> {
        match self {
            Named::Both => refuse(mixed),
            Named::Declared => Ok(HomeOrDeclared::Declared),
            // To look for known names is enough: the resolved ones were compared with the patterns of declarations.
            Named::Home | Named::None if names.mentions_known(sql) => {
                refuse(Reason::DdlNotUnderstood)
            }
            Named::Home | Named::None => Ok(HomeOrDeclared::Home),
        }
    }
}

/// Where all tables of a statement live.
pub(super) enum HomeOrDeclared {
    Home,
    Declared,
}

/// Where the relations live that the words of a statement may name. Words that name none are left out.
pub(super) fn places_named(
    names: &Names<'_>,
    words: &Words,
    context: &PlanContext,
) -> Result<Named, Refusal> {
    places(names, words, context, |relation| {
        // It was made on all shards, because it read tables of all shards then. It stays there, whatever it reads now.
        let stays = relation.kind == RelationKind::View
            && names.catalog.everywhere.contains(&relation.name);
        match stays {
            true => Named::Declared,
            false => at_home(names, relation),
        }
    })
}

/// The same for the relations that a new view reads, without `replaced`, the view that it replaces. A view that reads no
/// declared table counts as one at home, even if all shards have it.
pub(super) fn places_read(
    names: &Names<'_>,
    words: &Words,
    replaced: Option<&Name>,
    context: &PlanContext,
) -> Result<Named, Refusal> {
    places(names, words, context, |relation| {
        match replaced == Some(&relation.name) {
            true => Named::None,
            false => at_home(names, relation),
        }
    })
}

/// What a relation of the home shard says of where a statement goes: a view is where the tables are that it reads.
fn at_home(names: &Names<'_>, relation: &Relation) -> Named {
    match relation.kind == RelationKind::View && names.mentions_known(&relation.name.name) {
        true => Named::Declared,
        false => Named::Home,
    }
}

/// The same, where `of_home` says it of what is not declared.
fn places(
    names: &Names<'_>,
    words: &Words,
    context: &PlanContext,
    of_home: impl Fn(&Relation) -> Named,
) -> Result<Named, Refusal> {
    let mut found = Named::None;
    for path in words.paths() {
        let mut meant = names.resolve(path, context);
        if let (Resolved::Unknown(_), [table @ .., _]) = (&meant, path.as_slice())
            && !table.is_empty()
        {
            // A column.
            meant = names.resolve(table, context);
        }
        found = found.and(match meant {
            Resolved::Relation(_, Place::Sharded(_) | Place::Reference) => Named::Declared,
            Resolved::Relation(relation, Place::Home) => of_home(relation),
            Resolved::Missing(_) | Resolved::KeyGone(..) => Named::Declared,
            Resolved::Unread(name) => return Err(Refusal::of_table(Reason::Unread, &name)),
            Resolved::Unclear => return refuse(Reason::NameUnclear),
            // At home, like all that is the session's own.
            Resolved::Temporary => Named::Home,
            Resolved::System | Resolved::Unknown(_) => Named::None,
        });
    }
    Ok(found)
}

//! Plans of COPY.
//!
//! Into a sharded table the rows are divided as they come; out of one, the
//! shards' rows follow each other. A query is planned as such. Options are read from
//! the tokens, both in the list of today and in the words of former versions; what decides
//! where rows and fields end must be known, and anything else passes to the servers.

use super::documents;
use super::gather::Ending;
use super::names::{Names, Place, Reach, Resolved, named};
use super::reached::Change;
use super::refuse::{Reason, Refusal, not_understood, refuse};
use super::scope::Analysis;
use super::slots::Text;
use super::write::{omitted_default, without_key};
use super::{
    CopyFormat, LockScope, Merge, Plan, PlanContext, Planner, Role, SameSharded, Scatter, Split,
    SplitRows, Target, read, utility,
};
use mothership_catalog::{Events, Relation};
use mothership_sql::effect::{CopySource, Direction};
use mothership_sql::lexer::{Kind, Lexer};
use mothership_sql::name::Name;
use mothership_sql::quote;

/// Plans COPY.
pub fn plan(
    planner: &Planner<'_>,
    sql: &str,
    direction: Direction,
    source: &CopySource<'_>,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let names = &planner.names;
    let unclear = || Refusal::new(Reason::NotUnderstood);
    let (path, columns) = match source {
        CopySource::Query(span) => {
            let query = sql.get(span.start..span.end).ok_or_else(unclear)?;
            return match names.mentions_documents(query) {
                true => copied_documents(names, query, context),
                false => copied_query(planner.decide(query, context)?),
            };
        }
        CopySource::Table(path, columns) => (path, columns),
    };
    let path: Vec<String> = path
        .iter()
        .map(|n| n.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(unclear)?;
    let (relation, place) = match names.resolve(&path, context) {
        Resolved::Relation(relation, place) => (relation, place),
        Resolved::Missing(name) => {
            return Err(Refusal::of_table(Reason::NotInCatalog, &name));
        }
        Resolved::KeyGone(name, reason) => return Err(Refusal::of_table(reason, &name)),
        Resolved::Unread(name) => return Err(Refusal::of_table(Reason::Unread, &name)),
        Resolved::Unclear => return refuse(Reason::NameUnclear),
        _ if names.mentions(sql) => return not_understood(),
        _ => return Ok(utility::home("copies")),
    };
    let mut analysis = Analysis::new(names, context);
    analysis.row_security(relation, &place)?;
    if names.collection(&relation.name).is_some() {
        return match direction {
            Direction::Out => copied_documents(names, &rows_of(sql, source)?, context),
            Direction::In => documents::copied_in(names, relation, sql, context),
        };
    }
    let secured = analysis.seen.secured_by_copies;
    let role = || match relation.persistence {
        _ if secured => Role::Primary("its row security reads reference tables".to_owned()),
        mothership_catalog::Persistence::Permanent => Role::Replica,
        _ => Role::Primary("a table that replicas do not have".to_owned()),
    };
    match (place, direction) {
        // PostgreSQL copies rows into a view, if a trigger takes them, and none from a view.
        (Place::Home, Direction::In)
            if relation.definition.is_some() && names.mentions_known(&relation.name.name) =>
        {
            Err(Refusal::about(
                Reason::Rules,
                format!("view \"{}\"", relation.name.name),
            ))
        }
        (Place::Home, Direction::In) => {
            let change = Change {
                is_copy: true,
                ..Events::INSERT.into()
            };
            names.check_reached(relation, &change, false)?;
            Ok(utility::home("copies"))
        }
        (Place::Home, Direction::Out) => Ok(utility::home("copies")),
        (Place::Reference, Direction::Out) => Ok(Plan::Single(super::Single {
            target: Target::AnyShard,
            role: role(),
            fallback: None,
            gather: None,
            otherwise: Refusal::new(Reason::SeveralShards),
            unknown: Vec::new(),
            locks_copies: false,
            touches: super::Touches::Anything,
        })),
        (Place::Sharded(keyed), Direction::Out) => {
            let by = super::KeyedBy {
                table: relation.name.clone(),
                sharded: keyed.sharded.clone(),
                cond: super::Cond::Any,
                leaf: None,
                kept: Vec::new(),
                stored: None,
            };
            Ok(Plan::Scatter(Scatter {
                target: Target::Keys(vec![by]),
                role: role(),
                merge: Merge::Concat,
                locks: LockScope::Rows,
            }))
        }
        (place, Direction::In) => {
            let written = sql
                .get(..columns.map_or(0, |span| span.end))
                .unwrap_or_default();
            let listed = columns.and_then(|span| sql.get(span.start..span.end));
            let list = listed.map(|l| column_list(l, context));
            let options =
                Options::read(sql, written.len(), context).ok_or_else(|| refused(relation))?;
            copy_in(names, relation, &place, list, &options)
        }
    }
}

fn refused(relation: &Relation) -> Refusal {
    Refusal::of_table(Reason::Copy, &relation.name)
}

/// The query whose rows a COPY TO has.
///
/// # Errors
/// For a name that is not of the database's encoding.
pub fn rows_of(sql: &str, source: &CopySource<'_>) -> Result<String, Refusal> {
    let (path, columns) = match source {
        CopySource::Query(span) => return Ok(super::alone(sql, *span)),
        CopySource::Table(path, columns) => (path, columns),
    };
    let quote = |name: &Name<'_>| Some(quote::identifier(name.as_str()?));
    let path: Option<Vec<String>> = path.iter().map(quote).collect();
    let columns = match columns {
        None => Some("*"),
        Some(span) => sql.get(span.start..span.end),
    };
    match path.zip(columns) {
        Some((path, columns)) => Ok(format!("SELECT {columns} FROM {}", path.join("."))),
        None => not_understood(),
    }
}

/// An INSERT that needs the rights of a COPY FROM.
pub fn insert_of(
    names: &Names<'_>,
    sql: &str,
    source: &CopySource<'_>,
    context: &PlanContext,
) -> Option<String> {
    let CopySource::Table(path, columns) = source else {
        return None;
    };
    let parts: Option<Vec<String>> = path.iter().map(|n| n.as_str().map(str::to_owned)).collect();
    let parts = parts?;
    let Resolved::Relation(relation, _) = names.resolve(&parts, context) else {
        return None;
    };
    let (list, count) = match columns {
        None => (String::new(), relation.columns.len()),
        Some(span) => {
            let list = sql.get(span.start..span.end)?;
            let commas = Lexer::new(list.as_bytes(), context.standard_conforming_strings);
            let commas = commas.filter(|token| token.kind == Kind::Comma).count();
            (format!(" ({list})"), commas + 1)
        }
    };
    let path: Vec<String> = parts.iter().map(|part| quote::identifier(part)).collect();
    let values = vec!["DEFAULT"; count].join(", ");
    Some(format!(
        "INSERT INTO {}{list} VALUES ({values})",
        path.join(".")
    ))
}

/// COPY TO of a query that names documents: PostgreSQL, which gathers them, writes the rows.
fn copied_documents(
    names: &Names<'_>,
    query: &str,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let text = Text::whole(query).gathering_documents();
    match read::plan(names, &text, context)? {
        plan @ Plan::Gather(_) => copied_query(plan),
        _ => refuse(Reason::DocumentsStatement),
    }
}

/// COPY (query) TO: as the query, with the rows in the form of COPY.
fn copied_query(plan: Plan) -> Result<Plan, Refusal> {
    match plan {
        // The rows of COPY are not decoded, so aggregates would have to be merged as text.
        Plan::Scatter(Scatter {
            merge: Merge::Aggregates(_),
            ..
        }) => refuse(Reason::Aggregate),
        Plan::Scatter(Scatter {
            merge: Merge::Sorted(sorted),
            ..
        }) => sorted.otherwise.clone().map(Plan::Gather),
        // RETURNING of a divided INSERT.
        Plan::Split(_) => refuse(Reason::ReturningSplit),
        Plan::Gather(gather) if gather.ending != Ending::Answer => Err(gather.why.clone()),
        plan => Ok(plan),
    }
}

fn column_list(text: &str, context: &PlanContext) -> Vec<String> {
    let tokens = Lexer::new(text.as_bytes(), context.standard_conforming_strings);
    let names = tokens.filter_map(|token| {
        let text = text.get(token.start..token.end)?;
        named(token.kind, text)
    });
    names.collect()
}

fn copy_in<'a>(
    names: &Names<'a>,
    relation: &'a Relation,
    place: &Place,
    list: Option<Vec<String>>,
    options: &Options,
) -> Result<Plan, Refusal> {
    // Without a list: all columns but generated ones, in their order.
    let all = || {
        relation
            .columns
            .iter()
            .filter(|c| c.generated.is_none())
            .map(|c| c.name.clone())
            .collect()
    };
    let list: Vec<String> = list.unwrap_or_else(all);
    let reached = names.reached(relation, &Events::INSERT.into(), false)?;
    names.check_stored(&reached)?;
    let fired = reached.iter().flat_map(|(reached, events)| {
        let triggers = reached.triggers.iter();
        triggers.filter(|trigger| trigger.events.meets(*events))
    });
    for trigger in fired {
        let harmless = matches!(place, Place::Sharded(_))
            && names.trigger_reach(trigger) == Reach::Nothing
            && !trigger.may_change_row;
        if !harmless {
            return Err(Refusal::of_table(Reason::Trigger, &relation.name));
        }
    }
    if let Some(refusal) = names.fires_once(relation, &Events::INSERT.into())? {
        return Err(refusal);
    }
    for column in relation.columns.iter().filter(|c| !list.contains(&c.name)) {
        omitted_default(names, relation, column, place)?;
    }
    // FREEZE is for each server to grant: what it demands happened there in this transaction.
    if options.default_marker {
        return Err(refused(relation));
    }
    let Place::Sharded(keyed) = place else {
        if options.has_where {
            return Err(Refusal::of_table(Reason::ReferenceWrite, &relation.name));
        }
        return Ok(Plan::Scatter(Scatter {
            target: Target::AllShards,
            role: Role::Primary("copies".to_owned()),
            merge: Merge::First,
            locks: LockScope::Copies,
        }));
    };
    if !keyed.routable {
        return Err(Refusal::of_table(Reason::KeyType, &relation.name));
    }
    let mut key_positions = Vec::new();
    for (name, _) in &keyed.sharded.columns {
        let position = list.iter().position(|c| c == name);
        let typmod = relation.column(name).map_or(-1, |(_, c)| c.typmod);
        match position {
            Some(position) if typmod == -1 => key_positions.push(position),
            Some(_) => return Err(refused(relation)),
            None => return Err(without_key(relation, name)),
        }
    }
    Ok(Plan::Split(Split {
        table: relation.name.clone(),
        sharded: SameSharded(keyed.sharded.clone()),
        rows: SplitRows::Copy {
            key_positions,
            columns: list.len(),
            format: options.format.clone(),
        },
        others: Vec::new(),
        touches: super::Touches::Anything,
    }))
}

/// What the options say about where rows and fields end.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    format: CopyFormat,
    /// DEFAULT 'marker' (PostgreSQL 16): a key could hide behind it.
    default_marker: bool,
    has_where: bool,
}

impl Options {
    /// Reads what follows FROM STDIN; None if anything is not known.
    fn read(sql: &str, from: usize, context: &PlanContext) -> Option<Options> {
        let conforming = context.standard_conforming_strings;
        let tokens: Vec<_> = Lexer::new(sql.as_bytes(), conforming)
            .filter(|t| t.start >= from)
            .collect();
        let text = |at: usize| tokens.get(at).and_then(|t| sql.get(t.start..t.end));
        let word = |at: usize| text(at).map(str::to_ascii_lowercase);
        let mut at = (0..tokens.len()).find(|at| word(*at).as_deref() == Some("stdin"))? + 1;
        let mut read = Raw::default();
        let mut has_where = false;
        let parenthesised = {
            let mut next = at;
            if word(next).as_deref() == Some("with") {
                next += 1;
            }
            let open = tokens.get(next).is_some_and(|t| t.kind == Kind::LParen);
            if open {
                at = next + 1;
            }
            open
        };
        while at < tokens.len() {
            let token = tokens.get(at)?;
            match token.kind {
                Kind::Comma | Kind::RParen | Kind::Semicolon => at += 1,
                Kind::Word => {
                    let name = word(at)?;
                    at += 1;
                    if name == "where" {
                        has_where = true;
                        break;
                    }
                    let value = |at: usize| -> Option<(String, usize)> {
                        let skip = usize::from(!parenthesised && word(at).as_deref() == Some("as"));
                        let token = *tokens.get(at + skip)?;
                        if matches!(token.kind, Kind::Comma | Kind::RParen | Kind::Semicolon) {
                            return None;
                        }
                        let raw = text(at + skip)?;
                        let value = if token.kind.is_string() {
                            let constant =
                                mothership_sql::name::string(token, sql.as_bytes(), conforming)?;
                            // The tokens of a UESCAPE are not looked for here.
                            if constant.end != token.end {
                                return None;
                            }
                            String::from_utf8(constant.value.into_owned()).ok()?
                        } else {
                            raw.to_ascii_lowercase()
                        };
                        Some((value, at + skip + 1))
                    };
                    let flag = |at: usize| -> (bool, usize) {
                        match word(at).as_deref() {
                            Some("true" | "on" | "1" | "'true'" | "'on'") if parenthesised => {
                                (true, at + 1)
                            }
                            Some("false" | "off" | "0" | "'false'" | "'off'") if parenthesised => {
                                (false, at + 1)
                            }
                            _ => (true, at),
                        }
                    };
                    // Behind `*` or names of columns, in parentheses where the options are in some.
                    let listed = |at: usize| -> Option<usize> {
                        let kind = |at: usize| tokens.get(at).map(|t| t.kind);
                        if text(at)? == "*" {
                            return Some(at + 1);
                        }
                        let mut at = match (parenthesised, kind(at)?) {
                            (true, Kind::LParen) => at + 1,
                            (false, _) => at,
                            (true, _) => return None,
                        };
                        loop {
                            if !matches!(kind(at)?, Kind::Word | Kind::QuotedIdent) {
                                return None;
                            }
                            at += 1;
                            match (kind(at), parenthesised) {
                                (Some(Kind::Comma), _) => at += 1,
                                (Some(Kind::RParen), true) => return Some(at + 1),
                                (_, true) => return None,
                                (_, false) => return Some(at),
                            }
                        }
                    };
                    match name.as_str() {
                        "with" if !parenthesised => {}
                        "format" if parenthesised => {
                            let (value, next) = value(at)?;
                            read.format = Some(value.to_ascii_lowercase());
                            at = next;
                        }
                        "csv" | "binary" if !parenthesised => read.format = Some(name),
                        "delimiter" => {
                            (read.delimiter, at) = value(at).map(|(v, n)| (Some(v), n))?
                        }
                        "delimiters" => return None,
                        "null" => (read.null, at) = value(at).map(|(v, n)| (Some(v), n))?,
                        "quote" => (read.quote, at) = value(at).map(|(v, n)| (Some(v), n))?,
                        "escape" => (read.escape, at) = value(at).map(|(v, n)| (Some(v), n))?,
                        "header" => {
                            if word(at).as_deref() == Some("match") {
                                // Every shard would need the header to compare it; each gets it.
                                read.header = true;
                                at += 1;
                            } else {
                                (read.header, at) = flag(at);
                            }
                        }
                        "freeze" => at = flag(at).1,
                        "default" => {
                            read.default_marker = true;
                            at += 1;
                        }
                        // The client's encoding is that of the session unless said otherwise.
                        "encoding" => {
                            let (value, next) = value(at)?;
                            if !matches!(
                                value.to_ascii_lowercase().as_str(),
                                "utf8" | "utf-8" | "unicode"
                            ) {
                                return None;
                            }
                            at = next;
                        }
                        // Of each field they are asked where the rows are cut (`mothership_copy`).
                        "force_null" | "force_not_null" if parenthesised => {
                            at = listed(at)?;
                        }
                        "force" if !parenthesised => {
                            at += usize::from(word(at).as_deref() == Some("not"));
                            if word(at).as_deref() != Some("null") {
                                return None;
                            }
                            at = listed(at + 1)?;
                        }
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
        let format = read.format()?;
        Some(Options {
            format,
            default_marker: read.default_marker,
            has_where,
        })
    }
}

#[derive(Default)]
struct Raw {
    format: Option<String>,
    delimiter: Option<String>,
    null: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
    header: bool,
    default_marker: bool,
}

impl Raw {
    fn format(&self) -> Option<CopyFormat> {
        let byte = |value: &Option<String>, default: u8| match value.as_deref().map(str::as_bytes) {
            None => Some(default),
            Some([one]) => Some(*one),
            Some(_) => None,
        };
        match self.format.as_deref() {
            None | Some("text") => Some(CopyFormat::Text {
                delimiter: byte(&self.delimiter, b'\t')?,
                null: self.null.clone().unwrap_or_else(|| "\\N".to_owned()),
                header: self.header,
            }),
            Some("csv") => {
                let quote = byte(&self.quote, b'"')?;
                Some(CopyFormat::Csv {
                    delimiter: byte(&self.delimiter, b',')?,
                    null: self.null.clone().unwrap_or_default(),
                    header: self.header,
                    quote,
                    escape: byte(&self.escape, quote)?,
                })
            }
            Some("binary") => Some(CopyFormat::Binary),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_without_its_value_is_none_wherever_the_statement_ends() {
        let context = PlanContext::default();
        for options in [
            "QUOTE",
            "QUOTE;",
            "QUOTE -- ''\n;",
            "(NULL, FORMAT csv)",
            "(ESCAPE)",
        ] {
            let sql = format!("COPY t FROM STDIN WITH {options}");
            assert_eq!(Options::read(&sql, 0, &context), None, "{sql}");
        }
        let whole = "COPY t FROM STDIN WITH CSV QUOTE '''';";
        assert!(Options::read(whole, 0, &context).is_some());
    }

    #[test]
    fn columns_with_forced_nulls_are_no_options() {
        let context = PlanContext::default();
        let read = |options: &str| {
            let sql = format!("COPY t FROM STDIN WITH {options}");
            Options::read(&sql, 0, &context)
        };
        for options in [
            "(FORMAT csv, FORCE_NULL (freeze, \"B\"), FORCE_NOT_NULL (format), HEADER)",
            "(FORMAT csv, FORCE_NULL *, HEADER)",
            "CSV FORCE NOT NULL freeze, \"B\" FORCE NULL a HEADER",
            "CSV FORCE NULL * HEADER",
        ] {
            assert_eq!(read(options), read("CSV HEADER"), "{options}");
        }
        for options in [
            "(FORMAT csv, FORCE_NULL)",
            "(FORMAT csv, FORCE_NULL ())",
            "(FORMAT csv, FORCE_NULL (a",
            "(FORMAT csv, FORCE_NULL (a b))",
            "(FORMAT csv, FORCE_NULL a)",
            "(FORMAT csv, FORCE_QUOTE *)",
            "CSV FORCE a",
            "CSV FORCE NOT a",
            "CSV FORCE NULL",
            "CSV FORCE QUOTE a",
        ] {
            assert_eq!(read(options), None, "{options}");
        }
    }
}

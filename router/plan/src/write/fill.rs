//! Finds the values of an INSERT that the router has to make: what is left to a sequence, and keys from other defaults.
//!
//! Only of VALUES and DEFAULT VALUES in a statement of its own, within WITH or behind it, and of a SELECT that does no
//! more than to cast the fields of a VALUES list. What does not fit is left as it is, so that the ordinary way refuses it
//! or lets PostgreSQL find the mistake.

use std::ops::Range;

use sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Insert, ObjectName,
    Parens, SetExpr, Statement, TableObject, Value, Values,
};

use crate::PlanContext;
use crate::context::Temporary;
use crate::dialect;
use crate::expr::{is_default, strip};
use crate::fill::{Edit, Fill, Piece, Source, Wanted};
use crate::names::{Names, Place, fold, folded};
use crate::parse::{self, Parsed, Places};
use crate::refuse::{Refusal, not_understood};
use crate::scope::Analysis;
use crate::slots::{Slot, Text};
use mothership_catalog::{Column, DefaultKind, Events, FromSequence, Name, Relation, RelationKind};
use mothership_sql::lexer::{Kind, Lexer, Token};

use super::insert::{is_uneven, plain_values, selected_values};
use super::recast::recast;

/// The type of what `nextval` gives, and of a UUID.
const INT8: u32 = 20;
const UUID: u32 = 2950;

/// What stands in for a value that the client leaves to the router.
#[derive(Clone)]
enum FillSource {
    /// A value that is made at each run.
    Made(Source),
    /// An expression that is always the same.
    Always(String),
}

/// What the router has to write into the INSERTs of a statement, if anything.
///
/// # Errors
/// If the text is without its literals: where its values stand is known of whole texts only.
pub(super) fn fill(
    names: &Names<'_>,
    text: &Text<'_>,
    context: &PlanContext,
    parsed: &Parsed,
) -> Result<Option<Fill>, Refusal> {
    let mut writer = Writer::default();
    let mut table = None;
    for insert in inserts(&parsed.statement) {
        let Some(mut filler) = Filler::of(names, text, context, insert) else {
            continue;
        };
        let Some(planned) = filler.plan(insert) else {
            continue;
        };
        if text.is_masked() {
            return not_understood();
        }
        let mut places = Places::new(filler.sql);
        filler.begins = places.advance_to(insert.insert_token.0.span.start);
        let Some(written) = filler.write(insert, &planned, writer) else {
            return Ok(None);
        };
        writer = written;
        table.get_or_insert_with(|| filler.relation.name.clone());
    }
    let numbers = parsed.placeholders.iter().map(|(_, number)| *number);
    Ok(table.map(|table| Fill {
        table,
        edits: writer.edits,
        values: writer.values,
        parameters: numbers.max().unwrap_or(0).into(),
    }))
}

/// The INSERTs of a statement and of its own WITH, in the order of the text.
fn inserts(statement: &Statement) -> Vec<&Insert> {
    fn inserted(body: &SetExpr) -> Option<&Insert> {
        match body {
            SetExpr::Insert(Statement::Insert(insert)) => Some(insert),
            _ => None,
        }
    }
    match statement {
        Statement::Insert(insert) => vec![insert],
        Statement::Query(query) => {
            let within = query.with.iter().flat_map(|with| &with.cte_tables);
            let bodies = within.map(|cte| &*cte.query.body).chain([&*query.body]);
            bodies.filter_map(inserted).collect()
        }
        _ => Vec::new(),
    }
}

struct Filler<'a> {
    names: &'a Names<'a>,
    context: &'a PlanContext,
    relation: &'a Relation,
    /// Columns that PostgreSQL may not fill itself: those of the key, and what would be another value on each shard.
    once: Vec<usize>,
    /// Columns whose random values are made here when the client calls for them.
    calls: Vec<usize>,
    sql: &'a str,
    /// Where the INSERT begins in the text.
    begins: usize,
}

/// What is to be written, by rows and columns.
struct Planned<'a> {
    /// The VALUES list; none for DEFAULT VALUES.
    values: Option<&'a Values>,
    /// Whether it stands in a SELECT.
    is_selected: bool,
    /// Of each row, the fields to replace: their index, and the column of the table.
    replaced: Vec<Vec<(usize, usize)>>,
    /// Columns that are appended to each row.
    appended: Vec<usize>,
    /// Whether a column that is GENERATED ALWAYS gets a value.
    overriding: bool,
}

impl<'a> Filler<'a> {
    /// Of an INSERT into a table that the router may have to fill. A table that may not be written is refused by whoever
    /// plans the write.
    fn of(
        names: &'a Names<'_>,
        text: &'a Text<'_>,
        context: &'a PlanContext,
        insert: &Insert,
    ) -> Option<Filler<'a>> {
        let mut analysis = Analysis::of(text, names, context);
        let TableObject::TableName(name) = &insert.table else {
            return None;
        };
        let (relation, place) = analysis.target(name, &Events::INSERT.into()).ok()?;
        if !dialect::knows_insert(insert) {
            return None;
        }
        let mut filler = Filler {
            names,
            context,
            relation,
            once: Vec::new(),
            calls: Vec::new(),
            sql: text.to_cut(),
            begins: 0,
        };
        match place {
            Place::Sharded(keyed) => {
                filler.once = keyed.columns.iter().flatten().copied().collect();
                filler.calls.clone_from(&filler.once);
            }
            // Its copies are to be the same.
            Place::Reference => {
                let all = 0..relation.columns.len();
                let random = |at: &usize| {
                    let given = filler.default_of(&relation.columns[*at]);
                    matches!(given, Some(FillSource::Made(Source::RandomUuid)))
                };
                filler.once = all.clone().filter(random).collect();
                filler.calls = all.collect();
            }
            Place::Home => return None,
        }
        Some(filler)
    }

    /// `None` if there is nothing to do, or something that this cannot do.
    fn plan<'i>(&self, insert: &'i Insert) -> Option<Planned<'i>> {
        let (values, is_selected) = match insert.source.as_deref() {
            Some(query) => match plain_values(query) {
                Some(values) => (Some(values), false),
                None => (Some(selected_values(query)?), true),
            },
            None => (None, false),
        };
        let mut width = values.map_or(0, |values| values.rows[0].content.len());
        if is_selected && insert.columns.len() < width {
            // Behind the fields stands what they are sorted by.
            width = insert.columns.len();
        }
        let positions = self.positions(insert, width)?;
        let rows = values.map_or(&[][..], |values| &values.rows);
        if values.is_some_and(is_uneven) {
            return None;
        }
        let mut overriding = false;
        let mut replaced = Vec::new();
        for row in rows {
            let mut fields = Vec::new();
            for (at, (expr, column)) in row.content.iter().zip(&positions).enumerate() {
                if self.is_left_to_us(expr, *column)? {
                    overriding |= self.is_always(*column) && is_default(expr);
                    fields.push((at, *column));
                }
            }
            replaced.push(fields);
        }
        let mut appended = Vec::new();
        for column in 0..self.relation.columns.len() {
            if !positions.contains(&column) && self.is_ours(column)? {
                overriding |= self.is_always(column);
                appended.push(column);
            }
        }
        if overriding && self.gives_own(rows, &positions) {
            return None;
        }
        let any = !appended.is_empty() || replaced.iter().any(|fields| !fields.is_empty());
        any.then_some(Planned {
            values,
            is_selected,
            replaced,
            appended,
            overriding,
        })
    }

    /// The columns that the fields of a row are for.
    fn positions(&self, insert: &Insert, width: usize) -> Option<Vec<usize>> {
        if insert.columns.is_empty() {
            return (width <= self.relation.columns.len()).then(|| (0..width).collect());
        }
        if insert.source.is_some() && insert.columns.len() != width {
            return None;
        }
        let position = |column: &ObjectName| match column.0.as_slice() {
            [part] => Some(self.relation.column(&folded(part.as_ident()?))?.0),
            _ => None,
        };
        insert.columns.iter().map(position).collect()
    }

    /// Whether a field is left to the router; `None` if it should be, and cannot.
    fn is_left_to_us(&self, expr: &Expr, column: usize) -> Option<bool> {
        if is_default(expr) {
            return self.is_ours(column);
        }
        if self.calls.contains(&column) && self.is_of_settings(expr, column) {
            return Some(true);
        }
        let Expr::Function(function) = strip(expr) else {
            return Some(false);
        };
        let name = function.name.0.last().and_then(|part| part.as_ident());
        let name = name.map(folded).unwrap_or_default();
        Some(match name.as_str() {
            "nextval" => true,
            "gen_random_uuid" | "uuid_generate_v4" => self.calls.contains(&column),
            _ => false,
        })
    }

    /// Whether a column that the client leaves out is the router's to fill; `None` if it should be, and cannot.
    fn is_ours(&self, column: usize) -> Option<bool> {
        let own = &self.relation.columns[column];
        match (self.default_of(own), &own.default) {
            // The shard may fill what is no key.
            (Some(FillSource::Always(_)), _) => Some(self.once.contains(&column)),
            (Some(FillSource::Made(Source::RandomUuid | Source::Asked(_))), _) => {
                Some(self.once.contains(&column))
            }
            (Some(FillSource::Made(Source::Next(_))), _) => Some(true),
            (None, DefaultKind::Sequence(_)) => None,
            (None, _) if self.once.contains(&column) => None,
            (None, _) => Some(false),
        }
    }

    fn is_always(&self, column: usize) -> bool {
        let default = &self.relation.columns[column].default;
        matches!(
            default,
            DefaultKind::Sequence(FromSequence { always: true, .. })
        )
    }

    /// Whether a row has a value of the client's own where PostgreSQL wants OVERRIDING SYSTEM VALUE for it.
    fn gives_own(&self, rows: &[Parens<Vec<Expr>>], positions: &[usize]) -> bool {
        let overrides = self.words_before_rows().any(|word| word == "overriding");
        let own = |expr: &Expr, column: usize| self.is_always(column) && !is_default(expr);
        !overrides
            && rows
                .iter()
                .flat_map(|row| row.content.iter().zip(positions))
                .any(|(expr, column)| own(expr, *column))
    }

    fn default_of(&self, column: &Column) -> Option<FillSource> {
        match &column.default {
            DefaultKind::Sequence(from) => from
                .sequence
                .clone()
                .map(Source::Next)
                .map(FillSource::Made),
            DefaultKind::Constant(text) => Some(FillSource::Always(format!("({text})"))),
            DefaultKind::Volatile(text) => {
                let tokens: Vec<Token> = self.tokens(text).collect();
                let source = self.random_uuid(text, &tokens);
                // What is a default is of the column's type.
                let asked =
                    || parse::expression(text).is_some_and(|expr| self.asks_settings(&expr));
                let is_key = self
                    .relation
                    .column(&column.name)
                    .is_some_and(|(at, _)| self.once.contains(&at));
                let source =
                    source.or_else(|| (is_key && asked()).then(|| Source::Asked(text.clone())));
                source.map(FillSource::Made)
            }
            DefaultKind::None | DefaultKind::Stable(_) => None,
        }
    }

    fn tokens<'t>(&self, text: &'t str) -> Lexer<'t> {
        Lexer::new(text.as_bytes(), self.context.standard_conforming_strings)
    }

    fn words_before_rows(&self) -> impl Iterator<Item = String> + '_ {
        let sql = &self.sql[self.begins..];
        let words = self
            .tokens(sql)
            .take_while(|token| !token.text(sql.as_bytes()).eq_ignore_ascii_case(b"values"));
        words
            .filter(|token| token.kind == Kind::Word)
            .map(|token| fold(&sql[token.start..token.end], false).into_owned())
    }

    /// Whether a field is computed of the session's settings alone, and is what a column takes as it is.
    fn is_of_settings(&self, expr: &Expr, column: usize) -> bool {
        let outer = match strip_nested(expr) {
            Expr::Cast { data_type, .. } => Some(data_type),
            _ => None,
        };
        let fits = match self.type_of(column) {
            20 | 21 | 23 => outer.is_some_and(is_integer),
            UUID => matches!(outer, Some(DataType::Uuid)),
            25 | 1043 => true,
            _ => false,
        };
        fits && self.asks_settings(expr)
    }

    /// Whether an expression asks for settings that have no meaning but the client's, and for nothing else.
    fn asks_settings(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Nested(expr) => self.asks_settings(expr),
            Expr::Cast {
                kind: CastKind::DoubleColon | CastKind::Cast,
                expr,
                data_type,
                ..
            } => {
                let known = is_integer(data_type)
                    || matches!(
                        data_type,
                        DataType::Uuid | DataType::Text | DataType::Varchar(_)
                    );
                known && self.asks_settings(expr)
            }
            Expr::Function(function) => {
                let path: Vec<String> = function
                    .name
                    .0
                    .iter()
                    .filter_map(|part| part.as_ident())
                    .map(folded)
                    .collect();
                let FunctionArguments::List(list) = &function.args else {
                    return false;
                };
                let bare = list.clauses.is_empty()
                    && list.duplicate_treatment.is_none()
                    && function.over.is_none()
                    && function.filter.is_none()
                    && function.within_group.is_empty();
                let mut arguments = Vec::new();
                for argument in &list.args {
                    match argument {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.push(expr),
                        _ => return false,
                    }
                }
                let own = path
                    .last()
                    .is_some_and(|name| self.names.functions_named(None, name).next().is_none());
                let [first, rest @ ..] = arguments.as_slice() else {
                    return false;
                };
                let constants = rest.iter().all(|expr| is_constant(expr));
                let setting = is_built_in(&path, "current_setting") && may_be_custom(first);
                let of_setting = ["nullif", "coalesce", "lower", "upper"]
                    .iter()
                    .any(|name| is_built_in(&path, name));
                bare && own && constants && (setting || of_setting && self.asks_settings(first))
            }
            _ => false,
        }
    }

    /// The changes of the text. `None` if its places are not found, or a call in it is none that is known.
    fn write(&self, insert: &Insert, planned: &Planned<'_>, mut writer: Writer) -> Option<Writer> {
        let Some(values) = planned.values else {
            return self.write_defaults(planned, writer);
        };
        let mut places = Places::new(self.sql);
        let mut spans = Vec::new();
        for row in &values.rows {
            let open = places.advance_to(row.opening_token.0.span.start);
            spans.push(open..places.advance_to(row.closing_token.0.span.start));
        }
        let before = spans.first()?.start;
        let fields = |span: &Range<usize>| self.fields(span.start + 1..span.end);
        let rows: Vec<_> = spans.iter().map(|s| (s.clone(), fields(s))).collect();
        let recast = match planned.is_selected {
            true if self.words_before_rows().any(|word| word == "overriding") => return None,
            true => Some(recast(self.sql, self.context, &rows)?),
            false => None,
        };
        let head: Vec<Token> = self.tokens(&self.sql[..before]).collect();
        let (keyword, head) = head.split_last()?;
        if !keyword
            .text(self.sql.as_bytes())
            .eq_ignore_ascii_case(b"values")
        {
            return None;
        }
        let begins = recast
            .as_ref()
            .map_or(keyword.start, |recast| recast.select);
        let head = head
            .split_at(head.iter().take_while(|token| token.start < begins).count())
            .0;
        if !insert.columns.is_empty() && !planned.appended.is_empty() {
            let close = head.iter().rev().find(|token| token.kind == Kind::RParen)?;
            let names = planned.appended.iter().map(|column| self.quoted(*column));
            let names = names.fold(String::new(), |all, name| all + ", " + &name);
            writer.put(close.start..close.start, vec![Piece::Text(names)]);
        }
        if planned.overriding && !self.words_before_rows().any(|word| word == "overriding") {
            writer.put(begins..begins, vec![Piece::Text(OVERRIDING.to_owned())]);
        }
        if recast.is_some() {
            writer.put(begins..before, vec![Piece::Text("VALUES ".to_owned())]);
        }
        for (number, ((span, fields), replaced)) in rows.iter().zip(&planned.replaced).enumerate() {
            let mut end = span.end;
            if let Some(recast) = &recast {
                if !replaced.is_empty() {
                    return None;
                }
                for (field, cast) in fields.iter().zip(&recast.casts[number]) {
                    let text = format!("({}){cast}", &self.sql[field.clone()]);
                    writer.put(field.clone(), vec![Piece::Text(text)]);
                    end = field.end;
                }
            }
            for (at, column) in replaced {
                let field = fields.get(*at)?;
                let given = self.given(&self.sql[field.clone()], *column)?;
                let piece = writer.piece(given, self.type_of(*column));
                writer.put(field.clone(), vec![piece]);
            }
            let mut more = Vec::new();
            let mut next = if insert.columns.is_empty() {
                fields.len()
            } else {
                usize::MAX
            };
            for column in &planned.appended {
                // Without a list of columns those between are named, too.
                while next < *column {
                    more.push(Piece::Text(", DEFAULT".to_owned()));
                    next += 1;
                }
                next = next.saturating_add(1);
                more.push(Piece::Text(", ".to_owned()));
                let given = self.default_of(&self.relation.columns[*column])?;
                more.push(writer.piece(given, self.type_of(*column)));
            }
            if !more.is_empty() {
                writer.put(end..span.end, more);
            }
        }
        if let Some(recast) = recast {
            writer.put(recast.tail, vec![Piece::Text(" ".to_owned())]);
        }
        Some(writer)
    }

    /// DEFAULT VALUES becomes a list of the columns that the router fills.
    fn write_defaults(&self, planned: &Planned<'_>, mut writer: Writer) -> Option<Writer> {
        let sql = &self.sql[self.begins..];
        let tokens: Vec<Token> = self.tokens(sql).collect();
        let is = |token: &Token, word: &[u8]| {
            token.kind == Kind::Word && token.text(sql.as_bytes()).eq_ignore_ascii_case(word)
        };
        let found = tokens
            .windows(2)
            .find(|two| is(&two[0], b"default") && is(&two[1], b"values"))?;
        let columns = planned.appended.iter().map(|column| self.quoted(*column));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let overrides = self.words_before_rows().any(|word| word == "overriding");
        let overriding = if planned.overriding && !overrides {
            OVERRIDING
        } else {
            ""
        };
        let mut put = vec![Piece::Text(format!("({columns}) {overriding}VALUES ("))];
        for (at, column) in planned.appended.iter().enumerate() {
            if at > 0 {
                put.push(Piece::Text(", ".to_owned()));
            }
            let given = self.default_of(&self.relation.columns[*column])?;
            put.push(writer.piece(given, self.type_of(*column)));
        }
        put.push(Piece::Text(")".to_owned()));
        let begins = self.begins;
        writer.put(begins + found[0].start..begins + found[1].end, put);
        // The list of columns stands before OVERRIDING.
        (!overrides && !planned.appended.is_empty()).then_some(writer)
    }

    fn quoted(&self, column: usize) -> String {
        format!(
            "\"{}\"",
            self.relation.columns[column].name.replace('"', "\"\"")
        )
    }

    /// The type of a parameter for a column: its own, or what a sequence gives.
    fn type_of(&self, column: usize) -> u32 {
        self.names
            .catalog
            .base_type(self.relation.columns[column].type_oid)
    }

    /// The fields of a row, by the commas that stand in no parentheses.
    fn fields(&self, row: Range<usize>) -> Vec<Range<usize>> {
        let mut fields = Vec::new();
        let (mut depth, mut from, mut to) = (0_usize, None, row.start);
        for token in self.tokens(&self.sql[row.clone()]) {
            let (start, end) = (row.start + token.start, row.start + token.end);
            match token.kind {
                Kind::Comma if depth == 0 => {
                    fields.push(from.take().unwrap_or(start)..to);
                    continue;
                }
                Kind::LParen | Kind::LBracket => depth += 1,
                Kind::RParen | Kind::RBracket => depth = depth.saturating_sub(1),
                _ => {}
            }
            from.get_or_insert(start);
            to = end;
        }
        fields.push(from.unwrap_or(row.end)..to);
        fields
    }

    /// What a field that is left to the router gets.
    fn given(&self, field: &str, column: usize) -> Option<FillSource> {
        if field.eq_ignore_ascii_case("default") {
            return self.default_of(&self.relation.columns[column]);
        }
        let tokens: Vec<Token> = self.tokens(field).collect();
        let next = self.next_value(field, &tokens);
        let source = next.or_else(|| self.random_uuid(field, &tokens));
        let source = source.or_else(|| {
            let asked =
                parse::expression(field).is_some_and(|expr| self.is_of_settings(&expr, column));
            asked.then(|| Source::Asked(field.to_owned()))
        });
        source.map(FillSource::Made)
    }

    /// `nextval('s')` of a sequence that is certain.
    fn next_value(&self, text: &str, tokens: &[Token]) -> Option<Source> {
        let (name, inner) = self.call(text, tokens)?;
        let inner = match inner {
            [argument] => argument,
            [argument, cast, word] => {
                let regclass = word.text(text.as_bytes()).eq_ignore_ascii_case(b"regclass");
                (cast.kind == Kind::TypeCast && regclass).then_some(argument)?
            }
            _ => return None,
        };
        let temporary = !matches!(self.context.temporary, Temporary::None);
        if !is_built_in(&name, "nextval") || inner.kind != Kind::String || temporary {
            return None;
        }
        let quoted = &text[inner.start..inner.end];
        let inner = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let parts: Vec<String> = inner
            .split('.')
            .map(|part| fold(part, false).into_owned())
            .collect();
        if !parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(plain))
        {
            return None;
        }
        let relation = match parts.as_slice() {
            [name] => self.names.catalog.find(name, &self.context.search_path)?,
            [schema, name] => {
                let name = Name::new(schema.clone(), name.clone());
                self.names.catalog.relation(&name)?
            }
            _ => return None,
        };
        let is_sequence = relation.kind == RelationKind::Sequence;
        is_sequence.then(|| Source::Next(relation.name.clone()))
    }

    /// `gen_random_uuid()`, PostgreSQL's own or pgcrypto's, or uuid-ossp's `uuid_generate_v4()`.
    fn random_uuid(&self, text: &str, tokens: &[Token]) -> Option<Source> {
        let (name, inner) = self.call(text, tokens)?;
        let (extension, own) = match name.last()?.as_str() {
            "gen_random_uuid" => ("pgcrypto", is_built_in(&name, "gen_random_uuid")),
            "uuid_generate_v4" => ("uuid-ossp", false),
            _ => return None,
        };
        let mut others = self.names.functions_named(None, name.last()?);
        let theirs = others.all(|function| function.extension.as_deref() == Some(extension));
        let found = own || self.finds(&name);
        (found && theirs && inner.is_empty()).then_some(Source::RandomUuid)
    }

    /// Whether users have a function of that name, where it is looked for.
    fn finds(&self, name: &[String]) -> bool {
        let has = |schema: &String, name: &String| {
            let name = Name::new(schema.clone(), name.clone());
            self.names.catalog.functions.contains_key(&name)
        };
        match name {
            [name] => self
                .context
                .search_path
                .iter()
                .any(|schema| has(schema, name)),
            [schema, name] => has(schema, name),
            _ => false,
        }
    }

    /// The name of the function that a text calls and does no more, and the tokens between the parentheses.
    fn call<'t>(&self, text: &str, tokens: &'t [Token]) -> Option<(Vec<String>, &'t [Token])> {
        let open = tokens.iter().position(|token| token.kind == Kind::LParen)?;
        let (close, rest) = tokens.split_last()?;
        let inner = rest.get(open + 1..)?;
        let nested = inner
            .iter()
            .any(|token| matches!(token.kind, Kind::LParen | Kind::RParen));
        if close.kind != Kind::RParen || nested {
            return None;
        }
        let mut name = Vec::new();
        for (at, token) in tokens[..open].iter().enumerate() {
            match (at % 2, token.kind) {
                (0, Kind::Word) => {
                    name.push(fold(&text[token.start..token.end], false).into_owned())
                }
                (1, Kind::Dot) => {}
                _ => return None,
            }
        }
        (open % 2 == 1).then_some((name, inner))
    }
}

fn strip_nested(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(expr) => strip_nested(expr),
        expr => expr,
    }
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int(None)
            | DataType::Integer(None)
            | DataType::BigInt(None)
            | DataType::SmallInt(None)
            | DataType::Int2(None)
            | DataType::Int4(None)
            | DataType::Int8(None)
    )
}

/// A constant, as it is or with a cast to text. Where literals are left out their places stand for them.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(text) => Slot::of_placeholder(text).is_some(),
            _ => true,
        },
        Expr::Cast {
            expr,
            data_type: DataType::Text,
            ..
        } => is_constant(expr),
        _ => false,
    }
}

/// Whether a constant may be the name of a setting that has no meaning to PostgreSQL. Where literals are left out any may.
fn may_be_custom(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(name) => name.contains('.'),
            Value::Placeholder(text) => Slot::of_placeholder(text).is_some(),
            _ => false,
        },
        Expr::Cast {
            expr,
            data_type: DataType::Text,
            ..
        } => may_be_custom(expr),
        _ => false,
    }
}

/// Whether a call means a function of PostgreSQL's own.
fn is_built_in(name: &[String], wanted: &str) -> bool {
    match name {
        [name] => name == wanted,
        [schema, name] => schema == "pg_catalog" && name == wanted,
        _ => false,
    }
}

/// What PostgreSQL wants to hear before it takes a value for a column that is GENERATED ALWAYS.
const OVERRIDING: &str = "OVERRIDING SYSTEM VALUE ";

#[derive(Default)]
struct Writer {
    edits: Vec<Edit>,
    values: Vec<Wanted>,
}

impl Writer {
    fn put(&mut self, at: Range<usize>, put: Vec<Piece>) {
        self.edits.push(Edit { at, put });
    }

    fn piece(&mut self, given: FillSource, column: u32) -> Piece {
        let source = match given {
            FillSource::Always(text) => return Piece::Text(text),
            FillSource::Made(source) => source,
        };
        // As the column's own type it is read as a key is; other types are cast from what the call gives.
        let integer = matches!(column, 20 | 21 | 23);
        let type_oid = match source {
            Source::Next(_) if integer => column,
            Source::Next(_) => INT8,
            Source::RandomUuid => UUID,
            Source::Asked(_) => column,
        };
        self.values.push(Wanted { source, type_oid });
        Piece::Value(self.values.len() - 1)
    }
}

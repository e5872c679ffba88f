//! Statements about prepared statements, cursors, channels, COPY and EXPLAIN.

use super::super::cursor::{Cursor, Span};
use super::super::lexer::Kind;
use super::super::name::Name;
use super::statement::{CopyEnd, CopySource, Direction, DiscardWhat, Statement, only};

/// After DISCARD.
pub(super) fn discard(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let whats = [
        ("all", DiscardWhat::All),
        ("plans", DiscardWhat::Plans),
        ("sequences", DiscardWhat::Sequences),
        ("temp", DiscardWhat::Temp),
        ("temporary", DiscardWhat::Temp),
    ];
    let (_, what) = whats.into_iter().find(|(word, _)| c.eat(word))?;
    c.at_end().then_some(Statement::Discard(what))
}

/// After PREPARE.
pub(super) fn prepare(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let mut transaction = c.clone();
    if transaction.eat("transaction")
        && !transaction.sees("as")
        && !transaction.sees_kind(Kind::LParen)
    {
        return only(&mut transaction, Cursor::string).map(Statement::PrepareTransaction);
    }
    let name = c.name()?;
    let types = c.group();
    if !c.eat("as") || c.at_end() {
        return None;
    }
    Some(Statement::Prepare {
        name,
        types,
        body: c.rest(),
    })
}

/// After EXECUTE.
pub(super) fn execute(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let name = c.name()?;
    let args = c.group();
    c.at_end().then_some(Statement::Execute { name, args })
}

/// After DEALLOCATE.
pub(super) fn deallocate(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let whole = c.clone();
    if c.eat("prepare") && c.at_end() {
        c = whole;
    }
    name_or_all(c).map(Statement::Deallocate)
}

/// After CLOSE.
pub(super) fn close(c: Cursor<'_>) -> Option<Statement<'_>> {
    name_or_all(c).map(Statement::Close)
}

fn name_or_all(mut c: Cursor<'_>) -> Option<Option<Name<'_>>> {
    if c.eat("all") {
        return c.at_end().then_some(None);
    }
    only(&mut c, Cursor::name).map(Some)
}

/// After DECLARE.
pub(super) fn declare(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let name = c.name()?;
    let (mut scroll, mut binary) = (None, false);
    loop {
        if c.eat("binary") {
            binary = true;
        } else if c.eat_all(&["no", "scroll"]) {
            scroll = Some(false);
        } else if c.eat("scroll") {
            scroll = Some(true);
        } else if !c.eat_any(&["insensitive", "asensitive"]) {
            break;
        }
    }
    if !c.eat("cursor") {
        return None;
    }
    let hold = c.eat_all(&["with", "hold"]);
    if !hold {
        c.eat_all(&["without", "hold"]);
    }
    if !c.eat("for") || c.at_end() {
        return None;
    }
    Some(Statement::Declare {
        name,
        hold,
        scroll,
        binary,
        query: c.rest(),
    })
}

/// After FETCH or MOVE: the cursor's name is what stands last.
pub(super) fn fetch(mut c: Cursor<'_>) -> Option<(Name<'_>, Span)> {
    let start = c.at();
    let mut end = start;
    loop {
        let mut ahead = c.clone();
        let name = ahead.name();
        if let Some(name) = name
            && ahead.at_end()
        {
            return Some((name, Span { start, end }));
        }
        let token = c.bump()?;
        let sign = token.kind == Kind::Operator && matches!(token.text(c.sql()), b"-" | b"+");
        if !sign && !matches!(token.kind, Kind::Word | Kind::Integer) {
            return None;
        }
        end = c.taken();
    }
}

/// After UNLISTEN.
pub(super) fn unlisten(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    if c.eat_operator("*") {
        return c.at_end().then_some(Statement::Unlisten(None));
    }
    only(&mut c, Cursor::name).map(|name| Statement::Unlisten(Some(name)))
}

/// After NOTIFY.
pub(super) fn notify(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let channel = c.name()?;
    if c.eat_kind(Kind::Comma) {
        c.string()?;
    }
    c.at_end().then_some(Statement::Notify(channel))
}

/// After COPY.
pub(super) fn copy(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let source = if c.sees_kind(Kind::LParen) {
        CopySource::Query(c.group()?)
    } else {
        // The old form; BINARY cannot be the name of a table.
        c.eat("binary");
        CopySource::Table(c.path()?, c.group())
    };
    let direction = if c.eat("from") {
        Direction::In
    } else if c.eat("to") {
        Direction::Out
    } else {
        return None;
    };
    if direction == Direction::In && matches!(source, CopySource::Query(_)) {
        return None;
    }
    // The grammar takes STDIN and STDOUT for each other.
    let end = if c.eat_any(&["stdin", "stdout"]) {
        CopyEnd::Client
    } else {
        c.eat("program");
        c.string()?;
        CopyEnd::Server
    };
    Some(Statement::Copy {
        direction,
        end,
        source,
    })
}

/// After EXPLAIN.
pub(super) fn explain(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let (mut analyze, mut route) = (false, false);
    if c.sees_kind(Kind::LParen) {
        let mut options = c.clone();
        options.bump();
        // Not options: a query in parentheses.
        if !options.sees_kind(Kind::LParen)
            && !options.sees_any(&["select", "values", "table", "with"])
        {
            loop {
                let name = options.name()?;
                let on = flag(&mut options)?;
                match &*name.0 {
                    b"analyze" | b"analyse" => analyze = on,
                    b"route" => route = on,
                    _ => {}
                }
                if !options.eat_kind(Kind::Comma) {
                    break;
                }
            }
            if !options.eat_kind(Kind::RParen) {
                return None;
            }
            c = options;
        }
    } else {
        analyze = c.eat_any(&["analyze", "analyse"]);
        c.eat("verbose");
    }
    if c.at_end() {
        return None;
    }
    Some(Statement::Explain {
        analyze,
        route,
        inner: c.rest(),
    })
}

/// The argument of an option, up to `,` or `)`: on, unless it says off. PostgreSQL
/// refuses what is neither, so that taking it for on costs nothing.
fn flag(c: &mut Cursor<'_>) -> Option<bool> {
    let mut on = true;
    while !c.sees_kind(Kind::Comma) && !c.sees_kind(Kind::RParen) {
        let mut ahead = c.clone();
        let word = ahead.string().or_else(|| ahead.name()).map(Name::folded);
        let off = word.is_some_and(|word| word == "false" || word == "off");
        let token = c.bump()?;
        on = !off && token.text(c.sql()) != b"0";
    }
    Some(on)
}

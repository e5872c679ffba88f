//! SET, RESET and SHOW in all their forms.

use super::super::cursor::Cursor;
use super::super::lexer::Kind;
use super::super::name::Name;
use super::statement::{Scope, SetValue, Statement, Target};
use super::transaction::modes;

/// After SET.
pub(super) fn set(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    if c.sees("constraints") && !is_assignment(&c) {
        return Some(Statement::SetConstraints);
    }
    let mut scope = Scope::Session;
    if c.sees_any(&["local", "session"]) && !is_assignment(&c) {
        let mut rest = c.clone();
        let local = rest.sees("local");
        rest.bump();
        // SET SESSION AUTHORIZATION and SESSION CHARACTERISTICS have SESSION in their own names.
        if local || !rest.sees_any(&["authorization", "characteristics"]) || is_assignment(&rest) {
            scope = if local { Scope::Local } else { Scope::Session };
            c = rest;
        }
    }
    if !is_assignment(&c)
        && let Some(statement) = special(&mut c, scope)
    {
        return statement;
    }
    assignment(c, scope)
}

/// Whether `name {= | TO | FROM | .}` comes next, so that a keyword is a setting's name.
fn is_assignment(c: &Cursor<'_>) -> bool {
    let mut ahead = c.clone();
    if ahead.name().is_none() {
        return false;
    }
    ahead.eat_kind(Kind::Dot) || ahead.eat_operator("=") || ahead.sees_any(&["to", "from"])
}

/// The forms with a syntax of their own. `None`: none of them; `Some(None)`: broken.
#[allow(clippy::option_option)]
fn special<'a>(c: &mut Cursor<'a>, scope: Scope) -> Option<Option<Statement<'a>>> {
    let named = |name: &'static str, value: Option<SetValue<'a>>| {
        value.map(|value| Statement::Set {
            scope,
            name: Name::from(name),
            value,
        })
    };
    if c.eat_all(&["transaction", "snapshot"]) {
        let id = c.string().filter(|_| c.at_end());
        return Some(id.map(Statement::SetTransactionSnapshot));
    }
    if c.eat("transaction") {
        return Some(some_modes(c).map(Statement::SetTransaction));
    }
    if c.eat_all(&["session", "characteristics", "as", "transaction"]) {
        return Some(some_modes(c).map(Statement::SetSessionCharacteristics));
    }
    if c.eat_all(&["session", "authorization"]) {
        return Some(
            session_user(c).map(|role| Statement::SetSessionAuthorization { scope, role }),
        );
    }
    if c.eat("role") {
        return Some(role(c).map(|role| Statement::SetRole { scope, role }));
    }
    if c.eat_all(&["time", "zone"]) {
        return Some(named("timezone", value(c, &["local", "default"])));
    }
    if c.eat("names") {
        let value = if c.at_end() {
            Some(SetValue::Default)
        } else {
            value(c, &["default"])
        };
        return Some(named("client_encoding", value));
    }
    if c.eat("schema") {
        return Some(named("search_path", value(c, &[])));
    }
    if c.eat_all(&["xml", "option"]) {
        return Some(named("xmloption", value(c, &[])));
    }
    None
}

fn some_modes(c: &mut Cursor<'_>) -> Option<super::Modes> {
    if c.at_end() {
        None
    } else {
        modes(c).map(|(modes, _)| modes)
    }
}

/// A role's name or string, to the end.
fn role<'a>(c: &mut Cursor<'a>) -> Option<Target<'a>> {
    let name = c.string().or_else(|| c.name())?;
    c.at_end().then_some(Target::Role(name))
}

/// The same after SET SESSION AUTHORIZATION, where DEFAULT is the user who logged in.
fn session_user<'a>(c: &mut Cursor<'a>) -> Option<Target<'a>> {
    match c.eat("default") {
        true => c.at_end().then_some(Target::Original),
        false => role(c),
    }
}

/// `name {= | TO} {value [, ...] | DEFAULT}`, `name FROM CURRENT`.
fn assignment(mut c: Cursor<'_>, scope: Scope) -> Option<Statement<'_>> {
    let name = setting(&mut c)?;
    let value = if c.eat("from") {
        let current = c.eat("current") && c.at_end();
        current.then_some(SetValue::FromCurrent)?
    } else if c.eat_operator("=") || c.eat("to") {
        value(&mut c, &["default"])?
    } else {
        return None;
    };
    Some(by_name(scope, name, value))
}

/// Some settings have statements of their own; set by name they are the same thing.
fn by_name<'a>(scope: Scope, name: Name<'a>, value: SetValue<'a>) -> Statement<'a> {
    let role = match &value {
        SetValue::Default => Some(Target::Original),
        SetValue::Given {
            text: Some(text), ..
        } => Some(Target::Role(text.clone())),
        _ => None,
    };
    match role {
        Some(role) if name == "role" => Statement::SetRole { scope, role },
        Some(role) if name == "session_authorization" => {
            Statement::SetSessionAuthorization { scope, role }
        }
        _ => Statement::Set { scope, name, value },
    }
}

/// A setting's name, canonical.
fn setting<'a>(c: &mut Cursor<'a>) -> Option<Name<'a>> {
    let mut path = c.path()?;
    if path.len() == 1 {
        return path.pop().map(Name::folded);
    }
    let joined = path
        .iter()
        .map(Name::as_bytes)
        .collect::<Vec<_>>()
        .join(&b'.');
    Some(Name(joined.into()).folded())
}

/// The value that ends the statement; one of `defaults` alone means the default.
fn value<'a>(c: &mut Cursor<'a>, defaults: &[&str]) -> Option<SetValue<'a>> {
    let span = c.rest();
    let mut ahead = c.clone();
    if ahead.eat_any(defaults) && ahead.at_end() {
        return Some(SetValue::Default);
    }
    if c.at_end() {
        return None;
    }
    let text = single(c.clone());
    if c.eat("interval") {
        return interval(c).then_some(SetValue::Given { span, text });
    }
    loop {
        item(c)?;
        if !c.eat_kind(Kind::Comma) {
            break;
        }
    }
    c.at_end().then_some(SetValue::Given { span, text })
}

/// After INTERVAL, of TIME ZONE: what follows is not looked into. A setting's value may
/// be that word too.
fn interval(c: &mut Cursor<'_>) -> bool {
    while let Some(token) = c.bump() {
        use Kind::*;
        if !matches!(token.kind, Word | Integer | LParen | RParen | Comma)
            && !token.kind.is_string()
        {
            return false;
        }
    }
    true
}

/// A word, a string or a number with its sign.
fn item(c: &mut Cursor<'_>) -> Option<()> {
    let signed = c.eat_operator("-") || c.eat_operator("+");
    if c.eat_kind(Kind::Integer) || c.eat_kind(Kind::Decimal) {
        return Some(());
    }
    if signed {
        return None;
    }
    c.string().or_else(|| c.name()).map(|_| ())
}

/// The value, if it is one word, string or number.
fn single(mut c: Cursor<'_>) -> Option<Name<'_>> {
    let start = c.at();
    let sign = c.eat_operator("-");
    let plus = !sign && c.eat_operator("+");
    let number = c
        .peek()
        .filter(|token| matches!(token.kind, Kind::Integer | Kind::Decimal));
    if let Some(token) = number {
        c.bump();
        let digits = token.text(c.sql());
        let text = if sign {
            [b"-", digits].concat().into()
        } else {
            digits.into()
        };
        return c.at_end().then_some(Name(text));
    }
    if sign || plus || c.at() != start {
        return None;
    }
    let value = c.string().or_else(|| c.name())?;
    c.at_end().then_some(value)
}

/// After RESET.
pub(super) fn reset(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    let scope = Scope::Session;
    if c.eat("all") && c.at_end() {
        return Some(Statement::ResetAll);
    }
    let name = shown(&mut c)?;
    Some(match name {
        name if name == "role" => Statement::SetRole {
            scope,
            role: Target::Original,
        },
        name if name == "session_authorization" => Statement::SetSessionAuthorization {
            scope,
            role: Target::Original,
        },
        name => Statement::Reset(name),
    })
}

/// After SHOW.
pub(super) fn show(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    if c.eat("all") && c.at_end() {
        return Some(Statement::ShowAll);
    }
    shown(&mut c).map(Statement::Show)
}

/// What RESET and SHOW may name, to the end.
fn shown<'a>(c: &mut Cursor<'a>) -> Option<Name<'a>> {
    let name = if c.eat_all(&["time", "zone"]) {
        Name::from("timezone")
    } else if c.eat_all(&["session", "authorization"]) {
        Name::from("session_authorization")
    } else if c.eat_all(&["transaction", "isolation", "level"]) {
        Name::from("transaction_isolation")
    } else {
        setting(c)?
    };
    c.at_end().then_some(name)
}

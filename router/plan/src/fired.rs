//! Whether the function of a trigger gives back the row that it is fired for, with its shard key as it was.
//!
//! A function that is fired before each row may return any record with as many columns, and whoever writes one need name
//! neither the table nor its columns. So every RETURN must be of NEW, OLD or NULL, and neither of the two may be set as a
//! whole. What is left are assignments to `NEW.column`, which show the column's name: none may be of the shard key. Code in
//! PL/pgSQL is read by tokens.

use mothership_shardmap::KeyType;
use mothership_sql::lexer::{Kind, Lexer};

use mothership_catalog::Function;

use super::names::named;

/// Functions of extensions that set one column, which the trigger names, and the types that it may have.
const OF_EXTENSIONS: [(&str, &[KeyType]); 2] = [
    ("moddatetime", &[KeyType::Timestamp, KeyType::TimestampTz]),
    ("insert_username", &[KeyType::Text, KeyType::Varchar]),
];

/// Behind these a statement or a declaration of PL/pgSQL begins.
const BEGINS: [&str; 6] = ["begin", "declare", "else", "exception", "loop", "then"];

/// Behind these a variable is set, or gets another name.
const SETS: [&str; 4] = ["for", "foreach", "into", "strict"];

/// Whether a trigger's function leaves the columns of a shard key as they are. They have these names and types.
pub fn keeps_key(function: &Function, names: &[&str], types: &[KeyType]) -> bool {
    if function.language == "plpgsql" {
        return body_keeps_key(&function.body, names);
    }
    let mut known = OF_EXTENSIONS.iter();
    known.any(|(extension, sets)| {
        function.extension.as_deref() == Some(extension) && !sets.iter().any(|t| types.contains(t))
    })
}

/// A token: what it is, and a name as PostgreSQL reads it.
type Read = (Kind, String);

fn body_keeps_key(body: &str, names: &[&str]) -> bool {
    // Where this string ends, standard_conforming_strings says when the code runs.
    if body.contains("\\'") {
        return false;
    }
    let tokens = Lexer::new(body.as_bytes(), true).map(|token| {
        let text = body.get(token.start..token.end).unwrap_or_default();
        let read = named(token.kind, text).unwrap_or_else(|| text.to_owned());
        (token.kind, read)
    });
    let tokens: Vec<Read> = tokens.collect();
    // A name that is not read may be any, and a procedure may set what it is given.
    let unread = |(kind, text): &Read| {
        kind.is_uncertain()
            || *kind == Kind::UnicodeIdent
            || *kind == Kind::Word && matches!(text.as_str(), "call" | "alias")
    };
    if tokens.iter().any(unread) {
        return false;
    }
    let sets = |name: &&str| sets_column(&tokens, name);
    !names.iter().any(sets) && keeps_row(&tokens)
}

/// Whether the row that comes back is one of the two, with no column set but by its name.
fn keeps_row(tokens: &[Read]) -> bool {
    (0..tokens.len()).all(|at| {
        let (before, from) = tokens.split_at(at);
        match from {
            [(Kind::Word, word), rest @ ..] if word == "return" => returns_row(rest),
            [token, rest @ ..] if is_row(token) => is_read(before.last(), rest.first()),
            _ => true,
        }
    })
}

/// Whether a column of one of the two rows may be set: it is not, if each mention of it stands where a value is read.
fn sets_column(tokens: &[Read], column: &str) -> bool {
    let is_word =
        |(kind, word): &Read, words: &[&str]| *kind == Kind::Word && words.contains(&word.as_str());
    // GET DIAGNOSTICS sets what stands before each `=`.
    let diagnoses = tokens.iter().any(|token| is_word(token, &["diagnostics"]));
    (0..tokens.len()).any(|at| {
        let (before, from) = tokens.split_at(at);
        let [row, (Kind::Dot, _), (kind, name), rest @ ..] = from else {
            return false;
        };
        let is_name = matches!(kind, Kind::Word | Kind::QuotedIdent);
        if !is_row(row) || !is_name || name != column {
            return false;
        }
        // A part of it.
        let is_parted = matches!(rest.first(), Some((Kind::Dot | Kind::LBracket, _)));
        let is_assigned = match rest.first() {
            Some((Kind::ColonEquals, _)) => true,
            Some((Kind::Operator, operator)) if operator == "=" => match before.last() {
                None | Some((Kind::Semicolon, _)) => true,
                Some((Kind::Operator, operator)) => operator.ends_with(">>"),
                Some(token) => is_word(token, &BEGINS),
            },
            _ => false,
        };
        let is_looped = before.last().is_some_and(|token| is_word(token, &SETS));
        let is_qualified = matches!(before.last(), Some((Kind::Dot, _)));
        // A list behind INTO or FOR. What stands behind IN is read.
        let mut list = before.iter().rev().take_while(|token| {
            let listed = matches!(
                token.0,
                Kind::Word | Kind::QuotedIdent | Kind::Dot | Kind::Comma
            );
            listed && !is_word(token, &["in"])
        });
        let is_taken = list.any(|token| is_word(token, &["for", "foreach", "into"]));
        diagnoses || is_parted || is_assigned || is_looped || is_qualified || is_taken
    })
}

fn is_row((kind, name): &Read) -> bool {
    matches!(kind, Kind::Word | Kind::QuotedIdent) && matches!(name.as_str(), "new" | "old")
}

/// Whether what follows RETURN is one of the two rows, or none.
fn returns_row(rest: &[Read]) -> bool {
    let is_none = |(kind, word): &Read| *kind == Kind::Word && word == "null";
    match rest {
        [row, (Kind::Semicolon, _), ..] => is_row(row) || is_none(row),
        [
            (Kind::Word, coalesce),
            (Kind::LParen, _),
            one,
            (Kind::Comma, _),
            other,
            (Kind::RParen, _),
            (Kind::Semicolon, _),
            ..,
        ] => coalesce == "coalesce" && is_row(one) && is_row(other),
        _ => false,
    }
}

/// Whether a row that stands between these is only looked at, or one column of it is meant.
fn is_read(before: Option<&Read>, after: Option<&Read>) -> bool {
    let of_column = matches!(after, Some((Kind::Dot, _)));
    let assigned = matches!(after, Some((Kind::ColonEquals, _)));
    let set = match before {
        None | Some((Kind::Semicolon | Kind::Dot, _)) => true,
        Some((Kind::Word, word)) => {
            BEGINS.contains(&word.as_str()) || SETS.contains(&word.as_str())
        }
        Some((Kind::Operator, operator)) => operator.ends_with(">>"),
        Some(_) => false,
    };
    of_column || !assigned && !set
}

#[cfg(test)]
mod tests {
    use super::body_keeps_key;

    #[test]
    fn a_row_comes_back_with_columns_set_by_name() {
        for body in [
            "BEGIN RETURN NEW; END",
            "begin return null; end",
            "BEGIN NEW.v := 1; new.\"w\" = old.w; RETURN NEW; END",
            "BEGIN IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; NEW.at := now(); RETURN NEW; END",
            "BEGIN IF NEW IS DISTINCT FROM OLD THEN NEW.n = OLD.n + 1; END IF; RETURN NEW; END",
            "BEGIN IF NEW.* IS DISTINCT FROM OLD.* THEN NEW.n = OLD.n + 1; END IF; RETURN NEW; END",
            "BEGIN PERFORM pg_notify('x', row_to_json(NEW)::text); RETURN COALESCE(NEW, OLD); END",
            "DECLARE n int; BEGIN SELECT count(*), 1 INTO n, NEW.v FROM x; RETURN NEW; END",
            "BEGIN NEW.t := 'return row(1); new := x'; /* return x; */ RETURN NEW; END",
            "BEGIN FOR i IN 1..3 LOOP NEW.v := i; END LOOP; RETURN NEW; END",
            "BEGIN IF NEW.id = 401 AND NEW.id > OLD.id THEN NEW.v := 'z'; END IF; RETURN NEW; END",
            "BEGIN IF OLD.id <> NEW.\"id\" THEN RAISE EXCEPTION '% moves', NEW.id; END IF; RETURN NEW; END",
            "BEGIN NEW.v := NEW.w || NEW.id::text; RETURN NEW; END",
            "BEGIN FOR i IN NEW.id..3 LOOP NEW.v := i; END LOOP; RETURN NEW; END",
            "DECLARE id int := NEW.id; BEGIN SELECT max(NEW.id) INTO id FROM x; RETURN NEW; END",
        ] {
            assert!(body_keeps_key(body, &["id"]), "{body}");
        }
    }

    #[test]
    fn what_may_be_another_row_is_none() {
        for body in [
            "begin return row(81,1,'z'::text,null::timestamptz); end",
            "declare x record; begin x := (81::int8,1,'z'); return x; end",
            "declare x record; begin select 81, 1 into x; return x; end",
            "declare x record; begin for x in select 81, 1 loop return x; end loop; return new; end",
            "declare c cursor for select 81; x record; begin open c; fetch c into x; return x; end",
            "begin return (81, new.v); end",
            "begin return coalesce(null, row(81)); end",
            "begin return case when true then new end; end",
            "begin new := row(81); return new; end",
            "begin new = row(81); return new; end",
            "begin if true then \"new\" = row(81); end if; return new; end",
            "begin <<a>> new = row(81); return new; end",
            "begin select 81 into new; return new; end",
            "begin select 81 into strict new; return new; end",
            "begin for new in select 81 loop end loop; return new; end",
            "begin f.new := row(81); return new; end",
            "begin select 81 into f.new; return new; end",
            "declare r alias for new; begin r := row(81); return new; end",
            "declare new record; begin return new; end",
            "declare a int; new record = row(81); begin return new; end",
            "begin call p(new); return new; end",
            "begin U&\"n\\0065w\" := row(81); return new; end",
            "begin return new",
            "begin new.v := '\\'; -- '; new := row(1); return new; end",
            "begin new.id := 5; return new; end",
            "begin if true then new.id = 5; end if; return new; end",
            "begin <<a>> new.\"id\" = 5; return new; end",
            "begin select 1, 5 into new.v, new.id from x; return new; end",
            "begin fetch c into strict new.id; return new; end",
            "begin for new.id in 1..3 loop end loop; return new; end",
            "begin for new.v, new.id in select 1, 5 loop end loop; return new; end",
            "begin foreach new.v, new.id in array x loop end loop; return new; end",
            "begin get diagnostics new.v = row_count, new.id = row_count; return new; end",
            "begin f.new.id := 5; return new; end",
            "begin old.id := 5; return old; end",
            "begin new.id[1] := 5; return new; end",
        ] {
            assert!(!body_keeps_key(body, &["id"]), "{body}");
        }
    }
}

use super::*;

#[test]
fn an_empty_text_has_no_tokens() {
    assert_eq!(Lexer::new(b"", true).next(), None);
}

use super::*;

#[test]
fn the_kinds_are_told_apart() {
    assert_eq!(analyse(b" ; -- x", true).statement, Statement::Empty);
    assert_eq!(
        analyse(b"select 1; select 2", true).statement,
        Statement::Several
    );
    assert_eq!(analyse(b";select 1;", true).statement, Statement::Select);
}

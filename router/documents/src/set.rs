//! SET of an UPDATE, one column at a time.

use sqlparser::ast::{Assignment, AssignmentTarget, Expr, ObjectName};

/// The columns that are set, each with what it is given. `(a, b) = (1, 2)` is `a = 1, b = 2`; of other sources of
/// several columns, such as a query, there is no expression for each: `None`.
pub fn columns(assignments: &[Assignment]) -> Option<Vec<(&ObjectName, &Expr)>> {
    let mut columns = Vec::new();
    for Assignment { target, value } in assignments {
        match (target, value) {
            (AssignmentTarget::ColumnName(name), value) => columns.push((name, value)),
            (AssignmentTarget::Tuple(names), Expr::Tuple(values))
                if names.len() == values.len() =>
            {
                columns.extend(names.iter().zip(values));
            }
            _ => return None,
        }
    }
    Some(columns)
}

//! Maps that are right, and what is said about those that are wrong.

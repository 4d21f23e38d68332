//! Who may do what: the one place that decides on powers and budgets.

pub mod policy;

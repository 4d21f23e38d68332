//! Who may do what: the one place that decides on powers and budgets.

pub mod attestation;
pub mod audit;
pub mod authority;
mod case;
pub mod cedar;
pub mod denial;
mod ledger;
pub mod offers;
pub mod owners;
pub mod policy;
mod powers;
pub mod principal;
pub mod receipt;
pub mod secret;
mod time;

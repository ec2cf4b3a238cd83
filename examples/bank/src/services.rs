//! The services, one file each, and the helpers that more than one needs.

pub mod accounts;
pub mod audit;
pub mod fraud;
pub mod fx;
pub mod gateway;
pub mod ledger;
pub mod notify;
pub mod payments;

use std::time::Duration;

use tonic::Status;

use crate::v1::Money;

/// How long one service waits for another.
const DEADLINE: Duration = Duration::from_secs(2);

/// An amount that must be there and above zero.
fn positive(amount: Option<Money>) -> Result<Money, Status> {
    amount
        .filter(|amount| amount.minor > 0 && amount.currency.len() == 3)
        .ok_or_else(|| Status::invalid_argument("an amount above zero and a currency of three letters are needed"))
}

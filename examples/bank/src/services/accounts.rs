//! Who holds an account and what it may do. The accounts `ACC-0001` to `ACC-1000` exist; every 333rd is frozen.

use tonic::{Request, Response, Status};

use crate::faults::Switchboard;
use crate::server::{Listen, serve};
use crate::v1::accounts_server::{Accounts, AccountsServer};
use crate::v1::{Account, CheckRequest};

/// How many accounts the bank has.
pub const ACCOUNTS: u32 = 1000;
const FROZEN_EVERY: u32 = 333;
const HOLDERS: [&str; 5] = [
    "Ada Byron",
    "Blaise Pascal",
    "Carl Gauss",
    "Daniel Bernoulli",
    "Emmy Noether",
];
const CURRENCIES: [&str; 3] = ["EUR", "USD", "GBP"];

/// Serves `bank.v1.Accounts`.
pub async fn run(listen: Listen) -> anyhow::Result<()> {
    let faults = Switchboard::new(listen.instance.clone());
    serve(&listen, faults, AccountsServer::new(Register)).await
}

/// Name of an account by its number, as `ACC-0042`.
pub fn account_name(number: u32) -> String {
    format!("ACC-{number:04}")
}

/// Whether the account may move money.
pub fn is_frozen(number: u32) -> bool {
    number.is_multiple_of(FROZEN_EVERY)
}

struct Register;

#[tonic::async_trait]
impl Accounts for Register {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<Account>, Status> {
        let CheckRequest { account, amount } = request.into_inner();
        let number = account
            .strip_prefix("ACC-")
            .and_then(|digits| digits.parse::<u32>().ok());
        let number = number
            .filter(|number| (1..=ACCOUNTS).contains(number))
            .ok_or_else(|| Status::not_found(format!("there is no account {account}")))?;
        if is_frozen(number) {
            return Err(Status::failed_precondition(format!("account {account} is frozen")));
        }
        let limit_minor = 10_000_000 * i64::from(number % 4 + 1);
        if amount.is_some_and(|amount| amount.minor > limit_minor) {
            return Err(Status::failed_precondition(format!(
                "account {account} may move {limit_minor} at most"
            )));
        }
        let pick = |of: &[&str]| of[number as usize % of.len()].to_owned();
        Ok(Response::new(Account {
            account,
            holder: pick(&HOLDERS),
            currency: pick(&CURRENCIES),
            limit_minor,
        }))
    }
}

//! Double-entry books, in memory. What a transaction takes from some accounts it gives to others, to the cent: an unbalanced
//! one is refused, and so the sum of all balances is zero in every currency at all times.
//!
//! Each replica keeps books of its own: a real ledger's replicas would share a store.

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;
use tonic::{Request, Response, Status};

use crate::faults::Switchboard;
use crate::metadata::Fnv;
use crate::server::{Listen, serve};
use crate::v1::ledger_server::{Ledger, LedgerServer};
use crate::v1::{Entry, PostRequest, PostResponse, TrialBalanceRequest, TrialBalanceResponse};

/// Keys remembered for idempotency; the oldest is forgotten first.
const KEYS: usize = 100_000;

/// Serves `bank.v1.Ledger`.
pub async fn run(listen: Listen) -> anyhow::Result<()> {
    let faults = Switchboard::new(listen.instance.clone());
    let keeper = Keeper {
        instance: listen.instance.clone(),
        books: Mutex::default(),
    };
    serve(&listen, faults, LedgerServer::new(keeper)).await
}

struct Keeper {
    instance: String,
    books: Mutex<Books>,
}

#[tonic::async_trait]
impl Ledger for Keeper {
    async fn post(&self, request: Request<PostRequest>) -> Result<Response<PostResponse>, Status> {
        let PostRequest { key, entries } = request.into_inner();
        let (number, replayed) = self.books.lock().post(key, &entries)?;
        Ok(Response::new(PostResponse {
            transaction: format!("{}/{number}", self.instance),
            replayed,
        }))
    }

    async fn trial_balance(&self, _: Request<TrialBalanceRequest>) -> Result<Response<TrialBalanceResponse>, Status> {
        let books = self.books.lock();
        Ok(Response::new(TrialBalanceResponse {
            instance: self.instance.clone(),
            transactions: books.transactions,
            accounts: books.balances.len() as u64,
            totals: books.totals(),
        }))
    }
}

#[derive(Default)]
struct Books {
    /// Balance in minor units by (account, currency).
    balances: HashMap<(String, String), i64>,
    transactions: u64,
    /// Key → number of the transaction, and a checksum of its entries.
    posted: HashMap<String, (u64, u64)>,
    oldest: VecDeque<String>,
}

impl Books {
    /// Number of the transaction, and whether an earlier call had posted it. Nothing changes on an error.
    fn post(&mut self, key: String, entries: &[Entry]) -> Result<(u64, bool), Status> {
        if key.is_empty() {
            return Err(Status::invalid_argument("a transaction needs a key"));
        }
        let checksum = checksum(entries);
        if let Some(&(number, first)) = self.posted.get(&key) {
            let same = first == checksum;
            return same
                .then_some((number, true))
                .ok_or_else(|| Status::already_exists(format!("key {key} was used for other entries")));
        }
        balanced(entries)?;
        let balances = self.after(entries)?;
        self.balances.extend(balances);
        self.transactions += 1;
        self.remember(key, checksum);
        Ok((self.transactions, false))
    }

    /// The balances that the entries change, as they would be.
    fn after(&self, entries: &[Entry]) -> Result<HashMap<(String, String), i64>, Status> {
        let mut changed = HashMap::new();
        for Entry {
            account,
            minor,
            currency,
        } in entries
        {
            let key = (account.clone(), currency.clone());
            let before = changed
                .get(&key)
                .or_else(|| self.balances.get(&key))
                .copied()
                .unwrap_or(0);
            let balance = before.checked_add(*minor);
            changed.insert(
                key,
                balance.ok_or_else(|| Status::out_of_range(format!("the balance of {account} would overflow")))?,
            );
        }
        Ok(changed)
    }

    fn remember(&mut self, key: String, checksum: u64) {
        if self.oldest.len() == KEYS
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.posted.remove(&oldest);
        }
        self.oldest.push_back(key.clone());
        self.posted.insert(key, (self.transactions, checksum));
    }

    fn totals(&self) -> HashMap<String, i64> {
        let mut totals = HashMap::new();
        for ((_, currency), balance) in &self.balances {
            *totals.entry(currency.clone()).or_insert(0) += balance;
        }
        totals
    }
}

/// At least two entries, none of nothing, and each currency sums to zero.
fn balanced(entries: &[Entry]) -> Result<(), Status> {
    if entries.len() < 2 || entries.iter().any(|entry| entry.minor == 0 || entry.account.is_empty()) {
        return Err(Status::invalid_argument(
            "a transaction needs two entries with an account and an amount",
        ));
    }
    let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
    for entry in entries {
        *sums.entry(&entry.currency).or_default() += i128::from(entry.minor);
    }
    match sums.iter().find(|(_, sum)| **sum != 0) {
        None => Ok(()),
        Some((currency, sum)) => Err(Status::invalid_argument(format!(
            "debit and credit differ by {sum} {currency}"
        ))),
    }
}

fn checksum(entries: &[Entry]) -> u64 {
    let mut hash = Fnv::default();
    for Entry {
        account,
        minor,
        currency,
    } in entries
    {
        for part in [account.as_bytes(), &minor.to_be_bytes(), currency.as_bytes()] {
            hash.write(part);
            hash.write(&[0]);
        }
    }
    hash.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(account: &str, minor: i64) -> Entry {
        Entry {
            account: account.to_owned(),
            minor,
            currency: "EUR".to_owned(),
        }
    }

    #[test]
    fn a_transaction_balances_or_leaves_no_trace() {
        let mut books = Books::default();
        books
            .post("1".to_owned(), &[entry("A", -500), entry("B", 500)])
            .unwrap();
        let lopsided = books.post("2".to_owned(), &[entry("A", -500), entry("B", 499)]);
        assert_eq!(lopsided.unwrap_err().message(), "debit and credit differ by -1 EUR");
        let overflow = books.post("3".to_owned(), &[entry("B", i64::MAX), entry("A", -i64::MAX)]);
        assert_eq!(overflow.unwrap_err().code(), tonic::Code::OutOfRange);
        assert_eq!(books.totals(), HashMap::from([("EUR".to_owned(), 0)]));
        assert_eq!(books.transactions, 1);
    }

    #[test]
    fn the_same_account_twice_in_one_transaction_counts_twice() {
        let mut books = Books::default();
        books
            .post("1".to_owned(), &[entry("A", -500), entry("A", -500), entry("B", 1000)])
            .unwrap();
        assert_eq!(books.balances[&("A".to_owned(), "EUR".to_owned())], -1000);
    }

    #[test]
    fn a_key_posts_once() {
        let mut books = Books::default();
        let entries = [entry("A", -500), entry("B", 500)];
        assert_eq!(books.post("k".to_owned(), &entries).unwrap(), (1, false));
        assert_eq!(books.post("k".to_owned(), &entries).unwrap(), (1, true));
        let other = books.post("k".to_owned(), &[entry("A", -501), entry("B", 501)]);
        assert_eq!(other.unwrap_err().code(), tonic::Code::AlreadyExists);
        assert_eq!(books.balances[&("B".to_owned(), "EUR".to_owned())], 500);
    }
}

//! Exchange rates, against the euro.

use tonic::{Request, Response, Status};

use super::positive;
use crate::faults::Switchboard;
use crate::server::{Listen, serve};
use crate::v1::fx_server::{Fx, FxServer};
use crate::v1::{ConvertRequest, ConvertResponse, Money};

/// Currency, millionths of it for one euro, minor units in one.
const RATES: [(&str, i128, i128); 5] = [
    ("EUR", 1_000_000, 100),
    ("USD", 1_084_200, 100),
    ("GBP", 856_100, 100),
    ("CHF", 941_700, 100),
    ("JPY", 163_250_000, 1),
];

/// Serves `bank.v1.Fx`.
pub async fn run(listen: Listen) -> anyhow::Result<()> {
    let faults = Switchboard::new(listen.instance.clone());
    serve(&listen, faults, FxServer::new(Rates)).await
}

struct Rates;

#[tonic::async_trait]
impl Fx for Rates {
    async fn convert(&self, request: Request<ConvertRequest>) -> Result<Response<ConvertResponse>, Status> {
        let ConvertRequest { amount, to } = request.into_inner();
        convert(&positive(amount)?, &to).map(Response::new)
    }
}

fn convert(amount: &Money, to: &str) -> Result<ConvertResponse, Status> {
    let find = |currency: &str| {
        let found = RATES.iter().find(|(name, ..)| *name == currency);
        found.ok_or_else(|| Status::not_found(format!("there is no rate for `{currency}`")))
    };
    let (_, from_rate, from_minor) = find(&amount.currency)?;
    let (_, to_rate, to_minor) = find(to)?;
    let (numerator, denominator) = (to_rate * to_minor, from_rate * from_minor);
    let exact = i128::from(amount.minor) * numerator;
    let minor = i64::try_from((exact + denominator / 2) / denominator); // rounded half up
    Ok(ConvertResponse {
        amount: Some(Money {
            minor: minor.map_err(|_| Status::out_of_range("the amount is too large"))?,
            currency: to.to_owned(),
        }),
        rate: *to_rate as f64 / *from_rate as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minor(minor: i64, from: &str, to: &str) -> i64 {
        convert(
            &Money {
                minor,
                currency: from.to_owned(),
            },
            to,
        )
        .unwrap()
        .amount
        .unwrap()
        .minor
    }

    #[test]
    fn rounds_half_up_and_minds_minor_units() {
        assert_eq!(minor(1250, "EUR", "EUR"), 1250);
        assert_eq!(minor(10_000, "EUR", "USD"), 10_842);
        assert_eq!(minor(100, "EUR", "JPY"), 163);
        assert_eq!(minor(163, "JPY", "EUR"), 100);
        let unknown = convert(
            &Money {
                minor: 1,
                currency: "EUR".to_owned(),
            },
            "XXX",
        );
        assert_eq!(unknown.unwrap_err().code(), tonic::Code::NotFound);
    }

    #[test]
    fn an_amount_beyond_the_range_is_refused() {
        let all = Money {
            minor: i64::MAX,
            currency: "EUR".to_owned(),
        };
        assert_eq!(convert(&all, "USD").unwrap_err().code(), tonic::Code::OutOfRange);
    }
}

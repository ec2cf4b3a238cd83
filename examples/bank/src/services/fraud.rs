//! Scores a payment by a few rules, on its amount in euro.

use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{DEADLINE, positive};
use crate::channel::channel;
use crate::faults::Switchboard;
use crate::guard::call_of;
use crate::server::{Listen, serve};
use crate::v1::fraud_server::{Fraud, FraudServer};
use crate::v1::fx_client::FxClient;
use crate::v1::{ConvertRequest, ScoreRequest, ScoreResponse};

/// Settings of `bank fraud`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    listen: Listen,
    /// URL of fx.
    #[arg(long, env = "BANK_FX", default_value = "http://fx:9000")]
    fx: String,
}

/// Serves `bank.v1.Fraud`.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let faults = Switchboard::new(args.listen.instance.clone());
    let scorer = Scorer {
        fx: FxClient::new(channel(&args.fx)?),
    };
    serve(&args.listen, faults, FraudServer::new(scorer)).await
}

struct Scorer {
    fx: FxClient<Channel>,
}

#[tonic::async_trait]
impl Fraud for Scorer {
    async fn score(&self, request: Request<ScoreRequest>) -> Result<Response<ScoreResponse>, Status> {
        let call = call_of(&request)?;
        let ScoreRequest { payer, payee, amount } = request.into_inner();
        let question = ConvertRequest {
            amount: Some(positive(amount)?),
            to: "EUR".to_owned(),
        };
        let answer = call.answer(self.fx.clone().convert(call.request(question, DEADLINE)).await)?;
        let euro_cents = answer.amount.map(|amount| amount.minor);
        let euro_cents = euro_cents.ok_or_else(|| Status::internal("fx answered without an amount"))?;
        Ok(Response::new(score(&payer, &payee, euro_cents)))
    }
}

fn score(payer: &str, payee: &str, euro_cents: i64) -> ScoreResponse {
    let rules = [
        (payer == payee, 0.5, "payer is payee"),
        (euro_cents > 1_000_000, 0.4, "above 10,000 EUR"),
        (euro_cents > 5_000_000, 0.5, "above 50,000 EUR"),
        (euro_cents % 100_000 == 0, 0.1, "round amount"),
    ];
    let matched = rules.iter().filter(|(matches, ..)| *matches);
    let (score, reasons) = matched.fold((0.0, Vec::new()), |(score, mut reasons), (_, weight, reason)| {
        reasons.push((*reason).to_owned());
        (score + weight, reasons)
    });
    ScoreResponse {
        score: f64::min(score, 1.0),
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn rules_add_up() {
        assert_eq!(score("A", "B", 1234).score, 0.0);
        let worst = score("A", "A", 10_000_000);
        assert_eq!(worst.score, 1.0);
        assert_eq!(worst.reasons.len(), 4);
    }
}

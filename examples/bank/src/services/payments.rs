//! Moves money: accounts → fraud (→ fx) → ledger twice → audit and notify.

use futures::{StreamExt, stream};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{DEADLINE, positive};
use crate::channel::channel;
use crate::faults::Switchboard;
use crate::guard::call_of;
use crate::metadata::{Call, Fnv};
use crate::server::{Listen, serve};
use crate::v1::accounts_client::AccountsClient;
use crate::v1::audit_client::AuditClient;
use crate::v1::fraud_client::FraudClient;
use crate::v1::ledger_client::LedgerClient;
use crate::v1::notify_client::NotifyClient;
use crate::v1::payments_server::{Payments, PaymentsServer};
use crate::v1::{
    CheckRequest, Entry, Event, EventRef, Money, Notice, PayRequest, PayResponse, PostRequest, ScoreRequest,
};

/// Between the two transactions of a payment the money is here.
const CLEARING: &str = "CLEARING";
/// A payment with this score or more is declined.
const DECLINE: f64 = 0.9;

/// Settings of `bank payments`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    listen: Listen,
    /// URL of accounts.
    #[arg(long, env = "BANK_ACCOUNTS", default_value = "http://accounts:9000")]
    accounts: String,
    /// URL of fraud.
    #[arg(long, env = "BANK_FRAUD", default_value = "http://fraud:9000")]
    fraud: String,
    /// URL of the ledger.
    #[arg(long, env = "BANK_LEDGER", default_value = "http://ledger:9000")]
    ledger: String,
    /// URL of notify.
    #[arg(long, env = "BANK_NOTIFY", default_value = "http://notify:9000")]
    notify: String,
    /// URL of audit.
    #[arg(long, env = "BANK_AUDIT", default_value = "http://audit:9000")]
    audit: String,
}

/// Serves `bank.v1.Payments`.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let faults = Switchboard::new(args.listen.instance.clone());
    let desk = Desk {
        accounts: AccountsClient::new(channel(&args.accounts)?),
        fraud: FraudClient::new(channel(&args.fraud)?),
        ledger: LedgerClient::new(channel(&args.ledger)?),
        notify: NotifyClient::new(channel(&args.notify)?),
        audit: AuditClient::new(channel(&args.audit)?),
    };
    serve(&args.listen, faults, PaymentsServer::new(desk)).await
}

/// The clients of the other services; a clone shares its connection.
struct Desk {
    accounts: AccountsClient<Channel>,
    fraud: FraudClient<Channel>,
    ledger: LedgerClient<Channel>,
    notify: NotifyClient<Channel>,
    audit: AuditClient<Channel>,
}

/// One payment under way.
struct Payment {
    id: String,
    payer: String,
    payee: String,
    amount: Money,
}

#[tonic::async_trait]
impl Payments for Desk {
    async fn pay(&self, request: Request<PayRequest>) -> Result<Response<PayResponse>, Status> {
        let call = call_of(&request)?;
        let PayRequest {
            payer,
            payee,
            amount,
            reference,
        } = request.into_inner();
        let payment = Payment {
            id: payment_id(call.idempotency_key()),
            payer,
            payee,
            amount: positive(amount)?,
        };

        self.check_accounts(&call, &payment).await?;
        let fraud_score = self.score(&call, &payment).await?;
        let held = self.post(&call, "hold", &payment, (&payment.payer, CLEARING)).await?;
        let settled = self.post(&call, "settle", &payment, (CLEARING, &payment.payee)).await?;
        let transactions = vec![held, settled];
        let (audited, notified) = tokio::join!(
            self.record(&call, &payment, fraud_score, &transactions),
            self.tell(&call, &payment, &reference)
        );
        audited?;
        Ok(Response::new(PayResponse {
            payment_id: payment.id,
            fraud_score,
            transactions,
            notified: notified?,
        }))
    }
}

impl Desk {
    async fn check_accounts(&self, call: &Call, payment: &Payment) -> Result<(), Status> {
        let check = |account: &str, amount| {
            let mut accounts = self.accounts.clone();
            let request = call.request(
                CheckRequest {
                    account: account.to_owned(),
                    amount,
                },
                DEADLINE,
            );
            async move { call.answer(accounts.check(request).await) }
        };
        tokio::try_join!(
            check(&payment.payer, Some(payment.amount.clone())),
            check(&payment.payee, None)
        )?;
        Ok(())
    }

    async fn score(&self, call: &Call, payment: &Payment) -> Result<f64, Status> {
        let Payment {
            payer, payee, amount, ..
        } = payment;
        let question = ScoreRequest {
            payer: payer.clone(),
            payee: payee.clone(),
            amount: Some(amount.clone()),
        };
        let answer = call.answer(self.fraud.clone().score(call.request(question, DEADLINE)).await)?;
        if answer.score >= DECLINE {
            return Err(Status::failed_precondition(format!(
                "declined: {}",
                answer.reasons.join(", ")
            )));
        }
        Ok(answer.score)
    }

    /// One transaction, `from` one account `to` another. Its key is the payment's with the step, so that a payment that
    /// is tried again moves money once.
    async fn post(
        &self,
        call: &Call,
        step: &str,
        payment: &Payment,
        (from, to): (&str, &str),
    ) -> Result<String, Status> {
        let entry = |account: &str, minor| {
            let currency = payment.amount.currency.clone();
            Entry {
                account: account.to_owned(),
                minor,
                currency,
            }
        };
        let entries = vec![entry(from, -payment.amount.minor), entry(to, payment.amount.minor)];
        let request = PostRequest {
            key: format!("{}/{step}", payment.id),
            entries,
        };
        let answer = call.answer(self.ledger.clone().post(call.request(request, DEADLINE)).await)?;
        Ok(answer.transaction)
    }

    /// Streams the payment's events to audit, then asks for each whether it is kept.
    async fn record(&self, call: &Call, payment: &Payment, score: f64, transactions: &[String]) -> Result<(), Status> {
        let details = [("checked", String::new()), ("scored", score.to_string())];
        let posted = ["held", "settled"].into_iter().zip(transactions.iter().cloned());
        let events: Vec<Event> = details
            .into_iter()
            .chain(posted)
            .map(|(kind, detail)| payment.event(kind, detail))
            .collect();
        let references: Vec<EventRef> = events.iter().filter_map(|event| event.event.clone()).collect();

        let sent = events.len() as u64;
        let answer = call.answer(
            self.audit
                .clone()
                .record(call.request(stream::iter(events), DEADLINE))
                .await,
        )?;
        if answer.recorded != sent {
            return Err(Status::data_loss(format!(
                "audit took {} of {sent} events",
                answer.recorded
            )));
        }
        let asked = references.len();
        let questions = call.request(stream::iter(references), DEADLINE);
        let mut answers = call.answer(self.audit.clone().confirm(questions).await)?;
        let mut found = 0;
        while let Some(confirmation) = answers.message().await? {
            found += usize::from(confirmation.found);
        }
        if found != asked {
            return Err(Status::data_loss(format!("audit confirmed {found} of {asked} events")));
        }
        Ok(())
    }

    /// The ways in which the payer was told.
    async fn tell(&self, call: &Call, payment: &Payment, reference: &str) -> Result<Vec<String>, Status> {
        let Payment {
            payer, payee, amount, ..
        } = payment;
        let text = format!("{} {} to {payee}: {reference}", amount.minor, amount.currency);
        let notice = Notice {
            account: payer.clone(),
            text,
        };
        let mut deliveries = call.answer(self.notify.clone().deliver(call.request(notice, DEADLINE)).await)?;
        let mut ways = Vec::new();
        while let Some(delivery) = deliveries.next().await {
            let delivery = delivery?;
            if delivery.state == "sent" {
                ways.push(delivery.way);
            }
        }
        if ways.is_empty() {
            return Err(Status::data_loss("notify ended before it sent anything"));
        }
        Ok(ways)
    }
}

impl Payment {
    fn event(&self, kind: &str, detail: String) -> Event {
        Event {
            event: Some(EventRef {
                payment_id: self.id.clone(),
                kind: kind.to_owned(),
            }),
            detail,
        }
    }
}

/// The same idempotency key gives the same payment.
fn payment_id(idempotency_key: &str) -> String {
    let mut hash = Fnv::default();
    hash.write(idempotency_key.as_bytes());
    format!("PAY-{:016x}", hash.0)
}

//! The bank's edge: HTTP/1 and JSON for clients, gRPC inside. Turns a client's request into a call with the metadata that
//! every service inside expects.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::DEADLINE;
use crate::channel::channel;
use crate::faults::Switchboard;
use crate::guard::suffer;
use crate::metadata::Call;
use crate::server::{self, Listen};
use crate::v1::accounts_client::AccountsClient;
use crate::v1::payments_client::PaymentsClient;
use crate::v1::{CheckRequest, Money, PayRequest};

/// A payment crosses seven services; each waits for `DEADLINE` at most.
const PAY_DEADLINE: Duration = Duration::from_secs(5);
/// No order is longer than this.
const BODY_LIMIT: usize = 64 * 1024;

/// Settings of `bank gateway`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address for clients.
    #[arg(long, env = "BANK_HTTP", default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    #[command(flatten)]
    listen: Listen,
    /// URL of payments.
    #[arg(long, env = "BANK_PAYMENTS", default_value = "http://payments:9000")]
    payments: String,
    /// URL of accounts.
    #[arg(long, env = "BANK_ACCOUNTS", default_value = "http://accounts:9000")]
    accounts: String,
}

struct Gateway {
    payments: PaymentsClient<Channel>,
    accounts: AccountsClient<Channel>,
    faults: Arc<Switchboard>,
}

/// Serves clients, and health, reflection and faults on the gRPC port.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let faults = Switchboard::new(args.listen.instance.clone());
    let gateway = Arc::new(Gateway {
        payments: PaymentsClient::new(channel(&args.payments)?),
        accounts: AccountsClient::new(channel(&args.accounts)?),
        faults: faults.clone(),
    });
    let clients = TcpListener::bind(args.http)
        .await
        .with_context(|| format!("cannot listen on {}", args.http))?;
    tracing::info!(address = %clients.local_addr()?, "listening for clients");
    tokio::try_join!(
        serve_clients(clients, gateway),
        server::serve_operations(&args.listen, faults)
    )?;
    Ok(())
}

async fn serve_clients(clients: TcpListener, gateway: Arc<Gateway>) -> anyhow::Result<()> {
    let connections = GracefulShutdown::new();
    let mut stopped = std::pin::pin!(server::stop());
    loop {
        let stream = tokio::select! {
            biased; // a stop goes before new clients
            () = &mut stopped => break,
            accepted = clients.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: let some close
                    continue;
                }
            },
        };
        stream.set_nodelay(true).ok(); // slower without, not wrong
        let gateway = gateway.clone();
        let service = service_fn(move |request| {
            let gateway = gateway.clone();
            async move { Ok::<_, Infallible>(gateway.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client's connection failed");
            }
        });
    }
    drop(clients);
    tokio::select! {
        () = connections.shutdown() => {}
        () = tokio::time::sleep(server::GRACE) => tracing::warn!("stopped with clients' requests in flight"),
    }
    Ok(())
}

#[derive(Deserialize)]
struct Order {
    payer: String,
    payee: String,
    amount_minor: i64,
    currency: String,
    #[serde(default)]
    reference: String,
}

#[derive(Serialize)]
struct Receipt {
    payment_id: String,
    fraud_score: f64,
    transactions: Vec<String>,
    notified: Vec<String>,
}

#[derive(Serialize)]
struct AccountView {
    account: String,
    holder: String,
    currency: String,
    limit_minor: i64,
}

impl Gateway {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let answered = match (request.method(), path.as_str()) {
            (&Method::GET, "/healthz") => Ok(json(StatusCode::OK, &serde_json::json!({"status": "serving"}))),
            (&Method::POST, "/v1/payments") => self.pay(request).await,
            (&Method::GET, path) if path.starts_with("/v1/accounts/") => self.account(&request).await,
            _ => Err(Status::unimplemented(
                "try POST /v1/payments, GET /v1/accounts/ACC-0001 or GET /healthz",
            )),
        };
        answered.unwrap_or_else(|status| {
            let code = http_status(status.code());
            tracing::debug!(path, %status, "refused");
            json(
                code,
                &serde_json::json!({"error": status.message(), "code": format!("{:?}", status.code())}),
            )
        })
    }

    async fn pay(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Status> {
        let call = self.admit(&request).await?;
        let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
        let body = body.map_err(|error| Status::invalid_argument(format!("cannot read the order: {error}")))?;
        let order: Order = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| Status::invalid_argument(format!("the order is no valid JSON: {error}")))?;
        let pay = PayRequest {
            payer: order.payer,
            payee: order.payee,
            amount: Some(Money {
                minor: order.amount_minor,
                currency: order.currency,
            }),
            reference: order.reference,
        };
        let paid = call.answer(self.payments.clone().pay(call.request(pay, PAY_DEADLINE)).await)?;
        let receipt = Receipt {
            payment_id: paid.payment_id,
            fraud_score: paid.fraud_score,
            transactions: paid.transactions,
            notified: paid.notified,
        };
        Ok(json(StatusCode::CREATED, &receipt))
    }

    async fn account(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Status> {
        let call = self.admit(request).await?;
        let account = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let check = call.request(CheckRequest { account, amount: None }, DEADLINE);
        let found = call.answer(self.accounts.clone().check(check).await)?;
        let view = AccountView {
            account: found.account,
            holder: found.holder,
            currency: found.currency,
            limit_minor: found.limit_minor,
        };
        Ok(json(StatusCode::OK, &view))
    }

    /// Lets the faults have their way, then exchanges the client's headers for the metadata of a call.
    async fn admit(&self, request: &Request<Incoming>) -> Result<Call, Status> {
        suffer(self.faults.plan()).await?;
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let tenant = header("x-tenant").unwrap_or("retail");
        let random = format!("{:032x}", rand::random::<u128>());
        let call = Call::mint(tenant, header("idempotency-key").unwrap_or(&random))?;
        Ok(call.traced_as(request.headers()))
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let bytes = serde_json::to_vec(body).expect("these types have string keys and finite numbers");
    let mut response = Response::new(Full::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// The HTTP status that says the same, as in google.rpc.Code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::FailedPrecondition => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound | Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded | Code::Cancelled => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

//! The whole bank as processes on loopback, without a mesh.
#![expect(clippy::unwrap_used, reason = "the harness may panic as a test may")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bank::channel::channel;
use bank::metadata::Call;
use bank::v1::ledger_client::LedgerClient;
use bank::v1::{Entry, PostRequest, TrialBalanceRequest};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

/// A service that runs, and is killed with the test.
struct Service {
    process: Child,
    /// URLs in the order in which the service says that it listens.
    urls: Vec<String>,
}

impl Service {
    /// Starts `bank ARGS` on free ports and waits until it listens on all of them.
    fn start(args: &[&str], ports: usize) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bank"));
        command
            .args(args)
            .args(["--listen", "127.0.0.1:0"])
            .env_remove("BANK_LOG")
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let urls = (0..ports).map(|_| {
            let line = lines
                .find(|line| line.as_ref().unwrap().contains("address="))
                .expect("it says where")
                .unwrap();
            let address = line
                .split("address=")
                .nth(1)
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap();
            format!("http://{address}")
        });
        let urls = urls.collect();
        std::thread::spawn(move || lines.for_each(drop)); // a full pipe would stop the service
        Self { process, urls }
    }

    fn url(&self) -> &str {
        &self.urls[0]
    }

    /// Runs `bank fault` against it; what it prints.
    fn fault(&self, options: &[&str]) -> String {
        let url = self.urls.last().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bank"))
            .args(["fault", url])
            .args(options)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// All eight services.
struct Bank {
    accounts: Service,
    audit: Service,
    fraud: Service,
    fx: Service,
    gateway: Service,
    ledger: Service,
    notify: Service,
    payments: Service,
}

impl Bank {
    fn start() -> Self {
        let leaf = |name| Service::start(&[name], 1);
        let (accounts, audit, fx, ledger, notify) = (
            leaf("accounts"),
            leaf("audit"),
            leaf("fx"),
            leaf("ledger"),
            leaf("notify"),
        );
        let fraud = Service::start(&["fraud", "--fx", fx.url()], 1);
        let payments = Service::start(
            &[
                "payments",
                "--accounts",
                accounts.url(),
                "--audit",
                audit.url(),
                "--fraud",
                fraud.url(),
                "--ledger",
                ledger.url(),
                "--notify",
                notify.url(),
            ],
            1,
        );
        let gateway = Service::start(
            &[
                "gateway",
                "--http",
                "127.0.0.1:0",
                "--payments",
                payments.url(),
                "--accounts",
                accounts.url(),
            ],
            2,
        );
        Self {
            accounts,
            audit,
            fraud,
            fx,
            gateway,
            ledger,
            notify,
            payments,
        }
    }

    async fn send(&self, method: &str, path: &str, key: &str, body: &Value) -> (StatusCode, Value) {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.gateway.url()))
            .header("idempotency-key", key)
            .body(Full::from(body.to_string()))
            .unwrap();
        let response = client.request(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn pay(&self, key: &str, amount: i64) -> (StatusCode, Value) {
        let order = json!({"payer": "ACC-0001", "payee": "ACC-0002", "amount_minor": amount, "currency": "USD"});
        self.send("POST", "/v1/payments", key, &order).await
    }

    /// Transactions in the ledger, and the sum of all balances in dollars.
    async fn books(&self) -> (u64, i64) {
        let call = Call::mint("retail", "books").unwrap();
        let mut ledger = LedgerClient::new(channel(self.ledger.url()).unwrap());
        let request = call.request(TrialBalanceRequest {}, Duration::from_secs(5));
        let answer = call.answer(ledger.trial_balance(request).await).unwrap();
        (
            answer.transactions,
            answer.totals.get("USD").copied().unwrap_or_default(),
        )
    }
}

#[tokio::test]
async fn a_payment_crosses_every_service_and_posts_once_a_key() {
    let bank = Bank::start();
    let (status, receipt) = bank.pay("key-1", 1250).await;
    assert_eq!(status, StatusCode::CREATED, "{receipt}");
    assert_eq!(receipt["notified"], json!(["push", "email"]));
    assert_eq!(receipt["transactions"].as_array().unwrap().len(), 2);
    assert_eq!(bank.books().await, (2, 0));

    assert_eq!(bank.pay("key-1", 1250).await, (status, receipt));
    assert_eq!(bank.books().await, (2, 0), "the second try moved no money");

    let (status, refusal) = bank.pay("key-1", 1251).await;
    assert_eq!(
        (status, &refusal["code"]),
        (StatusCode::CONFLICT, &json!("AlreadyExists"))
    );
    assert_eq!(bank.books().await, (2, 0));
}

#[tokio::test]
async fn clients_learn_what_is_wrong_with_their_order() {
    let bank = Bank::start();
    let nobody = json!({"payer": "ACC-0001", "payee": "ACC-9999", "amount_minor": 1, "currency": "EUR"});
    let frozen = json!({"payer": "ACC-0333", "payee": "ACC-0001", "amount_minor": 1, "currency": "EUR"});
    let nothing = json!({"payer": "ACC-0001", "payee": "ACC-0002", "amount_minor": 0, "currency": "EUR"});
    let suspicious = json!({"payer": "ACC-0003", "payee": "ACC-0003", "amount_minor": 8_000_000, "currency": "EUR"});
    let cases = [
        (nobody, StatusCode::NOT_FOUND),
        (frozen, StatusCode::UNPROCESSABLE_ENTITY),
        (nothing, StatusCode::BAD_REQUEST),
        (suspicious, StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"payer": 7}), StatusCode::BAD_REQUEST),
    ];
    for (order, expected) in cases {
        let (status, answer) = bank.send("POST", "/v1/payments", "k", &order).await;
        assert_eq!(status, expected, "{order}: {answer}");
    }
    let (status, account) = bank.send("GET", "/v1/accounts/ACC-0007", "k", &Value::Null).await;
    assert_eq!((status, &account["account"]), (StatusCode::OK, &json!("ACC-0007")));
    assert_eq!(bank.books().await.0, 0, "no refused order moved money");
}

#[tokio::test]
async fn faults_are_switched_on_and_off_at_run_time() {
    let bank = Bank::start();
    assert!(bank.ledger.fault(&["--errors", "1"]).contains("100.0 % of calls fail"));
    assert_eq!(bank.pay("a", 1).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(bank.ledger.fault(&["--clear"]).contains("no faults"));
    assert_eq!(bank.pay("a", 1).await.0, StatusCode::CREATED);

    bank.fx.fault(&["--wrong-trailers", "1"]);
    assert_eq!(bank.pay("b", 1).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    bank.fx.fault(&["--clear"]);

    bank.notify.fault(&["--latency", "300ms"]);
    let start = Instant::now();
    assert_eq!(bank.pay("c", 1).await.0, StatusCode::CREATED);
    assert!(start.elapsed() >= Duration::from_millis(300));

    bank.audit.fault(&["--hang", "1"]);
    assert_eq!(bank.pay("d", 1).await.0, StatusCode::GATEWAY_TIMEOUT);

    bank.gateway.fault(&["--errors", "1"]);
    let (status, answer) = bank.pay("e", 1).await;
    assert_eq!(
        (status, &answer["error"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("a fault that was switched on"))
    );
}

#[tokio::test]
async fn a_field_that_was_altered_on_the_way_is_refused_by_name() {
    let ledger = Service::start(&["ledger"], 1);
    let mut client = LedgerClient::new(channel(ledger.url()).unwrap());
    let call = Call::mint("retail", "k").unwrap();
    let entry = |account: &str, minor| Entry {
        account: account.to_owned(),
        minor,
        currency: "EUR".to_owned(),
    };
    let post = PostRequest {
        key: "k".to_owned(),
        entries: vec![entry("A", -1), entry("B", 1)],
    };

    let mut altered = call.request(post.clone(), Duration::from_secs(5));
    altered
        .metadata_mut()
        .append("x-scope", "admin:everything".parse().unwrap());
    let status = client.post(altered).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DataLoss);
    assert!(status.message().contains("`x-scope`"), "{status}");

    call.answer(client.post(call.request(post, Duration::from_secs(5))).await)
        .unwrap();
}

#[tokio::test]
async fn every_service_answers_health_and_reflection() {
    let bank = Bank::start();
    let Bank {
        accounts,
        audit,
        fraud,
        fx,
        gateway,
        ledger,
        notify,
        payments,
    } = &bank;
    for service in [accounts, audit, fraud, fx, gateway, ledger, notify, payments] {
        let channel = channel(service.urls.last().unwrap()).unwrap();
        let answer = HealthClient::new(channel.clone())
            .check(HealthCheckRequest::default())
            .await
            .unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);

        let question = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut reflection = ServerReflectionClient::new(channel);
        let answers = reflection
            .server_reflection_info(futures::stream::iter([question]))
            .await
            .unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = answer else {
            panic!("{answer:?}");
        };
        assert!(
            service.iter().any(|service| service.name == "bank.v1.Ledger"),
            "{service:?}"
        );
    }
}

#[tokio::test]
async fn load_keeps_its_rate_and_counts_every_request() {
    let bank = Bank::start();
    bank.fraud.fault(&["--latency", "200ms"]);
    let args = [
        "load",
        "--gateway",
        bank.gateway.url(),
        "--rate",
        "50",
        "--for",
        "2s",
        "-o",
        "json",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_bank")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tally: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scheduled = tally["scheduled"].as_u64().unwrap();
    assert!(
        (95..=101).contains(&scheduled),
        "open loop, though each answer takes 200 ms: {tally}"
    );
    assert_eq!(tally["succeeded"], tally["scheduled"]);
    assert!(tally["p50_ms"].as_f64().unwrap() >= 200.0, "{tally}");
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight() {
    let mut bank = Bank::start();
    bank.payments.fault(&["--latency", "1500ms"]);
    let pid = bank.payments.process.id().to_string();
    let (paid, killed) = tokio::join!(bank.pay("k", 1), async {
        tokio::time::sleep(Duration::from_millis(300)).await; // the request is on its way
        Command::new("kill").arg(&pid).status().unwrap()
    });
    assert!(killed.success());
    assert_eq!(paid.0, StatusCode::CREATED);
    let process = &mut bank.payments.process;
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(ended.await.expect("it ends once nothing is in flight").success());
}

//! What the control plane tells the command line of itself (`sheer.v1.Control`).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::stream::BoxStream;
use sheer_api::v1::{
    self, ConfigDumpRequest, ConfigDumpResponse, ExplainRequest, ExplainResponse, Finding, ObjectRef,
    PolicyDiffRequest, PolicyDiffResponse, RenewRequest, RenewResponse, ReportRequest, ReportResponse, RouteCondition,
    RouteParent, RouteStatus, RoutesRequest, RoutesResponse, WatchSecretsRequest, WorkloadLogLevelRequest,
    WorkloadLogLevelResponse, control_server::Control, finding,
};
use tonic::{Request, Response, Status};

use super::Streams;
use crate::{
    config::MeshConfig,
    identity::Authority,
    manifests,
    objects::ParentRef,
    routes,
    sight::{self, Secrets, Sight, asker::Asker},
    store::{Snapshot, Store},
};

/// The report service.
pub(super) struct ReportService {
    pub(super) store: Store,
    pub(super) config: Arc<MeshConfig>,
    pub(super) authority: Arc<Authority>,
    pub(super) streams: Streams,
    /// Only for the socket, which is its owner's: what proxies hold is nobody else's business.
    pub(super) sight: Option<Sight>,
}

impl ReportService {
    fn sight(&self) -> Result<&Sight, Status> {
        let refused = || Status::permission_denied("asked through the control plane's socket only");
        self.sight.as_ref().ok_or_else(refused)
    }

    /// For what only the mesh's owner may ask.
    fn owners<T>(&self, request: &Request<T>, what: &str) -> Result<&Sight, Status> {
        let sight = self.sight()?;
        sight.asker(request)?.must_own(what)?;
        Ok(sight)
    }

    /// For what a token may allow.
    fn watched<T>(&self, request: &Request<T>) -> Result<(&Sight, Asker), Status> {
        let sight = self.sight()?;
        Ok((sight, sight.asker(request)?))
    }
}

#[tonic::async_trait]
impl Control for ReportService {
    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let snapshot = self.store.latest();
        let diagnosis = snapshot.diagnosis();
        Ok(Response::new(ReportResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.config.trust_domain.clone(),
            objects: counts(&snapshot),
            findings: diagnosis.findings.iter().map(to_message).collect(),
            streams: self
                .streams
                .counts()
                .into_iter()
                .map(|(method, count)| (method.to_owned(), count))
                .collect(),
            issuer_not_after: unix(self.authority.issuer_not_after()),
            last_change_age_ms: u64::try_from(diagnosis.changed.elapsed().as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        self.owners(&request, "to ask why a request is treated as it is")?
            .explain(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn config_dump(&self, request: Request<ConfigDumpRequest>) -> Result<Response<ConfigDumpResponse>, Status> {
        self.owners(&request, "to see what proxies hold")?
            .config_dump(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn policy_diff(&self, request: Request<PolicyDiffRequest>) -> Result<Response<PolicyDiffResponse>, Status> {
        self.owners(&request, "to try a policy")?
            .policy_diff(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let (sight, asker) = self.watched(&request)?;
        asker.must_own("to make tokens")?;
        sight.issue_token(request.get_ref(), &asker).map(Response::new)
    }

    async fn revoke_tokens(
        &self,
        request: Request<v1::RevokeTokensRequest>,
    ) -> Result<Response<v1::RevokeTokensResponse>, Status> {
        let (sight, asker) = self.watched(&request)?;
        asker.must_own("to revoke tokens")?;
        tracing::info!(target: "audit", caller = asker.caller(), "audit: all tokens for sight are revoked");
        let revoked = sight.tokens().revoke();
        revoked.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::RevokeTokensResponse {}))
    }

    type SecretsStream = Secrets;

    async fn secrets(&self, request: Request<WatchSecretsRequest>) -> Result<Response<Secrets>, Status> {
        let (sight, asker) = self.watched(&request)?;
        sight.secrets(request.get_ref(), &asker).map(Response::new)
    }

    async fn log_level(
        &self,
        request: Request<WorkloadLogLevelRequest>,
    ) -> Result<Response<WorkloadLogLevelResponse>, Status> {
        let (sight, asker) = self.watched(&request)?;
        let asked = request.get_ref();
        asker
            .must_own("to change what proxies log")
            .inspect_err(|why| sight::refused(("log-level", ""), &asker, (&asked.workload, &asked.namespace), why))?;
        sight.log_level(request.into_inner(), &asker).await.map(Response::new)
    }

    async fn enter(&self, request: Request<v1::EnterRequest>) -> Result<Response<v1::EnterResponse>, Status> {
        let (sight, asker) = self.watched(&request)?;
        sight.enter(request.get_ref(), &asker).map(Response::new)
    }

    async fn renew_connections(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let (sight, asker) = self.watched(&request)?;
        sight
            .renew_connections(request.into_inner(), &asker)
            .await
            .map(Response::new)
    }

    async fn routes(&self, request: Request<RoutesRequest>) -> Result<Response<RoutesResponse>, Status> {
        let namespace = request.into_inner().namespace;
        let snapshot = self.store.latest();
        let ranks: HashMap<_, _> = snapshot.routes().all().iter().map(routes::Route::id).zip(0..).collect();
        let all = routes::status(snapshot.routes()).into_iter();
        let asked = all.filter(|status| namespace.is_empty() || status.route.namespace == namespace);
        Ok(Response::new(RoutesResponse {
            routes: asked
                .map(|status| RouteStatus {
                    rank: ranks.get(&status.route).copied().unwrap_or(0),
                    ..route_status(&snapshot, status)
                })
                .collect(),
        }))
    }

    async fn connections(
        &self,
        request: Request<v1::WatchConnectionsRequest>,
    ) -> Result<Response<v1::WatchConnectionsResponse>, Status> {
        let (sight, asker) = self.watched(&request)?;
        sight.connections(request.into_inner(), &asker).await.map(Response::new)
    }

    type FramesStream = BoxStream<'static, Result<v1::FrameEvent, Status>>;

    async fn frames(&self, request: Request<v1::WatchFramesRequest>) -> Result<Response<Self::FramesStream>, Status> {
        let (sight, asker) = self.watched(&request)?;
        sight.frames(request.into_inner(), &asker).await.map(Response::new)
    }

    type PlaintextStream = BoxStream<'static, Result<v1::PlaintextEvent, Status>>;

    async fn plaintext(
        &self,
        request: Request<v1::WatchPlaintextRequest>,
    ) -> Result<Response<Self::PlaintextStream>, Status> {
        let (sight, asker) = self.watched(&request)?;
        sight.plaintext(request.into_inner(), &asker).await.map(Response::new)
    }

    type TapStream = BoxStream<'static, Result<v1::TapLine, Status>>;

    async fn tap(&self, request: Request<v1::WatchTapRequest>) -> Result<Response<Self::TapStream>, Status> {
        let (sight, asker) = self.watched(&request)?;
        sight.tap(request.into_inner(), &asker).await.map(Response::new)
    }

    async fn diff(&self, request: Request<v1::WatchDiffRequest>) -> Result<Response<v1::WatchDiffResponse>, Status> {
        let (sight, asker) = self.watched(&request)?;
        sight.diff(request.into_inner(), &asker).await.map(Response::new)
    }
}

/// How many objects there are by kind. (HTTPRoute is the kind of two groups.)
fn counts(snapshot: &Snapshot) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    for (kind, count) in snapshot.counts() {
        *counts.entry(kind.to_string()).or_default() += count;
    }
    counts
}

fn route_status(snapshot: &Snapshot, status: routes::RouteStatus) -> RouteStatus {
    let (file, line) = snapshot
        .find_place(&status.route)
        .map_or((String::new(), 0), |(file, line)| (file.display().to_string(), line));
    let namespace = status.route.namespace.clone();
    let parent = |parent: routes::ParentStatus| RouteParent {
        parent: Some(parent_reference(&parent.parent, &namespace)),
        conditions: parent.conditions.into_iter().map(condition).collect(),
    };
    RouteStatus {
        file,
        line,
        parents: status.parents.into_iter().map(parent).collect(),
        rank: 0,
        route: Some(ObjectRef {
            group: status.group.to_owned(),
            kind: status.route.kind.to_string(),
            namespace: status.route.namespace,
            name: status.route.name,
            ..ObjectRef::default()
        }),
    }
}

fn parent_reference(parent: &ParentRef, namespace: &str) -> ObjectRef {
    let group = if parent.group.is_empty() { "core" } else { &parent.group };
    ObjectRef {
        group: group.to_owned(),
        kind: parent.kind.clone(),
        namespace: parent.namespace.as_deref().unwrap_or(namespace).to_owned(),
        name: parent.name.clone(),
        section: parent.section_name.clone().unwrap_or_default(),
        port: parent.port.unwrap_or(0).into(),
    }
}

fn condition(condition: routes::Condition) -> RouteCondition {
    RouteCondition {
        r#type: condition.kind.as_str().to_owned(),
        status: condition.holds,
        reason: condition.reason.to_owned(),
        message: condition.message,
        field: condition.field,
    }
}

fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// A finding as `sheer.v1` says it.
pub(crate) fn to_message(finding: &manifests::Finding) -> Finding {
    let severity = match finding.severity {
        manifests::Severity::Error => finding::Severity::Error,
        manifests::Severity::Warning => finding::Severity::Warning,
    };
    Finding {
        severity: severity.into(),
        file: finding.file.display().to_string(),
        line: finding.line,
        object: finding.object.clone(),
        field: finding.field.clone(),
        message: finding.message.clone(),
    }
}

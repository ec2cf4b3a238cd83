//! The client of the control plane: one stream a subscription, folded and published.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sheer_api::{
    linkerd::{
        destination::{DestinationProfile, GetDestination, destination_client::DestinationClient},
        inbound::{PortSpec, Server, inbound_server_policies_client::InboundServerPoliciesClient},
        outbound::{self as api, TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec},
    },
    v1::{ExtrasRequest, InboundExtras, InboundExtrasRequest, OutboundExtras, extras_client::ExtrasClient},
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{sleep, timeout},
};
use tonic::codec::CompressionEncoding;

use super::{
    Budgets, Discovery, EndpointSet, InboundPolicy, Lookup, OutboundTarget,
    cache::{Cache, Publisher},
    endpoints::Fold,
    inbound,
    outbound::{self, Profile},
};
use crate::{
    addr::OrigDst,
    control::{Channel, Event, Record, Streams},
    settings::Settings,
};

/// What Linkerd's control plane expects as the scheme of a look-up.
const SCHEME: &str = "k8s";
/// Largest message of the control plane. A Service with some thousand routes is more than the 4 MiB that tonic takes unasked, and a policy that
/// is refused for its size would be one that is never heard of.
const LARGEST_MESSAGE: usize = 64 << 20;
/// How much longer than any other a control plane that is slow, but not away, is waited for, as a factor: for 3 s in all by default.
const SLOW_CONTROL_PLANE: u32 = 5;

/// What a client is made of.
pub(crate) struct ClientOptions {
    pub(crate) destination: Channel,
    pub(crate) policy: Channel,
    /// Where the streams run.
    pub(crate) runtime: Handle,
}

/// The client of the control plane.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    outbound: Cache<OrigDst, OutboundTarget>,
    endpoints: Cache<Arc<str>, EndpointSet>,
    inbound: Cache<u16, InboundPolicy>,
    budgets: Budgets,
    /// Held for the life of the process, so that the workload's own ports never go idle.
    own_ports: Mutex<Vec<watch::Receiver<Lookup<InboundPolicy>>>>,
    unanswered: watch::Sender<BTreeSet<u16>>,
    unreached: watch::Sender<BTreeSet<&'static str>>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    destination: Channel,
    policy: Channel,
}

impl Client {
    pub(crate) fn new(settings: &Settings, options: ClientOptions) -> Self {
        let ClientOptions {
            destination,
            policy,
            runtime,
        } = options;
        let unreached = reach([destination.clone(), policy.clone()], &runtime);
        let client = Self {
            outbound: Cache::new(settings.outbound.discovery_idle, runtime.clone()),
            endpoints: Cache::new(settings.outbound.discovery_idle, runtime.clone()),
            inbound: Cache::new(settings.inbound.discovery_idle, runtime),
            budgets: Budgets::default(),
            own_ports: Mutex::default(),
            unanswered: watch::Sender::new(settings.inbound.ports.clone()),
            unreached,
            shared: Arc::new(Shared {
                settings: settings.clone(),
                destination,
                policy,
            }),
        };
        let own_ports = settings
            .inbound
            .ports
            .iter()
            .map(|port| client.inbound(*port))
            .collect();
        *client.own_ports.lock() = own_ports;
        client
    }

    /// The workload's own ports of whose policy nothing was heard yet: the proxy is not ready before there are none.
    pub fn unanswered_ports(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.unanswered.subscribe()
    }

    /// The services of the control plane to which there was no connection yet: the proxy is not ready before there are none, so that no first
    /// request goes out bare because nobody could be asked about it.
    pub(crate) fn unreached(&self) -> watch::Receiver<BTreeSet<&'static str>> {
        self.unreached.subscribe()
    }

    /// Every original destination that is subscribed to, and what is known of it.
    pub(crate) fn destinations(&self) -> Vec<(OrigDst, Lookup<OutboundTarget>)> {
        self.outbound.entries()
    }

    /// Every port of the workload whose policy is subscribed to.
    pub(crate) fn ports(&self) -> Vec<(u16, Lookup<InboundPolicy>)> {
        self.inbound.entries()
    }

    /// The endpoints of a service, where somebody asked for them.
    pub(crate) fn known_endpoints(&self, path: &str) -> Option<Arc<EndpointSet>> {
        let entries = self.endpoints.entries();
        entries.into_iter().find_map(|(known, lookup)| match lookup {
            Lookup::Known(set) if *known == *path => Some(set),
            Lookup::Known(_) | Lookup::Pending | Lookup::Unknown => None,
        })
    }

    /// Every stream to the control plane.
    pub(crate) fn streams(&self) -> Vec<Record> {
        let Shared {
            destination, policy, ..
        } = &*self.shared;
        let mut records = destination.ledger().records();
        records.extend(policy.ledger().records());
        records
    }
}

/// Connects to services before the first request wants to ask them. What is left to be reached.
fn reach(channels: [Channel; 2], runtime: &Handle) -> watch::Sender<BTreeSet<&'static str>> {
    let unreached = watch::Sender::new(channels.iter().map(Channel::service).collect());
    for channel in channels {
        let unreached = unreached.clone();
        runtime.spawn(async move {
            channel.ready().await;
            unreached.send_if_modified(|left: &mut BTreeSet<_>| left.remove(channel.service()));
        });
    }
    unreached
}

impl Discovery for Client {
    fn outbound(&self, dst: OrigDst) -> watch::Receiver<Lookup<OutboundTarget>> {
        self.outbound
            .subscribe(&dst, |publish| Arc::clone(&self.shared).follow_outbound(dst, publish))
    }

    fn endpoints(&self, path: &str) -> watch::Receiver<Lookup<EndpointSet>> {
        let path: Arc<str> = path.into();
        self.endpoints.subscribe(&path, |publish| {
            Arc::clone(&self.shared).follow_endpoints(Arc::clone(&path), publish)
        })
    }

    fn inbound(&self, port: u16) -> watch::Receiver<Lookup<InboundPolicy>> {
        let unanswered = self.unanswered.clone();
        self.inbound.subscribe(&port, |publish| {
            Arc::clone(&self.shared).follow_inbound(port, publish, unanswered)
        })
    }

    fn budgets(&self) -> &Budgets {
        &self.budgets
    }
}

/// What one of several sources said.
#[derive(Clone, Debug, Default)]
enum Heard<M, T> {
    /// Nothing yet.
    #[default]
    Nothing,
    /// That it does not know.
    Unknown,
    /// The message, to see whether another is the same, and what it means.
    Known(M, T),
}

/// What is said of one destination.
#[derive(Debug, Default)]
struct About {
    profile: Heard<DestinationProfile, Profile>,
    policy: Heard<api::OutboundPolicy, ()>,
    extras: Heard<OutboundExtras, ()>,
    /// The first-answer time is over.
    late: bool,
}

impl About {
    /// Whether everybody has spoken who has something to say: without a policy there are no extras.
    fn is_complete(&self) -> bool {
        let extras = !matches!(self.extras, Heard::Nothing) || !matches!(self.policy, Heard::Known(..));
        extras && !matches!(self.profile, Heard::Nothing) && !matches!(self.policy, Heard::Nothing)
    }
}

/// What is said of one of the workload's ports.
#[derive(Default)]
struct OfPort {
    server: Heard<Server, ()>,
    extras: Heard<InboundExtras, ()>,
    /// The first-answer time is over.
    late: bool,
    /// The policy in force.
    before: Option<InboundPolicy>,
}

impl OfPort {
    /// Whether everybody has spoken who has something to say: without a policy there are no extras.
    fn is_complete(&self) -> bool {
        match &self.server {
            Heard::Nothing => self.late,
            Heard::Unknown => true,
            Heard::Known(..) => self.late || !matches!(self.extras, Heard::Nothing),
        }
    }

    /// The policy; `None` where the control plane does not know the port, or has not answered.
    fn policy(&mut self, detect_timeout: Duration) -> Option<InboundPolicy> {
        let server = self.server.message()?.clone();
        let mut policy = sheer_policy::wire::inbound::policy(server, self.extras.message(), detect_timeout);
        if let Some(before) = &self.before {
            policy.take_over_limits(before);
        }
        self.before = Some(policy.clone());
        Some(policy)
    }
}

impl<M: PartialEq, T> Heard<M, T> {
    fn message(&self) -> Option<&M> {
        match self {
            Self::Known(message, _) => Some(message),
            Self::Nothing | Self::Unknown => None,
        }
    }

    fn known(&self) -> Option<&T> {
        match self {
            Self::Known(_, meaning) => Some(meaning),
            Self::Nothing | Self::Unknown => None,
        }
    }

    /// Takes in an event. `false` where it says nothing new.
    fn hear(&mut self, event: Event<M>, convert: impl FnOnce(M) -> T) -> bool
    where
        M: Clone,
    {
        match event {
            Event::First(message) | Event::Next(message) => {
                if matches!(self, Self::Known(before, _) if *before == message) {
                    return false;
                }
                let meaning = convert(message.clone());
                *self = Self::Known(message, meaning);
            }
            Event::Unknown if matches!(self, Self::Unknown) => return false,
            Event::Unknown => *self = Self::Unknown,
        }
        true
    }
}

impl Shared {
    fn streams(&self, channel: &Channel, method: &'static str, target: &str) -> Streams {
        Streams::new(channel.clone(), method, target, self.settings.control_streams)
    }

    fn destination(&self, path: &str) -> GetDestination {
        let context_token = self.settings.destination_context.clone();
        GetDestination {
            scheme: SCHEME.to_owned(),
            path: path.to_owned(),
            context_token,
        }
    }

    /// Profile, policy and extras side by side. All are waited for, but for no longer than `first_answer_in_time`: then whoever spoke
    /// decides, and where nobody did, traffic is forwarded as it is. Later answers still count.
    async fn follow_outbound(self: Arc<Self>, dst: OrigDst, publish: Publisher<OutboundTarget>) {
        let detect_timeout = self.settings.outbound.detect_timeout;
        let about = Mutex::new(About::default());
        let decide = |force: bool| {
            let mut about = about.lock();
            about.late |= force;
            if !about.late && !about.is_complete() {
                return;
            }
            let (profile, policy, extras) = (about.profile.known(), about.policy.message(), about.extras.message());
            let target = outbound::target(dst.0, profile, policy, extras, detect_timeout);
            publish.send_replace(target.map_or(Lookup::Unknown, |target| Lookup::Known(Arc::new(target))));
        };
        let policy_streams = self.streams(&self.policy, "OutboundPolicies.Watch", &dst.to_string());
        let extras_streams = self.streams(&self.policy, "Extras.WatchOutbound", &dst.to_string());
        let (ask_policy_again, ask_extras_again) = (policy_streams.again(), extras_streams.again());
        let profiles = self.follow_profile(dst, |event| {
            let news = about.lock().profile.hear(event, outbound::profile);
            if news {
                // An address that became a service's has a policy now.
                ask_policy_again.notify_waiters();
                decide(false);
            }
        });
        let policies = self.follow_policy(policy_streams, dst, |event| {
            let news = about.lock().policy.hear(event, drop);
            if news {
                ask_extras_again.notify_waiters();
                decide(false);
            }
        });
        let extras = self.follow_extras(extras_streams, dst, |event| {
            let news = about.lock().extras.hear(event, drop);
            if news {
                decide(false);
            }
        });
        let deadline = async {
            self.first_answer_in_time(dst).await;
            if matches!(*publish.borrow(), Lookup::Pending) {
                tracing::info!(%dst, "no answer of the control plane in time: forwarded as it is, until there is one");
                decide(true);
            }
        };
        tokio::join!(profiles, policies, extras, deadline);
    }

    /// How long the first answer about a destination may take: traffic must flow, also where the control plane does not answer. To a
    /// destination of the mesh "as it is" means without mTLS and without policy, so a control plane that is slow to answer, or to be connected
    /// to, gets longer: until it is known to be away.
    async fn first_answer_in_time(&self, dst: OrigDst) {
        let first_answer = self.settings.outbound.first_answer;
        sleep(first_answer).await;
        let of_mesh = self
            .settings
            .cluster_networks
            .iter()
            .any(|net| net.contains(&dst.0.ip()));
        if of_mesh {
            // Either ends the wait: the time is over, or it is known to be away.
            let _ = timeout(first_answer * SLOW_CONTROL_PLANE, self.policy.failing()).await;
        }
    }

    async fn follow_profile(&self, dst: OrigDst, tell: impl FnMut(Event<DestinationProfile>)) {
        let origin = self.destination.origin();
        let request = self.destination(&dst.0.to_string());
        let open = |channel| {
            let (origin, request) = (origin.clone(), request.clone());
            async move {
                DestinationClient::with_origin(channel, origin)
                    .max_decoding_message_size(LARGEST_MESSAGE)
                    .get_profile(request)
                    .await
            }
        };
        self.streams(&self.destination, "Destination.GetProfile", &dst.to_string())
            .follow(open, tell)
            .await;
    }

    async fn follow_policy(&self, streams: Streams, dst: OrigDst, tell: impl FnMut(Event<api::OutboundPolicy>)) {
        let origin = self.policy.origin();
        let request = TrafficSpec {
            source_workload: self.settings.workload.clone(),
            target: Some(traffic_spec::Target::Addr(dst.0.into())),
        };
        let open = |channel| {
            let (origin, request) = (origin.clone(), request.clone());
            async move {
                // Policies are alike in themselves: where the control plane can, it sends a tenth.
                OutboundPoliciesClient::with_origin(channel, origin)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(LARGEST_MESSAGE)
                    .watch(request)
                    .await
            }
        };
        streams.follow(open, tell).await;
    }

    async fn follow_extras(&self, streams: Streams, dst: OrigDst, tell: impl FnMut(Event<OutboundExtras>)) {
        let origin = self.policy.origin();
        let request = ExtrasRequest {
            source_workload: self.settings.workload.clone(),
            address: dst.0.to_string(),
        };
        let open = |channel| {
            let (origin, request) = (origin.clone(), request.clone());
            async move {
                ExtrasClient::with_origin(channel, origin)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(LARGEST_MESSAGE)
                    .watch_outbound(request)
                    .await
            }
        };
        streams.follow(open, tell).await;
    }

    async fn follow_endpoints(self: Arc<Self>, path: Arc<str>, publish: Publisher<EndpointSet>) {
        let origin = self.destination.origin();
        let request = self.destination(&path);
        let open = |channel| {
            let (origin, request) = (origin.clone(), request.clone());
            async move {
                DestinationClient::with_origin(channel, origin)
                    .max_decoding_message_size(LARGEST_MESSAGE)
                    .get(request)
                    .await
            }
        };
        let mut fold = Fold::default();
        let tell = |event| {
            let changed = match event {
                Event::First(update) => fold.restart(update),
                Event::Next(update) => fold.apply(update),
                Event::Unknown => {
                    fold = Fold::default();
                    true
                }
            };
            if changed || matches!(*publish.borrow(), Lookup::Pending) {
                publish.send_replace(Lookup::Known(Arc::new(fold.set())));
            }
        };
        self.streams(&self.destination, "Destination.Get", &path)
            .follow(open, tell)
            .await;
    }

    /// The control plane's policy; the default where it does not know the port, or does not answer within the first-answer time.
    async fn follow_inbound(
        self: Arc<Self>,
        port: u16,
        publish: Publisher<InboundPolicy>,
        unanswered: watch::Sender<BTreeSet<u16>>,
    ) {
        let settings = &self.settings.inbound;
        let default = || Lookup::Known(Arc::new(inbound::default_policy(settings, port)));
        let origin = self.policy.origin();
        let request = PortSpec {
            workload: self.settings.workload.clone(),
            port: port.into(),
        };
        let open = |channel| {
            let (origin, request) = (origin.clone(), request.clone());
            async move {
                InboundServerPoliciesClient::with_origin(channel, origin)
                    .max_decoding_message_size(LARGEST_MESSAGE)
                    .watch_port(request)
                    .await
            }
        };
        let said = Mutex::new(OfPort::default());
        let publish_now = |force: bool| {
            let mut said = said.lock();
            said.late |= force;
            if said.is_complete() {
                let policy = said.policy(settings.detect_timeout);
                publish.send_replace(policy.map_or_else(default, |policy| Lookup::Known(Arc::new(policy))));
            }
        };
        let extras_streams = self.streams(&self.policy, "Extras.WatchInbound", &port.to_string());
        let ask_extras_again = extras_streams.again();
        let tell = |event| {
            // "Not found" is no answer: the control plane may not have heard of this workload yet, and whom its policy lets in is
            // not known.
            if !matches!(event, Event::Unknown) {
                unanswered.send_if_modified(|ports| ports.remove(&port));
            }
            let news = said.lock().server.hear(event, drop);
            if news {
                ask_extras_again.notify_waiters();
                publish_now(false);
            }
        };
        let tell_extras = |event| {
            let news = said.lock().extras.hear(event, drop);
            if news {
                publish_now(false);
            }
        };
        let extras = self.follow_inbound_extras(extras_streams, port, tell_extras);
        let streams = self.streams(&self.policy, "InboundServerPolicies.WatchPort", &port.to_string());
        let deadline = async {
            sleep(self.settings.outbound.first_answer).await;
            if matches!(*publish.borrow(), Lookup::Pending) {
                tracing::debug!(port, "no answer about this port in time");
                publish_now(true);
            }
        };
        tokio::join!(streams.follow(open, tell), extras, deadline);
    }

    async fn follow_inbound_extras(&self, streams: Streams, port: u16, tell: impl FnMut(Event<InboundExtras>)) {
        let origin = self.policy.origin();
        let request = InboundExtrasRequest {
            workload: self.settings.workload.clone(),
            port: port.into(),
        };
        let open = |channel| {
            let (origin, request) = (origin.clone(), request.clone());
            async move {
                ExtrasClient::with_origin(channel, origin)
                    .max_decoding_message_size(LARGEST_MESSAGE)
                    .watch_inbound(request)
                    .await
            }
        };
        streams.follow(open, tell).await;
    }
}

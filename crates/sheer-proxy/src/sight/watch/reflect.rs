//! Asks the application for its protobuf descriptors (gRPC server reflection), past the proxy's own listeners: what bodies are read by.

use std::{collections::HashMap, io, net::SocketAddr, time::Duration};

use futures::stream;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use sheer_api::v1;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, Streaming, transport::Channel, transport::Endpoint};
use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, ServerReflectionResponse, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    v1alpha,
};

use super::{super::service::Sight, Right, allowed};
use crate::sys;

/// For all of it: an application that does not answer costs the reader this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Files of one application.
const FILES: usize = 512;
/// Bytes of them.
const BYTES: usize = 4 * 1024 * 1024;
/// Number of the files in a `FileDescriptorSet`.
const FILE: u32 = 1;

/// The descriptors of an application that offers them.
pub(in crate::sight) async fn reflect(sight: &Sight, asked: v1::ReflectRequest) -> Result<v1::ReflectResponse, Status> {
    let rights = allowed(asked.rights, Right::Tap)?;
    if !rights.bodies {
        return Err(Status::permission_denied("the caller has not the right `bodies`"));
    }
    let address: SocketAddr = asked
        .address
        .parse()
        .map_err(|_| Status::invalid_argument(format!("{:?} is no address", asked.address)))?;
    let files = timeout(PATIENCE, fetch(sight, address))
        .await
        .map_err(|_| Status::deadline_exceeded(format!("{address} does not answer to reflection")))??;
    let mut descriptors = Vec::new();
    for file in files {
        prost::encoding::bytes::encode(FILE, &file, &mut descriptors);
    }
    Ok(v1::ReflectResponse { descriptors })
}

/// Encoded files.
async fn fetch(sight: &Sight, address: SocketAddr) -> Result<Vec<Vec<u8>>, Status> {
    let mark = sight.settings().mark;
    let connect = move |_| async move { io::Result::Ok(TokioIo::new(sys::connect(address, mark).await?)) };
    let channel = Endpoint::from_static("http://application")
        .connect_with_connector(tower::service_fn(connect))
        .await
        .map_err(|error| Status::unavailable(format!("{address}: {error}")))?;
    let of_today = async { files(Talk::v1(channel.clone()).await?).await };
    match of_today.await {
        Err(status) if status.code() == Code::Unimplemented => files(Talk::v1alpha(channel).await?).await,
        other => other,
    }
}

/// One conversation: the versions of the protocol differ in nothing but their names.
struct Talk {
    ask: mpsc::Sender<MessageRequest>,
    answers: Answers,
}

enum Answers {
    V1(Streaming<ServerReflectionResponse>),
    V1Alpha(Streaming<v1alpha::ServerReflectionResponse>),
}

/// What is asked, as a stream.
fn questions<T: Send + 'static>(
    make: impl Fn(MessageRequest) -> T + Send + Sync + 'static,
) -> (
    mpsc::Sender<MessageRequest>,
    impl futures::Stream<Item = T> + Send + 'static,
) {
    let (ask, asked) = mpsc::channel::<MessageRequest>(1);
    let stream = stream::unfold((asked, make), async |(mut asked, make)| {
        let question = make(asked.recv().await?);
        Some((question, (asked, make)))
    });
    (ask, stream)
}

impl Talk {
    /// The first question has to be there before the server answers the call.
    async fn v1(channel: Channel) -> Result<Self, Status> {
        let (ask, asked) = questions(|question| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        });
        first(&ask);
        let answers = ServerReflectionClient::new(channel)
            .server_reflection_info(asked)
            .await?;
        Ok(Self {
            ask,
            answers: Answers::V1(answers.into_inner()),
        })
    }

    async fn v1alpha(channel: Channel) -> Result<Self, Status> {
        use v1alpha::server_reflection_request::MessageRequest as Old;
        let (ask, asked) = questions(|question| v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(match question {
                MessageRequest::FileByFilename(name) => Old::FileByFilename(name),
                MessageRequest::FileContainingSymbol(name) => Old::FileContainingSymbol(name),
                _ => Old::ListServices(String::new()),
            }),
        });
        first(&ask);
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
        let answers = client.server_reflection_info(asked).await?;
        Ok(Self {
            ask,
            answers: Answers::V1Alpha(answers.into_inner()),
        })
    }

    async fn answer(&mut self) -> Result<Answer, Status> {
        let ended = || Status::unavailable("the application ended the conversation");
        match &mut self.answers {
            Answers::V1(answers) => match answers.message().await?.ok_or_else(ended)?.message_response {
                Some(MessageResponse::FileDescriptorResponse(files)) => Ok(Answer::Files(files.file_descriptor_proto)),
                Some(MessageResponse::ListServicesResponse(services)) => Ok(Answer::Services(
                    services.service.into_iter().map(|service| service.name).collect(),
                )),
                _ => Ok(Answer::Nothing),
            },
            Answers::V1Alpha(answers) => {
                use v1alpha::server_reflection_response::MessageResponse as Old;
                match answers.message().await?.ok_or_else(ended)?.message_response {
                    Some(Old::FileDescriptorResponse(files)) => Ok(Answer::Files(files.file_descriptor_proto)),
                    Some(Old::ListServicesResponse(services)) => Ok(Answer::Services(
                        services.service.into_iter().map(|service| service.name).collect(),
                    )),
                    _ => Ok(Answer::Nothing),
                }
            }
        }
    }

    async fn ask(&mut self, question: MessageRequest) -> Result<Answer, Status> {
        let gone = |_| Status::unavailable("the application ended the conversation");
        self.ask.send(question).await.map_err(gone)?;
        self.answer().await
    }
}

fn first(ask: &mpsc::Sender<MessageRequest>) {
    // There is room for one.
    let _ = ask.try_send(MessageRequest::ListServices(String::new()));
}

enum Answer {
    Services(Vec<String>),
    Files(Vec<Vec<u8>>),
    Nothing,
}

/// All files of all services, each with what it imports.
async fn files(mut talk: Talk) -> Result<Vec<Vec<u8>>, Status> {
    let Answer::Services(services) = talk.answer().await? else {
        return Ok(Vec::new());
    };
    let mut found = Found::default();
    for service in services.into_iter().take(FILES) {
        if let Answer::Files(files) = talk.ask(MessageRequest::FileContainingSymbol(service)).await? {
            found.add(files);
        }
    }
    while let Some(name) = found.missing() {
        if let Answer::Files(files) = talk.ask(MessageRequest::FileByFilename(name.clone())).await? {
            found.add(files);
        }
        found.tried.push(name);
    }
    Ok(found.files.into_values().map(|file| file.bytes).collect())
}

/// A file as the application has it: what is read of it drops options that are not known here.
struct File {
    bytes: Vec<u8>,
    imports: Vec<String>,
}

#[derive(Default)]
struct Found {
    files: HashMap<String, File>,
    bytes: usize,
    tried: Vec<String>,
}

impl Found {
    fn add(&mut self, files: Vec<Vec<u8>>) {
        for bytes in files {
            self.bytes += bytes.len();
            if self.bytes > BYTES || self.files.len() >= FILES {
                return;
            }
            if let Ok(file) = FileDescriptorProto::decode(&*bytes) {
                let (name, imports) = (file.name().to_owned(), file.dependency);
                self.files.insert(name, File { bytes, imports });
            }
        }
    }

    /// An import that is not there yet.
    fn missing(&self) -> Option<String> {
        let imports = self.files.values().flat_map(|file| &file.imports);
        let is_new = |name: &&String| !self.files.contains_key(*name) && !self.tried.contains(name);
        let mut new = imports.filter(is_new);
        new.next().filter(|_| self.tried.len() < FILES).cloned()
    }
}

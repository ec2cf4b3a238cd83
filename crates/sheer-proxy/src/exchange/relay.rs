//! Runs one exchange: opens the stream, carries both directions at once, and settles how it ended.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use http::Response;

use super::{
    Context, Failed, Upstream,
    body::{Body, BodyIn},
    gone::Gone,
    outcome::{End, Observation, Way},
    pump::{Stop, pump},
    request::{Head, Request},
    respond::Responder,
    sink::BodyOut,
};
use crate::{
    error::{Part, ProxyError},
    headers,
};

/// Carries a request to `upstream` and its response back. Told to `observation` in full when it returns `Ok`, whatever became of
/// the request; an `Err` means that the client has seen nothing of a response yet and the caller decides.
pub async fn exchange(
    request: Request,
    upstream: Upstream,
    mut responder: Responder,
    cx: &Context,
    observation: &Observation,
) -> Result<(), Box<Failed>> {
    let Request { head, mut body } = request;
    let kept = cx.replay.then(|| head.clone());
    if cx.replay {
        body.keep();
    }
    let ended = match open(head, body.is_empty(), upstream, cx) {
        Ok((mut response, mut out)) => {
            let upload = upload(&mut body, &mut out, cx, observation);
            let download = download(&mut response, &mut responder, cx, observation);
            let ended = both(upload, download, cx).await;
            if let Err(Break::Client(gone)) = &ended {
                out.reset(gone.code());
            }
            ended
        }
        Err(error) => Err(Break::Proxy(error)),
    };
    let error = match ended {
        Ok(()) => {
            observation.end(End::Complete);
            return Ok(());
        }
        Err(Break::Client(gone)) => {
            observation.end(End::ClientReset(gone.code()));
            return Ok(());
        }
        Err(Break::Server(gone)) => gone.server_error(cx.addr),
        Err(Break::Proxy(error)) => error,
    };
    if responder.has_begun() {
        responder.fail_in_place(&error, observation).await;
        return Ok(());
    }
    let request = kept
        .filter(|_| error.retryable() && body.rewind())
        .map(|head| Request { head, body });
    Err(Box::new(Failed {
        request,
        responder,
        error,
    }))
}

/// Why an exchange did not come to its end.
enum Break {
    /// The client left.
    Client(Gone),
    /// The server left.
    Server(Gone),
    /// The proxy ends it.
    Proxy(ProxyError),
}

/// Where the response comes from.
enum ResponseIn {
    H2(h2::client::ResponseFuture),
}

/// What comes of a response.
enum Event {
    /// An interim response (1xx).
    Interim(Response<()>),
    /// The head, and where its body comes from.
    Final(Response<()>, BodyIn),
}

/// Sends the head. `end` if no body follows.
fn open(head: Head, end: bool, upstream: Upstream, cx: &Context) -> Result<(ResponseIn, BodyOut), ProxyError> {
    match upstream {
        Upstream::H2 { mut send, mesh } => {
            let request = headers::h2_request(head, mesh)?;
            let (response, stream) = send
                .send_request(request, end)
                .map_err(|error| Gone::of(error).server_error(cx.addr))?;
            Ok((ResponseIn::H2(response), BodyOut::H2(stream)))
        }
    }
}

/// Carries the request's body.
async fn upload(body: &mut Body, out: &mut BodyOut, cx: &Context, observation: &Observation) -> Result<(), Stop> {
    if body.is_empty() {
        return Ok(());
    }
    pump(Way::Request, body, out, cx.header_limit, observation).await?;
    // What is kept for another attempt goes as soon as there will be none. No waker: the download shares this task and is polled
    // first, so whoever made it see the head polls this as well.
    poll_fn(|_| {
        if observation.has_response() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    body.forget();
    Ok(())
}

/// Carries the response.
async fn download(
    response: &mut ResponseIn,
    responder: &mut Responder,
    cx: &Context,
    observation: &Observation,
) -> Result<(), Break> {
    let (head, body) = match cx.response_timeout {
        None => final_head(response, responder, cx).await?,
        Some(after) => match tokio::time::timeout(after, final_head(response, responder, cx)).await {
            Ok(head) => head?,
            Err(_) => {
                return Err(Break::Proxy(ProxyError::Timeout {
                    what: "response headers",
                    after,
                }));
            }
        },
    };
    observation.response_head(head.status(), head.headers());
    let end = matches!(body, BodyIn::Empty);
    let out = responder.head(head, end).await.map_err(Break::Client)?;
    if end {
        return Ok(());
    }
    let mut body = Body::once(body);
    pump(Way::Response, &mut body, out, cx.header_limit, observation)
        .await
        .map_err(|stop| match stop {
            Stop::Source(gone) => Break::Server(gone),
            Stop::Sink(gone) => Break::Client(gone),
            Stop::Trailers(size) => Break::Proxy(cx.too_large(Part::ResponseTrailers, size)),
        })
}

/// Relays interim responses until the final head.
async fn final_head(
    response: &mut ResponseIn,
    responder: &mut Responder,
    cx: &Context,
) -> Result<(Response<()>, BodyIn), Break> {
    loop {
        let event = tokio::select! {
            biased; // what the server said is worth more than that the client left meanwhile
            event = response.next() => event.map_err(Break::Server)?,
            gone = poll_fn(|task| responder.poll_gone(task)) => return Err(Break::Client(gone)),
        };
        let (Event::Interim(head) | Event::Final(head, _)) = &event;
        let size = headers::list_size(head.headers());
        if size > cx.header_limit {
            return Err(Break::Proxy(cx.too_large(Part::ResponseHeaders, size)));
        }
        match event {
            Event::Interim(head) => responder.interim(head).await.map_err(Break::Client)?,
            Event::Final(head, body) => return Ok((head, body)),
        }
    }
}

/// Polls both directions until each is done, or one broke.
async fn both(
    upload: impl Future<Output = Result<(), Stop>>,
    download: impl Future<Output = Result<(), Break>>,
    cx: &Context,
) -> Result<(), Break> {
    let (mut upload, mut download) = (pin!(upload), pin!(download));
    let (mut sent, mut received) = (false, false);
    poll_fn(|task| {
        if !received && let Poll::Ready(result) = download.as_mut().poll(task) {
            result?;
            received = true;
        }
        if !sent && let Poll::Ready(result) = upload.as_mut().poll(task) {
            match result {
                // A server may answer without reading all of the request (RFC 9113 8.1). If it left for another reason, the
                // download says so.
                Ok(()) | Err(Stop::Sink(_)) => sent = true,
                Err(Stop::Source(gone)) => return Poll::Ready(Err(Break::Client(gone))),
                Err(Stop::Trailers(size)) => {
                    return Poll::Ready(Err(Break::Proxy(cx.too_large(Part::RequestTrailers, size))));
                }
            }
        }
        if sent && received {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

impl ResponseIn {
    /// What comes next. Cancel-safe.
    async fn next(&mut self) -> Result<Event, Gone> {
        match self {
            Self::H2(response) => {
                poll_fn(|task| {
                    match response.poll_informational(task) {
                        Poll::Ready(Some(Ok(interim))) => return Poll::Ready(Ok(Event::Interim(interim))),
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Gone::of(error))),
                        Poll::Ready(None) | Poll::Pending => {}
                    }
                    Pin::new(&mut *response).poll(task).map(|result| {
                        let (head, body) = result.map_err(Gone::of)?.into_parts();
                        Ok(Event::Final(Response::from_parts(head, ()), BodyIn::h2(body)))
                    })
                })
                .await
            }
        }
    }
}

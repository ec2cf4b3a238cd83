//! Runs one exchange: opens the stream, carries both directions at once, and settles how it ended.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use http::StatusCode;

use super::{
    Context, Failed, Upstream,
    body::{Body, BodyIn},
    clock::Clock,
    gone::Gone,
    outcome::{End, Observation, Way},
    pump::{Stop, pump},
    referee::sends_again,
    reply::Reply,
    request::{Head, Request},
    respond::Responder,
    sink::BodyOut,
    tunnel,
    upstream::{Event, Opened, ResponseIn},
};
use crate::{
    error::{ListSize, Part, ProxyError},
    headers,
    http1::ParseError,
    worker::boxed,
};

/// Carries a request to `upstream` and its response back. Told to `observation` in full when it returns `Ok`, whatever became of
/// the request; an `Err` means that the client has seen nothing of a response yet and the caller decides.
pub fn exchange<'a>(
    request: Request,
    upstream: Upstream,
    responder: Responder,
    cx: &'a Context,
    observation: &'a Observation,
) -> impl Future<Output = Result<(), Box<Failed>>> + use<'a> {
    // The head is sent here and not in the future, which would otherwise keep room for it as long as it lives.
    let Request { head, mut body } = request;
    let kept = cx.replay.then(|| head.clone());
    if cx.replay {
        body.keep(cx.referee.as_ref());
    }
    let opened = upstream.open(*head, body.is_empty(), cx.addr);
    if let Ok(opened) = &opened {
        observation.sent(cx.attempt, opened.stream());
    }
    run(Exchange { kept, body, responder }, opened, cx, observation)
}

/// A request whose head is on its way.
struct Exchange {
    /// The head, for another attempt.
    kept: Option<Box<Head>>,
    body: Body,
    responder: Responder,
}

#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments beside the variables that they are moved to"
)]
fn run<'a>(
    mut exchange: Exchange,
    mut opened: Result<Opened, ProxyError>,
    cx: &'a Context,
    observation: &'a Observation,
) -> impl Future<Output = Result<(), Box<Failed>>> + use<'a> {
    async move {
        let carried = match &mut opened {
            Ok(opened) => {
                observation.went_to(opened.out.leg());
                carry(&mut exchange, opened, cx, observation).await
            }
            Err(_) => Ok(Carried::default()),
        };
        match exchange.settle(carried, opened, cx, observation) {
            Next::Over(ended) => ended,
            Next::Rest(rest) => {
                rest.await;
                Ok(())
            }
        }
    }
}

/// What follows once both directions were carried, or one broke.
enum Next<'a> {
    Over(Result<(), Box<Failed>>),
    /// Boxed: few requests have any, and all would carry its size.
    Rest(Pin<Box<dyn Future<Output = ()> + 'a>>),
}

impl Exchange {
    fn settle<'a>(
        mut self,
        carried: Result<Carried, Break>,
        opened: Result<Opened, ProxyError>,
        cx: &'a Context,
        observation: &'a Observation,
    ) -> Next<'a> {
        let (repeatable, sidecar) = match &opened {
            Ok(opened) => (opened.repeatable, opened.to_sidecar()),
            Err(_) => (false, false),
        };
        let error = match carried.and_then(|carried| Ok((carried, opened.map_err(Break::Proxy)?))) {
            Ok((
                Carried {
                    switched: Some(server), ..
                },
                opened,
            )) => {
                let tunnel = tunnel::run((self.body, self.responder), (server, opened.out), observation);
                return Next::Rest(Box::pin(async move {
                    tunnel.await;
                    observation.end(End::Complete);
                }));
            }
            Ok((Carried { uploaded, .. }, opened)) => {
                observation.upstream_over();
                if uploaded {
                    opened.settle();
                }
                observation.end(End::Complete);
                return Next::Over(Ok(()));
            }
            Err(Break::Client(Gone::Malformed(why))) => {
                self.responder.last(); // nobody knows where its next request starts
                cx.bad_request(why)
            }
            Err(Break::Client(gone)) => {
                observation.client_left(gone.code());
                return Next::Over(Ok(()));
            }
            Err(Break::Answered(why)) => {
                observation.error(&cx.bad_request(why));
                return Next::Over(Ok(()));
            }
            Err(Break::Server(gone)) => {
                let part = if self.responder.has_begun() {
                    Part::ResponseTrailers
                } else {
                    Part::ResponseHeaders
                };
                cx.server_left(gone, part).with_sidecar(sidecar)
            }
            Err(Break::Proxy(error)) => error,
            Err(Break::Again(status)) => {
                let (addr, status) = (cx.addr, status.as_str().to_owned());
                return Next::Over(Err(self.failed(ProxyError::TriedAgain { addr, status }, true)));
            }
        };
        if self.responder.has_begun() {
            return Next::Rest(Box::pin(async move {
                self.responder.fail_in_place(&error, observation).await;
            }));
        }
        Next::Over(Err(self.failed(error, repeatable)))
    }

    /// Gives back what may be tried again.
    fn failed(self, error: ProxyError, repeatable: bool) -> Box<Failed> {
        let Self {
            kept,
            mut body,
            responder,
        } = self;
        let again = error.retryable()
            || matches!(error, ProxyError::TriedAgain { .. })
            || (repeatable && matches!(error, ProxyError::UpstreamClosed { .. }));
        let whole = kept.filter(|_| body.rewind()).map(|head| Request { head, body });
        let (request, unsure) = if again { (whole, None) } else { (None, whole) };
        Box::new(Failed {
            request,
            unsure,
            responder,
            error,
        })
    }
}

/// Why an exchange did not come to its end.
enum Break {
    /// The client left, or what it sends is malformed.
    Client(Gone),
    /// What the client still sends is malformed, and it has the whole response already.
    Answered(ParseError),
    /// The server left.
    Server(Gone),
    /// The proxy ends it.
    Proxy(ProxyError),
    /// An answer of this status is not passed on; the request goes out again.
    Again(StatusCode),
}

/// Carries both directions. Gives the server's side where the two now want a tunnel.
async fn carry(
    exchange: &mut Exchange,
    opened: &mut Opened,
    cx: &Context,
    observation: &Observation,
) -> Result<Carried, Break> {
    let uploaded = Cell::new(false);
    let from_sidecar = opened.to_sidecar();
    let Opened { response, out, .. } = opened;
    let ended = {
        let upload = pin!(upload(&mut exchange.body, out, cx, observation, &uploaded));
        let download = pin!(download(
            (response, from_sidecar),
            &mut exchange.responder,
            cx,
            observation
        ));
        both(upload, &uploaded, download, (cx, observation)).await
    };
    match &ended {
        Err(Break::Client(gone)) => out.reset(gone.code()),
        Err(Break::Answered(why)) => out.reset(Gone::Malformed(*why).code()),
        Err(Break::Server(_) | Break::Proxy(_) | Break::Again(_)) | Ok(_) => {}
    }
    Ok(Carried {
        switched: ended?,
        uploaded: uploaded.get(),
    })
}

/// Both directions came to their end.
#[derive(Default)]
struct Carried {
    /// The reading half of the server, where both sides have left HTTP.
    switched: Option<BodyIn>,
    /// The server took all of the request.
    uploaded: bool,
}

/// Carries the request's body; then watches for the end of a client that cannot say so on the way back.
async fn upload(
    body: &mut Body,
    out: &mut BodyOut,
    cx: &Context,
    observation: &Observation,
    uploaded: &Cell<bool>,
) -> Result<(), Stop> {
    if body.is_empty() {
        out.no_body().await.map_err(Stop::Sink)?;
    } else {
        boxed(|| pump(Way::Request, body, out, cx.header_limit, observation)).await?;
    }
    uploaded.set(true);
    observation.sent_whole();
    // What is kept for another attempt goes as soon as there will be none. No waker: the download shares this task and is polled
    // first, so whoever made it see the head polls this as well.
    let has_response = poll_fn(|_| {
        if observation.has_response() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    tokio::select! {
        biased; // a response makes the rest of the connection unimportant
        () = has_response => {}
        gone = body.sender_gone() => return Err(Stop::Source(gone)),
    }
    body.forget();
    Err(Stop::Source(body.sender_gone().await))
}

/// Carries the response.
async fn download(
    (response, from_sidecar): (&mut ResponseIn, bool),
    responder: &mut Responder,
    cx: &Context,
    observation: &Observation,
) -> Result<Option<BodyIn>, Break> {
    let (mut reply, body) = final_head(response, responder, cx).await?;
    let unserved = headers::take_unserved(&mut reply.headers, cx.direction, from_sidecar);
    if let Some(cause) = unserved {
        return Err(Break::Proxy(ProxyError::Connect { addr: cx.addr, cause }));
    }
    observation.attempt(cx.attempt, |attempt| attempt.answered(reply.status, &reply.headers));
    let mut body = Body::once(body);
    if let Some(referee) = &cx.referee {
        if sends_again(&**referee, &reply, &mut body, (observation, cx.attempt, cx.addr))
            .await
            .map_err(Break::Server)?
        {
            return Err(Break::Again(reply.status));
        }
        referee.amend(&mut reply.headers);
    }
    observation.response_head(reply.status, &reply.headers);
    let switching = responder.switches_with(&reply);
    let end = body.is_empty() && !reply.is_chunked();
    let out = responder.head(reply, end).map_err(Break::Client)?;
    if switching {
        out.no_body().await.map_err(Break::Client)?;
        return Ok(Some(body.into_source()));
    }
    if end {
        out.no_body().await.map_err(Break::Client)?;
        return Ok(None);
    }
    let carried = boxed(|| pump(Way::Response, &mut body, out, cx.header_limit, observation)).await;
    carried.map(|()| None).map_err(|stop| match stop {
        Stop::Source(gone) => Break::Server(gone),
        Stop::Sink(gone) => Break::Client(gone),
        Stop::Trailers(size) => Break::Proxy(cx.too_large(Part::ResponseTrailers, ListSize::Bytes(size))),
    })
}

/// Relays interim responses until the final head.
async fn final_head(
    response: &mut ResponseIn,
    responder: &mut Responder,
    cx: &Context,
) -> Result<(Reply, BodyIn), Break> {
    loop {
        let event = tokio::select! {
            biased; // what the server said is worth more than that the client left meanwhile
            event = response.next() => event.map_err(Break::Server)?,
            gone = poll_fn(|task| responder.poll_gone(task)) => return Err(Break::Client(gone)),
        };
        let (Event::Interim(reply) | Event::Final(reply, _)) = &event;
        let size = headers::list_size(&reply.headers);
        if size > cx.header_limit {
            return Err(Break::Proxy(cx.too_large(Part::ResponseHeaders, ListSize::Bytes(size))));
        }
        match event {
            // Boxed: few responses have any, and all would carry its size.
            Event::Interim(reply) => Box::pin(responder.interim(reply)).await.map_err(Break::Client)?,
            Event::Final(reply, body) => return Ok((reply, body)),
        }
    }
}

/// Polls both directions until each is done, or one broke.
async fn both(
    mut upload: Pin<&mut impl Future<Output = Result<(), Stop>>>,
    uploaded: &Cell<bool>,
    mut download: Pin<&mut impl Future<Output = Result<Option<BodyIn>, Break>>>,
    (cx, observation): (&Context, &Observation),
) -> Result<Option<BodyIn>, Break> {
    let mut clock = Clock::of(&cx.limits);
    let mut stopped = false;
    let mut received = None;
    poll_fn(|task| {
        if received.is_none()
            && let Poll::Ready(result) = download.as_mut().poll(task)
        {
            received = Some(result?);
        }
        let sent = stopped || (uploaded.get() && received.is_some());
        if !sent && let Poll::Ready(result) = upload.as_mut().poll(task) {
            match result {
                // A server may answer without reading all of the request (RFC 9113 8.1). If it left for another reason, the
                // download says so.
                Ok(()) | Err(Stop::Sink(_)) => stopped = true,
                Err(Stop::Source(Gone::Malformed(why))) if received.is_some() => {
                    return Poll::Ready(Err(Break::Answered(why)));
                }
                Err(Stop::Source(gone)) => return Poll::Ready(Err(Break::Client(gone))),
                Err(Stop::Trailers(size)) => {
                    let error = cx.too_large(Part::RequestTrailers, ListSize::Bytes(size));
                    return Poll::Ready(Err(Break::Proxy(error)));
                }
            }
        }
        match received.take() {
            Some(switched) if stopped || uploaded.get() => Poll::Ready(Ok(switched)),
            pending => {
                received = pending;
                let Some(clock) = &mut clock else { return Poll::Pending };
                clock
                    .poll(task, uploaded.get(), observation)
                    .map(|error| Err(Break::Proxy(error)))
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, F: Future>(_: impl FnOnce(A, B, C, &'static Context, &'static Observation) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of these are alive at once, and moving one costs what its size says: it must not creep up.
    #[test]
    fn an_exchange_stays_small() {
        let sizes = [size_of::<Request>(), size_of::<Responder>(), size(exchange)];
        assert!(sizes[0] <= 256 && sizes[1] <= 128 && sizes[2] <= 2 * 1024, "{sizes:?}");
    }
}

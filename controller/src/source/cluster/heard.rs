//! A client that notices what a watch hears and passes on to nobody: bookmarks, and its own end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use kube::{Client, client::Body};

use crate::pulse::Pulse;

/// How the API server begins an event that says that the watch has failed.
const FAILURE: &[u8] = br#"{"type":"ERROR""#;

/// The same client, for one watch.
///
/// The API server ends a watch that nothing happens to with a bookmark, 2 s before its time is up, or
/// at least in good order when it is. So a watch with a time of 60 s is never older than that, unless
/// nothing comes through. That a watch was begun proves nothing: it may fail with its first event.
pub(super) fn client(client: &Client, pulse: &Arc<Pulse>) -> Client {
    let (inner, pulse) = (client.clone(), Arc::clone(pulse));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (inner, pulse) = (inner.clone(), Arc::clone(&pulse));
        async move {
            let is_watch = is_watch(&request);
            let response = inner.send(request).await?;
            let pulse = (is_watch && response.status().is_success()).then_some(pulse);
            Ok::<_, kube::Error>(response.map(|body| Heard { body, pulse }))
        }
    });
    Client::new(service, client.default_namespace())
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| pair == "watch=true")
}

/// The body of an answer.
struct Heard {
    body: Body,
    /// That of the watch, as long as nothing in its answer was a failure.
    pulse: Option<Arc<Pulse>>,
}

impl http_body::Body for Heard {
    type Data = Bytes;
    type Error = kube::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, kube::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        let said = match &frame {
            Some(Ok(frame)) => Said::of(frame.data_ref()),
            Some(Err(_)) => Said::Failure,
            // An end in good order.
            None => Said::Something,
        };
        match said {
            Said::Nothing => {}
            Said::Something => this.pulse.iter().for_each(|pulse| pulse.beat()),
            Said::Failure => this.pulse = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// What a piece of an answer means for its watch.
enum Said {
    Nothing,
    Something,
    Failure,
}

impl Said {
    fn of(data: Option<&Bytes>) -> Self {
        match data {
            Some(data) if data.starts_with(FAILURE) => Self::Failure,
            Some(data) if !data.is_empty() => Self::Something,
            Some(_) | None => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;

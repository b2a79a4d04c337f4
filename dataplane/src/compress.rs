//! A body that is compressed on its way to a client.
//!
//! What has arrived is never held back while there is nothing more: as soon as the source pauses,
//! everything is flushed. A source that breaks off ends this body with its error and without the
//! end of the compressed stream, so that nobody takes it for a whole one.

use std::{
    cell::Cell,
    io::Write,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::{body::BodyError, offer::OF_THE_BYTES};

/// Between speed and size: 9 has hardly fewer bytes, and 1 half as many again.
const LEVEL: u32 = 4;

/// How many bytes are compressed before other tasks of the data thread have their turn: about half a
/// millisecond.
const TURN: usize = 32 * 1024;

/// Most bodies that a data thread compresses at once. Each takes 400 KiB as long as it lasts, which
/// the client decides about; those beyond go out as they are. 25 MiB then.
const MOST: usize = 64;

/// From so many compressed bytes on they are handed on without a pause of the source.
const FRAME: usize = 8 * 1024;

/// The places for bodies that are compressed at once.
#[derive(Default)]
pub(crate) struct Places(Rc<Cell<usize>>);

impl Places {
    /// None if all are taken.
    pub(crate) fn take(&self) -> Option<Place> {
        let taken = self.0.get();
        (taken < MOST).then(|| {
            self.0.set(taken + 1);
            Place(Rc::clone(&self.0))
        })
    }
}

/// One of the places, given back when it is dropped.
pub(crate) struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The body of `source`, compressed.
pub(crate) struct Compressed<B> {
    source: B,
    /// None once the stream has ended.
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// What has come and is not compressed yet.
    rest: Bytes,
    /// How many bytes are left of this turn.
    turn: usize,
    /// Whether the encoder may hold something back.
    held: bool,
    /// Whether the source has been asked again since it paused.
    asked_again: bool,
    trailers: Option<HeaderMap>,
    _place: Place,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Compressed<B> {
    pub(crate) fn new(source: B, place: Place) -> Self {
        Self {
            source,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::new(LEVEL))),
            rest: Bytes::new(),
            turn: TURN,
            held: false,
            asked_again: false,
            trailers: None,
            _place: place,
        }
    }

    pub(crate) fn source(&self) -> &B {
        &self.source
    }

    /// Compresses a piece of what has come; a frame if enough has come together.
    fn compress(&mut self) -> Result<Option<Frame<Bytes>>, BodyError> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        let piece = self.rest.split_to(self.rest.len().min(self.turn));
        self.turn -= piece.len();
        self.held = true;
        encoder.write_all(&piece)?;
        let is_enough = encoder.get_ref().len() >= FRAME;
        Ok(is_enough.then(|| Frame::data(std::mem::take(encoder.get_mut()).into())))
    }

    /// The source pauses. It is asked once more, after other tasks have had their turn, since more
    /// is often there already and each flush costs size; then what is held is handed on.
    fn pause(&mut self, context: &Context<'_>) -> Polled {
        self.turn = TURN;
        if !self.held {
            return Poll::Pending;
        }
        if !self.asked_again {
            self.asked_again = true;
            return self.take_turns(context);
        }
        self.held = false;
        let Some(encoder) = &mut self.encoder else { return Poll::Ready(None) };
        if let Err(error) = encoder.flush() {
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(encoder.get_mut()).into()))))
    }

    /// Lets other tasks of the data thread go first.
    fn take_turns(&mut self, context: &Context<'_>) -> Polled {
        self.turn = TURN;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The source has ended: so does the compressed stream.
    fn finish(&mut self) -> Polled {
        let last = self.encoder.take().map(GzEncoder::finish);
        match last {
            Some(Ok(last)) => Poll::Ready(Some(Ok(Frame::data(last.into())))),
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for Compressed<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        if this.encoder.is_none() {
            return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        loop {
            if this.turn == 0 {
                return this.take_turns(context);
            }
            if !this.rest.is_empty() {
                if let Some(frame) = this.compress()? {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if this.rest.is_empty() && this.source.is_end_stream() {
                    return this.finish();
                }
                continue;
            }
            match Pin::new(&mut this.source).poll_frame(context) {
                Poll::Pending => return this.pause(context),
                Poll::Ready(None) => return this.finish(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => {
                    this.asked_again = false;
                    // A frame without a byte takes time, too.
                    this.turn -= 1;
                    match frame.into_data() {
                        Ok(data) => this.rest = data,
                        Err(frame) => {
                            this.trailers = frame.into_trailers().ok().map(of_compressed);
                            return this.finish();
                        }
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}

/// Trailers without what they say of bytes that the client does not get.
fn of_compressed(mut trailers: HeaderMap) -> HeaderMap {
    for name in &OF_THE_BYTES {
        trailers.remove(name);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    /// A source that never pauses, and how much of it is left.
    struct Eager(usize);

    impl Body for Eager {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
            let length = self.0.min(300_000);
            self.0 -= length;
            Poll::Ready((length > 0).then(|| Ok(Frame::data(vec![b'a'; length].into()))))
        }
    }

    #[test]
    fn a_source_that_never_pauses_leaves_turns_to_others_and_needs_no_more_memory() {
        const LENGTH: usize = 3_000_000;
        let mut body = Compressed::new(Eager(LENGTH), Places::default().take().unwrap());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let (mut turns, mut left, mut packed) = (0, LENGTH, Vec::new());
        loop {
            let polled = Pin::new(&mut body).poll_frame(&mut context);
            let still = body.source.0 + body.rest.len();
            assert!(left - still <= TURN, "{left} {still}");
            left = still;
            match polled {
                Poll::Pending => turns += 1,
                Poll::Ready(Some(frame)) => packed.extend(frame.unwrap().into_data().unwrap()),
                Poll::Ready(None) => break,
            }
        }
        assert!(turns >= LENGTH / TURN, "{turns}");
        let mut text = String::new();
        GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
        assert!(text.len() == LENGTH && text.bytes().all(|byte| byte == b'a'));
    }
}

//! A request body that is produced while it is sent.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};

use super::{Request, Response, Transport, authority, failure, shown};
use crate::{Error, Result};

const BLOCKS_AHEAD: usize = 4;

/// Blocks from a channel, of a length that is known beforehand.
struct Streamed {
    blocks: mpsc::Receiver<Bytes>,
    left: u64,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.blocks.poll_recv(context);
        if let Poll::Ready(Some(block)) = &polled {
            self.left = self.left.saturating_sub(u64::try_from(block.len()).unwrap_or(u64::MAX));
        }
        polled.map(|block| block.map(|block| Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Transport {
    /// Sends a request whose body of `length` bytes comes from `produce`, block by block. The answer may come
    /// before everything was sent, when the registry has seen enough.
    pub(crate) fn upload(
        &self,
        request: &Request,
        length: u64,
        produce: &mut dyn FnMut() -> Result<Option<Bytes>>,
    ) -> Result<Response> {
        let engine = self.engine()?;
        let host = authority(&request.url);
        let proxy = self.proxies.for_url(&request.url);
        let is_proxied = proxy.is_some();
        let client = self.client(request, proxy)?;
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        let built = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(reqwest::Body::wrap(Streamed { blocks, left: length }))
            .build()
            .map_err(|error| failure::classify(error, &host, &request.doing))?;
        log::debug!("{} {} ({length} bytes)", request.method, shown(&request.url));
        let (answered, answer) = oneshot::channel();
        engine.spawn(async move {
            let _ = answered.send(client.execute(built).await);
        });
        let stall = self.timeouts.stall;
        let stalled = || Error::Stalled { doing: request.doing.clone(), after: stall };
        let mut left = length;
        while left > 0 {
            let Some(block) = produce()? else {
                let what = request.doing.clone();
                return Err(Error::SizeMismatch { what, expected: length, found: length - left });
            };
            let size = u64::try_from(block.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(size).ok_or_else(|| Error::SizeMismatch {
                what: request.doing.clone(),
                expected: length,
                found: length.saturating_add(size),
            })?;
            let sent = engine.wait(async { tokio::time::timeout(stall, sender.send(block)).await });
            // The other end is gone: there is an answer, or the connection broke.
            if sent.map_err(|_| stalled())?.is_err() {
                break;
            }
        }
        drop(sender);
        let patience = request.patience.unwrap_or(stall);
        let answer = engine.wait(async { tokio::time::timeout(patience, answer).await });
        let answer = answer
            .map_err(|_| stalled())?
            .map_err(|_| stalled())?
            .map_err(|error| failure::classify(error, &host, &request.doing))?;
        Ok(self.response(answer, engine, is_proxied, &request.doing))
    }
}

//! A body as it arrives: a task reads ahead into a bounded channel, a blocking reader empties it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{authority, engine::Engine, failure};
use crate::{Error, Result};

/// Blocks are as large as the socket had ready, up to some 400 KiB, so this bounds a body to about 1.6 MiB.
const BLOCKS_AHEAD: usize = 4;

/// The receiving end of a body.
pub(crate) struct BodyReader {
    blocks: mpsc::Receiver<Result<Bytes>>,
    /// Serves the sockets for as long as somebody reads.
    _engine: Arc<Engine>,
}

impl BodyReader {
    /// The next bytes; `None` at the end.
    pub(crate) fn next_block(&mut self) -> Result<Option<Bytes>> {
        self.blocks.blocking_recv().transpose()
    }
}

pub(super) fn start(
    mut response: reqwest::Response,
    engine: &Arc<Engine>,
    stall: Duration,
    doing: String,
) -> BodyReader {
    let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
    engine.spawn(async move {
        loop {
            let block = match tokio::time::timeout(stall, response.chunk()).await {
                Ok(Ok(Some(block))) => Ok(block),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => Err(failure::classify(error, &authority(response.url()), &doing)),
                Err(_) => Err(Error::Stalled { doing: doing.clone(), after: stall }),
            };
            let is_last = block.is_err();
            // A reader that went away wants no more: dropping the response closes the connection.
            if sender.send(block).await.is_err() || is_last {
                break;
            }
        }
    });
    BodyReader { blocks, _engine: engine.clone() }
}

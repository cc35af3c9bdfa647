//! The conversation between a container's first process and its parent.
//!
//! ```text
//!   child                                 parent
//!                      <-------------     Go: the child is recorded, its id maps are written
//!   Terminal (+ fd)    ------------->     keeps or passes on the master       (only with a terminal)
//!   RunHooks           ------------->     runs prestart and createRuntime     (only with such hooks)
//!                      <-------------     HooksDone
//!   Listener (+ fd)    ------------->     passes it on                        (only with NOTIFY rules)
//!   Ready              ------------->     create returns; the child waits at the gate
//!   Executing          ------------->     (only without a gate)
//!   end of stream: exec closed the socket, or the child died
//!   Failed(..)         ------------->     at any time; ends the conversation
//! ```

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, Result, error::OrFail};

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// Comes with the master of the container's terminal.
    Terminal,
    RunHooks,
    /// Comes with a seccomp notification descriptor.
    Listener,
    Ready,
    Executing,
    /// From a bootstrap: the process exists. Comes with its pidfd.
    Started(i32),
    Failed(Error),
}

/// What the parent answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromParent {
    /// Which signals the child has inherited as ignored: the parent has the time to find out.
    Go {
        ignored_signals: u64,
    },
    HooksDone,
}

/// Messages are small by design: everything else is inherited.
const MAX_MESSAGE: usize = 16 << 10;

/// One end of a conversation: it can only send `Out` and only receive `In`.
#[derive(Debug)]
pub(crate) struct Channel<Out, In> {
    socket: OwnedFd,
    direction: PhantomData<(Out, In)>,
}

/// The child's end.
pub(crate) type ChildEnd = Channel<FromChild, FromParent>;
/// The parent's end.
pub(crate) type ParentEnd = Channel<FromParent, FromChild>;

/// Makes both ends. SEQPACKET keeps message boundaries and, unlike DGRAM, reports a closed peer.
pub(crate) fn pair() -> Result<(ParentEnd, ChildEnd)> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .or_fail(|| "socketpair")?;
    Ok((Channel::new(ours), Channel::new(theirs)))
}

impl<Out: Serialize, In: DeserializeOwned> Channel<Out, In> {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, direction: PhantomData }
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    pub(crate) fn send(&self, message: &Out) -> Result<()> {
        self.send_with(message, &[])
    }

    pub(crate) fn send_with(&self, message: &Out, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let packet = serde_json::to_vec(message).map_err(io::Error::from);
        packet
            .and_then(|packet| {
                if packet.len() > MAX_MESSAGE {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                sys::send_with_fds(self.socket.as_fd(), &packet, fds)
            })
            .or_fail(|| "send to the other process")
    }

    /// Waits for the next message; `None` once every process at the other end is gone.
    pub(crate) fn receive(&self) -> Result<Option<(In, Vec<OwnedFd>)>> {
        let mut packet = vec![0; MAX_MESSAGE];
        loop {
            match sys::receive_with_fds(self.socket.as_fd(), &mut packet) {
                Ok((0, _)) => return Ok(None),
                Ok((length, fds)) => {
                    let message = serde_json::from_slice(packet.get(..length).unwrap_or_default())
                        .map_err(io::Error::from)
                        .or_fail(|| "understand the other process")?;
                    return Ok(Some((message, fds)));
                }
                // The peer died with messages of ours unread. The kernel says so once, before it hands
                // out what the peer had sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::call("receive from the other process", error)),
            }
        }
    }
}

impl ParentEnd {
    /// Says something to a child that may have ended: if so, what it said last tells why, and comes with
    /// the next `receive`.
    pub(crate) fn tell(&self, message: &FromParent) -> Result<()> {
        match self.send(message) {
            Err(Error::Call { source: nix::errno::Errno::EPIPE, .. }) => Ok(()),
            other => other,
        }
    }
}

impl ChildEnd {
    /// Waits for the one answer due. A parent that is gone wants nothing done any more (D-56).
    pub(crate) fn answer(&self) -> Result<FromParent> {
        match self.receive()? {
            Some((message, _)) => Ok(message),
            None => Err(Error::Unsafe("the parent is gone".into())),
        }
    }
}

/// An answer out of turn ends the creation.
pub(crate) fn unexpected() -> Error {
    Error::Unsafe("the other process said something unexpected".into())
}

impl<Out, In> AsFd for Channel<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn a_dead_peer_is_the_end_of_the_conversation() {
        let (parent, child) = pair().unwrap();
        child.send(&FromChild::Ready).unwrap();
        // Never read: what the child has said arrives all the same.
        parent.send(&FromParent::HooksDone).unwrap();
        drop(child);
        assert!(matches!(parent.receive().unwrap(), Some((FromChild::Ready, _))));
        assert!(parent.receive().unwrap().is_none());
    }

    #[test]
    fn descriptors_travel_along() {
        let (parent, child) = pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        child.send_with(&FromChild::Terminal, &[file.as_fd()]).unwrap();
        let (_, fds) = parent.receive().unwrap().unwrap();
        assert_eq!(fds.len(), 1);
    }
}

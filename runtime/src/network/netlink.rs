//! rtnetlink(7), as far as a container's interfaces need it.
//!
//! Written out here because the alternative, netlink-packet-route, brings some 40,000 lines for the six
//! messages below, and bringing loopback up is on every container's start path.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

use crate::{Error, Result, error::OrFail};

// linux/netlink.h and linux/rtnetlink.h
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const EXCLUSIVE_CREATE: u16 = 0x200 | 0x400;
pub(super) const NEW_LINK: u16 = 16;
pub(super) const GET_LINK: u16 = 18;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const GET_ADDRESS: u16 = 22;
pub(super) const NEW_ROUTE: u16 = 24;
const HEADER: usize = 16;
/// Set on attributes that hold attributes.
const NESTED: u16 = 0x8000;

/// A message being written.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A request with the fixed part its kind has.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST | ACK).to_ne_bytes());
        // Sequence number and sender: there is one request at a time, and the kernel fills in ours.
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Self(bytes)
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let start = self.begin(kind);
        self.0.extend(value);
        self.end(start);
        self
    }

    /// Adds a number.
    pub(super) fn with_number(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_ne_bytes())
    }

    /// Adds a name.
    pub(super) fn with_text(self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.with(kind, &value)
    }

    /// Adds an attribute made of a fixed part and attributes.
    pub(super) fn with_nested(
        mut self,
        kind: u16,
        fixed: &[u8],
        fill: impl FnOnce(Self) -> Self,
    ) -> Self {
        let start = self.begin(kind | NESTED);
        self.0.extend(fixed);
        let mut filled = fill(self);
        filled.end(start);
        filled
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        start
    }

    /// Writes the length, and fills up to a multiple of four, which the length does not count.
    fn end(&mut self, start: usize) {
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        if let Some(place) = self.0.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(..4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.0
    }
}

/// A conversation with the kernel about one network namespace: the one it was opened in.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is number 0.
            None,
        )
        .or_fail(|| "open a netlink socket")
        .map(Self)
    }

    /// Sends a request and waits until the kernel has done it; returns what it answered, each without
    /// its header.
    pub(super) fn ask(&self, message: Message) -> Result<Vec<Vec<u8>>, Errno> {
        let message = message.finish();
        send(self.0.as_fd(), &message, SendFlags::empty())?;
        let mut answers = Vec::new();
        // More than the kernel puts into one datagram, NLMSG_GOODSIZE.
        let mut buffer = vec![0; 32 << 10];
        loop {
            let (_, length) = recv(self.0.as_fd(), buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, body, after)) = split(rest) {
                match kind {
                    ERROR => return result(body).map(|()| answers),
                    DONE => return Ok(answers),
                    _ => answers.push(body.to_vec()),
                }
                rest = after;
            }
        }
    }

    /// The same when only success matters.
    pub(super) fn order(&self, what: impl Fn() -> String, message: Message) -> Result<()> {
        self.ask(message).map(drop).map_err(|errno| Error::call(what(), errno))
    }
}

/// Takes the first message off a datagram: its kind, its body, what follows.
fn split(datagram: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(number(datagram, 0)?).ok()?;
    let kind = datagram.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
    let body = datagram.get(HEADER..length)?;
    Some((kind, body, datagram.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// An error message carries a negative errno; zero acknowledges.
fn result(body: &[u8]) -> Result<(), Errno> {
    match number(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(errno.saturating_neg())),
        None => Err(Errno::PROTO),
    }
}

/// A 32-bit number in a message.
pub(super) fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The attributes of an answer, after its fixed part.
pub(super) fn attributes(answer: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = answer.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(rest.get(..2)?.try_into().ok().map(u16::from_ne_bytes)?);
        let kind = rest.get(2..4)?.try_into().ok().map(u16::from_ne_bytes)?;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

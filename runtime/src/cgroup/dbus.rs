//! A D-Bus connection as far as talking to systemd needs it: blocking, one call at a time.
//!
//! Written out here because zbus brings an async runtime and its many crates for three calls,
//! and this runs on a container's start path. The format is the D-Bus specification's, "Message
//! Protocol"; what is not understood ends the connection.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use rustix::io::Errno;

use crate::{Error, Result, error::OrFail, user_namespace::outer_uid};

/// systemd answers within milliseconds, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The specification's limit.
const MAX_MESSAGE: usize = 128 << 20;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Marshals values; alignment counts from the beginning of the body.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
    signature: String,
}

/// One value of a variant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}

impl Body {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.signature.push('s');
        self.put_text(text);
        self
    }

    pub(super) fn flag(mut self, flag: bool) -> Self {
        self.signature.push('b');
        self.put_u32(flag.into());
        self
    }

    /// `a(sv)`
    pub(super) fn properties(mut self, properties: &[(&str, Value)]) -> Self {
        self.signature.push_str("a(sv)");
        let start = self.begin_array(8);
        for (name, value) in properties {
            self.align(8);
            self.put_text(name);
            self.put_variant(value);
        }
        self.end_array(start);
        self
    }

    /// `a(sa(sv))`, empty.
    pub(super) fn no_units(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        let start = self.begin_array(8);
        self.end_array(start);
        self
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn put_u32(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    fn put_u64(&mut self, number: u64) {
        self.align(8);
        self.bytes.extend(number.to_le_bytes());
    }

    fn put_text(&mut self, text: &str) {
        self.put_u32(length(text.len()));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn put_signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    fn put_variant(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.put_signature("s");
                self.put_text(text);
            }
            Value::Flag(flag) => {
                self.put_signature("b");
                self.put_u32((*flag).into());
            }
            Value::Number(number) => {
                self.put_signature("t");
                self.put_u64(*number);
            }
            Value::Numbers(numbers) => {
                self.put_signature("au");
                let start = self.begin_array(4);
                numbers.iter().for_each(|&number| self.put_u32(number));
                self.end_array(start);
            }
            Value::Bytes(bytes) => {
                self.put_signature("ay");
                let start = self.begin_array(1);
                self.bytes.extend(bytes);
                self.end_array(start);
            }
        }
    }

    /// Leaves room for the length; returns where that is and where the first element begins.
    fn begin_array(&mut self, alignment: usize) -> (usize, usize) {
        self.put_u32(0);
        let place = self.bytes.len() - 4;
        self.align(alignment);
        (place, self.bytes.len())
    }

    fn end_array(&mut self, (place, first): (usize, usize)) {
        let count = length(self.bytes.len() - first);
        if let Some(place) = self.bytes.get_mut(place..place + 4) {
            place.copy_from_slice(&count.to_le_bytes());
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Whom a call is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
}

/// A message that arrived.
#[derive(Debug, Default)]
pub(super) struct Message {
    kind: u8,
    member: String,
    error: String,
    reply_to: u32,
    body: Vec<u8>,
}

impl Message {
    /// Unmarshals the body.
    pub(super) fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

/// What a call came to.
#[derive(Debug)]
pub(super) enum Failure {
    /// The other side said no: the error's name and its text.
    Refused(String, String),
    /// The connection is no use any more.
    Broken(Error),
}

impl Failure {
    /// As an error of ours.
    pub(super) fn into_error(self, what: &str) -> Error {
        match self {
            Self::Refused(name, text) => Error::Unsupported(format!("{what}: {text} ({name})")),
            Self::Broken(error) => error,
        }
    }
}

/// A connection, authenticated.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
    /// Signals that arrived while a reply was waited for.
    signals: Vec<Message>,
}

impl Connection {
    /// Connects to a peer's socket or a bus; a bus wants to be greeted, see `systemd`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let what = || format!("connect to {}", path.display());
        let stream = UnixStream::connect(path).or_fail(what)?;
        stream.set_read_timeout(Some(PATIENCE)).or_fail(what)?;
        let mut connection = Self { stream, serial: 0, signals: Vec::new() };
        connection.authenticate().or_fail(what)?;
        Ok(connection)
    }

    /// EXTERNAL: the other side sees who we are by the socket, SO_PEERCRED.
    fn authenticate(&mut self) -> std::io::Result<()> {
        // By the number the other side knows: within a user namespace ours is another.
        let uid = outer_uid().to_string();
        let uid: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        // All of it at once, as libsystemd does: a server that finds a call right behind BEGIN, in one read,
        // leaves that lying until more comes (systemd 257).
        self.stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.extend(byte);
            if line.len() > 1024 {
                return Err(Errno::PROTO.into());
            }
        }
        if !line.starts_with(b"OK ") {
            return Err(Errno::ACCESS.into());
        }
        Ok(())
    }

    /// Calls a method and waits for its answer.
    pub(super) fn call(
        &mut self,
        object: Object,
        member: &str,
        body: &Body,
    ) -> Result<Message, Failure> {
        self.serial += 1;
        let serial = self.serial;
        let message = marshal(object, member, body, serial);
        let what = || format!("call {member} of {}", object.destination);
        self.stream.write_all(&message).or_fail(what).map_err(Failure::Broken)?;
        loop {
            let message = self.receive().or_fail(what).map_err(Failure::Broken)?;
            match message.kind {
                RETURN if message.reply_to == serial => return Ok(message),
                ERROR if message.reply_to == serial => {
                    let text = message.body().text().unwrap_or_default().to_owned();
                    return Err(Failure::Refused(message.error, text));
                }
                SIGNAL => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// Waits for a signal.
    pub(super) fn signal(
        &mut self,
        member: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<Message> {
        loop {
            let next = match self.signals.pop() {
                Some(signal) => signal,
                None => self.receive().or_fail(|| format!("wait for the signal {member}"))?,
            };
            if next.kind == SIGNAL && next.member == member && wanted(&next) {
                return Ok(next);
            }
        }
    }

    fn receive(&mut self) -> std::io::Result<Message> {
        let mut fixed = [0; 16];
        self.stream.read_exact(&mut fixed)?;
        let mut reader = Reader { bytes: &fixed, at: 0 };
        let little_endian = reader.take(1) == Some(b"l");
        let kind = reader.take(1).and_then(|byte| byte.first().copied());
        reader.at = 4;
        let (body, _, fields) = (reader.u32(), reader.u32(), reader.u32());
        // systemd is on this machine, so it has our byte order.
        let (true, Some(kind), Some(body), Some(fields)) = (little_endian, kind, body, fields)
        else {
            return Err(Errno::PROTO.into());
        };
        let size = |number: u32| usize::try_from(number).map_err(|_| Errno::MSGSIZE);
        let (body, fields) = (size(body)?, size(fields)?);
        let padded = fields.next_multiple_of(8);
        if body > MAX_MESSAGE || padded > MAX_MESSAGE {
            return Err(Errno::MSGSIZE.into());
        }
        let mut rest = vec![0; padded + body];
        self.stream.read_exact(&mut rest)?;
        let body = rest.split_off(padded);
        rest.truncate(fields);
        let mut message = Message { kind, body, ..Message::default() };
        message.read_fields(&rest).ok_or(Errno::PROTO)?;
        Ok(message)
    }
}

impl Message {
    /// The header's `a(yv)`; which of them there are depends on the kind.
    fn read_fields(&mut self, bytes: &[u8]) -> Option<()> {
        let mut reader = Reader { bytes, at: 0 };
        while reader.at < bytes.len() {
            reader.align(8);
            let code = *reader.take(1)?.first()?;
            match (code, reader.signature()?) {
                (3, "s") => self.member = reader.text()?.to_owned(),
                (4, "s") => self.error = reader.text()?.to_owned(),
                (_, "s" | "o") => drop(reader.text()?),
                (5, "u") => self.reply_to = reader.u32()?,
                (_, "u") => drop(reader.u32()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        Some(())
    }
}

fn marshal(object: Object, member: &str, body: &Body, serial: u32) -> Vec<u8> {
    let mut fields = Body::default();
    let mut field = |code: u8, kind: &str, text: &str| {
        fields.align(8);
        fields.bytes.push(code);
        fields.put_signature(kind);
        if kind == "g" { fields.put_signature(text) } else { fields.put_text(text) }
    };
    field(1, "o", object.path);
    field(2, "s", object.interface);
    field(3, "s", member);
    field(6, "s", object.destination);
    if !body.signature.is_empty() {
        field(8, "g", &body.signature);
    }
    let mut message = vec![b'l', CALL, 0, 1];
    message.extend(length(body.bytes.len()).to_le_bytes());
    message.extend(serial.to_le_bytes());
    // The fields begin at 16, a multiple of eight, so their own alignment holds.
    message.extend(length(fields.bytes.len()).to_le_bytes());
    message.extend(fields.bytes);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(&body.bytes);
    message
}

/// Unmarshals values; `None` for what is not there.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A string or an object path.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.take(1)?;
        Some(text)
    }

    pub(super) fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(*self.take(1)?.first()?);
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn values_are_aligned_as_the_specification_says() {
        let body = Body::default().text("a").properties(&[
            ("N", Value::Number(7)),
            ("F", Value::Flag(true)),
            ("P", Value::Numbers(vec![1, 2])),
        ]);
        assert_eq!(body.signature, "sa(sv)");
        let mut reader = Reader { bytes: &body.bytes, at: 0 };
        assert_eq!(reader.text(), Some("a"));
        let length = reader.u32().unwrap();
        reader.align(8);
        let start = reader.at;
        assert_eq!((reader.text(), reader.signature()), (Some("N"), Some("t")));
        reader.align(8);
        assert_eq!(reader.take(8).unwrap(), 7_u64.to_le_bytes());
        reader.align(8);
        assert_eq!((reader.text(), reader.signature()), (Some("F"), Some("b")));
        assert_eq!(reader.u32(), Some(1));
        reader.align(8);
        assert_eq!((reader.text(), reader.signature()), (Some("P"), Some("au")));
        assert_eq!((reader.u32(), reader.u32(), reader.u32()), (Some(8), Some(1), Some(2)));
        assert_eq!(reader.at - start, usize::try_from(length).unwrap());
        assert_eq!(reader.at, body.bytes.len());
    }

    #[test]
    fn a_message_survives_the_wire() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let object = Object { destination: "d.d", path: "/p", interface: "i.i" };
        let body = Body::default().text("hello");
        theirs.write_all(&marshal(object, "Method", &body, 3)).unwrap();
        let mut connection = Connection { stream: ours, serial: 0, signals: Vec::new() };
        let message = connection.receive().unwrap();
        assert_eq!((message.kind, message.member.as_str()), (CALL, "Method"));
        assert_eq!(message.body().text(), Some("hello"));
    }

    #[test]
    fn damaged_messages_are_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection { stream: ours, serial: 0, signals: Vec::new() };
        theirs
            .write_all(&[b'l', SIGNAL, 0, 1, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0])
            .unwrap();
        assert!(connection.receive().is_err());
        let fields = Message::default().read_fields(&[3, 1, b's', 0, 255, 255, 0, 0]);
        assert_eq!(fields, None);
    }
}

//! A bad line: a proxy that passes bytes between a client and a server, and spoils some of them.
//!
//! It knows nothing of HTTP, so it spoils heads and bodies alike, as real lines do.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to one connection, after so many bytes in that direction.
#[derive(Clone, Copy, Debug)]
pub struct Spoilt {
    /// In which direction.
    pub way: Way,
    /// After how many bytes.
    pub after: u64,
    /// What happens.
    pub by: Fault,
}

/// How a connection is spoilt.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Both ends are told that it broke.
    Reset,
    /// Both ends are told that it ended in order.
    End,
    /// Nothing more passes for a while.
    Stall(Duration),
    /// Nothing more ever passes.
    Silence,
    /// From here on it passes in small pieces, so far apart.
    Trickle(usize, Duration),
    /// So many bytes come a second time.
    Repeat(usize),
    /// One byte is another one.
    Flip,
}

/// The proxy; it ends with this value.
pub struct Line {
    address: SocketAddr,
    plan: Arc<Mutex<VecDeque<Spoilt>>>,
    passed: Arc<[AtomicU64; 2]>,
    stop: Arc<AtomicBool>,
}

impl Line {
    /// A line to a server. Connections are spoilt one after the other as planned; after that none is.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let plan = Arc::new(Mutex::new(VecDeque::<Spoilt>::new()));
        let (stop, passed) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicU64; 2]>::default());
        let (planned, stopped, counted) = (plan.clone(), stop.clone(), passed.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let spoilt = planned.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Ok(server) = TcpStream::connect(server) {
                    // A connection that cannot be served is only one more that breaks.
                    let _ = connect(&client, &server, spoilt, &counted);
                }
            }
        });
        Self { address, plan, passed, stop }
    }

    /// `127.0.0.1:port`, where clients connect.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Spoils the next connections, one each.
    pub fn spoil(&self, spoilt: impl IntoIterator<Item = Spoilt>) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).extend(spoilt);
    }

    /// Forgets what was planned.
    pub fn mend(&self) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many bytes went this way so far.
    pub fn passed(&self, way: Way) -> u64 {
        self.passed[way as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(
    client: &TcpStream,
    server: &TcpStream,
    spoilt: Option<Spoilt>,
    passed: &Arc<[AtomicU64; 2]>,
) -> io::Result<()> {
    for (way, from, to) in [(Way::Up, client, server), (Way::Down, server, client)] {
        let (from, to, passed) = (from.try_clone()?, to.try_clone()?, passed.clone());
        let spoilt = spoilt.filter(|it| it.way == way);
        thread::spawn(move || {
            let pass = Pass { from, to, spoilt, passed, way };
            // Either end may go away at any time.
            let _ = pass.all();
        });
    }
    Ok(())
}

/// One direction of one connection.
struct Pass {
    from: TcpStream,
    to: TcpStream,
    spoilt: Option<Spoilt>,
    passed: Arc<[AtomicU64; 2]>,
    way: Way,
}

impl Pass {
    fn all(mut self) -> io::Result<()> {
        let mut done = 0;
        let mut block = vec![0; 64 << 10];
        loop {
            let room = match self.spoilt {
                Some(spoilt) => block.len().min((spoilt.after - done) as usize),
                None => block.len(),
            };
            if room == 0 {
                let Some(spoilt) = self.spoilt.take() else { continue };
                if !self.spoil(spoilt.by)? {
                    return Ok(());
                }
                continue;
            }
            let count = self.from.read(&mut block[..room])?;
            if count == 0 {
                return self.to.shutdown(Shutdown::Write);
            }
            self.send(&block[..count])?;
            done += count as u64;
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.passed[self.way as usize].fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.to.write_all(bytes)
    }

    /// False when the connection is over.
    fn spoil(&mut self, fault: Fault) -> io::Result<bool> {
        match fault {
            Fault::Reset => {
                for end in [&self.from, &self.to] {
                    // Closed without lingering, a connection is reset.
                    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                    setsockopt(end, sockopt::Linger, &linger)?;
                }
                // The other direction holds clones, and must let go of them first.
                self.from.shutdown(Shutdown::Both)?;
                self.to.shutdown(Shutdown::Both)?;
                Ok(false)
            }
            Fault::End => {
                self.to.shutdown(Shutdown::Both)?;
                self.from.shutdown(Shutdown::Both)?;
                Ok(false)
            }
            Fault::Stall(time) => {
                thread::sleep(time);
                Ok(true)
            }
            Fault::Silence => {
                let mut block = [0; 4096];
                while self.from.read(&mut block)? > 0 {}
                Ok(false)
            }
            Fault::Trickle(size, pause) => {
                let mut block = vec![0; size];
                loop {
                    let count = self.from.read(&mut block)?;
                    if count == 0 {
                        self.to.shutdown(Shutdown::Write)?;
                        return Ok(false);
                    }
                    self.send(&block[..count])?;
                    thread::sleep(pause);
                }
            }
            Fault::Repeat(size) => {
                let mut block = vec![0; size];
                let count = self.from.read(&mut block)?;
                self.send(&block[..count])?;
                self.send(&block[..count])?;
                Ok(true)
            }
            Fault::Flip => {
                let mut byte = [0];
                self.from.read_exact(&mut byte)?;
                self.send(&[byte[0] ^ 1])?;
                Ok(true)
            }
        }
    }
}

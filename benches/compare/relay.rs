//! A slow link where the kernel has no netem: a relay on loopback that holds back what passes. The
//! port of the registry comes in, a port of its own goes out. Its own CPU time is the bench's, not
//! the measured program's. Unlike netem it knows nothing of packets: no slow start, no loss.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Time from one end to the other, half of 40 ms.
const ONE_WAY: Duration = Duration::from_millis(20);

/// 100 Mbit/s.
const BYTES_PER_SECOND: f64 = 100e6 / 8.0;

/// Bytes passed on at once: 1.3 ms of the link.
const PIECE: usize = 16 << 10;

/// Pieces under way in one direction of a connection, 1 MiB: more than bandwidth times delay.
const WINDOW: usize = 64;

/// The relay. It runs until the program ends.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    slow: Arc<AtomicBool>,
}

/// Until when the link is taken, shared by all connections of one direction.
type Link = Arc<Mutex<Instant>>;

/// Bytes, and when they arrive at the other end.
type Piece = (Instant, Vec<u8>);

impl Relay {
    /// Listens on loopback and passes everything on to `target`, at full speed at first.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let relay = Self {
            address: listener.local_addr()?,
            slow: Arc::default(),
        };
        let slow = Arc::clone(&relay.slow);
        thread::spawn(move || {
            let [up, down] = [(); 2].map(|()| Link::new(Mutex::new(Instant::now())));
            for client in listener.incoming().flatten() {
                let links = [Arc::clone(&up), Arc::clone(&down)];
                let slow = Arc::clone(&slow);
                thread::spawn(move || connect(client, target, links, &slow));
            }
        });
        Ok(relay)
    }

    /// From now on it is the slow link, or not.
    pub fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }
}

/// Both directions of one connection, until both have ended. Whoever fails closes it.
fn connect(client: TcpStream, target: SocketAddr, links: [Link; 2], slow: &Arc<AtomicBool>) {
    if slow.load(Ordering::Relaxed) {
        // The handshake: there and back.
        thread::sleep(2 * ONE_WAY);
    }
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    let clones = (client.try_clone(), server.try_clone());
    let (Ok(client_out), Ok(server_out)) = clones else {
        return;
    };
    let [up, down] = links;
    pass(client, server_out, up, slow);
    pass(server, client_out, down, slow);
}

/// One direction: a thread that reads, and one that writes when the time has come.
fn pass(mut from: TcpStream, mut to: TcpStream, link: Link, slow: &Arc<AtomicBool>) {
    let slow = Arc::clone(slow);
    let _ = to.set_nodelay(true);
    let (sender, receiver): (SyncSender<Piece>, Receiver<Piece>) = sync_channel(WINDOW);
    thread::spawn(move || {
        let mut buffer = [0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let arrives = match slow.load(Ordering::Relaxed) {
                true => arrival(&link, count),
                false => Instant::now(),
            };
            if sender.send((arrives, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Read);
    });
    thread::spawn(move || {
        for (arrives, bytes) in receiver {
            thread::sleep(arrives.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// When `count` bytes have got through: behind all that is on the link, and one way later.
fn arrival(link: &Link, count: usize) -> Instant {
    let mut taken_until = match link.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    };
    let start = (*taken_until).max(Instant::now());
    *taken_until = start + Duration::from_secs_f64(count as f64 / BYTES_PER_SECOND);
    *taken_until + ONE_WAY
}

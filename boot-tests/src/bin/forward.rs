//! Joins standard input and output to a port of this host's loopback: the port number in, bytes both
//! ways. QEMU starts one for each connection that the guest makes to its registry.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let port: u16 = port.ok_or_else(|| io::Error::other("usage: forward PORT"))?;
    let host = TcpStream::connect(("127.0.0.1", port))?;
    let (from_guest, to_host) = (duplicate(io::stdin())?, host.try_clone()?);
    thread::spawn(move || {
        let done = copy(from_guest, &to_host);
        to_host.shutdown(Shutdown::Write).and(done)
    });
    copy(host, duplicate(io::stdout())?)
}

/// The stream without the standard library's buffer.
fn duplicate(stream: impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// Copies until the end, and passes each piece on at once.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length])?,
        }
    }
}

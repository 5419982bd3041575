//! gzip by several threads. Blocks of a stream come in, a pool compresses each by itself, and one gzip member
//! goes out (RFC 1952). Where blocks begin depends on nothing but the stream, so that the result is the same
//! whatever the number of threads.
//!
//! libdeflate is twice as fast as zlib at the same size, but ends what it writes; `deflate_blocks` lets it
//! go on. Several members would be simpler, but ostree-ext reads no more than the first.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use flate2::Crc;
use libdeflater::{CompressionLvl, Compressor};

use super::deflate_blocks::continued;

/// Bytes of a stream that are compressed at once. Larger ones would hardly compress better.
const BLOCK: usize = 1 << 20;
/// Magic, deflate, no flags, no time, no hint about the level, an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Threads that compress blocks; they end with the last handle.
#[derive(Debug, Clone)]
pub struct GzipPool {
    jobs: SyncSender<Job>,
    /// Blocks of one stream that may be on their way.
    ahead: usize,
}

#[derive(Debug)]
struct Job {
    data: Vec<u8>,
    last: bool,
    done: SyncSender<io::Result<Vec<u8>>>,
}

impl GzipPool {
    /// Starts `threads` threads, which compress at a level from 1 to 12.
    pub fn new(level: i32, threads: NonZeroUsize) -> Result<Self> {
        let level = CompressionLvl::new(level).ok();
        let level = level.context("there is no such level of gzip")?;
        let (jobs, receiver) = sync_channel::<Job>(threads.get());
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads.get() {
            let receiver = receiver.clone();
            let worker = thread::Builder::new().name(format!("gzip-{number}"));
            let worker = worker.spawn(move || work(&receiver, level));
            worker.context("Starting a thread")?;
        }
        let ahead = threads.get() + 1;
        Ok(Self { jobs, ahead })
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, level: CompressionLvl) {
    let mut compressor = Compressor::new(level);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever asked may have given up.
        let _ = job.done.send(deflate(&mut compressor, &job));
    }
}

/// Compresses a block so that another one can follow.
fn deflate(compressor: &mut Compressor, job: &Job) -> io::Result<Vec<u8>> {
    let mut out = vec![0; compressor.deflate_compress_bound(job.data.len())];
    let length = compressor.deflate_compress(&job.data, &mut out);
    out.truncate(length.map_err(io::Error::other)?);
    match job.last {
        true => Ok(out),
        false => continued(out),
    }
}

/// A gzip stream.
#[derive(Debug)]
pub struct ParallelGzip<W> {
    out: W,
    pool: GzipPool,
    block: Vec<u8>,
    waiting: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    crc: Crc,
}

impl<W: Write> ParallelGzip<W> {
    /// Starts a stream.
    pub fn new(pool: &GzipPool, mut out: W) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        Ok(Self {
            out,
            pool: pool.clone(),
            block: Vec::with_capacity(BLOCK),
            waiting: VecDeque::new(),
            crc: Crc::new(),
        })
    }

    /// Ends the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.send(true)?;
        while !self.waiting.is_empty() {
            self.take()?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        let data = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.crc.update(&data);
        let (done, receiver) = sync_channel(1);
        let job = Job { data, last, done };
        let sent = self.pool.jobs.send(job);
        sent.map_err(|_| io::Error::other("the threads that compress have ended"))?;
        self.waiting.push_back(receiver);
        if self.waiting.len() > self.pool.ahead {
            self.take()?;
        }
        Ok(())
    }

    /// Writes the next block in line.
    fn take(&mut self) -> io::Result<()> {
        let Some(receiver) = self.waiting.pop_front() else {
            return Ok(());
        };
        let block = receiver.recv();
        let block = block.map_err(|_| io::Error::other("a thread that compresses has died"))??;
        self.out.write_all(&block)
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = data.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&data[..length]);
        if self.block.len() == BLOCK {
            self.send(false)?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

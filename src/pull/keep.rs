//! What comes of a blob, kept on the disk while it comes slowly or is large, so that an interrupted
//! pull can go on from there. Bytes come in and go out unchanged. Of small pieces that come fast
//! nothing is kept: fetching them again costs less than writing them twice.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::repo::kept::{KeptBlob, KeptBlobs, Piece};

/// Bytes after which it is decided, held in memory until then.
const WINDOW: usize = 1 << 20;
/// How long those may take for a transfer to be fast: 32 MiB/s.
const FAST: Duration = Duration::from_millis(31);
/// Bytes of a piece that is kept however fast it comes.
const LARGE: u64 = 32 << 20;

/// Passes a transfer on and keeps it.
#[derive(Debug)]
pub struct Keeping<R> {
    inner: R,
    state: State,
}

#[derive(Debug)]
enum State {
    Deciding {
        place: Arc<KeptBlobs>,
        piece: Piece,
        window: Vec<u8>,
        since: Instant,
    },
    Keeping(KeptBlob),
    /// It is fast, or nothing can be kept.
    Passing,
}

impl<R: Read> Keeping<R> {
    /// Takes a piece from its beginning; where there is no place, nothing is kept.
    pub fn new(inner: R, place: Option<(Arc<KeptBlobs>, Piece)>) -> Self {
        let state = place.map_or(State::Passing, |(place, piece)| State::Deciding {
            place,
            piece,
            window: Vec::new(),
            since: Instant::now(),
        });
        Self { inner, state }
    }

    /// Takes a piece from where an earlier pull stopped.
    pub const fn going_on(inner: R, kept: KeptBlob) -> Self {
        let state = State::Keeping(kept);
        Self { inner, state }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let state = std::mem::replace(&mut self.state, State::Passing);
        let kept = match state {
            State::Passing => return,
            State::Keeping(kept) => append(kept, bytes),
            State::Deciding {
                place,
                piece,
                mut window,
                since,
            } => {
                window.extend_from_slice(bytes);
                let worthwhile = piece.size >= LARGE || since.elapsed() > FAST;
                if !worthwhile && window.len() >= WINDOW {
                    return;
                }
                if !worthwhile || bytes.is_empty() {
                    self.state = State::Deciding {
                        place,
                        piece,
                        window,
                        since,
                    };
                    return;
                }
                let kept = place.create(&piece);
                kept.and_then(|kept| kept.map_or(Ok(None), |kept| append(kept, &window)))
            }
        };
        match kept {
            Ok(Some(kept)) => self.state = State::Keeping(kept),
            Ok(None) => {}
            // The pull goes on without.
            Err(error) => tracing::debug!("nothing is kept of a blob: {error}"),
        }
    }
}

fn append(mut kept: KeptBlob, bytes: &[u8]) -> io::Result<Option<KeptBlob>> {
    kept.append(bytes)?;
    Ok(Some(kept))
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.keep(&buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::repo::Repo;
    use crate::testing::Fixture;

    #[test]
    fn large_pieces_are_kept_however_fast_they_come() {
        let fixture = Fixture::new().unwrap();
        let place = Arc::new(Repo::open(fixture.path()).unwrap().kept_blobs().unwrap());
        let bytes = vec![7; 3 * WINDOW / 2];
        // What began in the future is never slow.
        for (size, kept) in [(LARGE, bytes.len() as u64), (LARGE - 1, 0)] {
            let piece = Piece::whole(&Digest::of(b"blob"), size);
            let mut keeping = Keeping::new(&bytes[..], Some((place.clone(), piece.clone())));
            if let State::Deciding { since, .. } = &mut keeping.state {
                *since += Duration::from_secs(3600);
            }
            let mut passed = vec![0; bytes.len()];
            keeping.read_exact(&mut passed).unwrap();
            assert_eq!((place.length(&piece), passed == bytes), (kept, true));
            drop(keeping);
            place.remove(&piece).unwrap();
        }
    }

    #[test]
    fn what_comes_slowly_is_kept_from_its_first_byte() {
        let fixture = Fixture::new().unwrap();
        let place = Arc::new(Repo::open(fixture.path()).unwrap().kept_blobs().unwrap());
        let piece = Piece::whole(&Digest::of(b"blob"), 100);
        let bytes = [1, 2, 3, 4];
        let mut keeping = Keeping::new(&bytes[..], Some((place.clone(), piece.clone())));
        let mut passed = [0; 2];
        if let State::Deciding { since, .. } = &mut keeping.state {
            *since += Duration::from_secs(3600);
        }
        keeping.read_exact(&mut passed).unwrap();
        assert_eq!(place.length(&piece), 0);
        if let State::Deciding { since, .. } = &mut keeping.state {
            *since = Instant::now().checked_sub(2 * FAST).unwrap();
        }
        keeping.read_exact(&mut passed).unwrap();
        assert_eq!((place.length(&piece), passed), (4, [3, 4]));
    }
}

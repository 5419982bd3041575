//! What can be made to go wrong in the test registry. Plain data: `serve` does it.

use std::time::Duration;

/// One thing that goes wrong with a request. Where several are planned for a request, those that
/// change an answer ([`Fault::WrongBytes`], [`Fault::DigestHeader`], [`Fault::NoRange`] …) join
/// with the first one of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers this status with this body.
    Status(u16, String),
    /// Answers this status with this `Retry-After`.
    RetryAfter(u16, String),
    /// Takes the request and never answers.
    Hang,
    /// Answers something that is not HTTP, and closes.
    Garbage,
    /// Closes without an answer.
    Close,
    /// Announces the whole body and closes after this many bytes of it.
    CutAfter(u64),
    /// Announces the whole body and falls silent after this many bytes of it.
    StallAfter(u64),
    /// Ends the body, well-formed, after this many bytes.
    Shorten(u64),
    /// Sends these bytes over and over, without an announced length.
    Endless(Vec<u8>),
    /// Answers 307 with this `Location`.
    Redirect(String),
    /// Sends the body with its last byte changed.
    WrongBytes,
    /// Pauses for so long in front of every 64 KiB of the body.
    Slow(Duration),
    /// Sends the body with the byte at this offset changed.
    FlipAt(u64),
    /// Says this `Docker-Content-Digest`.
    DigestHeader(String),
    /// Ignores `Range`.
    NoRange,
    /// Ignores `Range` where it asks for several ranges.
    OneRange,
    /// Answers a request for several ranges with their parts in the reverse order.
    ReverseParts,
    /// Answers a range request with 206 from this byte on, whatever was asked.
    WrongRange(u64),
}

impl Fault {
    /// Whether it only changes an answer that is given otherwise.
    const fn is_change(&self) -> bool {
        matches!(
            self,
            Self::WrongBytes
                | Self::FlipAt(_)
                | Self::Slow(_)
                | Self::DigestHeader(_)
                | Self::NoRange
                | Self::OneRange
                | Self::ReverseParts
                | Self::WrongRange(_)
        )
    }
}

#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) path_part: String,
    pub(super) fault: Fault,
    pub(super) left: u32,
}

/// The faults of one request; counts them down.
pub(super) fn take(planned: &mut [Planned], path: &str) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for plan in planned {
        let taken = !plan.fault.is_change() && faults.iter().any(|f| !f.is_change());
        if plan.left == 0 || taken || !path.contains(&plan.path_part) {
            continue;
        }
        plan.left = plan.left.saturating_sub(u32::from(plan.left != u32::MAX));
        faults.push(plan.fault.clone());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_down_and_joins_changes() {
        let plan = |fault, left| Planned {
            path_part: "/blobs/".into(),
            fault,
            left,
        };
        let mut planned = [
            plan(Fault::Hang, 1),
            plan(Fault::Close, u32::MAX),
            plan(Fault::NoRange, u32::MAX),
        ];
        assert_eq!(take(&mut planned, "/v2/x/manifests/1"), []);
        let path = "/v2/x/blobs/y";
        assert_eq!(take(&mut planned, path), [Fault::Hang, Fault::NoRange]);
        assert_eq!(take(&mut planned, path), [Fault::Close, Fault::NoRange]);
        assert_eq!(take(&mut planned, path), [Fault::Close, Fault::NoRange]);
    }
}

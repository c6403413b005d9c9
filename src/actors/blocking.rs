//! Small pieces of work for the blocking pool.

use sha2::{Digest, Sha256};

use crate::domain::ids::Sha256Hex;
use crate::meter::carried;

/// Does the same with each of many items on the blocking pool, on as many threads; gives what came of
/// it in the order of the items.
pub async fn in_shares<T, R>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> R + Clone + Send + 'static,
) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let mut done = Vec::with_capacity(items.len());
    let share = items.len().div_ceil(threads.max(1)).max(1);
    let mut shares = Vec::with_capacity(threads.max(1));
    let mut rest = items.into_iter().peekable();
    while rest.peek().is_some() {
        let items: Vec<T> = rest.by_ref().take(share).collect();
        let work = work.clone();
        shares.push(actix_rt::task::spawn_blocking(carried(move || {
            items.into_iter().map(work).collect::<Vec<R>>()
        })));
    }
    for share in shares {
        done.extend(share.await.expect("the work on an item does not panic"));
    }
    done
}

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Sha256Hex {
    Sha256Hex::from(hex::encode(Sha256::digest(bytes)))
}

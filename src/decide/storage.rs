//! Whether a file of ours may join the others in the provider's store.

/// The share of the budget that images leave to what must follow them: their lines files, which would
/// otherwise wait for room that only their own batch can make, and the results, which the provider
/// stores without asking and which are small beside images.
const LEFT_TO_OTHERS: u64 = 8;

/// The largest lines file that always finds room once batches end.
pub fn lines_bytes_max(budget: u64) -> u64 {
    budget / LEFT_TO_OTHERS
}

/// Whether an image may be sent beside `held` bytes. One that is larger than the images' share goes
/// alone.
pub fn image_fits(held: u64, bytes: u64, budget: u64) -> bool {
    let share = budget - budget / LEFT_TO_OTHERS;
    held.saturating_add(bytes) <= share || (held == 0 && bytes <= budget)
}

/// Whether a lines file may be sent beside `held` bytes.
pub fn lines_fit(held: u64, bytes: u64, budget: u64) -> bool {
    held.saturating_add(bytes) <= budget
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f19_images_leave_room_for_the_lines_of_their_own_batch() {
        const BUDGET: u64 = 80;
        let mut held = 0;
        while image_fits(held, 1, BUDGET) {
            held += 1;
        }
        assert_eq!(held, 70);
        assert!(lines_fit(held, lines_bytes_max(BUDGET), BUDGET));
        assert!(!lines_fit(held, lines_bytes_max(BUDGET) + 1, BUDGET));
    }

    #[test]
    fn a_large_image_goes_alone_and_never_over_the_budget() {
        assert!(image_fits(0, 80, 80));
        assert!(!image_fits(1, 75, 80));
        assert!(!image_fits(0, 81, 80));
        assert!(!image_fits(u64::MAX, u64::MAX, 80));
    }
}

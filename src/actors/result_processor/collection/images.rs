//! Whether an answer is still about the image that stands on disk.
//!
//! An image that was replaced after it was sent has an answer about the former one. Such an answer
//! is right and of no use: its page runs again with the new image, uncounted. Most images stand as they
//! stood, which their stamps tell; only the others are read.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt};

use super::super::judge::{Judged, Judgement};
use super::Collection;
use crate::actors::state::messages::ToJudge;
use crate::domain::ids::{ImageStamp, RecordKey};
use crate::notices;

/// Images that are read side by side.
const LOOKS_TOGETHER: usize = 4;

impl Collection {
    /// Takes back the acceptance of answers about images that were replaced. An image that cannot
    /// be read now proves nothing.
    pub(super) async fn without_stale<'a>(
        &self,
        run: Vec<(Judged, &'a ToJudge)>,
    ) -> Vec<(Judged, &'a ToJudge)> {
        if !self.shop.options.compare_images {
            return run;
        }
        let untouched = self.untouched(&run).await;
        let looks = run.iter().map(|(judged, member)| {
            let in_doubt = is_accepted(judged) && !untouched.contains(&member.key);
            async move { in_doubt && self.is_replaced(member).await }
        });
        let replaced: Vec<bool> = stream::iter(looks).buffered(LOOKS_TOGETHER).collect().await;
        let mut kept = Vec::with_capacity(run.len());
        for ((mut judged, member), replaced) in run.into_iter().zip(replaced) {
            if replaced {
                notices::ImageReplaced { key: &member.key }.emit();
                judged.judgement = Judgement::Released {
                    cause: "stale: the image was replaced after it was sent".to_owned(),
                    counted: true,
                };
            }
            kept.push((judged, member));
        }
        kept
    }

    /// The pages of accepted answers whose images nothing happened to.
    async fn untouched(&self, run: &[(Judged, &ToJudge)]) -> HashSet<RecordKey> {
        let stamped = run.iter().filter(|(judged, _member)| is_accepted(judged));
        let stamped: Vec<(RecordKey, ImageStamp)> = stamped
            .filter_map(|(_judged, member)| Some((member.key.clone(), member.image_stamp.clone()?)))
            .collect();
        if stamped.is_empty() {
            return HashSet::new();
        }
        let keys: Vec<RecordKey> = stamped.iter().map(|(key, _stamp)| key.clone()).collect();
        let untouched = self.shop.ports.source.untouched(stamped).await;
        let told = keys.into_iter().zip(untouched);
        told.filter_map(|(key, untouched)| untouched.then_some(key))
            .collect()
    }

    async fn is_replaced(&self, member: &ToJudge) -> bool {
        let Some(sent) = &member.image_sha256 else {
            return false;
        };
        let image = self.shop.ports.source.image(&member.key).await;
        image.is_ok_and(|(_path, facts)| facts.sha256 != *sent)
    }
}

fn is_accepted(judged: &Judged) -> bool {
    matches!(judged.judgement, Judgement::Accepted { .. })
}

//! Whether an answer is still about the image that stands on disk.
//!
//! An image that was replaced after it was sent has an answer about the former one. Such an answer
//! is right and of no use: its page runs again with the new image, uncounted.

use futures_util::stream::{self, StreamExt};

use super::super::judge::{Judged, Judgement};
use super::Collection;
use crate::actors::state::messages::ToJudge;
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
        let looks = run.iter().map(|(judged, member)| async {
            let accepted = matches!(judged.judgement, Judgement::Accepted { .. });
            accepted && self.is_replaced(member).await
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

    async fn is_replaced(&self, member: &ToJudge) -> bool {
        let Some(sent) = &member.image_sha256 else {
            return false;
        };
        let image = self.shop.ports.source.image(&member.key).await;
        image.is_ok_and(|(_path, facts)| facts.sha256 != *sent)
    }
}

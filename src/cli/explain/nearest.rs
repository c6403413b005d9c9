//! Keys that may have been meant: of a path, and of known pages with names that look alike.

use std::path::Path;

use sea_orm::ConnectionTrait;

use crate::actors::state::desk_page;
use crate::actors::state::messages::StateResult;
use crate::domain::ids::RecordKey;
use crate::domain::layout::Layout;
use crate::settings::Paths;

/// Names of one level that are compared.
const NAMES_MAX: u64 = 500;
/// Prefixes that are followed from one level to the next.
const FOLLOWED: usize = 3;
/// Keys that are named.
const NAMED: usize = 3;
/// Names that are less alike than this have nothing to do with each other.
const ALIKE_MIN: f64 = 0.7;

/// The key of the page whose label, image or output stands at this path.
pub fn key_of_path(paths: &Paths, given: &str) -> Option<RecordKey> {
    let given = Path::new(given);
    let whole = std::path::absolute(given).ok()?;
    let roots = [
        &paths.label_source_dir,
        &paths.image_source_dir,
        &paths.output_dir,
    ];
    let below = roots.iter().find_map(|root| {
        let root = std::path::absolute(root).ok()?;
        whole.strip_prefix(root).ok().map(Path::to_path_buf)
    });
    let below = below
        .unwrap_or_else(|| given.to_path_buf())
        .with_extension("");
    let levels: Option<Vec<&str>> = below.iter().map(|level| level.to_str()).collect();
    paths.layout.key(&levels?).ok()
}

/// Known keys that look like this text, most alike first.
pub async fn keys(
    conn: &impl ConnectionTrait,
    layout: &Layout,
    given: &str,
) -> StateResult<Vec<String>> {
    let separator = if given.contains(':') { ':' } else { '/' };
    let given = given.trim_end_matches(".json");
    let mut wanted: Vec<&str> = given.split(separator).collect();
    let number = wanted.last().and_then(|page| page.parse::<u32>().ok());
    // What stands last and is no number may be the name of a book.
    if number.is_some() {
        wanted.pop();
    }
    let mut prefixes = vec![String::new()];
    for depth in 0..layout.book_depth() {
        let wanted = wanted.get(depth).copied().unwrap_or_default();
        let mut next = Vec::new();
        for prefix in &prefixes {
            let names = desk_page::names_below(conn, prefix, NAMES_MAX).await?;
            for (score, name) in alike(wanted, names) {
                next.push((score, format!("{prefix}{name}:")));
            }
        }
        next.sort_by(|a, b| b.0.total_cmp(&a.0));
        prefixes = next.into_iter().map(|(_score, prefix)| prefix).collect();
        prefixes.truncate(FOLLOWED);
    }
    let mut found = Vec::new();
    for prefix in prefixes {
        let book = prefix.trim_end_matches(':');
        let near = desk_page::pages_near(conn, book, number.unwrap_or(1), NAMED as u64).await?;
        found.extend(near.iter().map(RecordKey::to_string));
    }
    found.truncate(NAMED);
    Ok(found)
}

/// The names that look like the wanted one, most alike first; only itself where it is among them.
fn alike(wanted: &str, names: Vec<String>) -> Vec<(f64, String)> {
    if names.iter().any(|name| name == wanted) {
        return vec![(1.0, wanted.to_owned())];
    }
    if wanted.is_empty() {
        // The level was left out: any will do.
        let any = names.into_iter().take(FOLLOWED);
        return any.map(|name| (1.0, name)).collect();
    }
    let lower = wanted.to_lowercase();
    let scored = names.into_iter().map(|name| {
        let score = strsim::jaro_winkler(&lower, &name.to_lowercase());
        (score, name)
    });
    let mut scored: Vec<(f64, String)> = scored.filter(|(score, _)| *score >= ALIKE_MIN).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.truncate(FOLLOWED);
    scored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_found() {
        let names = || ["Alabama", "Arkansas", "Ohio"].map(str::to_owned).to_vec();
        let best = |wanted| alike(wanted, names()).first().map(|(_, name)| name.clone());
        assert_eq!(best("Alabama").as_deref(), Some("Alabama"));
        assert_eq!(best("alabma").as_deref(), Some("Alabama"));
        assert_eq!(best("ohoi").as_deref(), Some("Ohio"));
        assert_eq!(best("Texas"), None);
        assert_eq!(alike("Ohio", names()).len(), 1);
    }
}

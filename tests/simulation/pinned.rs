//! What the simulation found, each shown by itself.

use std::cell::Cell;

use pagemill::actors::conductor::RunEnd;
use pagemill::domain::ids::RecordKey;

use super::crash::{Calm, Scripted};
use super::disk::Disk;
use super::life::{Act, LifeEnd, Pilot, Rest};
use super::ports::Outside;
use super::world::{Settings, World};

fn pages(count: u32, settings: Settings) -> World {
    let mut disk = Disk::new();
    for page in 1..=count {
        disk.add("a", page);
    }
    World::new(settings, disk, Box::new(Scripted::default()))
}

fn live_to_the_end(world: &World, pilot: &mut dyn Pilot) {
    let lived = world.live(None, pilot);
    let done = matches!(lived.end, LifeEnd::Ended(RunEnd::Done(_)));
    assert!(done, "{:?}", lived.end);
}

/// An operator who deletes an output while the next page's image is on its way.
struct Operator {
    key: RecordKey,
    acted: Cell<bool>,
}

impl Pilot for Operator {
    fn next(&mut self, rest: &Rest, outside: &Outside) -> Act {
        let mut disk = outside.disk.borrow_mut();
        let uploading = rest
            .waiting
            .iter()
            .any(|call| call.starts_with("upload image"));
        if uploading && disk.outputs.contains_key(&self.key) && !self.acted.replace(true) {
            disk.take_output(&self.key);
        }
        drop(disk);
        Calm.next(rest, outside)
    }
}

#[test]
fn p6_a_page_goes_on_without_context_when_the_output_before_it_is_deleted_while_it_is_packed() {
    let world = pages(2, Settings::plain());
    let mut operator = Operator {
        key: RecordKey::from("a:1"),
        acted: Cell::new(false),
    };
    live_to_the_end(&world, &mut operator);
    let row = "SELECT p.stage || ' ' || (a.context_sha256 IS NULL) FROM pages AS p
               JOIN attempts AS a USING (record_key) WHERE p.record_key = 'a:2'";
    assert_eq!(world.outside.watch.ask(row), ["completed 1"]);
}

#[test]
fn p7_a_page_with_a_mended_image_has_all_its_retries() {
    let world = pages(
        1,
        Settings {
            max_retries: 0,
            ..Settings::plain()
        },
    );
    let key = RecordKey::from("a:1");
    world.outside.disk.borrow_mut().damage_image(&key);
    live_to_the_end(&world, &mut Calm);
    world.outside.disk.borrow_mut().replace_image(&key);
    live_to_the_end(&world, &mut Calm);
    let row = "SELECT p.stage || ' ' || coalesce(c.count, 0) FROM pages AS p
               LEFT JOIN failure_counts AS c USING (record_key)";
    assert_eq!(world.outside.watch.ask(row), ["completed 0"]);
}

//! What every target promises. Each behaviour begins with an empty one.

use super::*;

pub fn an_empty_target_has_no_positions(place: &dyn Place) {
    assert_eq!(position(&mut *place.target()), None);
    assert_eq!(place.totals("article:7"), totals(&[]));
}

/// Two records of a subject; the second knows what the first has changed.
fn first() -> Batch {
    let one: Written<'_> = (&[("likes", 1)], &["likes"], 1);
    let two: Written<'_> = (&[("likes", 1), ("views", 2)], &["views"], 2);
    batch(&[one, two], step(None, 2, &[(0, 10)], 2))
}

pub fn rows_are_written_with_the_position_and_the_newest_of_a_key_wins(place: &dyn Place) {
    let mut target = place.target();
    target.write(&first()).unwrap();
    // It takes along what the older one changed.
    assert_eq!(place.totals("article:7"), totals(&[("likes", 1), ("views", 2)]));
    let stored = position(&mut *target).unwrap();
    assert_eq!((stored.next_offset, stored.version), (2, 2));
    assert_eq!(stored.roots.merged()[0].next_offset, 10);
}

pub fn a_batch_that_comes_again_is_refused(place: &dyn Place) {
    let mut target = place.target();
    target.write(&first()).unwrap();
    let stored = position(&mut *target).unwrap();
    let again = target.write(&first());
    assert!(
        matches!(again, Err(TargetError::Moved { expected: None, found: Some(found), .. }) if found.next_offset == 2)
    );
    assert_eq!(position(&mut *target).unwrap(), stored);
}

pub fn a_replay_at_the_right_position_changes_no_row(place: &dyn Place) {
    let mut target = place.target();
    target.write(&first()).unwrap();
    let replay = batch(&[(&[("likes", 1)], &["likes"], 1)], step(Some((2, 2)), 3, &[(0, 10)], 2));
    target.write(&replay).unwrap();
    assert_eq!(place.totals("article:7"), totals(&[("likes", 1), ("views", 2)]));
}

pub fn a_smaller_version_is_passed_over_and_an_equal_one_is_taken(place: &dyn Place) {
    let mut target = place.target();
    target.write(&first()).unwrap();
    let newer = batch(&[(&[("likes", 9), ("views", 2)], &["likes"], 9)], step(Some((2, 2)), 4, &[(0, 12)], 9));
    target.write(&newer).unwrap();
    let older = batch(&[(&[("likes", 4), ("views", 2)], &["likes"], 4)], step(Some((4, 9)), 5, &[(0, 12)], 9));
    target.write(&older).unwrap();
    assert_eq!(place.totals("article:7")["likes"], 9);
    let equal = batch(&[(&[("likes", 10), ("views", 2)], &["likes"], 9)], step(Some((5, 9)), 6, &[(0, 12)], 9));
    target.write(&equal).unwrap();
    assert_eq!(place.totals("article:7")["likes"], 10);
}

/// A target at offset 6, with a mark of version 9.
fn advanced(place: &dyn Place) -> Box<dyn Target> {
    let mut target = place.target();
    let totals: Written<'_> = (&[("likes", 10), ("views", 2)], &["likes", "views"], 9);
    target.write(&batch(&[totals], step(None, 6, &[(0, 12)], 9))).unwrap();
    target
}

pub fn a_zombie_writes_nothing(place: &dyn Place) {
    let mut target = advanced(place);
    let stored = position(&mut *target).unwrap();
    // It continues from its former position.
    let zombie = batch(&[(&[("likes", 99)], &["likes"], 99)], step(Some((4, 9)), 5, &[(0, 11)], 99));
    let refused = target.write(&zombie);
    assert!(
        matches!(&refused, Err(TargetError::Moved { found: Some(found), .. }) if found.next_offset == 6),
        "{refused:?}"
    );
    assert_eq!(position(&mut *target).unwrap(), stored);
    assert_eq!(place.totals("article:7")["likes"], 10, "all or nothing");
}

pub fn one_position_of_several_that_is_wrong_is_enough(place: &dyn Place) {
    let mut target = advanced(place);
    let stored = position(&mut *target).unwrap();
    let mut half = batch(&[(&[("likes", 98)], &["likes"], 98)], step(Some((6, 9)), 7, &[(0, 13)], 98));
    half.positions.push(Move { partition: TopicPartition::new("counters", 1), ..step(Some((3, 9)), 4, &[], 98) });
    assert!(matches!(target.write(&half), Err(TargetError::Moved { found: None, .. })));
    assert_eq!((place.totals("article:7")["likes"], position(&mut *target).unwrap()), (10, stored));
}

pub fn marks_move_on_at_an_equal_position_and_fence_who_has_not_seen_it(place: &dyn Place) {
    let mut target = advanced(place);
    target.write(&batch(&[], step(Some((6, 9)), 6, &[(0, 20)], 20))).unwrap();
    let stored = position(&mut *target).unwrap();
    for (next_offset, root, version) in [(6, 15, 15), (7, 15, 15), (8, 30, 30)] {
        let zombie =
            batch(&[(&[("likes", 97)], &["likes"], 97)], step(Some((6, 9)), next_offset, &[(0, root)], version));
        let refused = target.write(&zombie);
        assert!(matches!(&refused, Err(TargetError::Moved { .. })), "{refused:?}");
        assert_eq!((place.totals("article:7")["likes"], position(&mut *target).unwrap()), (10, stored.clone()));
    }
    assert_eq!(stored.roots.merged()[0].next_offset, 20);
}

/// As where a log was replaced.
pub fn a_position_may_be_moved_back_on_purpose(place: &dyn Place) {
    let mut target = advanced(place);
    target.write(&batch(&[], step(Some((6, 9)), 0, &[], 0))).unwrap();
    assert_eq!(position(&mut *target).unwrap().next_offset, 0);
    assert_eq!(position(&mut *target).unwrap().roots.merged(), []);
    if place.survives() {
        drop(target);
        let mut target = place.target();
        assert_eq!(position(&mut *target).unwrap().next_offset, 0);
        assert_eq!(place.totals("article:7"), totals(&[("likes", 10), ("views", 2)]));
    }
}

pub fn positions_of_other_topics_are_not_told(place: &dyn Place) {
    let mut target = place.target();
    target.write(&batch(&[], step(None, 2, &[], 0))).unwrap();
    assert_eq!(target.positions(&[Arc::from("reactions")]).unwrap(), []);
}

pub fn records_of_every_type_are_taken(place: &dyn Place) {
    let mut target = place.target();
    for output in OutputType::ALL {
        assert!(target.takes(output, b"article:7"), "{output:?}");
    }
}

/// As where a log was replaced.
pub fn it_forgets_everything_or_nothing(place: &dyn Place) {
    let mut target = advanced(place);
    let before = (position(&mut *target), place.totals("article:7"));
    let after = match target.forget() {
        true => (None, totals(&[])),
        false => before,
    };
    assert_eq!((position(&mut *target), place.totals("article:7")), after);
}

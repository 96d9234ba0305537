//! Leaves against an ordered map, with keys few enough to meet again and many enough to split and join leaves.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::rib::leaves::{LEAF_ITEMS, LEAF_KEYS, Leaves, Mark, Tally};

type Model = BTreeMap<u16, Vec<u32>>;

#[derive(Debug, Clone)]
enum Step {
    Push(u16, u32),
    Take(u16, usize),
    /// Everything in a range, as when a neighbor goes away.
    Clear(std::ops::Range<u16>),
    /// Keys in order.
    Append(u16, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..2000_u16;
    prop_oneof![
        6 => (key.clone(), any::<u32>()).prop_map(|(key, item)| Step::Push(key, item)),
        2 => (key.clone(), 0..3_usize).prop_map(|(key, position)| Step::Take(key, position)),
        1 => (key.clone(), 1..800_u16).prop_map(|(from, length)| Step::Clear(from..from + length)),
        1 => (key, 1..400_u16).prop_map(|(from, length)| Step::Append(from, length)),
    ]
}

fn apply(leaves: &mut Leaves<u16, u8, u32>, model: &mut Model, step: Step) {
    match step {
        Step::Push(key, item) => {
            leaves.push(key, item).unwrap();
            model.entry(key).or_default().push(item);
        }
        Step::Take(key, position) => {
            let items = model.get_mut(&key).filter(|items| position < items.len());
            assert_eq!(leaves.take_item(key, position), items.map(|items| items.remove(position)));
            let is_empty = model.get(&key).is_some_and(Vec::is_empty);
            assert_eq!(leaves.remove(key), is_empty);
            if is_empty {
                model.remove(&key);
            }
        }
        Step::Clear(keys) => {
            for key in keys {
                while leaves.take_item(key, 0).is_some() {}
                assert_eq!(leaves.remove(key), model.remove(&key).is_some());
            }
        }
        Step::Append(from, length) => {
            for key in from..from + length {
                apply(leaves, model, Step::Push(key, key.into()));
            }
        }
    }
}

fn all(leaves: &Leaves<u16, u8, u32>) -> Vec<(u16, Vec<u32>)> {
    leaves.behind(None).map(|(key, entry)| (key, entry.items.to_vec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn they_agree_with_an_ordered_map(steps in prop::collection::vec(step(), 1..80), at in 0..2600_u16) {
        let (mut leaves, mut model) = (Leaves::default(), Model::new());
        for step in steps {
            apply(&mut leaves, &mut model, step);
            assert_eq!(leaves.len(), model.len());
        }
        assert_eq!(all(&leaves), model.clone().into_iter().collect::<Vec<_>>());
        let keys = |range: &mut dyn Iterator<Item = u16>| range.collect::<Vec<_>>();
        let behind = keys(&mut leaves.behind(Some(at)).map(|(key, _)| key));
        assert_eq!(behind, keys(&mut model.range(at + 1..).map(|(&key, _)| key)));
        let starting = keys(&mut leaves.starting_at(at).map(|(key, _)| key));
        assert_eq!(starting, keys(&mut model.range(at..).map(|(&key, _)| key)));
        assert_eq!(leaves.get(at).map(|entry| entry.items.to_vec()), model.get(&at).cloned());
        for (keys, _) in leaves.fill() {
            assert!((1..=LEAF_KEYS).contains(&keys), "{keys}");
        }
    }
}

#[test]
fn state_and_marks_stay_with_their_key_and_a_marked_key_stays() {
    let mut leaves: Leaves<u16, u8, u32> = Leaves::default();
    // From above, so that every leaf splits.
    for key in (0..1000).rev() {
        leaves.ensure(key);
        *leaves.get_mut(key).unwrap().state = u8::try_from(key % 251).unwrap();
        if key % 3 == 0 {
            leaves.mark(key, Mark::First);
        }
        leaves.push(key, key.into()).unwrap();
    }
    assert_eq!((leaves.marked(Mark::First), leaves.marked(Mark::Second)), (334, 0));
    assert_eq!(leaves.next_marked(Mark::Second, None), None);
    for key in 0..1000 {
        let next = Some(key / 3 * 3 + 3).filter(|next| *next < 1000);
        assert_eq!(leaves.next_marked(Mark::First, Some(key)), next);
        let entry = leaves.get_mut(key).unwrap();
        assert_eq!(u16::from(*entry.state), key % 251);
        assert_eq!(entry.items, [u32::from(key)]);
        assert!(!leaves.remove(key), "a key with an item stays");
        leaves.take_item(key, 0).unwrap();
        assert_eq!(leaves.remove(key), key % 3 != 0);
    }
    assert_eq!(leaves.len(), 334);
    assert_eq!(leaves.next_marked(Mark::First, None), Some(0));
    for key in (0..1000).step_by(3) {
        leaves.unmark(key, Mark::First);
        assert_eq!(leaves.next_marked(Mark::First, None), Some(key + 3).filter(|next| *next < 1000));
        assert!(leaves.remove(key));
    }
    assert_eq!((leaves.len(), leaves.marked(Mark::First)), (0, 0));
}

#[test]
fn keys_in_order_fill_their_leaves() {
    let mut leaves: Leaves<u16, u8, u32> = Leaves::default();
    let full = u16::try_from(LEAF_KEYS).unwrap();
    (0..full * 4).for_each(|key| leaves.push(key, 0).unwrap());
    assert_eq!(leaves.fill().len(), 4);
}

#[test]
fn many_items_make_small_leaves_and_too_many_are_given_back() {
    let mut leaves: Leaves<u16, u8, u32> = Leaves::default();
    for item in 0..3000 {
        (0..4).for_each(|key| leaves.push(key, item).unwrap());
    }
    assert_eq!(leaves.fill().len(), 4, "over {LEAF_ITEMS} items a leaf has one key");
    assert!(leaves.get(2).unwrap().items.iter().copied().eq(0..3000));
    for item in 3000..u32::from(Tally::ITEMS) {
        leaves.push(2, item).unwrap();
    }
    assert_eq!(leaves.push(2, 7), Err(7));
}

#[test]
fn what_went_gives_its_memory_back() {
    let mut leaves: Leaves<u16, u8, u32> = Leaves::default();
    (0..20_000).for_each(|key| leaves.push(key, 0).unwrap());
    for key in (0..20_000).filter(|key| key % 50 != 0) {
        leaves.take_item(key, 0).unwrap();
        assert!(leaves.remove(key));
    }
    let (count, room) = (leaves.fill().len(), leaves.fill().iter().map(|(_, room)| room).sum::<usize>());
    assert!(count < 20 && room < 1200, "{count} leaves with room for {room} of 400 keys");
}

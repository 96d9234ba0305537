use proptest::prelude::*;

use super::*;

const OURS: Ownership = Ownership { protocol: 186, table: 254, metric: 20 };

fn object(id: u32) -> Image {
    Image::Object { id: ObjectId(id), source: None }
}

proptest! {
    /// Against a map of whole cases.
    #[test]
    fn keys_keep_what_is_said_of_them(
        steps in prop::collection::vec((0_u8..20, 0_u32..4, 0_u32..10), 0..200)
    ) {
        let mut table = Table::new(OURS);
        let mut model: BTreeMap<Key, Option<Image>> = BTreeMap::new();
        for (number, id, what) in steps {
            let text = match number % 3 {
                0 => format!("10.{number}.0.0/16"),
                1 => format!("fd00:{number}::/32"),
                _ => format!("11.{number}.0.0/16"),
            };
            let own = OURS.key(text.parse().unwrap());
            let key = if number % 3 == 2 { Key { metric: 5, ..own } } else { own };
            match what {
                0 => {
                    let lost = Some(object(id));
                    table.change_all(|case| case.installed = case.installed.filter(|image| Some(*image) != lost));
                    model.values_mut().for_each(|image| *image = image.filter(|image| Some(*image) != lost));
                }
                1 => {
                    table.change(key, |case| case.installed = None);
                    model.remove(&key);
                }
                _ => {
                    table.change(key, |case| case.installed = Some(object(id)));
                    model.insert(key, Some(object(id)));
                }
            }
        }
        let there: Vec<Key> = model.iter().filter(|(_, image)| image.is_some()).map(|(key, _)| *key).collect();
        for (key, image) in &model {
            prop_assert_eq!(table.case(*key).installed, *image);
        }
        let counted: usize = table.cases().filter(|(case, _)| !case.is_nothing()).map(|(_, keys)| keys).sum();
        prop_assert_eq!(counted, there.len());
        let said = |all: Vec<(Key, Case)>| all.into_iter().filter(|(_, case)| !case.is_nothing()).map(|(key, _)| key).collect::<Vec<_>>();
        prop_assert_eq!(said(table.in_order(None, usize::MAX)), there.clone());
        for after in &there {
            let expected: Vec<Key> = there.iter().copied().filter(|key| key.prefix > after.prefix).collect();
            prop_assert_eq!(said(table.in_order(Some(after.prefix), usize::MAX)), expected);
        }
        let mut walked = Vec::new();
        let mut cursor = Some(Cursor::START);
        while let Some(from) = cursor {
            cursor = table.walk(from, 3, |key, case| if !case.is_nothing() { walked.push(key) });
        }
        walked.sort_unstable();
        prop_assert_eq!(walked, there);
    }
}

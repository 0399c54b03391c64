//! The order of software versions. It does not know which of them exist.

use std::cmp::Ordering;

/// Compares versions the way people read them: runs of digits by value, everything else as text.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left, right);
    while !left.is_empty() && !right.is_empty() {
        let (a, b);
        let digits = left.starts_with(|c: char| c.is_ascii_digit());
        if digits != right.starts_with(|c: char| c.is_ascii_digit()) {
            return left.cmp(right);
        }
        (a, left) = run(left, digits);
        (b, right) = run(right, digits);
        let order = if digits {
            let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        } else {
            a.cmp(b)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

fn run(text: &str, digits: bool) -> (&str, &str) {
    let end = text
        .find(|c: char| c.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_compare_as_people_read_them() {
        for (older, newer) in [
            ("1.9", "1.10"),
            ("1.2", "1.2.1"),
            ("2026.09", "2026.10"),
            ("0.1.0", "0.2"),
        ] {
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{older} {newer}");
        }
        assert_eq!(compare("1.02", "1.2"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn the_order_of_versions_has_two_sides(a in "[0-9a-z.~-]{0,8}", b in "[0-9a-z.~-]{0,8}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        }
    }
}

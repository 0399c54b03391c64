//! RFC 8785, the JSON Canonicalization Scheme, for the values this log holds: objects, arrays, strings, booleans, null and
//! whole numbers that every JSON reader keeps exactly. Anything else has no canonical form here.

use serde_json::Value;

/// The largest whole number that an IEEE 754 double, and so every JSON reader, keeps exactly (RFC 8785 section 3.2.2.3).
const LARGEST: u64 = (1 << 53) - 1;

/// The value has no canonical form here: a fraction, or a number beyond 2⁵³ − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number that is not whole or too large")]
pub(crate) struct NotCanonical;

/// The canonical text of a value.
pub(crate) fn canonical(value: &Value) -> Result<String, NotCanonical> {
    let mut out = String::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let magnitude = match (number.as_u64(), number.as_i64()) {
                (Some(magnitude), _) => magnitude,
                (None, Some(negative)) => negative.unsigned_abs(),
                (None, None) => return Err(NotCanonical),
            };
            if magnitude > LARGEST {
                return Err(NotCanonical);
            }
            out.push_str(&number.to_string());
        }
        Value::String(text) => quote(text, out),
        Value::Array(values) => {
            out.push('[');
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write(value, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            // Section 3.2.3: by UTF-16 code units, which is not the order of the UTF-8 bytes.
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (place, (name, value)) in sorted.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                quote(name, out);
                out.push(':');
                write(value, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Section 3.2.2.2.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if u32::from(control) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Result<String, NotCanonical> {
        canonical(&serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn the_strings_and_literals_of_section_3_2_2_come_out_as_printed_there() {
        let input = r#"{
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected =
            "{\"literals\":[null,true,false],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(of(input).as_deref(), Ok(expected));
    }

    #[test]
    fn the_names_of_section_3_2_3_are_sorted_as_printed_there() {
        let input = r#"{
            "\u20ac": "Euro Sign",
            "\r": "Carriage Return",
            "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "1": "One",
            "\ud83d\ude00": "Emoji: Grinning Face",
            "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis"
        }"#;
        let order: Vec<_> = [
            "Carriage Return",
            "One",
            "Control",
            "Latin Small Letter O With Diaeresis",
            "Euro Sign",
            "Emoji: Grinning Face",
            "Hebrew Letter Dalet With Dagesh",
        ]
        .into_iter()
        .collect();
        let text = of(input).expect("canonical");
        let places: Vec<_> = order.iter().map(|word| text.find(word)).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{text}"
        );
    }

    #[test]
    fn whole_numbers_of_appendix_b_pass_and_all_others_are_refused() {
        assert_eq!(
            of("[0,-1,9007199254740991,-9007199254740991]").as_deref(),
            Ok("[0,-1,9007199254740991,-9007199254740991]")
        );
        for beyond in [
            "9007199254740992",
            "-9007199254740992",
            "1.5",
            "1e30",
            "-0.0",
            "333333333.33333329",
        ] {
            assert_eq!(of(beyond), Err(NotCanonical), "{beyond}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..=LARGEST).prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_is_json_with_the_same_meaning_and_its_own_canonical_text(value in any_value()) {
            let text = canonical(&value).expect("canonical");
            let read: Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(&read, &value);
            prop_assert_eq!(canonical(&read).expect("canonical"), text);
        }
    }
}

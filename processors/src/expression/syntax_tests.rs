use crate::expression::{Expression, FIELDS, Wanted};

#[test]
fn mistakes_of_syntax_are_explained_at_their_place() {
    let cases = [
        // The expression, the characters that are marked, and the message with its help.
        ("", "*", "is empty"),
        ("  // a note", "*", "is empty"),
        ("duration_ms >=", ">=", "expected an operand after `>=`"),
        ("true &&", "&&", "expected an operand after `&&`"),
        ("true && || false", "&&", "expected an operand after `&&`"),
        ("&& true", "&&", "expected an operand before `&&`"),
        ("(|| true)", "||", "expected an operand before `||`"),
        ("true || (false &&)", "&&", "expected an operand after `&&`"),
        ("duration_ms <> 5", "<", "expected an operand after `<` (`!=` means different)"),
        ("type in", "in", "expected an operand after `in`"),
        ("!", "!", "expected an operand after `!`"),
        ("(duration_ms > 1 && (duration_ms < 5)", "(", "`(` is not closed"),
        ("size([1, 2", "[", "`[` is not closed"),
        ("id(", "(", "`(` is not closed"),
        ("duration_ms > 1)", ")", "unexpected `)`: no bracket is open"),
        ("(duration_ms > 1]", "]", "`(` is closed by `]` (`)`)"),
        ("()", "(", "expected an operand between `(` and `)`"),
        ("properties[]", "[", "expected an operand between `[` and `]`"),
        ("id(actor_id,)", ",", "expected an operand after `,`"),
        ("(1, 2)", ",", "unexpected `,`"),
        ("1, 2", ",", "unexpected `,`"),
        ("actor_id = 'a'", "=", "unexpected `=` (`==` compares)"),
        ("actor_id === 'a'", "===", "unexpected `===` (`==` compares)"),
        ("duration_ms => 5", "=>", "unexpected `=>` (`>=` means at least)"),
        ("true & false", "&", "unexpected `&` (`&&` means and)"),
        ("true | false", "|", "unexpected `|` (`||` means or)"),
        ("true and false", "and", "unexpected `and` (`&&` means and)"),
        ("true OR false", "OR", "unexpected `OR` (`||` means or)"),
        ("not true", "not", "unexpected `not` (`!` means not)"),
        ("actor_id is null", "is", "unexpected `is` (`==` compares)"),
        ("1 if true else 2", "if", "unexpected `if` (a choice is `condition ? a : b`)"),
        ("duration_ms > 1 duration_ms", "duration_ms", "expected an operator before `duration_ms`"),
        ("5 (1)", "(", "expected an operator before `(`"),
        ("true ? 1", "?", "`?` has no `:` (a choice is `condition ? a : b`)"),
        ("(true ? 1)", "?", "`?` has no `:` (a choice is `condition ? a : b`)"),
        ("[true ? 1, 2]", "?", "`?` has no `:` (a choice is `condition ? a : b`)"),
        ("true ? : 2", "?", "expected an operand after `?`"),
        ("1 : 2", ":", "unexpected `:` (a choice is `condition ? a : b`)"),
        ("{'a'}", "'a'", "expected `:` and a value after `'a'` (a map is `{'key': value}`)"),
        ("properties. > 5", ".", "expected a name after `.`"),
        ("actor_id == 'a", "'", "a text has no closing `'`"),
        ("actor_id == \"a'", "\"", "a text has no closing `\"`"),
        ("actor_id == 'it''s'", "'s'", "expected an operator before `'s'` (a quote within a text is `\\'`)"),
        (
            "actor_id.matches('\\d+')",
            "\\d",
            "`\\d` is not an escape of a text (`\\\\d`, or `r` before the text: `r'\\d'`)",
        ),
        ("actor_id == “a”", "“", "unexpected `“` (a text stands in `'` or `\"`)"),
        ("duration_ms > $limit", "$", "unexpected `$`"),
        ("duration_ms > 5s", "5s", "`5s` is not a number (durations are milliseconds: `5000`)"),
        ("duration_ms > 1_000", "1_000", "`1_000` is not a number"),
        (
            "duration_ms > 99999999999999999999",
            "99999999999999999999",
            "`99999999999999999999` is too large: whole numbers have 64 bits",
        ),
        ("has(duration_ms)", "duration_ms", "`has` takes a property (write `has(properties.name)`)"),
        ("[1].all(1, true)", "1", "expected a name instead of `1` (`list.all(x, x > 1)` tests each `x`)"),
        ("while == 1", "while", "`while` is a reserved word"),
    ];
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(source, marked, message)| {
            let faults = Expression::compile(source, FIELDS, Wanted::Scalar).err().unwrap_or_default();
            let found: Vec<_> = faults
                .into_iter()
                .map(|fault| {
                    let cut = |(at, length)| source.chars().skip(at as usize).take(length as usize).collect();
                    let marked: String = fault.at.map_or("*".into(), cut);
                    (marked, fault.message + &fault.help.map(|help| format!(" ({help})")).unwrap_or_default())
                })
                .collect();
            let expected = [((*marked).to_owned(), (*message).to_owned())];
            (found != expected).then(|| format!("{source}\n  expected {expected:?}\n  found    {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn what_the_parser_takes_is_no_mistake() {
    for source in [
        "[1, 2,].exists(x, x > 1) ? {'a': 1, 'b': [2],}['a'] : -5",
        "size(\"\"\"a\nb\"\"\") + size(r'\\d') + 0x1F + int(1.5e3) // a note",
        "!has(properties.a) && !!(.type == 'it\\'s \\u00e9') || properties['x'].y in [1u, 2u]",
        "true ? 1 : false ? 2 : 3",
    ] {
        assert_eq!(super::mistake(source), None, "{source}");
        assert!(crate::expression::ENV.compile(source).is_ok(), "{source}");
    }
}

#[test]
fn a_deep_expression_is_refused() {
    let deep = format!("{}1{}", "(".repeat(500), ")".repeat(500));
    let faults = Expression::compile(&deep, FIELDS, Wanted::Number).unwrap_err();
    assert_eq!(faults[0].message, "is nested too deeply");
}

use super::*;
use std::collections::BTreeMap;

fn event() -> Event {
    let json = br#"{"event_id":"e","type":"read","actor_id":"u1","subject_id":"article:7","duration_ms":6000,
                    "occurred_at":1795999999000,
                    "properties":{"source":"feed","depth":3,"share":0.5,"url":"https://News.example.com/a b"}}"#;
    Event::from_log(json, 1_796_000_000_000).unwrap()
}

fn test(source: &str) -> Result<bool, Mistake> {
    let expression = Expression::compile(source, FIELDS, Wanted::Bool);
    expression.unwrap_or_else(|faults| panic!("{source}: {faults:?}")).test(&event())
}

fn text(source: &str) -> Result<String, Mistake> {
    let expression = Expression::compile(source, FIELDS, Wanted::Text);
    expression.unwrap_or_else(|faults| panic!("{source}: {faults:?}")).text(&event())
}

#[test]
fn sees_the_fields_of_the_event() {
    for (source, expected) in [
        ("duration_ms >= 5000", true),
        ("duration_ms >= 7000 || type == 'view'", false),
        ("properties.source == 'feed' && properties.depth > 2", true),
        ("properties['source'] == 'feed' && 'depth' in properties && !('x' in properties)", true),
        ("has(properties.missing)", false),
        ("has(properties.depth) && properties.share < 1", true),
        ("size(properties) == 4", true),
        ("properties.exists(name, name == 'depth')", true),
        ("ip == null", true),
        ("actor_id.matches('^u[0-9]+$') && !matches(actor_id, '^x')", true),
        ("occurred_at > timestamp('2026-01-01T00:00:00Z') && duration_ms > duration('5s')", true),
        ("['view', 'read'].exists(x, x == type)", true),
    ] {
        assert_eq!(test(source), Ok(expected), "{source}");
    }
    assert_eq!(text("'user:' + actor_id"), Ok("user:u1".to_owned()));
}

#[test]
fn functions_of_time_and_text() {
    for (source, expected) in [
        ("string(hour(occurred_at))", "0"),
        ("day(occurred_at)", "2026-11-30"),
        ("string(weekday(occurred_at))", "1"),
        ("string(weekday(0)) + string(hour(-1)) + day(-1)", "4231969-12-31"),
        ("host(properties.url)", "news.example.com"),
        ("'page:' + id(properties.url)", "page:https://News.example.com/a%20b"),
    ] {
        assert_eq!(text(source), Ok(expected.to_owned()), "{source}");
    }
}

#[test]
fn what_only_an_event_shows_is_a_mistake_of_the_event() {
    let mistake = |source: &str| test(source).unwrap_err();
    assert_eq!(mistake("properties.missing == 1"), Mistake::new("No such key", "missing"));
    assert_eq!(mistake("properties['missing'] == 1"), Mistake::new("No such key", "missing"));
    let number = mistake("properties.depth");
    assert_eq!((number.reason.as_str(), number.detail.is_some()), ("must give true or false", true));
    let scalar = |source: &str| Expression::compile(source, FIELDS, Wanted::Scalar).unwrap().scalar(&event());
    assert_eq!(scalar("has(properties.utm) ? properties.utm : null"), Ok(None));
    assert_eq!(scalar("properties.depth * 2"), Ok(Some(Scalar::Int(6))));
    assert_eq!(scalar("1.0 / 0.0").unwrap_err(), Mistake::new("must give a number", "inf"));
}

/// The mistakes of an expression: place, message and help.
fn faults(source: &str, wanted: Wanted, schema: &Schema) -> Vec<String> {
    let faults = match Expression::compile(source, FIELDS, wanted) {
        Ok(expression) => expression.check(schema).err().unwrap_or_default(),
        Err(faults) => faults,
    };
    let line = |Fault { message, help, at }: Fault| {
        let cut = |(start, length): (u32, u32)| source.chars().skip(start as usize).take(length as usize).collect();
        let part: String = at.map_or("*".into(), cut);
        let help = help.map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{part}: {message}{help}")
    };
    faults.into_iter().map(line).collect()
}

#[test]
fn mistakes_are_found_when_the_file_is_loaded() {
    use Wanted::{Bool, Number, Scalar, Text};
    for (source, wanted, expected) in [
        ("duration >= 5", Bool, "duration: unknown name `duration` (did you mean `duration_ms`?)"),
        ("'é' == actorid", Bool, "actorid: unknown name `actorid` (did you mean `actor_id`?)"),
        ("duration_ms + 1", Bool, "*: must give true or false, but gives int"),
        ("duration_ms", Text, "*: must give a text, but gives int (`string(…)` makes a text of it)"),
        ("true ? actor_id : 1", Text, "*: must give a text, but gives int (`string(…)` makes a text of it)"),
        ("actor_id", Number, "*: must give a number, but gives text"),
        ("[1]", Scalar, "*: must give a text, a number, true or false, but gives a list"),
        (
            "duration_ms > '5000'",
            Bool,
            ">: `>` compares int with text (a number has no quotes; `int(…)` makes one of a text)",
        ),
        (
            "actor_id == 5",
            Bool,
            "==: `==` compares text with int (a number has no quotes; `int(…)` makes one of a text)",
        ),
        ("ip < null", Bool, "<: `<` compares text with null"),
        ("'a' + duration_ms", Text, "+: `+` takes no text and int (`string(…)` makes a text of a number)"),
        ("duration_ms * 1.5", Number, "*: `*` takes no int and float (`double(…)` makes a float of a whole number)"),
        ("1.5 % 2.0", Number, "%: `%` takes no float and float"),
        ("-actor_id", Number, "-: `-` takes a number, not text"),
        ("type && true", Bool, "t: `&&` takes true or false, not text"),
        ("!duration_ms", Bool, "d: `!` takes true or false, not int"),
        (
            "'x' in actor_id",
            Bool,
            "in: `in` takes a list on its right, not text (for a part of a text: `text.contains(part)`)",
        ),
        (
            "lower(actor_id) == 'a'",
            Bool,
            "lower: unknown function `lower` (known functions: bool, contains, day, double, duration, dyn, endsWith, host, hour, id, int, matches, size, startsWith, string, timestamp, …)",
        ),
        ("actor_id.startswith('a')", Bool, "startswith: unknown function `startswith` (did you mean `startsWith`?)"),
        ("startsWith(actor_id, 'a')", Bool, "startsWith: `startsWith` is called as `x.startsWith(…)`"),
        ("hour(occurred_at, 'UTC') > 1", Bool, "hour: `hour` is called as `hour(…)`"),
        ("hour(actor_id) > 1", Bool, "a: `hour` takes int, not text"),
        ("host(occurred_at) == ''", Bool, "o: `host` takes text, not int (`string(…)` makes a text of it)"),
        ("size(duration_ms) > 1", Bool, "d: `size` takes a text, a list or a map, not int"),
        ("actor_id.matches('[a')", Bool, "'[a': `[a`: unclosed character class"),
        ("actor_id.matches(subject_id)", Bool, "s: the pattern of `matches` must be a literal"),
        (
            "occurred_at > timestamp('2026-01-01')",
            Bool,
            "'2026-01-01': `2026-01-01` must be RFC 3339, like `2026-11-21T08:00:00Z`",
        ),
        ("duration_ms > duration('5 s')", Bool, "'5 s': "),
        ("actor_id.name == ''", Bool, ".name: `.name` is looked up in text, which has no such parts"),
        ("actor_id[0] == ''", Bool, "[: `[…]` takes a list or a map, not text"),
    ] {
        let found = faults(source, wanted, &Schema::default());
        assert!(found.len() == 1 && found[0].starts_with(expected), "{source}: {found:#?}");
    }
}

fn schema() -> Schema {
    let property = |(name, kind, optional): (&str, Type, bool)| (name.to_owned(), Property { kind, optional });
    let read = [("depth", Type::Int, false), ("section", Type::Text, false), ("utm", Type::Text, true)];
    let view = [("section", Type::Text, false), ("price", Type::Float, false)];
    let types = [("read", read.to_vec()), ("view", view.to_vec())];
    let types = types.map(|(name, of)| (name.to_owned(), Some(of.into_iter().map(property).collect())));
    Schema::new(BTreeMap::from(types))
}

#[test]
fn declared_properties_are_checked() {
    let read = schema().of_types(&["read".to_owned()]);
    for (source, schema, expected) in [
        ("properties.depth > 50", &read, None),
        (
            "properties.depth > 50",
            &schema(),
            Some(
                "depth: an event may lack the property `depth` (test for it: `has(properties.depth) && …`, or `has(properties.depth) ? … : …`)",
            ),
        ),
        ("properties.dpeth > 50", &read, Some("dpeth: unknown property `dpeth` of `read` (did you mean `depth`?)")),
        ("has(properties.dpeth)", &read, Some("*: unknown property `dpeth` of `read` (did you mean `depth`?)")),
        (
            "properties['dpeth'] > 50",
            &read,
            Some("'dpeth': unknown property `dpeth` of `read` (did you mean `depth`?)"),
        ),
        (
            "properties.x == 1",
            &schema(),
            Some("x: unknown property `x` of `read`, `view` (known properties: depth, price, section, utm)"),
        ),
        (
            "properties.depth > 'x'",
            &read,
            Some(">: `>` compares int with text (a number has no quotes; `int(…)` makes one of a text)"),
        ),
        (
            "properties.section + 1 > 2",
            &schema(),
            Some("+: `+` takes no text and int (`string(…)` makes a text of a number)"),
        ),
        (
            "properties.utm == 'x'",
            &read,
            Some(
                "utm: an event may lack the property `utm` (test for it: `has(properties.utm) && …`, or `has(properties.utm) ? … : …`)",
            ),
        ),
        ("has(properties.utm) && properties.utm == 'x'", &read, None),
        ("properties.utm == 'x' && has(properties.utm)", &read, None),
        ("!has(properties.utm) || properties.utm == 'x'", &read, None),
        ("'utm' in properties ? properties.utm == 'x' : false", &read, None),
        (
            "has(properties.utm) || properties.utm == 'x'",
            &read,
            Some(
                "utm: an event may lack the property `utm` (test for it: `has(properties.utm) && …`, or `has(properties.utm) ? … : …`)",
            ),
        ),
        ("type == 'read' && properties.depth > 50", &schema(), None),
        ("type != 'view' ? properties.depth > 50 : properties.price > 1", &schema(), None),
        ("'view' == type || properties.depth > 50", &schema(), None),
    ] {
        assert_eq!(faults(source, Wanted::Bool, schema), Vec::from_iter(expected.map(str::to_owned)), "{source}");
    }
}

#[test]
fn types_without_a_declaration_take_any_property() {
    let types = BTreeMap::from([("view".to_owned(), None)]);
    let open = schema().or(Schema::new(types));
    assert_eq!(faults("properties.whatever == 1", Wanted::Bool, &open), [""; 0]);
}

#[test]
fn derived_properties_are_known_where_every_way_sets_them() {
    let mut derived = schema();
    derived.derive("campaign", Property { kind: Type::Text, optional: false });
    assert_eq!(faults("properties.campaign == 'x'", Wanted::Bool, &derived), [""; 0]);
    let merged = derived.or(schema());
    let found = faults("properties.campaign == 'x'", Wanted::Bool, &merged);
    assert!(found[0].starts_with("campaign: an event may lack the property `campaign`"), "{found:?}");
}

#[test]
fn kinds_of_subjects_are_literals() {
    let kinds = |source: &str| {
        let kinds = Expression::compile(source, FIELDS, Wanted::Text).unwrap().subject_kinds();
        kinds.map_err(|faults| faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; "))
    };
    let literal = |kind: &str| SubjectKind::Literal(kind.to_owned());
    for (source, expected) in [
        ("'campaign:' + id(properties.utm)", Ok(vec![literal("campaign")])),
        ("'a:' + actor_id + '/' + type", Ok(vec![literal("a")])),
        ("'site:all'", Ok(vec![literal("site")])),
        ("subject_id", Ok(vec![SubjectKind::Own])),
        ("has(properties.utm) ? 'campaign:' + id(properties.utm) : null", Ok(vec![literal("campaign")])),
        (
            "type == 'a' ? 'x:' + id(ip) : type == 'b' ? ('y:' + actor_id) : 'x:none'",
            Ok(vec![literal("x"), literal("y")]),
        ),
        ("type + ':' + actor_id", Err("the kind of the subject must be a literal")),
        ("subject_id + '/2'", Err("the kind of the subject must be a literal")),
        ("properties.subject", Err("the kind of the subject must be a literal")),
        ("'campaign' + actor_id", Err("`campaign` is no kind of subjects: a kind ends with `:`")),
        ("'Campaign:' + actor_id", Err("the kind `Campaign` must be a lower-case letter, then up to 31 of `a-z0-9_-`")),
    ] {
        assert_eq!(kinds(source), expected.map_err(str::to_owned), "{source}");
    }
}

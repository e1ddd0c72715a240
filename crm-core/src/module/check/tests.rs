use super::*;

/// The problems of a declaration, as `pointer code`.
fn problems(toml: &str) -> Vec<String> {
    match check(&ModuleSpec::from_toml(toml).unwrap()) {
        Ok(()) => vec![],
        Err(Error::Invalid(problems)) => problems
            .into_iter()
            .map(|problem| format!("{} {}", problem.pointer, problem.code))
            .collect(),
        Err(other) => panic!("{other:?}"),
    }
}

/// The problems of one field called `a`.
fn field(declaration: &str) -> Vec<String> {
    problems(&format!(
        "name = 'things'\nsingular = 'thing'\n[[fields]]\nname = 'a'\n{declaration}"
    ))
}

#[test]
fn names_of_the_library_and_of_the_databases_are_refused() {
    for name in TABLES.iter().chain(&SEGMENTS).chain(&["sqlite_x", "pg_x"]) {
        let toml = format!(
            "name = '{name}'\nsingular = 'one'\nfields = [{{ name = 'a', type = 'bool' }}]"
        );
        assert_eq!(problems(&toml), ["/name reserved"], "{name}");
    }
}

#[test]
fn names_of_system_columns_and_query_words_are_refused() {
    for name in SYSTEM_FIELDS.iter().chain(&QUERY_WORDS) {
        let toml = format!(
            "name = 'things'\nsingular = 'thing'\nfields = [{{ name = '{name}', type = 'bool' }}]"
        );
        assert_eq!(problems(&toml), ["/fields/0/name reserved"], "{name}");
    }
}

#[test]
fn all_problems_are_reported_at_once_with_their_places() {
    let toml = r#"
        name = "auth"
        singular = "thing"
        indexes = [["a", "nope"], ["t"], ["a", "a"], []]
        fields = [
            { name = "a", type = "text", max = 0 },
            { name = "a", type = "integer", min = 3, max = 2 },
            { name = "t", type = "tags", sort = true, unique = true, max_items = 0 },
            { name = "id", type = "enum", values = [], default = "x" },
        ]
    "#;
    assert_eq!(
        problems(toml),
        [
            "/name reserved",
            "/fields/0/max out_of_range",
            "/fields/1/name duplicate",
            "/fields/1/min out_of_range",
            "/fields/2/max_items out_of_range",
            "/fields/2/unique not_supported",
            "/fields/2/sort not_supported",
            "/fields/3/name reserved",
            "/fields/3/values out_of_range",
            "/fields/3/default not_allowed",
            "/indexes/0/1 unknown_field",
            "/indexes/1/0 not_supported",
            "/indexes/2/1 duplicate",
            "/indexes/3 out_of_range",
        ]
    );
}

#[test]
fn a_module_has_between_one_field_and_two_hundred() {
    let with = |count: usize| {
        let fields: Vec<_> = (0..count)
            .map(|n| format!("{{ name = 'f{n}', type = 'bool' }}"))
            .collect();
        problems(&format!(
            "name = 'things'\nsingular = 'thing'\nfields = [{}]",
            fields.join(",")
        ))
    };
    assert_eq!(with(0), ["/fields required"]);
    assert!(with(1).is_empty() && with(200).is_empty());
    assert_eq!(with(201), ["/fields too_many"]);
}

#[test]
fn enum_values_are_plain_distinct_and_short() {
    let values = |list: &str| field(&format!("type = 'enum'\nvalues = {list}"));
    assert!(values("['Closed won', 'a.b-c_D9']").is_empty());
    let long = format!("['{}']", "x".repeat(65));
    for (list, problem) in [
        ("['']", "/fields/0/values/0 invalid"),
        ("['ok', \"it's\"]", "/fields/0/values/1 invalid"),
        ("[' a']", "/fields/0/values/0 invalid"),
        ("['ä']", "/fields/0/values/0 invalid"),
        (&long, "/fields/0/values/0 invalid"),
        ("['a', 'a']", "/fields/0/values/1 duplicate"),
    ] {
        assert_eq!(values(list), [problem], "{list}");
    }
}

#[test]
fn decimals_have_at_most_eighteen_digits() {
    let of = |precision, scale| {
        field(&format!(
            "type = 'decimal'\nprecision = {precision}\nscale = {scale}"
        ))
    };
    assert!(of(18, 18).is_empty() && of(1, 0).is_empty());
    assert_eq!(of(19, 2), ["/fields/0/precision out_of_range"]);
    assert_eq!(of(0, 0), ["/fields/0/precision out_of_range"]);
    assert_eq!(of(4, 5), ["/fields/0/scale out_of_range"]);
    let absurd = "type = 'decimal'\nprecision = 4294967295\nscale = 4294967295\ndefault = '1'";
    assert_eq!(
        field(absurd)[..2],
        [
            "/fields/0/precision out_of_range",
            "/fields/0/scale out_of_range"
        ]
    );
}

#[test]
fn a_default_obeys_the_rules_of_its_field() {
    assert!(field("type = 'integer'\nmax = 5\ndefault = 5").is_empty());
    for (declaration, problem) in [
        ("type = 'integer'\nmax = 5\ndefault = 6", "out_of_range"),
        ("type = 'text'\ndefault = 1", "wrong_type"),
        ("type = 'text'\ndefault = ' '", "invalid"),
        ("type = 'bool'\ndefault = 'true'", "wrong_type"),
        ("type = 'date'\ndefault = '2023-02-29'", "invalid_date"),
        (
            "type = 'reference'\nmodule = 'x'\ndefault = 'y'",
            "not_supported",
        ),
    ] {
        assert_eq!(
            field(declaration),
            [format!("/fields/0/default {problem}")],
            "{declaration}"
        );
    }
}

#[test]
fn unique_and_search_are_for_the_types_that_can() {
    for declaration in [
        "type = 'bool'",
        "type = 'json'",
        "type = 'date'",
        "type = 'instant'",
    ] {
        assert_eq!(
            field(&format!("{declaration}\nunique = true\nsearch = true")),
            [
                "/fields/0/unique not_supported",
                "/fields/0/search not_supported"
            ],
            "{declaration}"
        );
    }
    assert!(field("type = 'email'\nunique = true\nsearch = true\nsort = true").is_empty());
    assert!(field("type = 'tags'\nsearch = true").is_empty());
    assert_eq!(
        field("type = 'json'\nsort = true"),
        ["/fields/0/sort not_supported"]
    );
}

#[test]
fn an_indexed_text_fits_an_index_entry_of_postgresql() {
    assert!(field("type = 'text'\nmax = 625\nsort = true").is_empty());
    assert_eq!(
        field("type = 'text'\nmax = 626\nsort = true"),
        ["/fields/0/sort out_of_range"]
    );
    let toml = "name = 'things'\nsingular = 'thing'\nindexes = [['a', 'b', 'c']]\nfields = [
        { name = 'a', type = 'text' }, { name = 'b', type = 'text' }, { name = 'c', type = 'text' }]";
    assert_eq!(problems(toml), ["/indexes/0 out_of_range"]);
}

#[test]
fn a_module_may_refer_to_itself_only_optionally() {
    let declaration = "type = 'reference'\nmodule = 'things'";
    assert!(field(declaration).is_empty());
    assert_eq!(
        field(&format!("{declaration}\nrequired = true")),
        ["/fields/0/required not_supported"]
    );
}

#[test]
fn an_indexed_search_needs_texts_to_search() {
    let things = |fields: &str| {
        problems(&format!(
            "name = 'things'\nsingular = 'thing'\nsearch = 'indexed'\nfields = [{fields}]"
        ))
    };
    let (text, tags) = (
        "{ name = 'a', type = 'text', search = true }",
        "{ name = 'b', type = 'tags', search = true }",
    );
    assert_eq!(things(text), [""; 0]);
    assert_eq!(
        things("{ name = 'a', type = 'text' }"),
        ["/search required"]
    );
    assert_eq!(
        things(&format!("{text}, {tags}")),
        ["/search not_supported"]
    );
}

#[test]
fn long_texts_are_searched_and_nothing_else() {
    let long = |words: &str| {
        problems(&format!(
            "name = 'things'\nsingular = 'thing'\nindexes = [['b']]\n
             fields = [{{ name = 'a', type = 'long_text', {words} }}, {{ name = 'b', type = 'url' }}]"
        ))
    };
    assert_eq!(long("search = true, max = 100_000"), [""; 0]);
    assert_eq!(long("unique = true"), ["/fields/0/unique not_supported"]);
    assert_eq!(long("sort = true"), ["/fields/0/sort not_supported"]);
    assert_eq!(long("max = 100_001"), ["/fields/0/max out_of_range"]);
    assert_eq!(long("min = 3, max = 2"), ["/fields/0/min out_of_range"]);
    assert_eq!(
        long("default = 'x', min = 2"),
        ["/fields/0/default too_short"]
    );
}

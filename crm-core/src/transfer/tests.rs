//! The readers of files by themselves.

use super::frame::{Frame, MOST_ENTRY, Place, element};
use super::{csv, vcard};

/// Every record of a text, read in pieces of `step` bytes: its cells, or the code of its fault.
fn records(text: &str, step: usize) -> Vec<Result<Vec<String>, &'static str>> {
    let (mut all, mut from, mut to) = (Vec::new(), 0, 0);
    let bytes = text.as_bytes();
    loop {
        let eof = to == bytes.len();
        match csv::record(&bytes[from..to], eof, b',') {
            Frame::More => to = (to + step).min(bytes.len()),
            Frame::End => return all,
            Frame::Entry { length, entry } => {
                all.push(Ok(entry));
                from += length;
            }
            Frame::Fault { length, fault } => {
                all.push(Err(fault.code));
                from += length;
            }
            Frame::Broken(fault) => panic!("{fault:?}"),
        }
    }
}

fn cells(cells: &[&str]) -> Result<Vec<String>, &'static str> {
    Ok(cells.iter().map(|cell| (*cell).to_owned()).collect())
}

#[test]
fn csv_is_read_alike_in_pieces_of_any_size() {
    let text = "a,b\r\n\"x, \"\"y\"\"\r\nz\",2\n\n,\nlast,\"\"";
    let expected = [
        cells(&["a", "b"]),
        cells(&["x, \"y\"\r\nz", "2"]),
        cells(&[]),
        cells(&["", ""]),
        cells(&["last", ""]),
    ];
    for step in 1..text.len() {
        assert_eq!(records(text, step), expected, "{step}");
    }
}

#[test]
fn a_broken_quote_costs_one_line_and_nothing_after_it() {
    let broken = Err("broken_quote");
    let text = "1,a\n2,\"open\n3,c\n4,\"d\"\n5,x\"y\n6,\"q\"r\n7,g\n";
    for step in [1, 3, 1_000] {
        assert_eq!(
            records(text, step),
            [
                cells(&["1", "a"]),
                broken.clone(),
                cells(&["3", "c"]),
                cells(&["4", "d"]),
                broken.clone(),
                broken.clone(),
                cells(&["7", "g"]),
            ],
            "{step}"
        );
    }
    let endless = format!("1,\"{}\n2,b\n", "x".repeat(2 * MOST_ENTRY));
    assert_eq!(records(&endless, 65_536).last(), Some(&cells(&["2", "b"])));
}

#[test]
fn the_header_tells_what_separates_cells() {
    assert_eq!(csv::delimiter(b"a,b;c,d\n;;;;"), b',');
    assert_eq!(csv::delimiter(b"a;b;c\n"), b';');
    assert_eq!(csv::delimiter(b"a\tb"), b'\t');
    assert_eq!(csv::delimiter(b"a"), b',');
}

fn elements(text: &str, step: usize) -> Result<Vec<String>, &'static str> {
    let (mut all, mut from, mut to, mut place) = (Vec::new(), 0, 0, Place::Start);
    let bytes = text.as_bytes();
    loop {
        match element(&bytes[from..to], to == bytes.len(), &mut place) {
            Frame::More => to = (to + step).min(bytes.len()),
            Frame::End => return Ok(all),
            Frame::Entry { length, entry } => {
                all.push(String::from_utf8(entry.to_vec()).unwrap());
                from += length;
            }
            Frame::Fault { fault, .. } | Frame::Broken(fault) => return Err(fault.code),
        }
    }
}

#[test]
fn elements_of_an_array_are_found_in_pieces_of_any_size() {
    let text = " [ {\"a\": \"}\\\"{\"} ,\n{\"b\": [{}]}\n] ";
    for step in 1..text.len() {
        let found = elements(text, step).unwrap();
        assert_eq!(found, ["{\"a\": \"}\\\"{\"}", "{\"b\": [{}]}"], "{step}");
    }
    assert_eq!(elements("[]", 1), Ok(vec![]));
    for odd in [
        "",
        "{}",
        "[1]",
        "[{}",
        "[{},]",
        "[{} {}]",
        "[{}] x",
        "[,{}]",
        "[{\"a\": 1",
        "[{},",
    ] {
        for step in [1, 100] {
            assert_eq!(elements(odd, step), Err("malformed_json"), "{odd}");
        }
    }
}

fn card(text: &str) -> Result<Vec<String>, &'static str> {
    match vcard::card(text.as_bytes(), true) {
        Frame::Entry { entry, .. } => Ok(entry),
        Frame::Fault { fault, .. } => Err(fault.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_card_is_unfolded_unescaped_and_freed_of_groups_and_parameters() {
    let text = "BEGIN:VCARD\r\nVERSION:3.0\r\nN:Lovelace;Ada;;Countess;\r\nFN:Ada \r\n Lovelace\r\n\
                item1.EMAIL;TYPE=\"home:x\",pref:ada@example.com\r\nEMAIL:second@example.com\r\n\
                TEL;VALUE=uri:tel:+44 20 7946\r\nORG:Analytical\\; Engines;Software\r\n\
                NOTE:one\\ntwo\\, three\r\nCATEGORIES:friend,first\\,class\r\nX-ODD:1\r\n\
                END:VCARD\r\n";
    assert_eq!(
        card(text).unwrap(),
        [
            "Ada Lovelace",
            "Countess Ada Lovelace",
            "ada@example.com",
            "+44 20 7946",
            "Analytical; Engines",
            "",
            "one\ntwo, three",
            "[\"friend\",\"first,class\"]",
        ]
    );
}

#[test]
fn what_is_no_card_of_a_known_version_is_refused() {
    let version = |version| format!("BEGIN:VCARD\nVERSION:{version}\nFN:x\nEND:VCARD\n");
    assert!(card(&version("4.0")).is_ok());
    assert_eq!(card(&version("2.1")), Err("unsupported_version"));
    assert_eq!(card("BEGIN:VCARD\nEND:VCARD"), Err("unsupported_version"));
    assert_eq!(card("BEGIN:VCARD\nFN:x\n"), Err("unfinished_card"));
    assert_eq!(card("FN:x\n"), Err("not_a_card"));
    assert_eq!(card("BEGIN:VCARD\nodd\nEND:VCARD"), Err("malformed_card"));
}

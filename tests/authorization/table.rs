//! Tables of what is expected, written by hand: TSV in, Markdown out.

use std::path::Path;

/// A table: its columns' names, and its rows.
pub(crate) struct Table {
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<&'static str>>,
}

impl Table {
    pub(crate) fn read(text: &'static str) -> Self {
        let mut lines = text
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        let columns = lines.next().expect("a line of names");
        let rows: Vec<_> = lines.collect();
        for row in &rows {
            assert_eq!(row.len(), columns.len(), "{row:?}");
        }
        Self { columns, rows }
    }
}

/// Lines of Markdown for a table.
pub(crate) fn markdown(columns: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<_> = cells.collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&mut columns.iter().copied());
    text += &line(&mut columns.iter().map(|_| "---"));
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Compares the part of a file between two marks with what was found, or writes it.
pub(crate) fn golden(name: &str, part: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = std::fs::read_to_string(&path).expect("the file is part of the repository");
    let (begin, end) = (
        format!("<!-- {part} -->\n"),
        format!("<!-- end of {part} -->"),
    );
    let (before, rest) = text.split_once(&begin).expect("the part begins");
    let (now, after) = rest.split_once(&end).expect("the part ends");
    if std::env::var_os("KEYRUM_UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        let text = format!("{before}{begin}{found}{end}{after}");
        std::fs::write(&path, text).expect("the file can be written");
        return;
    }
    assert!(
        now == found,
        "{name} differs in its part {part}: set KEYRUM_UPDATE_GOLDEN=1 and read its diff. Found:\n{found}"
    );
}

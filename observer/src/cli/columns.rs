//! PURE. A table for people: columns as wide as what is in them.

/// A row with its cells, and how the whole cell is painted once it has its width.
pub(super) type Cell<'a> = (String, &'a dyn Fn(&str) -> String);

/// `rows` under `heading`, two spaces between columns; the last column is not filled up.
pub(super) fn align<const N: usize>(
    heading: [&str; N],
    strong: impl Fn(&str) -> String,
    rows: &[[Cell<'_>; N]],
) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].0.chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let fill = |column: usize, text: &str| {
        if column + 1 == N { text.to_owned() } else { format!("{text:<0$}", widths[column]) }
    };
    let line = |cells: Vec<String>| cells.join("  ");
    let first = line((0..N).map(|column| fill(column, heading[column])).collect());
    let mut lines = vec![strong(&first)];
    lines.extend(rows.iter().map(|row| {
        line(row.iter().enumerate().map(|(at, (text, paint))| paint(&fill(at, text))).collect())
    }));
    lines
}

/// How long something has lasted, in its two largest units.
pub(super) fn age(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Not painted.
pub(super) fn plain(text: &str) -> String {
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mark = |text: &str| format!("<{text}>");
        let cell = |text: &str| (text.to_owned(), &plain as &dyn Fn(&str) -> String);
        let rows = [[cell("größer"), cell("1")], [("x".to_owned(), &mark as _), cell("long text")]];
        let lines = align(["ID", "N"], plain, &rows);
        assert_eq!(lines, ["ID      N", "größer  1", "<x     >  long text"]);
        assert_eq!(align(["ID", "N"], plain, &[]), ["ID  N"]);
    }

    #[test]
    fn ages_are_short() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (61_000, "1m01s"),
            (3_661_000, "1h01m"),
            (90_000_000, "1d01h"),
        ];
        for (millis, expected) in cases {
            assert_eq!(age(millis), expected);
        }
    }
}

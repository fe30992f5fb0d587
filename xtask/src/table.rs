//! Aligned columns for people.

/// Prints the rows with every column but the last padded to its widest cell.
pub(crate) fn print<const N: usize>(rows: &[[String; N]]) {
    for line in lines(rows) {
        println!("{line}");
    }
}

fn lines<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn columns_are_aligned_and_lines_end_clean() {
        let rows = [["a", "long cell", "x"], ["bcd", "e", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(lines(&rows), ["  a    long cell  x", "  bcd  e"]);
    }
}
